"""What the networks heard: the shape of a sound, and the sound itself for a player."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av
import av.codec.context
import numpy as np
from numpy.typing import NDArray

from features.cache import arrays
from features.waveform import Samples, resampled
from stages.results.pictures import NotHere, view_file

COLUMNS = 180
"""Of the drawn wave form."""

PLAYED_HZ = 16_000
PLAYED_BITS_S = 24_000
LONGEST_S = 30.0
"""Of what the player has: 90 kB; the rest of a longer sound is left out."""

KIND = "audio/mpeg"


@dataclass(frozen=True)
class Heard:
    """A video's sound.

    Attributes:
        low: (COLUMNS,) float32, smallest sample of each part of the sound.
        high: likewise the largest.
        start_s: time of its first sample, seconds.
        seconds: its length.
        played: its first LONGEST_S as MP3.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    start_s: float
    seconds: float
    played: bytes


def heard(video_id: str) -> Heard | None:
    """Return a video's sound; None where it has none.

    Raises:
        NotHere: its file is missing or damaged.
    """
    path = view_file("sound", video_id)
    try:
        with arrays.streamed(path, ["waveform"]) as (found, about):
            samples = found["waveform"].shape[0]
            rate_hz = int(str(about["sample_rate_hz"]))
            shape = _Shape(samples)
            blocks = shape.passed(part.astype(np.float32) for part in found["waveform"].parts)
            start = b"" if not samples else _mp3(_first(resampled(blocks, rate_hz, PLAYED_HZ)))
            for _ in blocks:  # what the player does not have
                pass
    except arrays.ArrayFileError as error:
        raise NotHere(str(error)) from None
    if not samples:
        return None
    start_s = float(str(about["start_s"]))
    return Heard(shape.low, shape.high, start_s, samples / rate_hz, start)


class _Shape:
    """Smallest and largest sample of each of COLUMNS parts of a sound that goes by."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.low = np.zeros(COLUMNS, np.float32)
        self.high = np.zeros(COLUMNS, np.float32)

    def passed(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield the blocks as they are."""
        number = 0
        for block in blocks:
            columns = (np.arange(number, number + len(block)) * COLUMNS) // self.samples
            np.minimum.at(self.low, columns, block)
            np.maximum.at(self.high, columns, block)
            number += len(block)
            yield block


def _first(blocks: Iterable[Samples]) -> Samples:
    """Return at most LONGEST_S of a sound at PLAYED_HZ."""
    parts: list[Samples] = []
    left = int(LONGEST_S * PLAYED_HZ)
    for block in blocks:
        parts.append(block[:left])
        left -= len(parts[-1])
        if left <= 0:
            break
    return np.clip(np.concatenate(parts), -1, 1)


def _mp3(samples: Samples) -> bytes:
    """Return a mono sound as MP3, the same bytes each time: no tag says when or by what."""
    buffer = io.BytesIO()
    plain = {"fflags": "+bitexact", "write_xing": "0", "id3v2_version": "0"}
    with av.open(buffer, "w", format="mp3", options=plain) as container:
        stream = container.add_stream("libmp3lame", rate=PLAYED_HZ, layout="mono")
        stream.bit_rate = PLAYED_BITS_S
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = PLAYED_HZ, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
