"""Video files in, arrays out: one decoding pass for all views.

The sound has a pass of its own (:mod:`features.video.sound`): either may fail alone.

FFmpeg (through PyAV) does the decoding. Only ordinary containers on local files are opened:
playlists and network protocols that FFmpeg also understands are refused, since a file's content
is not to be trusted. For the same reason what a file may ask for is bounded: the size of a frame,
the bytes of a view, and the memory of the process while FFmpeg reads it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import compress
from pathlib import Path
from typing import TypeVar

import av
import av.container
import av.error
import av.logging
import numpy as np
from numpy.typing import NDArray

from features.video import seek
from features.video.clock import Clock, Plan, Shown, plan
from features.video.opening import (
    MAX_PIXELS,
    VideoError,
    bounded,
    opened,
    pixel_aspect,
    video_stream,
)
from features.video.pictures import Deinterlacer, fit, picture, shown_size
from features.video.views import ROUNDING_S, View, choose

T = TypeVar("T")
Number = TypeVar("Number", bound=np.generic)

av.logging.set_level(av.logging.FATAL)  # a damaged packet is counted by us, not printed


MAX_DAMAGED = 0.1
"""Share of a video's packets that may fail to decode, or of its length that may be missing."""


MAX_VIEW_BYTES = 2 << 30
"""Frames of a view that are held at a time; the default views take 0.2 GiB at most."""


@dataclass
class Frames:
    """Rows of one view: distinct frames in order of time, fewer than asked for in a short clip.

    A row of the ``snippets`` view has L frames: its arrays have an axis L after T.

    Attributes:
        frames: (T, H, W, 3) or (T, L, H, W, 3) uint8, RGB, upright, square pixels.
        index: (T,) or (T, L) int64, number of the frame in decoding order from 0.
        pts_s: (T,) or (T, L) float64, presentation time in seconds.
    """

    frames: NDArray[np.uint8]
    index: NDArray[np.int64]
    pts_s: NDArray[np.float64]


def padded(view: Frames, count: int) -> dict[str, NDArray[np.generic]]:
    """Return a view's arrays with exactly ``count`` rows, and which of them are real.

    Returns:
        ``frames`` (count, H, W, 3) uint8, ``index`` (count,) int64, ``pts_s`` (count,) float64,
        ``valid`` (count,) bool. Rows past the clip's own frames are not valid; there the frame
        is black, ``index`` is -1 and ``pts_s`` NaN.
    """
    missing = count - len(view.index)
    return {
        "frames": _lengthened(view.frames, missing, 0),
        "index": _lengthened(view.index, missing, -1),
        "pts_s": _lengthened(view.pts_s, missing, np.nan),
        "valid": np.arange(count) < len(view.index),
    }


def _lengthened(array: NDArray[Number], rows: int, value: float) -> NDArray[Number]:
    """Return an array with so many rows more, of one value; the array itself with none more."""
    if not rows:
        return array
    return np.concatenate([array, np.full((rows, *array.shape[1:]), value, array.dtype)])


@dataclass
class Decoded:
    """What one pass over a video gave.

    Attributes:
        views: the frames of each view.
        frames_decoded: number of pictures that the decoder gave.
        interlaced: number of them that were deinterlaced, since they say that they are fields.
        damaged: number of packets that it could not decode.
    """

    views: dict[str, Frames]
    frames_decoded: int
    interlaced: int
    damaged: int


def decode(path: Path, views: Mapping[str, View], *, seed: str) -> Decoded:
    """Decode a video once for all ``views``: all of it, or what they need of a long one.

    Either way gives the same frames (:mod:`features.video.seek`).

    Args:
        path: the file.
        views: the wanted views by name, at least one.
        seed: see :func:`features.video.views.instants`.

    Raises:
        VideoError: nothing decodable, or more than ``MAX_DAMAGED`` of it damaged or missing.
    """
    with bounded(), ExitStack() as files:
        container = files.enter_context(opened(path))
        video = video_stream(container)
        packets = _headers(container, video)
        planned = _planned(packets, video)
        times = planned.pts_s, planned.end_s
        numbers = {name: choose(view, *times, seed) for name, view in views.items()}
        wanted = np.unique(np.concatenate([chosen.ravel() for chosen in numbers.values()]))
        if needed := seek.spans(packets, wanted):
            with suppress(seek.NotExact):
                return _jump(container, video, needed, _Picker(video, planned, numbers, views))
        if needed or not _rewind(container):  # a decoder that has begun does not begin again
            container = files.enter_context(opened(path))
            video = video_stream(container)
        return _run(container, video, _Picker(video, planned, numbers, views))


