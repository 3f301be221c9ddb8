"""What a GPU makes of the backbones and of training; without CUDA it says so and ends.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only resnet50,vgg16 --videos 200 --heads hamf --json

Of each backbone of torch, seeded weights, views of noise, in each precision:

* loop: rows a second through the stage's own loop (`stages.extract.computed_together`), from the
  views as decoded to the packed features, counted from the end of the first video on, when readers
  and network have started;
* forward: rows a second of the network alone, in the same runtime, on a batch that is on the card;
  also as torch launches it, and as `torch.compile` makes it (which the stage does not use);
* of_forward: the first over the second; near 1, all around the network is hidden behind it;
* of_peak: the forward pass's share of what the card multiplies in bfloat16, measured here;
* cosine: least of any feature, against the same network on the CPU in float32;
* peak_mib: most memory of the card.

Of each head at the shape that its paper has on VideoEmotion-8 (benchmarks/training.py): epochs a
second, and the minutes of ten runs of 100 epochs.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import training
import typer
from extract_loop import write_view
from runtimes import machine, noise, torch_backbones
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import heads
from features import backbones
from features.cache import arrays
from features.networks import streams
from features.networks.extraction import Forward, forward_of, outputs_of
from features.options import views_of
from features.weights.file import load, write_seeded
from heads.training.loop import train_run
from stages import extract
from stages.engine.device import readers_of
from stages.engine.params import Engine
from stages.engine.workers import Item, Job
from stages.extract import Network, Running, Task

PRECISIONS = ("float32", "tf32", "bfloat16")

SIDE = 8192
"""Rows and columns of the matrices whose product is the card's peak."""

TURNS = 20
"""Of a forward pass; their mean counts, as on a card the clock follows the load."""

RUNS, EPOCHS = 10, 100
"""Of an experiment, for the minutes that it takes."""


@dataclass(frozen=True)
class Backbone:
    """What was found of a backbone in a precision, see the top of the file; rates are rows/s."""

    backbone: str
    precision: str
    runtime: str
    readers: int
    loop: float
    forward: float
    eager: float
    compiled: float | None
    of_forward: float
    of_peak: float | None
    cosine: float
    peak_mib: int | None


@dataclass(frozen=True)
class Head:
    """What was found of a head."""

    head: str
    epochs_per_s: float
    ten_runs_min: float
    peak_mib: int | None


