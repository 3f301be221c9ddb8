"""A video's sound: its first track as one mono waveform on the time line of its pictures.

Time. The pictures' ``pts_s`` are the container's presentation times, edit lists applied. The
waveform begins at its ``start_s``: where the container begins (0 in most; a transport stream may
begin at 1.4 s or at hours), but never before 0. Sample n is heard at ``start_s + n / rate``. Where
a track begins late or has a gap there is silence; what lies before ``start_s`` is cut (the priming
that a file declares is cut by FFmpeg); of sound that overlaps, the first is kept.

Channels. Mono is left as it is, stereo is the mean. Surround is brought to stereo by the weights of
ITU-R BS.775-3, annex 4, table 2, and then the mean is taken: :data:`WEIGHTS`. So left and right
weigh what they do in a stereo film, and a voice is as loud in its 5.1 version as in its stereo one.
The sum is not brought below 1: loud surround may exceed the range [-1, 1].

Rate. That of the first frame; what comes at another rate later is resampled to it.
"""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO

import av
import av.container
import av.error
import numpy as np
from av.stream import Discard

from features.video.decode import MAX_DAMAGED, Packets
from features.video.opening import VideoError, audio_stream, bounded, opened
from features.waveform import Samples, Waveform, resampled

MAX_SAMPLES = 2_000_000_000
"""Samples of a track: 11.6 hours at 48 kHz, 8 GB. A small file can hold days of silence."""

JITTER_S = 0.05
"""Time stamps that are off by less move nothing. Containers round them (1 ms in Matroska and FLV)
and count the priming of codecs in or out (up to 25 ms at 44.1 kHz); from 45 ms on a picture and
its sound can be seen to be apart (ITU-R BT.1359)."""

BLOCK = 1 << 18
"""Samples that are held at a time, 1 MiB."""

FLOATS = ("flt", "fltp")
"""Sample formats that are taken as they are: what most codecs give."""

MINUS_3_DB = 0.5**0.5

WEIGHTS = {
    "FL": 0.5,
    "FR": 0.5,
    "FC": MINUS_3_DB,  # to both sides
    "BL": 0.5 * MINUS_3_DB,
    "BR": 0.5 * MINUS_3_DB,
    "SL": 0.5 * MINUS_3_DB,
    "SR": 0.5 * MINUS_3_DB,
    "BC": 0.5,  # both surrounds, at -3 dB each
    "LFE": 0.0,
}
"""Weight of a channel, by FFmpeg's names. A layout with a channel that is not here (above, below,
of unknown place), or without left and right, is its mean."""

UNSAID = {6: "5.1", 8: "7.1"}
"""What so many channels are taken for where a track does not say: all files have them so."""

Piece = tuple[float | None, int, Samples]
"""When a piece of sound is heard, its rate, its samples."""


@contextmanager
def decoded(path: Path, folder: Path) -> Iterator[Waveform]:
    """Decode a video's first sound track; it has no samples where there is none.

    Args:
        path: the video.
        folder: where the samples lie, in a file without a name, until the context is left.

    Raises:
        VideoError: more than ``MAX_SAMPLES`` of it, or more than ``MAX_DAMAGED`` of it damaged or
            heard twice.
    """
    with tempfile.TemporaryFile(dir=folder) as spool:
        samples = rate_hz = 0
        start_s = 0.0
        with bounded(), opened(path) as container:
            audio = audio_stream(container)
            if audio is not None:
                start_s = max(0.0, (container.start_time or 0) / av.time_base)
                pieces = _placed(_heard(container, audio), start_s)
                for first_hz, block in _at_one_rate(pieces):
                    rate_hz = first_hz
                    spool.write(block.data)
                    samples += len(block)
        yield Waveform(samples, rate_hz, _blocks(spool), start_s)


def _blocks(spool: IO[bytes]) -> Iterator[Samples]:
    spool.seek(0)
    while content := spool.read(BLOCK * np.dtype(np.float32).itemsize):
        yield np.frombuffer(content, np.float32)


