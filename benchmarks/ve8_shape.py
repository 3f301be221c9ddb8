"""One epoch on data of VideoEmotion-8's shape: how much memory, how fast.

Writes feature files of random numbers as the extraction does, 24 frames x 3 networks of pool5
(512 x 7 x 7) and fc6 (4096), half precision, for as many videos as VideoEmotion-8 has: 4.7 GB.
Then a process of its own trains a head for one epoch a phase by `heads.training.loop.train_run`,
which reads through the cache of `heads.training.data.Features` and does not load all. Its largest
memory must stay below a bound, or the exit status is 1.

    python benchmarks/ve8_shape.py --folder FOLDER [--videos 60] [--head hamf] [--device cuda]

Files that lie in the folder from a run before are used again; they are removed at the end unless
`--keep` is given. The accuracy means nothing.
"""

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track

import heads
from features.cache import arrays
from heads.training.data import Features
from heads.training.loop import train_run
from heads.training.selection import Video
from heads.training.settings import Training
from heads.training.targets import of_classes
from stages.engine.device import GIB, cache_bytes
from stages.engine.params import Engine

CLASSES = ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")
VIDEOS = 1101
FRAMES = 24
NETWORKS = ("vggface", "places365_vgg16", "vgg16")
SHAPES = {"fc6": (4096,), "pool5": (512, 7, 7)}
AXES = {"fc6": "T D", "pool5": "T C H W"}
NO_FACE = 0.1
"""Share of the frames without a face."""

VIDEO_BYTES = len(NETWORKS) * FRAMES * 2 * (4096 + 512 * 7 * 7)
BOUND_GIB = 12.0
# Beside the files, and what rounding up leaves.
_SPARE_BYTES = GIB // 4

_FC6 = {"face": "vggface/fc6", "scene": "places365_vgg16/fc6", "image": "vgg16/fc6"}
_POOL5 = {f"{role}_map": source.replace("fc6", "pool5") for role, source in _FC6.items()}
_CONTEXT = {"face": _FC6["face"], "context": _FC6["image"]}

ROLES: Mapping[str, Mapping[str, str]] = {
    "hamf": _FC6 | _POOL5,
    "caan": _CONTEXT,
    "rdam": {"face": "vggface/pool5", "frame": "vgg16/pool5"},
    "quality_aware": {"image": _FC6["image"], "image_map": _POOL5["image_map"]},
    "attention_clusters": _FC6,
    "context_fusion": _FC6,
    "nextvlad": _FC6,
    "lstm": _FC6,
    "pooling": _FC6,
    "two_stream": _CONTEXT,
}
"""Head -> its roles here; the features of the other heads have other shapes."""


@dataclass(frozen=True)
class Measured:
    """What the training process says of itself.

    Attributes:
        phases: of the head.
        trained_s: seconds of `train_run`: a pass for the statistics of the input, one a phase,
            and one for the answers.
        read_s: seconds of the first pass over the files, before that, with nothing in the cache.
        peak_bytes: largest resident set.
        peak_device_bytes: largest allocation on the GPU, 0 without one.
    """

    phases: int
    trained_s: float
    read_s: float
    peak_bytes: int
    peak_device_bytes: int


def file_path(folder: Path, network: str, number: int) -> Path:
    """Return where the features of one video lie."""
    return folder / network / f"{number:04d}.h5"


def file_key(network: str, number: int) -> str:
    """Return the key of such a file, which says what is in it."""
    return f"random {network} {number} {FRAMES} {sorted(SHAPES.items())}"


def write_file(folder: Path, network: str, number: int) -> None:
    """Write random features of one video, unless they lie there."""
    path, key = file_path(folder, network, number), file_key(network, number)
    if path.is_file() and arrays.read_attributes(path).get("key") == key:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng([NETWORKS.index(network), number])
    data: dict[str, arrays.Array] = {
        name: draw.standard_normal((FRAMES, *shape), dtype=np.float32).astype(np.float16)
        for name, shape in SHAPES.items()
    }
    valid = np.ones(FRAMES, bool)
    if network == "vggface":
        valid = draw.random(FRAMES) >= NO_FACE
    data |= {"index": np.arange(FRAMES), "pts_s": np.arange(FRAMES) / 2, "valid": valid}
    arrays.write(path, data, {"key": key, "axes": AXES}, arrays.COMPACT)


def make_videos(folder: Path, videos: int) -> list[Video]:
    """Return the videos of the folder, classes in turn."""
    return [
        Video(
            video_id=f"{CLASSES[number % len(CLASSES)]}/{number:04d}",
            label=number % len(CLASSES),
            files={network: file_path(folder, network, number) for network in NETWORKS},
            keys={network: file_key(network, number) for network in NETWORKS},
            contents={network: file_key(network, number) for network in NETWORKS},
        )
        for number in range(videos)
    ]


