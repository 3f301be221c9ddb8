"""How near the loop of extraction comes to the network alone, and what videos with few rows cost.

A stage's own loop (`stages.extract.computed_together`) goes over views of noise, made here; the
same number of batches goes bare through the same network in the same runtime, as many side by side.
The network is made ready once, before. Both are done `--repeat` times, in turns, and the least of
each counts. Of a backbone:

* loop: seconds of the loop for a batch, over those of the bare network;
* processor: the same in seconds of the processor, all threads together. Where other work shares the
  machine this is the one to trust: seconds on the clock then say who was given the processor;
* waits: share of the loop in which the network waits for rows;
* few: a row of videos with 1, 2, 3 ... valid rows, over a row of full videos, both in the loop; and
  few_processor;
* parts: seconds of the processor of what is beside the network, over those of the bare network;
* peak_mib: most memory of this process, with `--only` of one backbone.

    python benchmarks/extract_loop.py --only resnet50 --videos 8 --rows 24 --json
"""

import json
import os
import resource
import tempfile
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the stage has it, see stages/__init__.py

import numpy as np
import torch
import typer
from runtimes import machine, noise, torch_backbones
from torch import Tensor

from features import backbones
from features.cache import arrays
from features.networks import extraction
from features.networks.extraction import BATCH
from features.options import views_of
from features.weights.file import write_seeded
from stages import extract
from stages.engine.workers import Item, Job
from stages.extract import Network, Running, Task

SIZE = {"segments": (405, 720), "uniform": (256, 455), "snippets": (128, 227), "faces": (224, 224)}
"""Height and width of the frames of a view, as params.yaml has them of a 16:9 video."""

SOUND_S = 60
"""Seconds of sound of a full video."""


@dataclass(frozen=True)
class Loop:
    """What was found of a backbone, see the top of the file."""

    backbone: str
    runtime: str
    at_once: int
    batches: int
    loop: float
    processor: float
    waits: float
    few: float
    few_processor: float
    parts: dict[str, float]
    peak_mib: int


@dataclass
class Turn:
    """Seconds of a turn of the loop, and rows that went through the network."""

    seconds: float
    processor_s: float
    waits: float
    rows: int
    parts_s: dict[str, float]


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
    beside(bare, inputs)
    turns: dict[str, list[Turn]] = {"full": [], "few": []}
    bare_s = bare_processor_s = float("inf")
    for _ in range(repeat):
        for kind, paths in (("full", full), ("few", few)):
            turns[kind].append(through_the_loop(network, bare, paths, root / "features.h5"))
        clock, processor = time.perf_counter(), time.process_time()
        beside(bare, inputs)
        bare_s = min(bare_s, (time.perf_counter() - clock) / bare.at_once)
        bare_processor_s = min(bare_processor_s, (time.process_time() - processor) / bare.at_once)
    whole, partly = turns["full"], turns["few"]
    batches = -(-whole[0].rows // BATCH)
    best = min(turn.seconds for turn in whole)
    best_processor = min(turn.processor_s for turn in whole)
    share = partly[0].rows / whole[0].rows
    return Loop(
        backbone=name,
        runtime=bare.runtime,
        at_once=bare.at_once,
        batches=batches,
        loop=best / (batches * bare_s),
        processor=best_processor / (batches * bare_processor_s),
        waits=min(turn.waits for turn in whole),
        few=min(turn.seconds for turn in partly) / share / best,
        few_processor=min(turn.processor_s for turn in partly) / share / best_processor,
        parts={
            part: min(turn.parts_s[part] for turn in whole) / (batches * bare_processor_s)
            for part in PARTS
        },
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    )


def beside(network: Running, inputs: Tensor) -> None:
    """Compute as many batches side by side as the network does in the loop."""
    with ThreadPoolExecutor(network.at_once) as pool:
        if network.at_once == 1:
            network(inputs)
        else:
            list(pool.map(network, [inputs] * network.at_once))


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


def through_the_loop(network: Network, ready: Running, paths: list[Path], out: Path) -> Turn:
    """Send views through the stage's loop, with a network that is ready."""

    def jobs() -> Generator[Job[Task], None, None]:
        for number, path in enumerate(paths):
            key = f"{number:064}"
            item = Item(path.stem, {key: path.name}, Task(path, network, {}, {}))
            yield Job(item, (key,), {key: out.with_stem(path.stem + "_features")})

    ready.seconds = 0.0
    made: list[Path] = []
    with measured(ready) as parts_s:
        clock, processor = time.perf_counter(), time.process_time()
        for job, result in extract.computed_together(network, print, jobs()):
            assert isinstance(result, dict), result
            made += job.paths.values()
        seconds, processor_s = time.perf_counter() - clock, time.process_time() - processor
    rows = sum(int(arrays.read(path, ["valid"])[0]["valid"].sum()) for path in made)
    return Turn(seconds, processor_s, 1 - ready.seconds / seconds, rows, parts_s)


PARTS = {
    "read": (arrays, "read"),
    "prepare": (extraction.Passage, "inputs"),
    "convert": (extraction.Passage, "arrays"),
    "write": (arrays, "write"),
}
"""What is done beside the network -> where it stands. Sound is read while its rows are prepared."""


@contextmanager
def measured(ready: Running) -> Iterator[dict[str, float]]:
    """Count seconds of the processor by part, of this thread each; the loop's network is ready."""
    seconds = dict.fromkeys(PARTS, 0.0)

    def counting(part: str, function: Any) -> Any:
        def count(*arguments: Any, **named: Any) -> Any:
            begin = time.thread_time()
            made = function(*arguments, **named)
            if hasattr(made, "__next__"):  # what is made as it is asked for counts then
                return steps(part, made)
            seconds[part] += time.thread_time() - begin
            return made

        return count

    def steps(part: str, made: Iterator[Any]) -> Iterator[Any]:
        while True:
            begin = time.thread_time()
            try:
                item = next(made)
            except StopIteration:
                return
            finally:
                seconds[part] += time.thread_time() - begin
            yield item

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(extract, "Running", lambda *_: ready))
        for part, (place, name) in PARTS.items():
            function = counting(part, getattr(place, name))
            stack.enter_context(mock.patch.object(place, name, function))
        yield seconds


if __name__ == "__main__":
    app()
