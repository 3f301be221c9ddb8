"""Streams: rows to a GPU, through a network there, and back, several batches at once.

What goes to the card, what it computes and what comes back has a queue of its own, a CUDA stream:
while one batch is computed, the next one is on its way there and the last one on its way back. A
batch keeps its size and its place in its queue, so no bit depends on what is beside it.

What a network launches, hundreds of small pieces of work, can be recorded once as a CUDA graph and
be launched whole. It is the same work: :func:`faster` takes it only with the same bits.
"""

import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from features.networks.extraction import Forward, outputs_of

IN_FLIGHT = 3
"""Batches at once: one that comes, one that is computed, one that goes."""

WARM_UP = 3
"""Turns before a network is recorded: libraries choose their kernels and take their memory."""

FASTER = 0.95
"""A recorded network is taken where it needs at most this share of the time."""

TURNS = 5
"""Of each in a comparison; the least counts."""


class Mark(Protocol):
    """A place in a queue."""

    def synchronize(self) -> None:
        """Wait until all before it is done."""


class Queue(Protocol):
    """Work that is done in the order in which it was put in, while this thread goes on."""

    def put(self, work: Callable[[], None], *after: Mark) -> Mark:
        """Put in work that is to be done after marks of other queues; its end is the mark."""


class Stream:
    """A queue of a GPU; what several threads put in is not mixed."""

    def __init__(self, device: torch.device) -> None:
        """Begin an empty queue of a device."""
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._putting = Lock()

    def put(self, work: Callable[[], None], *after: Mark) -> Mark:
        """Put in work; see :class:`Queue`."""
        with self._putting, torch.cuda.stream(self._stream):
            for mark in after:
                self._stream.wait_event(mark)
            work()
            end: Mark = self._stream.record_event()
            return end


def forward_on(
    compute: Forward, device: torch.device, queues: tuple[Queue, Queue, Queue]
) -> Forward:
    """Return what sends rows from the CPU through a network on a device; threads may share it.

    Args:
        compute: the network: rows on the device -> its features, there too.
        device: where it is.
        queues: of what goes there, of the network, and of what comes back.
    """
    there, network, back = queues

    def forward(rows: Tensor) -> Mapping[str, Tensor]:
        # Memory of the device is a queue's own: what another queue reads is held until that has
        # been done. Memory of the host that is pinned is copied while this thread goes on.
        pinned = rows.pin_memory() if device.type == "cuda" else rows
        inputs: list[Tensor] = []
        outputs: dict[str, Tensor] = {}
        features: dict[str, Tensor] = {}

        def fetch() -> None:
            for name, values in outputs.items():
                features[name] = values.to("cpu", non_blocking=True)  # into pinned memory

        copied = there.put(lambda: inputs.append(pinned.to(device, non_blocking=True)))
        computed = network.put(lambda: outputs.update(compute(inputs[0])), copied)
        back.put(fetch, computed).synchronize()
        return features

    return forward


def channels_last(network: nn.Module) -> nn.Module:
    """Return a network whose convolutions have their weights channels last, as a GPU's are."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in network.parameters():
        if weight.ndim in formats:
            weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])
    return network


def on_gpu(
    network: nn.Module,
    precision: str,
    rows: Tensor,
    *,
    may_record: bool,
    note: Callable[[str], None],
) -> tuple[str, Forward]:
    """Return what computes a network on the GPU that it is on, and its name.

    Args:
        network: in eval mode.
        precision: of its products.
        rows: a batch on the CPU, of the shape of all that follow.
        may_record: take it as a CUDA graph, where that is faster.
        note: told in one line what a person should know.
    """
    device = next(network.parameters()).device
    network = channels_last(network)

    def compute(batch: Tensor) -> dict[str, Tensor]:
        return outputs_of(network, batch, precision)

    runtime, taken = "torch", cast(Forward, compute)
    if may_record:
        try:
            batch = rows.to(device)
            recorded = graph_of(compute, batch)
            if faster(compute, recorded, batch, lambda: torch.cuda.synchronize(device)):
                runtime, taken = "torch, CUDA graph", recorded
        except RuntimeError as error:  # what asks the CPU while it is computed is not recorded
            note(f"it is not recorded as a CUDA graph: {' '.join(str(error).split())[:200]}")
    return runtime, forward_on(taken, device, (Stream(device), Stream(device), Stream(device)))


def graph_of(compute: Forward, rows: Tensor) -> Forward:
    """Return what computes batches of one shape as a recorded CUDA graph, one at a time.

    Args:
        compute: a network on a GPU.
        rows: a batch there.

    Raises:
        RuntimeError: it cannot be recorded.
    """
    inputs = rows.clone()
    aside = torch.cuda.Stream(rows.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(rows.device))
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            compute(inputs)
    torch.cuda.current_stream(rows.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others go on
        outputs = compute(inputs)

    def replay(batch: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode():
            inputs.copy_(batch)
            graph.replay()
            return {name: values.clone() for name, values in outputs.items()}

    return replay


def faster(
    plain: Forward, other: Forward, rows: Tensor, wait: Callable[[], None] = lambda: None
) -> bool:
    """Tell whether another form of a network is faster, and gives the same features to the bit.

    Args:
        plain: the network.
        other: the other form.
        rows: a batch.
        wait: until what was asked for is done.
    """
    expected, found = plain(rows), other(rows)
    if expected.keys() != found.keys() or not all(
        torch.equal(values, found[name]) for name, values in expected.items()
    ):
        return False
    seconds = {"plain": float("inf"), "other": float("inf")}
    for _ in range(TURNS):
        for name, form in (("plain", plain), ("other", other)):
            wait()
            start = time.perf_counter()
            form(rows)
            wait()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds["other"] <= FASTER * seconds["plain"]