def _jump(
    container: av.container.InputContainer,
    video: av.VideoStream,
    needed: Sequence[seek.Span],
    picker: "_Picker",
) -> Decoded:
    """Decode the frames of the spans alone."""
    _prepare(video)
    count = 0
    for shown in seek.decoded(container, video, needed):
        picker.hold(shown)
        count += 1
    picker.finish()
    return Decoded(picker.result(), frames_decoded=count, interlaced=0, damaged=0)


@dataclass
class Packets:
    """The packets of a track on their way through its decoder.

    Attributes:
        count: how many there were.
        damaged: those of them that could not be decoded.
    """

    count: int = 0
    damaged: int = 0

    def decoded(self, decode: Callable[[], list[T]]) -> list[T]:
        """Return the frames that a packet's ``decode`` gives, none where it is damaged."""
        self.count += 1
        try:
            return decode()
        except av.error.FFmpegError:
            self.damaged += 1
            return []

    def check(self, where: str = "") -> None:
        """Raise VideoError where more than ``MAX_DAMAGED`` of them are damaged."""
        if self.damaged > MAX_DAMAGED * self.count:
            raise VideoError(
                f"{where}damaged: {self.damaged} of {self.count} packets cannot be decoded"
            )


def _run(
    container: av.container.InputContainer, video: av.VideoStream, picker: "_Picker"
) -> Decoded:
    """Decode all frames."""
    _prepare(video)
    packets = Packets()
    for packet in container.demux(video):
        for frame in packets.decoded(packet.decode):
            picker.see(frame)
    picker.finish()
    packets.check()
    return Decoded(
        views=picker.result(),
        frames_decoded=picker.clock.number,
        interlaced=picker.deinterlacer.count,
        damaged=packets.damaged,
    )


def _prepare(video: av.VideoStream) -> None:
    video.thread_type = "NONE"  # the stage runs one process a core
    video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}


# -------------------------------------------------------------------------------- planning


def _headers(container: av.container.InputContainer, video: av.VideoStream) -> seek.Headers:
    """Read what all packets with content and a time say, without decoding."""
    can_start = seek.start_finder(video)
    found = seek.Headers()
    for packet in container.demux(video):
        pts, dts = packet.pts, packet.dts
        if not packet.size or (pts is None and dts is None):
            continue
        found.pts.append(pts)
        found.dts.append(dts)
        found.durations.append(packet.duration or 0)
        found.is_start.append(packet.is_keyframe and can_start(packet))
        found.is_cut.append(packet.is_discard)
    return found


def _planned(packets: seek.Headers, video: av.VideoStream) -> Plan:
    """Say when the packets' frames are shown; those that an edit list cuts off never are."""
    kept = [not is_cut for is_cut in packets.is_cut]
    if not any(kept):
        raise VideoError("no packet has a time stamp")
    pts, dts = (list(compress(column, kept)) for column in (packets.pts, packets.dts))
    durations = list(compress(packets.durations, kept))
    return plan(pts, dts, durations, video.time_base or Fraction(1, 1))


def _rewind(container: av.container.InputContainer) -> bool:
    """Go back to the start; False where the container cannot (FLV without a table of places)."""
    try:
        start = container.start_time if container.start_time is not None else 0
        container.seek(min(start, 0), backward=True, any_frame=False)
    except av.error.FFmpegError:
        return False
    return True


# -------------------------------------------------------------------------------- decoding