def measure(
    folder: Path, videos: int, head: str, params: str, training: Training, device: str, cache: int
) -> Measured:
    """Train a head on the folder's videos and tell what it took; runs in a process of its own."""
    torch.set_num_threads(training.threads)
    module = heads.load(head)
    dataset = Features(make_videos(folder, videos), ROLES[head], module.ALIGNED, cache_bytes=cache)
    started = time.perf_counter()
    for position in range(len(dataset)):
        _ = dataset[position]
    read_s = time.perf_counter() - started
    everything = range(videos)
    started = time.perf_counter()
    run = train_run(
        module,
        heads.validate(module, json.loads(params)),
        training,
        dataset,
        everything,
        everything,
        of_classes(CLASSES),
        seed=0,
        device=device,
    )
    on_gpu = device.startswith("cuda")
    return Measured(
        phases=len(run.curve),
        trained_s=time.perf_counter() - started,
        read_s=read_s,
        # Linux counts in KiB, macOS in bytes.
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        peak_device_bytes=torch.cuda.max_memory_allocated() if on_gpu else 0,
    )


def report(measured: Measured, videos: int, head: str) -> dict[str, float]:
    """Return the numbers that are printed, by name with their unit."""
    networks_features = ROLES[head].values()
    used = (
        FRAMES
        * 2
        * sum(int(np.prod(SHAPES[source.partition("/")[2]])) for source in networks_features)
    )
    passes = measured.phases + 2
    return {
        "videos": videos,
        "data_GB": videos * used / 1e9,
        "first_pass_s": measured.read_s,
        "first_pass_videos_per_s": videos / measured.read_s,
        "first_pass_MB_per_s": videos * used / 1e6 / measured.read_s,
        "train_run_s": measured.trained_s,
        "train_run_passes": passes,
        "train_run_videos_per_s": passes * videos / measured.trained_s,
        "train_run_MB_per_s": passes * videos * used / 1e6 / measured.trained_s,
        "peak_GiB": measured.peak_bytes / GIB,
        "peak_device_GiB": measured.peak_device_bytes / GIB,
    }


def main(
    folder: Annotated[Path, typer.Option(help="Gets the files: 4.7 GB for all videos.")],
    videos: Annotated[int, typer.Option(min=len(CLASSES))] = VIDEOS,
    head: Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")] = "hamf",
    params: Annotated[str, typer.Option(help="Its hyper-parameters that differ, JSON.")] = "{}",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch_videos: Annotated[int, typer.Option(min=4)] = 12,
    cache_gib: Annotated[
        float | None, typer.Option(help="Of arrays in memory; half of what is free.")
    ] = None,
    bound_gib: Annotated[float, typer.Option(help="Largest memory allowed.")] = BOUND_GIB,
    keep: Annotated[bool, typer.Option(help="Leave the files.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Gets the numbers.")] = None,
) -> None:
    """Write the files, train, and print memory and rate."""
    console, progress = Console(), Console(stderr=True)
    if head not in ROLES:
        raise typer.BadParameter(f"no head '{head}' here: expected one of {', '.join(ROLES)}")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(network, number) for number in range(videos) for network in NETWORKS]
    lacking = sum(not file_path(folder, *item).is_file() for item in wanted)
    needed = lacking * VIDEO_BYTES // len(NETWORKS) + _SPARE_BYTES
    if (free := shutil.disk_usage(folder).free) < needed:
        raise typer.BadParameter(
            f"{folder}: needs {needed / GIB:.1f} GiB, has {free / GIB:.1f}: choose another folder "
            "or fewer --videos"
        )
    training = Training(epochs=1, batch_videos=batch_videos, threads=os.cpu_count() or 1)
    try:
        for network, number in track(wanted, "files", console=progress, transient=True):
            write_file(folder, network, number)
        cache = cache_bytes(Engine(cache_gib=cache_gib))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            task = (folder, videos, head, params, training, device, cache)
            measured = child.submit(measure, *task).result()
    except BrokenProcessPool:
        console.print("the training process was killed: most likely it took all the memory")
        raise typer.Exit(1) from None
    finally:
        if not keep:
            for network, number in wanted:
                file_path(folder, network, number).unlink(missing_ok=True)
    numbers = report(measured, videos, head)
    console.print(f"{head} on {device}, {training.threads} threads, cache {cache / GIB:.1f} GiB")
    for name, value in numbers.items():
        console.print(f"  {name:26} {value:.2f}".removesuffix(".00"), highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(numbers, indent=1) + "\n")
    if numbers["peak_GiB"] > bound_gib:
        console.print(f"peak memory must be at most {bound_gib:g} GiB")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
