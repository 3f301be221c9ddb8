"""Extraction: views of videos through one backbone.

Rows of several videos share a batch, which always has the same size: the last one is filled up. So
a video with few rows costs no more a row than one with many, and a network sees one shape, in which
the number of a row does not depend on its place or on what lies beside it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
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
        known: number, time and validity of each row, (T,) each, when all have gone in.
    """

    def __init__(self, module: ModuleType, options: Any) -> None:
        """Begin, for a backbone's module and its ``Options``."""
        self.error: Exception | None = None
        self.known: dict[str, Array] = {}
        self._module = module
        self._options = options
        self._starts_s: list[NDArray[np.float64]] = [np.zeros(0)]
        self._outputs: list[Mapping[str, Tensor]] = []

    def inputs(self, view: Mapping[str, Array] | Waveform) -> Iterator[Tensor]:
        """Yield the network's input of the valid rows in parts, (t, ...).

        Args:
            view: arrays of the view's file, ``frames`` with ``index``, ``pts_s``, ``valid``; or
                the sound, which goes through the network as it comes.
        """
        if isinstance(view, Waveform):
            yield from self._sound(view)
            return
        self.known = {name: view[name].copy() for name in FRAME_ARRAYS}
        if self.known["index"].ndim == 2:  # a snippet is where its first frame is
            self.known |= {name: self.known[name][:, 0] for name in ("index", "pts_s")}
        rows = np.flatnonzero(view["valid"])
        for first in range(0, len(rows), BATCH):  # in float32 a clip is large
            part = rows[first : first + BATCH]
            yield self._module.preprocess(view["frames"][part], self._options)

    def _sound(self, waveform: Waveform) -> Iterator[Tensor]:
        if waveform.samples:  # a video without sound has no rows
            for rows, start_s in self._module.preprocess(waveform, self._options):
                self._starts_s.append(start_s)
                yield rows
        pts_s = waveform.start_s + np.concatenate(self._starts_s)
        self.known = {
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
        arrays = dict(self.known)
        rows = np.flatnonzero(arrays["valid"])
        outputs = self._outputs
        if outputs and "valid" in outputs[0]:
            arrays["valid"][rows] = torch.cat([part["valid"] for part in outputs]).numpy()
        stored = dtypes_of(self._module, self._options, dtypes or {})
        total = len(arrays["valid"])
        for name, shape in features_of(self._module, self._options).items():
            parts = [part[name] for part in outputs if name in part]
            arrays[name] = _placed(name, parts, rows, (total, *shape), stored[name])
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
        precision: as of :func:`outputs_of`.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))

    def forward(rows: Tensor) -> dict[str, Tensor]:
        outputs = outputs_of(network, rows.to(device), precision)
        return {name: value.cpu() for name, value in outputs.items()}

    return forward