def _heard(container: av.container.InputContainer, audio: av.AudioStream) -> Iterator[Piece]:
    """Yield what the decoder gives of a track, made mono."""
    for stream in container.streams:
        if stream is not audio:
            stream.discard = Discard.all
    kinds: dict[tuple[str, str, int], tuple[list[float], av.AudioResampler]] = {}
    packets = Packets()
    for packet in container.demux(audio):
        for frame in packets.decoded(packet.decode):
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind not in kinds:
                kinds[kind] = channel_weights(frame.layout), av.AudioResampler(format="flt")
            weights, to_float = kinds[kind]
            time_s = frame.time
            for part in [frame] if kind[0] in FLOATS else to_float.resample(frame):
                samples = mono(_channels(part, len(weights)), weights)
                if not np.isfinite(samples).all():
                    raise VideoError("its sound has numbers that are not finite")
                yield time_s, frame.sample_rate, samples
                time_s = None
    packets.check("its sound is ")


def _channels(frame: av.AudioFrame, count: int) -> Samples:
    """Return (C, n) float32 of a frame of floats, its channels packed or in planes."""
    samples = frame.to_ndarray().astype(np.float32, copy=False)
    return samples if frame.format.is_planar else samples.reshape(-1, count).T


def channel_weights(layout: av.AudioLayout) -> list[float]:
    """Return what each channel of a layout weighs in the mono sound, in the layout's order."""
    names = [channel.name for channel in layout.channels]
    if set(names) == {"NONE"} and len(names) in UNSAID:
        names = [channel.name for channel in av.AudioLayout(UNSAID[len(names)]).channels]
    if {"FL", "FR"} <= set(names) <= set(WEIGHTS):
        return [WEIGHTS[name] for name in names]
    return [1 / len(names)] * len(names)


def mono(channels: Samples, weights: list[float]) -> Samples:
    """Return the weighted sum (n,) of channels (C, n)."""
    total: Samples = np.zeros(channels.shape[1], np.float32)
    for channel, weight in zip(channels, weights, strict=True):
        total += channel * np.float32(weight)
    return total


def _placed(pieces: Iterable[Piece], start_s: float) -> Iterator[tuple[int, Samples]]:
    """Yield rate and samples from ``start_s`` on: gaps are filled, what overlaps is cut."""
    end_s, twice_s, first_hz = start_s, 0.0, 0
    jitter_s = JITTER_S
    for time_s, rate_hz, samples in pieces:
        first_hz = first_hz or rate_hz
        off_s = 0.0 if time_s is None else time_s - end_s
        off = round(off_s * rate_hz) if abs(off_s) > jitter_s else 0
        new = samples[max(0, -off) :]
        jitter_s = JITTER_S if len(new) else 0.0  # a cut ends where it should, not a bit before
        if end_s > start_s:
            twice_s += (len(samples) - len(new)) / rate_hz
        end_s += (max(0, off) + len(new)) / rate_hz
        if (end_s - start_s) * first_hz > MAX_SAMPLES:
            raise VideoError(f"its sound has more than {MAX_SAMPLES:,} samples")
        for first in range(0, off, BLOCK):
            yield rate_hz, np.zeros(min(BLOCK, off - first), np.float32)
        yield rate_hz, new
    if twice_s > MAX_DAMAGED * (end_s - start_s + twice_s):
        raise VideoError(f"its sound goes back in time: {twice_s:.1f} s of it were heard before")


def _at_one_rate(pieces: Iterable[tuple[int, Samples]]) -> Iterator[tuple[int, Samples]]:
    """Yield the first rate with samples at that rate."""
    first_hz = 0
    for rate_hz, run in itertools.groupby(pieces, itemgetter(0)):
        first_hz = first_hz or rate_hz
        for block in resampled((samples for _rate, samples in run), rate_hz, first_hz):
            yield first_hz, block
