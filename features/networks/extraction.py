"""Extraction: views of videos through one backbone.

Rows of several videos share a batch, which always has the same size: the last one is filled up. So
a video with few rows costs no more a row than one with many, and a network sees one shape, in which
the number of a row does not depend on its place or on what lies beside it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.options import dtypes_of, features_of
from features.video.views import FRAME_ARRAYS
from features.waveform import Waveform

Array = NDArray[np.generic]

BATCH = 12
"""Rows that go through a network at once; on a CPU more are slower, as they leave its caches."""

LARGEST_HALF = 65504.0
"""Largest number that float16 holds."""

Forward = Callable[[Tensor], Mapping[str, Tensor]]
"""A network in some runtime: rows (T, ...) on the CPU -> its features (T, ...), there too."""


class ExtractionError(ValueError):
    """A video's features cannot be kept; the message is the reason that its row shows."""


class Passage:
    """One video's way through a network: the rows that go in, and what came out.

    Attributes:
        error: why there are no features, where something failed on the way.
    """

    def __init__(self, module: ModuleType, options: Any) -> None:
        """Begin, for a backbone's module and its ``Options``."""
        self.error: Exception | None = None
        self._module = module
        self._options = options
        self._starts_s: list[NDArray[np.float64]] = [np.zeros(0)]
        self._known: dict[str, Array] = {}
        self._outputs: list[Mapping[str, Tensor]] = []

    def inputs(self, view: Mapping[str, Array] | Waveform) -> Iterator[Tensor]:
        """Yield the network's input, (t, ...), of the valid rows.

        Args:
            view: arrays of the view's file, ``frames`` with ``index``, ``pts_s``, ``valid``; or
                the sound, which goes through the network as it comes.
        """
        if isinstance(view, Waveform):
            yield from self._sound(view)
            return
        self._known = {name: view[name].copy() for name in FRAME_ARRAYS}
        if self._known["index"].ndim == 2:  # a snippet is where its first frame is
            self._known |= {name: self._known[name][:, 0] for name in ("index", "pts_s")}
        rows = np.flatnonzero(view["valid"])
        yield self._module.preprocess(view["frames"][rows], self._options)

    def _sound(self, waveform: Waveform) -> Iterator[Tensor]:
        if waveform.samples:  # a video without sound has no rows
            for rows, start_s in self._module.preprocess(waveform, self._options):
                self._starts_s.append(start_s)
                yield rows
        pts_s = waveform.start_s + np.concatenate(self._starts_s)
        self._known = {
            "index": np.arange(len(pts_s), dtype=np.int64),
            "pts_s": pts_s,
            "valid": np.ones(len(pts_s), bool),
        }

    def take(self, outputs: Mapping[str, Tensor]) -> None:
        """Take what the network made of the next rows."""
        self._outputs.append(outputs)

    def arrays(self, dtypes: Mapping[str, str] | None = None) -> dict[str, Array]:
        """Return the named features of the video, when all its rows are through.

        Args:
            dtypes: feature -> ``float16`` or ``float32``, where it is to be another than usual.

        Returns:
            Each of the module's features, (T, ...), in its dtype, and ``index``, ``pts_s``,
            ``valid`` (T,). Rows that are not valid are zeros.

        Raises:
            ExtractionError: a feature is not finite or too large for its dtype.
            Exception: what failed on the way.
        """
        if self.error is not None:
            raise self.error
        arrays = dict(self._known)
        rows = np.flatnonzero(arrays["valid"])
        names = self._outputs[0] if self._outputs else ()
        outputs = {n: torch.cat([part[n] for part in self._outputs]).numpy() for n in names}
        if "valid" in outputs:
            arrays["valid"][rows] = outputs.pop("valid")
        stored = dtypes_of(self._module, self._options, dtypes or {})
        total = len(arrays["valid"])
        for name, shape in features_of(self._module, self._options).items():
            values = outputs.get(name, np.zeros((0, *shape), np.float32))
            arrays[name] = _placed(name, values, rows, total, shape, np.dtype(stored[name]))
        return arrays


Piece = tuple[Passage, Tensor | None] | None
"""Rows of a video; None for its rows: that was the last; None: nothing follows for a while."""


