"""Runtimes: a network computed by OpenVINO instead of torch, on a CPU and in float32.

The numbers agree with torch's within what float16 rounds (PARITY.md shows it), so a runtime is in
no key. OpenVINO's graph is made from torch's own (``torch.export``), for batches of one shape, or
of any length along some axes.

Its package brings another that posts usage figures (openvino-telemetry). Videos here may be
confidential: it is kept from being imported, which OpenVINO provides for.
"""

import gc
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from features.networks.extraction import Forward

if TYPE_CHECKING:
    import openvino

EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",  # it takes bfloat16 or float16 by itself where it can
    "EXECUTION_MODE_HINT": "ACCURACY",
}
"""How OpenVINO is to compute: in torch's precision."""

THREADS = 4
"""Of a batch at most, where batches are computed side by side. Threads of one batch wait for each
other, above all where one of them shares its core with other work."""


def side_by_side() -> int:
    """Return how many batches to compute side by side: two or more, but where one core is all."""
    threads = torch.get_num_threads()
    return min(threads, max(2, threads // THREADS))


def runtime() -> Any:
    """Import OpenVINO, without what would post usage figures."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def _core() -> Any:
    """Return OpenVINO's core: one for the life of the process.

    Where the processor has AMX, each core gives the thread a stack for its signals, and takes back
    the one before when it ends: of two whose lives overlap one leaves the thread a stack that is
    gone, and the next signal, Ctrl-C too, crashes the process.
    """
    return runtime().Core()


def converted(
    network: nn.Module, rows: Tensor, free: Sequence[int] = ()
) -> "tuple[openvino.Model, list[str]]":
    """Return a network in OpenVINO's form, and the names of its outputs in their order.

    Args:
        network: in eval mode, on the CPU.
        rows: a batch of the shape that it is to be computed for; its numbers do not matter.
        free: axes along which batches may be of another length than ``rows``.
    """
    lengths = ({axis: torch.export.Dim.AUTO for axis in free},) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        with torch.no_grad():
            program = torch.export.export(network, (rows,), dynamic_shapes=lengths)
            names = list(network(rows[:1]))
        model = runtime().convert_model(program)
    del program
    gc.collect()  # it holds the network's weights in cycles
    return model, names


def save(model: "openvino.Model", path: Path) -> None:
    """Write a converted network: its graph, XML, at ``path``, its weights beside it, ``.bin``."""
    runtime().save_model(model, path, compress_to_fp16=False)


def forward_of(model: "openvino.Model | Path", names: Sequence[str], at_once: int = 1) -> Forward:
    """Return what computes a converted network, for so many threads side by side.

    Args:
        model: of :func:`converted`, or where :func:`save` has written it.
        names: of its outputs.
        at_once: batches that share the processor.
    """
    settings = {
        "PERFORMANCE_HINT": "LATENCY" if at_once == 1 else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
        "NUM_STREAMS": str(at_once),
    }
    compiled = _core().compile_model(model, "CPU", {**EXACT, **settings})
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(at_once):
        idle.put(compiled.create_infer_request())

    def forward(rows: Tensor) -> Mapping[str, Tensor]:
        request = idle.get()
        try:
            outputs = request.infer(rows.numpy(), share_inputs=True)
            return {name: torch.from_numpy(outputs[place]) for place, name in enumerate(names)}
        finally:
            idle.put(request)

    return forward


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return how far features are apart: the largest difference over the largest number, of any.

    Infinite where they have other names or shapes, or one is no number.
    """
    if {n: v.shape for n, v in one.items()} != {n: v.shape for n, v in other.items()}:
        return float("inf")
    apart = [
        float((values - other[name]).abs().max() / values.abs().max().clamp_min(1e-30))
        for name, values in one.items()
        if values.numel()
    ]
    return max((x if x == x else float("inf") for x in apart), default=0.0)
