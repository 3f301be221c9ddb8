"""Faces and poses: what batches, runtimes and processes gain, and what a stage adds to its network.

RetinaFace (seeded; what it takes does not depend on the weights) goes over frames one at a time and
several at once, by torch, by torch with channels last, and by OpenVINO; all take turns, the least
of each counts. BlazeFace and BlazePose are MediaPipe's and take one image at a time: the bare calls
in one process stand beside the whole stage (reading, what is made of the answers, packing) in this
process and in one process a core.

    python benchmarks/faces.py --clip a.mp4 --blazeface blaze_face_short_range.tflite \
        --blazepose pose_landmarker_full.task --json

The clip is one of one's own that shows a person; without one a clip of the sample is drawn.
Seconds on the clock, and of the processors with those of all child processes: on a machine that
others use too the second are the ones to trust. Start of the processes (Python, torch, MediaPipe)
is measured apart, with videos of one frame.
"""

import copy
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from runtimes import PROJECT, machine
from torch import Tensor

from features import backbones, detectors
from features.cache import arrays
from features.cache.store import store_root
from features.networks import runtimes
from features.networks.mediapipe_tasks import rgb_image
from features.sources import readers
from features.video import decode
from features.video.views import View
from features.weights.file import load, write_pretrained
from features.weights.seeding import initialise
from sample.clips import encode_clip, plan_clip
from stages import extract, faces
from stages.engine.items import fill
from stages.engine.params import load_params
from stages.engine.progress import StageRun
from stages.engine.workers import Compute, Item, Work, Workers

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Speed:
    """How fast frames are gone through in a way.

    Attributes:
        network: by which.
        way: how.
        ms: milliseconds on the clock for a frame, the least of all turns.
        cpu_ms: of the processors, the same.
        gain: times that it is faster than the first way of the network, by the clock.
        cpu_gain: the same, by the processors.
    """

    network: str
    way: str
    ms: float
    cpu_ms: float
    gain: float
    cpu_gain: float


Ways = Mapping[str, Callable[[], int]]
"""Name -> what goes through frames and returns how many."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    clip: Annotated[Path | None, typer.Option(help="a video that shows a person")] = None,
    blazeface: Annotated[Path | None, typer.Option(help="MediaPipe's .tflite")] = None,
    blazepose: Annotated[Path | None, typer.Option(help="MediaPipe's .task")] = None,
    videos: Annotated[int, typer.Option(help="how many, all of that clip")] = 8,
    rows: Annotated[int, typer.Option(help="frames of a video for faces")] = 24,
    poses: Annotated[int, typer.Option(help="frames of a video for poses")] = 100,
    size: Annotated[
        str, typer.Option(help="of RetinaFace's input, WxH; empty: left out")
    ] = "427x240",
    together: Annotated[int, typer.Option(help="frames of a batch")] = 4,
    workers: Annotated[int, typer.Option(help="processes; 0: one a core")] = 0,
    threads: Annotated[int, typer.Option(help="of torch and OpenVINO; 0: as torch has it")] = 0,
    repeat: Annotated[int, typer.Option(help="turns")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure."""
    if threads:
        torch.set_num_threads(threads)
    processes = workers or os.cpu_count() or 1
    clip, blazeface, blazepose = (path and path.absolute() for path in (clip, blazeface, blazepose))
    speeds: list[Speed] = []
    with tempfile.TemporaryDirectory() as folder, in_project(Path(folder)) as root:
        if size:
            width, height = map(int, size.split("x"))
            noise = np.random.default_rng(0).integers(
                0, 256, (together, height, width, 3), np.uint8
            )
            speeds += compared("retinaface", retinaface_ways(noise, together), repeat)
        if blazeface or blazepose:
            shown = frames_of(clip or drawn(root), rows, poses)
        if blazeface:
            ways = blazeface_ways(root, blazeface, shown["segments"], videos, processes)
            speeds += compared("blazeface", ways, repeat)
        if blazepose:
            ways = blazepose_ways(root, blazepose, shown["uniform"], videos, processes)
            speeds += compared("blazepose", ways, repeat)
    if as_json:
        found = {**machine(), "cores": os.cpu_count(), "processes": processes}
        print(json.dumps({**found, "speeds": [asdict(speed) for speed in speeds]}, indent=1))
        return
    for speed in speeds:
        print(
            f"{speed.network:10} {speed.way:34} {speed.ms:8.1f} ms a frame ({speed.gain:.2f} x), "
            f"processors {speed.cpu_ms:8.1f} ms ({speed.cpu_gain:.2f} x)"
        )


