"""Milliseconds a row of each backbone, in the runtimes that could compute it.

All of a backbone's runtimes are loaded at once and take turns, batch by batch, so that what else
the machine does meets them alike; each has the least of its turns. Seeded weights, noise as input,
batches as the stage has them. Seconds on the clock, and seconds of the processor over all threads:
on a machine that others use too, the second with `--threads 1` is the one to trust.

    python benchmarks/runtimes.py
    python benchmarks/runtimes.py --only resnet50,vgg16 --repeat 8 --compile --json

What is not installed (OpenVINO; onnxruntime, onnx and onnxscript) is told and left out. `--compile`
adds torch.compile, which needs a C++ compiler and a minute a network.
"""

import copy
import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from features import backbones
from features.networks.extraction import BATCH
from features.waveform import Waveform
from features.weights.seeding import initialise
from stages.engine.items import software

PROJECT = Path(__file__).resolve().parents[1]

NEEDED = {
    "ONNX Runtime": ("onnxruntime", "onnx", "onnxscript"),
    "OpenVINO": ("openvino",),
}
"""Runtime -> packages that it takes."""

Outputs = dict[str, Tensor]
Run = Callable[[], Outputs]


@dataclass(frozen=True)
class Speed:
    """How fast a backbone is in a runtime.

    Attributes:
        backbone: the module's name.
        runtime: what computed it.
        ms: milliseconds on the clock for a row, the least of all turns.
        cpu_ms: of the processor, all threads together, the same.
        of_first: ``cpu_ms`` as a share of the first runtime's.
        relative: largest difference from the first runtime's numbers over the largest number.
    """

    backbone: str
    runtime: str
    ms: float
    cpu_ms: float
    of_first: float
    relative: float