def extract(
    module: ModuleType,
    network: nn.Module,
    view: Mapping[str, Array] | Waveform,
    options: Any,
    *,
    dtypes: Mapping[str, str] | None = None,
    precision: str = "float32",
) -> dict[str, Array]:
    """Return the named features of one video by itself.

    Arguments, result and errors are those of :class:`Passage` and :func:`forward_of`.
    """
    passage = Passage(module, options)
    rows: Iterator[Piece] = ((passage, part) for part in passage.inputs(view))
    for _ in through(rows, forward_of(network, precision), batch_of(module)):
        pass
    return passage.arrays(dtypes)


def batch_of(module: ModuleType) -> int:
    """Return how many rows go through a module's network at once: where it uses one core, one."""
    return 1 if getattr(module, "ONE_CORE", False) else BATCH


def forward_of(network: nn.Module, precision: str = "float32") -> Forward:
    """Return what computes a network with torch.

    Args:
        network: in eval mode, on its device.
        precision: ``float32``, or ``bfloat16`` for products and convolutions in that type.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))

    def forward(rows: Tensor) -> dict[str, Tensor]:
        half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
        with torch.inference_mode(), half:
            outputs = network(rows.to(device, non_blocking=True))
            return {
                name: (value.float() if value.dtype == torch.bfloat16 else value).cpu()
                for name, value in outputs.items()
            }

    return forward


def through(pieces: Iterable[Piece], forward: Forward, size: int) -> Iterator[Passage | None]:
    """Send rows of videos through a network, ``size`` at once, whosever they are.

    Where the network fails on a batch, each video of it is tried by itself: the one that it fails
    on has the ``error``.

    Args:
        pieces: rows in order; those of a video are not mixed with another's.
        forward: the network.
        size: rows of every batch.

    Yields:
        Each video whose last rows are through, in order; None where nothing follows for a while.
    """
    held: list[tuple[Passage, Tensor | None]] = []
    count = 0
    for piece in pieces:
        if piece is None or (count and piece[1] is not None and not _fits(held, piece[1])):
            yield from _flushed(held, forward, size)
            held, count = [], 0
        if piece is None:
            yield None
            continue
        passage, rows = piece
        while rows is not None and len(rows):
            part, rows = rows[: size - count], rows[size - count :]
            held.append((passage, part))
            count += len(part)
            if count == size:
                yield from _flushed(held, forward, size)
                held, count = [], 0
        if rows is None and count:
            held.append((passage, None))
        elif rows is None:
            yield passage
    yield from _flushed(held, forward, size)


def _fits(held: list[tuple[Passage, Tensor | None]], rows: Tensor) -> bool:
    """Tell whether rows can lie in one tensor with those that are held."""
    return all(part is None or part.shape[1:] == rows.shape[1:] for _, part in held)


def _flushed(
    held: list[tuple[Passage, Tensor | None]], forward: Forward, size: int
) -> Iterator[Passage]:
    """Compute the rows that are held, and yield the videos that end among them."""
    parts = [(passage, rows) for passage, rows in held if rows is not None]
    if parts:
        _compute(parts, forward, size)
    yield from (passage for passage, rows in held if rows is None)


def _compute(parts: list[tuple[Passage, Tensor]], forward: Forward, size: int) -> None:
    """Give each video what the network makes of its part of a batch."""
    batch = torch.cat([rows for _, rows in parts])
    if len(batch) < size:
        batch = torch.cat([batch, batch.new_zeros(size - len(batch), *batch.shape[1:])])
    try:
        outputs = forward(batch)
    except Exception as error:  # of one video's rows: the others are computed without them
        if len(parts) == 1:
            parts[0][0].error = error
        else:
            for part in parts:
                _compute([part], forward, size)
        return
    first = 0
    for passage, rows in parts:
        last = first + len(rows)
        passage.take({name: values[first:last] for name, values in outputs.items()})
        first = last


def _placed(
    name: str,
    values: NDArray[np.float32],
    rows: NDArray[np.intp],
    total: int,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
) -> Array:
    """Put the values of ``rows`` into an array of all rows, checked and in its dtype."""
    if values.shape != (len(rows), *shape):
        raise ExtractionError(
            f"{name}: the network gave {values.shape}, its FEATURES promise {(len(rows), *shape)}"
        )
    largest = float(np.abs(values).max(initial=0))
    if not np.isfinite(largest):
        raise ExtractionError(f"{name}: the network gave numbers that are not finite")
    if dtype == np.float16 and largest > LARGEST_HALF:
        raise ExtractionError(
            f"{name}: {largest:.3g} is too large for float16; write `dtypes: {{{name}: float32}}` "
            "into the backbone's block in params.yaml"
        )
    array = np.zeros((total, *shape), dtype)
    array[rows] = values
    return array