@contextmanager
def in_project(root: Path) -> Iterator[Path]:
    """Work in an empty project with a store of its own."""
    before = os.environ.get("AFFECTLINE_STORE")
    os.environ["AFFECTLINE_STORE"] = str(root / "store")
    try:
        with chdir(root):
            yield root
    finally:
        del os.environ["AFFECTLINE_STORE"]
        if before is not None:
            os.environ["AFFECTLINE_STORE"] = before


def compared(network: str, ways: Ways, repeat: int) -> list[Speed]:
    """Let the ways take turns; each has the least of its turns."""
    best = {way: (float("inf"), float("inf")) for way in ways}
    for _ in range(repeat):
        for way, go in ways.items():
            start, cpu_s = time.perf_counter(), used_cpu_s()
            count = go()
            took = (time.perf_counter() - start) / count, (used_cpu_s() - cpu_s) / count
            best[way] = (min(best[way][0], took[0]), min(best[way][1], took[1]))
    first_s, first_cpu_s = next(iter(best.values()))
    return [
        Speed(network, way, 1e3 * s, 1e3 * cpu_s, first_s / s, first_cpu_s / cpu_s)
        for way, (s, cpu_s) in best.items()
    ]


def used_cpu_s() -> float:
    """Return the seconds of processors that this process and its ended children have taken."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


# ------------------------------------------------------------------------------------- networks


def retinaface_ways(frames: Frames, together: int) -> Ways:
    """Return the ways through RetinaFace: from network input to what it says of each anchor."""
    retinaface = detectors.load("retinaface")  # here: child processes import this file too
    network = retinaface.build(retinaface.Options(weights="facexlib"))
    initialise(network, 1)
    inputs = network.prepare(frames)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    one_graph = runtimes.forward_of(*runtimes.converted(network, inputs[:1], retinaface.FREE_AXES))
    batch_graph = runtimes.forward_of(*runtimes.converted(network, inputs, retinaface.FREE_AXES))

    def way(forward: Callable[[Tensor], Any], count: int) -> Callable[[], int]:
        def go() -> int:
            with torch.inference_mode():
                for first in range(0, len(inputs), count):
                    forward(inputs[first : first + count])
            return len(inputs)

        return go

    def channels_last(rows: Tensor) -> Any:
        return last(rows.contiguous(memory_format=torch.channels_last))

    return {
        "torch, one at a time": way(network, 1),
        f"torch, {together} at once": way(network, together),
        "torch, channels last, one": way(channels_last, 1),
        f"torch, channels last, {together} at once": way(channels_last, together),
        "OpenVINO, one at a time": way(one_graph, 1),
        f"OpenVINO, {together} at once": way(batch_graph, together),
    }


def blazeface_ways(
    root: Path, model: Path, frames: Frames, videos: int, processes: int
) -> dict[str, Callable[[], int]]:
    """Return the bare detector, and the stage in one process and in several."""
    weights = root / "blazeface.safetensors"
    module = detectors.load("blazeface")
    tensors = readers.read("tflite", [model])
    write_pretrained(weights, "detector", module.WEIGHTS, tensors, model.name, "a")
    params = load_params(PROJECT / "params.yaml").faces
    network = faces.Network("blazeface", "{}", weights, "cpu", "torch", "")
    detector = load(weights, module.build())
    detector.detect(frames[0])  # type: ignore[operator]  # opens it

    def bare() -> int:
        for _ in range(videos):
            for frame in frames:
                detector.detect(frame)  # type: ignore[operator]
        return videos * len(frames)

    def task(view: Path) -> faces.Task:
        return faces.Task(view, network, params, {})

    return {"bare calls, one process": bare} | stage_ways(
        root, "faces", frames, videos, processes, task, faces.compute
    )


def blazepose_ways(
    root: Path, model: Path, frames: Frames, videos: int, processes: int
) -> dict[str, Callable[[], int]]:
    """Return the bare landmarker, and the stage in one process and in several."""
    weights = root / "blazepose.safetensors"
    module = backbones.load("blazepose")
    tensors = readers.read("pose_task", [model])
    write_pretrained(weights, "blazepose", module.WEIGHTS, tensors, model.name, "a")
    network = extract.Network("blazepose", "{}", "float32", weights, "cpu")
    pose = load(weights, module.build())
    pose(torch.from_numpy(frames[:1]))  # opens the landmarker
    landmarker: Any = pose._landmarker

    def bare() -> int:
        for _ in range(videos):
            for frame in frames:
                landmarker.detect(rgb_image(frame))
        return videos * len(frames)

    def task(view: Path) -> extract.Task:
        return extract.Task(view, network, dict(module.DTYPES), {})

    return {"bare calls, one process": bare} | stage_ways(
        root, "extract@blazepose", frames, videos, processes, task, extract.compute
    )


def stage_ways(
    root: Path,
    stage: str,
    frames: Frames,
    videos: int,
    processes: int,
    task: Callable[[Path], Any],
    compute: Compute[Any],
) -> dict[str, Callable[[], int]]:
    """Return a stage over so many videos, in this process and in several, and their start."""
    full = write_view(root / f"{stage}.h5", frames)
    short = write_view(root / f"{stage} short.h5", frames[:1])
    turns = iter(range(1_000_000))

    def run(view: Path, count: int, pool: Workers) -> None:
        turn = next(turns)  # the store has none of these keys
        names = [f"{stage} {turn} {number}" for number in range(count)]
        keys = [name.encode().hex().ljust(64, "0") for name in names]
        items = [
            Item(name, {key: f"{name}.h5"}, task(view))
            for name, key in zip(names, keys, strict=True)
        ]
        with StageRun(stage) as stage_run:
            reasons = fill(stage_run, Work(items, compute, pool))
        assert not reasons, reasons
        for key in keys:
            (store_root() / "items" / key[:2] / f"{key}.h5").unlink()

    def whole(pool: Workers) -> Callable[[], int]:
        def go() -> int:
            run(full, videos, pool)
            return videos * len(frames)

        return go

    def begin() -> int:
        run(short, processes, Workers(processes))
        return videos * len(frames)

    return {
        "the stage, this process": whole(Workers(0)),
        f"the stage, {processes} processes": whole(Workers(processes)),
        f"of that, start of {processes} processes": begin,
    }


# ---------------------------------------------------------------------------------------- videos


def drawn(root: Path) -> Path:
    """Return a clip of the sample."""
    path = root / "clip.mp4"
    encode_clip(plan_clip(0, "joy", 0, 5.0), path)
    return path


def frames_of(clip: Path, rows: int, poses: int) -> dict[str, Frames]:
    """Return frames for faces and for poses, sized as params.yaml's presets have them."""
    views = {"segments": View("segments", rows, 405), "uniform": View("uniform", poses, 256)}
    decoded = decode.decode(clip, views, seed="0").views
    return {name: repeated(decoded[name].frames, views[name].count) for name in views}


def repeated(frames: Frames, count: int) -> Frames:
    """Return so many frames: a short clip's again."""
    return np.ascontiguousarray(np.concatenate([frames] * -(-count // len(frames)))[:count])


def write_view(path: Path, frames: Frames) -> Path:
    """Write a video's view."""
    index = np.arange(len(frames))
    valid = np.ones(len(frames), bool)
    view: dict[str, arrays.Array | arrays.Blocks] = {"frames": frames, "valid": valid}
    arrays.write(path, view | {"index": index, "pts_s": index / 25.0}, {"key": path.name})
    return path


if __name__ == "__main__":
    app()
