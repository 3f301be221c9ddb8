"""How near the loop of extraction comes to the network alone, and what videos with few rows cost.

A stage's own loop (`stages.extract.computed_together`) goes over views of noise, made here; the
same number of batches goes bare through the same network in the same runtime. Both are done
`--repeat` times, in turns, and the least of each counts. Three figures a backbone:

* loop: seconds of the loop for a batch, over those of the bare network;
* waits: share of the loop in which the network waits for rows;
* few: a row of videos with 1, 2, 3 ... valid rows, over a row of full videos, both in the loop.

    python benchmarks/extract_loop.py --only resnet50 --videos 8 --rows 24 --json

On a machine that others use too the figures say little: the network and what is around it are
given the processor at different times.
"""

import json
import os
import tempfile
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from runtimes import machine, noise, torch_backbones

from features import backbones
from features.cache import arrays
from features.networks.extraction import BATCH
from features.options import views_of
from features.weights.file import write_seeded
from stages.engine.workers import Item, Job
from stages.extract import Network, Running, Task, computed_together

SIZE = {"segments": (405, 720), "uniform": (256, 455), "snippets": (128, 227), "faces": (224, 224)}
"""Height and width of the frames of a view, as params.yaml has them of a 16:9 video."""

SOUND_S = 60
"""Seconds of sound of a full video."""


@dataclass(frozen=True)
class Loop:
    """What was found of a backbone, see the top of the file."""

    backbone: str
    runtime: str
    batches: int
    loop: float
    waits: float
    few: float


app = typer.Typer(add_completion=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="backbones, with commas; all")] = "all",
    videos: Annotated[int, typer.Option(help="how many")] = 8,
    rows: Annotated[int, typer.Option(help="of a full video")] = 24,
    repeat: Annotated[int, typer.Option(help="turns")] = 3,
    runtime: Annotated[str, typer.Option(help="auto, torch or openvino")] = "auto",
    threads: Annotated[int, typer.Option(help="0: as torch has it")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure the loop of each backbone."""
    if threads:
        torch.set_num_threads(threads)
    loops = []
    for name in torch_backbones() if only == "all" else only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            loops.append(measure(name, Path(folder), videos, rows, repeat, runtime))
        if not as_json:
            print(loops[-1], flush=True)
    if as_json:
        print(json.dumps({**machine(), "loops": [asdict(each) for each in loops]}, indent=1))


def measure(name: str, root: Path, videos: int, rows: int, repeat: int, runtime: str) -> Loop:
    """Measure one backbone in the folder ``root``."""
    module = backbones.load(name)
    weights = root / "weights.safetensors"
    write_seeded(weights, name, 1)
    network = Network(name, "{}", "float32", weights, "cpu", runtime, name)  # type: ignore[arg-type]
    os.environ["AFFECTLINE_STORE"] = str(root / "store")
    view = views_of(module)[0]
    full = [write_view(root / f"full{n}.h5", view, rows, rows) for n in range(videos)]
    some = [rows * (n + 1) // videos for n in range(videos)]
    few = [write_view(root / f"few{n}.h5", view, rows, valid) for n, valid in enumerate(some)]
    bare = Running(network, print)
    inputs = noise(name, BATCH)
    bare.begin(inputs)
    bare(inputs)
    best = {"full": float("inf"), "few": float("inf"), "bare": float("inf")}
    shares: list[float] = []
    counts = {"full": 0, "few": 0}
    for _ in range(repeat):
        for kind, paths in (("full", full), ("few", few)):
            start = time.perf_counter()
            forward_s, counts[kind] = through_the_loop(network, paths, root / "features.h5")
            seconds = time.perf_counter() - start
            best[kind] = min(best[kind], seconds)
            if kind == "full":
                shares.append(1 - forward_s / seconds)
        start = time.perf_counter()
        bare(inputs)
        best["bare"] = min(best["bare"], time.perf_counter() - start)
    batches = -(-counts["full"] // BATCH)
    return Loop(
        backbone=name,
        runtime=bare.runtime,
        batches=batches,
        loop=best["full"] / (batches * best["bare"]),
        waits=min(shares),
        few=(best["few"] / counts["few"]) / (best["full"] / counts["full"]),
    )


def write_view(path: Path, view: str, rows: int, valid: int) -> Path:
    """Write a video's view of noise, of whose ``rows`` so many are valid; of sound, so much."""
    random = np.random.default_rng(len(path.name))
    if view == "sound":
        samples = random.uniform(-1, 1, 16_000 * SOUND_S * valid // rows).astype(np.float32)
        attributes = {"key": path.name, "sample_rate_hz": 16_000, "start_s": 0.0}
        arrays.write(path, {"waveform": samples}, attributes)
        return path
    length = (16,) if view == "snippets" else ()
    frames = random.integers(0, 256, (rows, *length, *SIZE[view], 3), np.uint8)
    index = np.arange(rows).reshape(-1, *[1] * len(length)) + np.arange(*length or (1,))
    index = index if length else index.ravel()[:rows]
    named = {"frames": frames, "index": index, "pts_s": index / 25.0}
    arrays.write(path, {**named, "valid": np.arange(rows) < valid}, {"key": path.name})
    return path


def through_the_loop(network: Network, paths: list[Path], out: Path) -> tuple[float, int]:
    """Send views through the stage's loop: seconds of the network in it, and rows computed."""

    def jobs() -> Generator[Job[Task], None, None]:
        for number, path in enumerate(paths):
            key = f"{number:064}"
            item = Item(path.stem, {key: path.name}, Task(path, network, {}, {}))
            yield Job(item, (key,), {key: out.with_stem(path.stem + "_features")})

    forward_s, rows = 0.0, 0
    for job, result in computed_together(network, print, jobs()):
        assert isinstance(result, dict), result
        forward_s += result["forward_seconds"]
        (path,) = job.paths.values()
        rows += int(arrays.read(path, ["valid"])[0]["valid"].sum())
    return forward_s, rows


if __name__ == "__main__":
    app()