app = typer.Typer(add_completion=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="backbones, with commas; all")] = "all",
    precisions: Annotated[str, typer.Option(help="with commas")] = ",".join(PRECISIONS),
    videos: Annotated[int, typer.Option(help="of a backbone")] = 64,
    rows: Annotated[int, typer.Option(help="of a video")] = 24,
    only_heads: Annotated[str, typer.Option("--heads", help="with commas; none")] = "hamf",
    with_compile: Annotated[bool, typer.Option("--compile", help="torch.compile too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure a GPU."""
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py: torch finds no GPU with CUDA here", file=sys.stderr)
        raise typer.Exit(1)
    peak, made, trained = peak_flops(torch.device("cuda")), [], []
    for name in torch_backbones() if only == "all" else only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            for precision in precisions.split(","):
                bench = Bench(name, precision, "cuda", Path(folder) / precision)
                made.append(bench.measure(videos, rows, peak, with_compile=with_compile))
                if not as_json:
                    print(made[-1], flush=True)
    for name in only_heads.split(",") if only_heads != "none" else ():
        with tempfile.TemporaryDirectory() as folder:
            trained.append(measure_head(name, Path(folder), "cuda"))
        if not as_json:
            print(trained[-1], flush=True)
    if as_json:
        card = {"gpu": torch.cuda.get_device_name(), "peak_tflops": peak / 1e12}
        rates = {
            "backbones": [asdict(each) for each in made],
            "heads": [asdict(each) for each in trained],
        }
        print(json.dumps({**machine(), **card, **rates}, indent=1))


# --------------------------------------------------------------------------------- backbones


class Bench:
    """A backbone in a precision on a device, ready to be measured in a folder of its own."""

    def __init__(self, name: str, precision: str, device: str, root: Path) -> None:
        """Write its weights and load it."""
        root.mkdir(parents=True)
        os.environ["AFFECTLINE_STORE"] = str(root / "store")
        self.name, self.root, self.module = name, root, backbones.load(name)
        weights = root / "weights.safetensors"
        write_seeded(weights, name, 1)
        readers = 0 if "sound" in views_of(self.module) else readers_of(Engine(), device)
        runtime: Any = "auto" if device == "cuda" else "torch"
        self.network = Network(name, "{}", precision, weights, device, runtime, name, readers)

    def measure(
        self, videos: int, rows: int, peak: float | None, *, with_compile: bool = False
    ) -> Backbone:
        """Measure it; ``peak`` are the device's products in bfloat16, operations a second."""
        wait = waiting(self.network.device)
        if self.network.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        inputs = noise(self.name, self.network.batch)
        running = Running(self.network, lambda line: print(line, file=sys.stderr))
        running.begin(inputs)
        on_device = extract._loaded(self.network)
        there = inputs.to(self.network.device)

        def eager(batch: Tensor) -> dict[str, Tensor]:
            return outputs_of(on_device, batch, self.network.precision)

        alone: Forward = eager
        if running.runtime != "torch":
            alone = streams.graph_of(eager, there)
        rates = {"forward": rate(alone, there, wait), "eager": rate(eager, there, wait)}
        if with_compile:
            rates["compiled"] = rate(torch.compile(eager, dynamic=False), there, wait)
        loop = self.through_the_loop(videos, rows)
        return Backbone(
            backbone=self.name,
            precision=self.network.precision,
            runtime=running.runtime,
            readers=self.network.readers,
            loop=loop,
            forward=rates["forward"],
            eager=rates["eager"],
            compiled=rates.get("compiled"),
            of_forward=loop / rates["forward"],
            of_peak=flops(eager, there) / len(there) * rates["forward"] / peak if peak else None,
            cosine=self.cosine(eager, inputs),
            peak_mib=peak_mib(self.network.device),
        )

    def through_the_loop(self, videos: int, rows: int) -> float:
        """Return rows a second of the stage's loop, from the end of the first video on."""
        view = views_of(self.module)[0]
        paths = [write_view(self.root / f"{n}.h5", view, rows, rows) for n in range(videos)]

        def jobs() -> Generator[Job[Task], None, None]:
            for number, path in enumerate(paths):
                item = Item(
                    path.stem, {f"{number:064}": path.name}, Task(path, self.network, {}, {})
                )
                out = {key: path.with_stem(f"{path.stem}_features") for key in item.files}
                yield Job(item, tuple(item.files), out)

        ends, counts = [], []
        for job, result in extract.computed_together(self.network, print, jobs()):
            assert isinstance(result, dict), result
            ends.append(time.perf_counter())
            (path,) = job.paths.values()
            counts.append(int(str(arrays.read_attributes(path)["rows_valid"])))
        return sum(counts[1:]) / (ends[-1] - ends[0])

    def cosine(self, compute: Forward, inputs: Tensor) -> float:
        """Return the least cosine of any feature against the network on the CPU in float32."""
        network = load(self.network.weights, self.module.build()).eval()
        expected = forward_of(network)(inputs)
        found = compute(inputs.to(self.network.device))
        return min(cosine(values, found[name].cpu()) for name, values in expected.items())


def cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of two tensors' angle."""
    first, second = (np.asarray(each.double()).ravel() for each in (one, other))
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def rate(compute: Forward, rows: Tensor, wait: Callable[[], None]) -> float:
    """Return rows a second, after turns that warm up."""
    for _ in range(streams.WARM_UP):
        compute(rows)
    wait()
    start = time.perf_counter()
    for _ in range(TURNS):
        compute(rows)
    wait()
    return TURNS * len(rows) / (time.perf_counter() - start)


def flops(compute: Forward, rows: Tensor) -> int:
    """Return the operations of products and convolutions; a product and its sum are two."""
    with FlopCounterMode(display=False) as counter:
        compute(rows)
    return int(counter.get_total_flops())


def peak_flops(device: torch.device, side: int = SIDE) -> float:
    """Return the operations a second that a device multiplies matrices of bfloat16 with."""
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    products = rate(lambda rows: {"y": rows @ one}, one, waiting(device.type))
    return 2 * side * side * products


def waiting(device: str) -> Callable[[], None]:
    """Return what waits until a device has done what was asked of it."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def peak_mib(device: str) -> int | None:
    """Return the most memory of the card so far; None where there is none."""
    return torch.cuda.max_memory_allocated() >> 20 if device == "cuda" else None


# ------------------------------------------------------------------------------------- heads


def measure_head(name: str, folder: Path, device: str, videos: int = 64, epochs: int = 8) -> Head:
    """Train a head for so many epochs of each phase."""
    case = training.make_case(name, folder, videos, 0, 0, epochs)
    wait = waiting(device)
    seconds = float("inf")
    for _ in range(2):  # the first turn warms up
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        run = train_run(
            heads.load(name),
            case.params,
            case.training,
            case.dataset,
            case.train,
            case.test,
            training.CLASSES,
            case.seed,
            device=device,
        )
        wait()
        seconds = min(seconds, time.perf_counter() - start)
    per_s = len(run.curve) / seconds
    return Head(name, per_s, RUNS * EPOCHS / per_s / 60, peak_mib(device))


if __name__ == "__main__":
    app()