app = typer.Typer(add_completion=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="backbones, with commas; all")] = "all",
    batch: Annotated[int, typer.Option(help="rows at once")] = BATCH,
    repeat: Annotated[int, typer.Option(help="turns of each runtime")] = 4,
    threads: Annotated[int, typer.Option(help="0: as torch has it")] = 0,
    with_compile: Annotated[bool, typer.Option("--compile", help="torch.compile too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure the runtimes of each backbone beside each other."""
    if threads:
        torch.set_num_threads(threads)
    names = torch_backbones() if only == "all" else only.split(",")
    absent = {name: lacking(packages) for name, packages in NEEDED.items() if lacking(packages)}
    for name, packages in absent.items():
        print(f"{name}: left out, not installed: {', '.join(packages)}", file=sys.stderr)
    rows = []
    for name in names:
        speeds = measure(name, batch, repeat, with_compile=with_compile)
        rows += speeds
        if not as_json:
            print_speeds(speeds)
    if as_json:
        print(json.dumps({**machine(), "speeds": [asdict(row) for row in rows]}, indent=1))


def torch_backbones() -> list[str]:
    """Return the backbones that are networks of torch."""
    return [n for n in backbones.names() if not getattr(backbones.load(n), "ONE_CORE", False)]


def lacking(packages: tuple[str, ...]) -> list[str]:
    """Return those of ``packages`` that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def machine() -> dict[str, Any]:
    """Return what the figures hold for."""
    commit = subprocess.run(
        ["git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return {
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "has_bfloat16": has_bfloat16(),
        "threads": torch.get_num_threads(),
        "commit": commit.stdout.strip(),
        "software": software(),
    }


def has_bfloat16() -> bool:
    """Tell whether this processor has products of bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    )


# -------------------------------------------------------------------------------- measurement


def measure(name: str, batch: int, repeat: int, *, with_compile: bool = False) -> list[Speed]:
    """Return how fast a backbone is in each runtime; the first is torch as built."""
    module = backbones.load(name)
    network: nn.Module = module.build()
    initialise(network, 1)
    network.eval()
    inputs = noise(name, batch)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        runs = dict(runtimes(network, inputs, Path(folder), with_compile=with_compile))
        outputs = {runtime: run() for runtime, run in runs.items()}  # the first turn warms up
        clock = dict.fromkeys(runs, float("inf"))
        processor = dict(clock)
        for _ in range(repeat):
            for runtime, run in runs.items():
                begin, begin_cpu = time.perf_counter(), time.process_time()
                run()
                clock[runtime] = min(clock[runtime], time.perf_counter() - begin)
                processor[runtime] = min(processor[runtime], time.process_time() - begin_cpu)
    first = next(iter(runs))
    return [
        Speed(
            backbone=name,
            runtime=runtime,
            ms=1000 * clock[runtime] / batch,
            cpu_ms=1000 * processor[runtime] / batch,
            of_first=processor[runtime] / processor[first],
            relative=difference(outputs[first], outputs[runtime]),
        )
        for runtime in runs
    ]


def noise(name: str, batch: int) -> Tensor:
    """Return network input of a backbone, as its ``preprocess`` makes it of noise."""
    module = backbones.load(name)
    random = np.random.default_rng(0)
    if module.VIEW == "sound":
        samples = random.uniform(-1, 1, 16_000 * (batch + 1)).astype(np.float32)
        parts = module.preprocess(Waveform(len(samples), 16_000, [samples], 0.0), module.Options())
        rows = torch.cat([part for part, _ in parts])
        return rows.repeat(-(-batch // len(rows)), *[1] * (rows.ndim - 1))[:batch].contiguous()
    length = (16,) if "snippets" in module.VIEW else ()
    frames = random.integers(0, 256, (batch, *length, 256, 256, 3), np.uint8)
    inputs: Tensor = module.preprocess(frames, module.Options())
    return inputs


def runtimes(
    network: nn.Module, inputs: Tensor, folder: Path, *, with_compile: bool
) -> Iterator[tuple[str, Run]]:
    """Yield each runtime's name and what computes the batch in it."""
    yield "torch", lambda: network(inputs)
    last = torch.channels_last_3d if inputs.ndim == 5 else torch.channels_last
    ordered = copy.deepcopy(network).to(memory_format=last)
    inputs_last = inputs.contiguous(memory_format=last)
    yield "torch, channels last", lambda: ordered(inputs_last)
    if with_compile:
        compiled = torch.compile(ordered, dynamic=False)
        yield "torch.compile", lambda: compiled(inputs_last)
    yield "torch, bfloat16", lambda: in_bfloat16(ordered, inputs_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        if not lacking(NEEDED["ONNX Runtime"]):
            yield "ONNX Runtime", onnx_runtime(network, inputs, folder)
        if not lacking(NEEDED["OpenVINO"]):
            yield "OpenVINO", openvino(network, inputs)


def in_bfloat16(network: nn.Module, inputs: Tensor) -> Outputs:
    """Return what a network gives with products in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        outputs: Outputs = network(inputs)
    return {name: value.float() for name, value in outputs.items()}


def onnx_runtime(network: nn.Module, inputs: Tensor, folder: Path) -> Run:
    """Return what computes a network with ONNX Runtime."""
    import onnxruntime

    names = list(network(inputs[:1]))
    path = folder / "network.onnx"
    with torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            network, (inputs.clone(),), dynamo=True, output_names=names, verbose=False
        )
    assert program is not None
    program.save(path, external_data=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: inputs.numpy()}
    return lambda: dict(zip(names, map(torch.from_numpy, session.run(None, feed)), strict=True))


def openvino(network: nn.Module, inputs: Tensor) -> Run:
    """Return what computes a network with OpenVINO."""
    from features.networks.runtimes import converted, forward_of

    with torch.inference_mode(False):
        forward = forward_of(*converted(network, inputs.clone()))
    return lambda: dict(forward(inputs))


def difference(one: Outputs, other: Outputs) -> float:
    """Return the largest difference of any feature over its largest number."""
    return max(
        float((values - other[name]).abs().max() / values.abs().max())
        for name, values in one.items()
    )


def print_speeds(speeds: list[Speed]) -> None:
    """Print a line a runtime."""
    for row in speeds:
        print(
            f"{row.backbone:16} {row.runtime:22} {row.ms:8.1f} ms a row, "
            f"{row.cpu_ms:8.1f} ms of the processor ({row.of_first:.2f}), "
            f"differs by {row.relative:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    app()