class _Picker:
    """Takes frames in order of time and keeps those that the views chose.

    A chosen time stamp is met by the last frame that is not later: decoders drop or add frames
    that the packets do not announce, and time decides.
    """

    def __init__(
        self,
        video: av.VideoStream,
        planned: Plan,
        chosen: Mapping[str, NDArray[np.int64]],
        views: Mapping[str, View],
    ) -> None:
        """Prepare for the frames of ``video``, of which each view has ``chosen`` some by number."""
        self.clock = Clock(video, planned)
        self.deinterlacer = Deinterlacer()
        self.chosen = chosen
        self.views = views
        self.aspect = pixel_aspect(video)
        self.wanted = {n: planned.pts_s[np.unique(numbers)] for n, numbers in chosen.items()}
        self.rows: dict[str, list[_Row]] = {name: [] for name in chosen}
        self.met: dict[str, list[int]] = {name: [] for name in chosen}  # row of each wanted
        self.next_s = min(float(wanted[0]) for wanted in self.wanted.values())
        self.held: Shown | None = None

    def see(self, frame: av.VideoFrame) -> None:
        """Take the next frame that the decoder gave."""
        self._take(self.clock.see(frame))

    def finish(self) -> None:
        """Give what is still wanted to the last frame, and refuse a clip that ends too early."""
        self._take(self.clock.finish())
        for whole in self.deinterlacer.finish():
            self.hold(whole)
        if self.held is None:
            raise VideoError("no frame could be decoded")
        self._keep(until_s=np.inf)
        self._check_length(self.held.time_s)

    def _take(self, timed: Iterable[Shown]) -> None:
        for shown in timed:
            for whole in self.deinterlacer.see(shown):
                self.hold(whole)

    def hold(self, shown: Shown) -> None:
        """Take the next picture; the one before it is now known to be over."""
        if self.held is not None:
            self._keep(until_s=shown.time_s - ROUNDING_S)
        self.held = shown

    def _keep(self, until_s: float) -> None:
        """Keep the picture that is held for what views want before an instant."""
        if until_s <= self.next_s:
            return
        assert self.held is not None
        shown = self.held
        self.next_s = np.inf
        pictures: dict[int, NDArray[np.uint8]] = {}
        for name, wanted in self.wanted.items():
            after = int(np.searchsorted(wanted, until_s, side="left"))
            if after < len(wanted):
                self.next_s = min(self.next_s, float(wanted[after]))
            new = after - len(self.met[name])
            if new <= 0:
                continue
            self.met[name] += [len(self.rows[name])] * new
            side = self.views[name].max_short_side
            if side not in pictures:
                self._check_room(shown.frame, side)
                pictures[side] = picture(shown.frame, side, self.aspect)
            self.rows[name].append((shown.number, shown.time_s, pictures[side]))

    def _check_room(self, frame: av.VideoFrame, side: int) -> None:
        """Refuse a clip whose frames would fill the memory: a frame can be long and narrow."""
        width, height = shown_size(frame, side, self.aspect)
        views = [view for view in self.views.values() if view.max_short_side == side]
        rows = max(view.count * view.length for view in views)
        if 3 * width * height * rows > MAX_VIEW_BYTES:
            raise VideoError(f"{rows} frames of {width}x{height} would take too much memory")

    def _check_length(self, last_s: float) -> None:
        """Refuse a clip whose pictures end long before its time stamps do."""
        first = min(float(wanted[0]) for wanted in self.wanted.values())
        last = max(float(wanted[-1]) for wanted in self.wanted.values())
        if last_s - first < (1 - MAX_DAMAGED) * (last - first) - ROUNDING_S:
            raise VideoError(f"truncated: pictures end at {last_s:.2f} s of {last:.2f} s")

    def result(self) -> dict[str, Frames]:
        """Return the rows of each view."""
        return {name: self._frames(name) for name in self.chosen}

    def _frames(self, name: str) -> Frames:
        numbers, times, pictures = zip(*self.rows[name], strict=True)
        chosen = self.chosen[name]
        rows = np.arange(len(pictures))
        if chosen.ndim == 2:
            rows = np.asarray(self.met[name])[np.searchsorted(np.unique(chosen), chosen)]  # (T, L)
        shape = pictures[0].shape
        frames = np.stack([fit(pictures[row], shape) for row in rows.flat])
        return Frames(
            frames.reshape(*rows.shape, *shape),
            np.asarray(numbers, np.int64)[rows],
            np.asarray(times, np.float64)[rows],
        )


_Row = tuple[int, float, NDArray[np.uint8]]
"""A frame that a view keeps: its number, time in seconds, picture."""
