"""A mono sound in blocks: what the sound backbones read. Three hours of it would take 2 GB whole.

What is made of the blocks does not depend on how long they are: resampling and overlapping windows
carry over from one to the next.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Waveform:
    """A mono sound that is gone through once.

    Attributes:
        samples: how many there are, N.
        sample_rate_hz: their rate.
        blocks: all of them in order, (n,) float32 in [-1, 1] each, of any length.
        start_s: time of the first, on the time line of the video's frames.
    """

    samples: int
    sample_rate_hz: int
    blocks: Iterable[Samples]
    start_s: float = 0.0


def resampled(blocks: Iterable[Samples], rate_hz: int, wanted_hz: int) -> Iterator[Samples]:
    """Yield a sound at another rate, the same numbers as resampled whole (soxr, HQ).

    Args:
        blocks: (n,) float32 each, at ``rate_hz``.
        rate_hz: their rate.
        wanted_hz: the rate of what is yielded; where it is the same, so are the blocks.

    Raises:
        ValueError: no mono blocks of finite numbers, or no rate.
    """
    if rate_hz <= 0:
        raise ValueError(f"expected a mono waveform at a rate above 0, found {rate_hz} Hz")
    stream = None
    if rate_hz != wanted_hz:
        stream = soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        samples = np.asarray(block, np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise ValueError(
                f"expected a mono waveform (N,) of finite numbers, found {samples.shape}"
            )
        yield samples if stream is None else stream.resample_chunk(samples)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def spans(blocks: Iterable[Samples], window: int, hop: int, count: int) -> Iterator[Samples]:
    """Cut a sound into spans of ``count`` windows, the last one of fewer, none of it none.

    Windows of ``window`` samples start every ``hop`` samples, ``hop`` at most ``window``; what is
    too short for one more at the end is left out.

    Yields:
        (n,) float32, n = (windows - 1) * hop + window: a span ends with its last window.
    """
    size = (count - 1) * hop + window
    held: list[Samples] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += len(block)
        if length < size:
            continue
        rest = np.concatenate(held)
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[count * hop :]
        held, length = [rest.copy()], len(rest)
    if length >= window:
        windows = 1 + (length - window) // hop
        yield np.concatenate(held)[: (windows - 1) * hop + window]