def outputs_of(network: nn.Module, rows: Tensor, precision: str) -> dict[str, Tensor]:
    """Return a network's features of rows, both on one device; none of them in bfloat16.

    Args:
        network: in eval mode.
        rows: (T, ...).
        precision: ``bfloat16`` for products and convolutions in that type; else as the process is
            set up.
    """
    half = torch.autocast(rows.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(), half:
        return {
            name: value.float() if value.dtype == torch.bfloat16 else value
            for name, value in network(rows).items()
        }


def through(
    pieces: Iterable[Piece],
    forward: Forward,
    size: int,
    at_once: Callable[[], int] = lambda: 1,
) -> Iterator[Passage | None]:
    """Send rows of videos through a network, ``size`` at once, whosever they are.

    Where the network fails on a batch, each video of it is tried by itself: the one that it fails
    on has the ``error``.

    Args:
        pieces: rows in order; those of a video are not mixed with another's.
        forward: the network.
        size: rows of every batch.
        at_once: asked when the first batch is there: how many ``forward`` computes side by side,
            each in a thread of its own; one is computed in this thread.

    Yields:
        Each video whose last rows are through, in order; None where nothing follows for a while.
    """
    flying: deque[tuple[Held, Future[list[Result]]]] = deque()
    pool: ThreadPoolExecutor | None = None
    with ExitStack() as stack:
        for held in _batches(pieces, size):
            most = at_once()
            if most > 1 and pool is None:
                pool = stack.enter_context(ThreadPoolExecutor(most))
            if pool is None:
                yield from _landed(held, _compute(_rows_of(held), forward, size))
            elif held:
                flying.append((held, pool.submit(_compute, _rows_of(held), forward, size)))
            while flying and (not held or len(flying) > most):  # one more than those at work
                before, results = flying.popleft()
                yield from _landed(before, results.result())
            if not held:
                yield None
        for before, results in flying:
            yield from _landed(before, results.result())


Held = list[tuple[Passage, Tensor | None]]
"""What goes into a batch; None stands behind the last rows of a video."""

Result = Mapping[str, Tensor] | Exception
"""What became of the rows of a video in a batch."""


def _batches(pieces: Iterable[Piece], size: int) -> Iterator[Held]:
    """Yield what goes into each batch, of ``size`` rows or fewer; nothing where nothing follows."""
    held: Held = []
    count = 0
    for piece in pieces:
        if piece is None:
            yield from (held, []) if held else ([],)
            held, count = [], 0
            continue
        passage, rows = piece
        if rows is None:  # also behind a full batch, so that the video need not wait for the next
            held.append((passage, None))
            continue
        while len(rows):
            if count == size or (count and not _fits(held, rows)):
                yield held
                held, count = [], 0
            part, rows = rows[: size - count], rows[size - count :]
            held.append((passage, part))
            count += len(part)
    if held:
        yield held


def _fits(held: Held, rows: Tensor) -> bool:
    """Tell whether rows can lie in one tensor with those that are held."""
    return all(part is None or part.shape[1:] == rows.shape[1:] for _, part in held)


def _rows_of(held: Held) -> list[Tensor]:
    return [rows for _, rows in held if rows is not None]


def _compute(parts: list[Tensor], forward: Forward, size: int) -> list[Result]:
    """Return what the network makes of each part of a batch."""
    if not parts:
        return []
    batch = parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)
    if len(batch) < size:
        batch = torch.cat([batch, batch.new_zeros(size - len(batch), *batch.shape[1:])])
    try:
        outputs = forward(batch)
    except Exception as error:  # of one video's rows: the others are computed without them
        if len(parts) == 1:
            return [error]
        return [result for part in parts for result in _compute([part], forward, size)]
    results: list[Result] = []
    first = 0
    for rows in parts:
        last = first + len(rows)
        results.append({name: values[first:last] for name, values in outputs.items()})
        first = last
    return results


def _landed(held: Held, results: list[Result]) -> Iterator[Passage]:
    """Give each video what became of its rows, and yield those that end there."""
    rest = iter(results)
    for passage, rows in held:
        if rows is None:
            yield passage
            continue
        result = next(rest)
        if isinstance(result, Exception):
            passage.error = result
        else:
            passage.take(result)


def _placed(
    name: str,
    parts: Sequence[Tensor],
    rows: NDArray[np.intp],
    shape: tuple[int, ...],
    dtype: str,
) -> Array:
    """Put the values of ``rows``, in parts, into an array of all rows, checked and in its dtype."""
    found = (sum(map(len, parts)), *(parts[0].shape[1:] if parts else shape[1:]))
    if found != (len(rows), *shape[1:]):
        raise ExtractionError(
            f"{name}: the network gave {found}, its FEATURES promise {(len(rows), *shape[1:])}"
        )
    array = np.zeros(shape, dtype)
    first = 0
    for part in parts:
        _check(name, part, dtype)
        array[rows[first : first + len(part)]] = part.to(getattr(torch, dtype)).numpy()
        first += len(part)
    return array


def _check(name: str, values: Tensor, dtype: str) -> None:
    """Check that values can be kept in a dtype."""
    lowest, highest = map(float, values.aminmax())
    largest = max(-lowest, highest)
    if not np.isfinite(largest):
        raise ExtractionError(f"{name}: the network gave numbers that are not finite")
    if dtype == "float16" and largest > LARGEST_HALF:
        raise ExtractionError(
            f"{name}: {largest:.3g} is too large for float16; write `dtypes: {{{name}: float32}}` "
            "into the backbone's block in params.yaml"
        )
