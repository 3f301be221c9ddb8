"""Video files in, arrays out: probing, and one decoding pass for all views.

The sound has a pass of its own (:mod:`features.sound`): either may fail alone.

FFmpeg (through PyAV) does the decoding. Only ordinary containers on local files are opened:
playlists and network protocols that FFmpeg also understands are refused, since a file's content
is not to be trusted. For the same reason what a file may ask for is bounded: the size of a frame,
the bytes of a view, and the memory of the process while FFmpeg reads it.
"""

import errno
import resource
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import av.logging
import numpy as np
from numpy.typing import NDArray

from features.clock import Clock, Plan, Shown, plan
from features.pictures import Deinterlacer, fit, picture, shown_size
from features.views import ROUNDING_S, View, choose

av.logging.set_level(av.logging.FATAL)  # a damaged packet is counted by us, not printed

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,asf,ogg,h264,hevc,ivf,"
    "nut,rm,dv,mxf,gif,wtv,vob,dvd,wav,mp3,aac,flac"
)
"""FFmpeg's names of the containers that are opened (sound files only to say what they lack)."""

EXTENSIONS = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .flv .wmv .asf .mpg .mpeg .ts .m2ts .vob .ogv .3gp .rm .rmvb"
    " .mxf .dv .gif .mts".split()
)
"""File names that are taken for videos when a folder is listed."""

MAX_DAMAGED = 0.1
"""Share of a video's packets that may fail to decode, or of its length that may be missing."""

MAX_PIXELS = 8192 * 8192
"""Frames larger than this are refused before a frame buffer is asked for."""

MAX_PIXEL_ASPECT = 16.0
"""Width over height of a pixel, or height over width; anamorphic films have up to 2."""

MAX_VIEW_BYTES = 2 << 30
"""Frames of a view that are held at a time; the default views take 0.2 GiB at most."""

MEMORY_BYTES = 6 << 30
"""What the process may take besides what it has while a file is read, where the system can
limit it (Linux): a header of a kilobyte can ask for an index of gigabytes."""


_FIELDS = {0: None, 1: False}
"""FFmpeg's order of fields: unknown, none; what is more names one."""


class VideoError(ValueError):
    """A video cannot be used; the message is the reason that its row shows."""


@dataclass(frozen=True)
class Probe:
    """What a video's headers say; ``None`` where they do not.

    ``interlaced``: that its frames are two fields each; MPEG-4 says it in each frame only.
    """

    container: str
    video_codec: str
    width: int
    height: int
    interlaced: bool | None
    duration_s: float | None
    fps: float | None
    frames_stated: int | None
    audio_codec: str | None
    sample_rate_hz: int | None
    channels: int | None


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
    rows = len(view.index)
    arrays = {
        "frames": np.zeros((count, *view.frames.shape[1:]), np.uint8),
        "index": np.full((count, *view.index.shape[1:]), -1, np.int64),
        "pts_s": np.full((count, *view.pts_s.shape[1:]), np.nan, np.float64),
        "valid": np.arange(count) < rows,
    }
    arrays["frames"][:rows] = view.frames
    arrays["index"][:rows] = view.index
    arrays["pts_s"][:rows] = view.pts_s
    return arrays


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


def probe(path: Path) -> Probe:
    """Read a video's headers.

    Raises:
        VideoError: unreadable, empty, not a video, or no picture stream.
    """
    with bounded(), opened(path) as container:
        video = _video_stream(container)
        audio = audio_stream(container)
        duration_s = container.duration / av.time_base if container.duration else None
        return Probe(
            container=container.format.name,
            video_codec=video.codec_context.name,
            width=video.width,
            height=video.height,
            interlaced=_FIELDS.get(video.codec_context.field_order, True),
            duration_s=duration_s,
            fps=float(video.average_rate) if video.average_rate else None,
            frames_stated=video.frames or None,
            audio_codec=audio.codec_context.name if audio else None,
            sample_rate_hz=audio.rate if audio else None,
            channels=audio.channels if audio else None,
        )


def decode(path: Path, views: Mapping[str, View], *, seed: str) -> Decoded:
    """Decode a video once for all ``views``.

    Args:
        path: the file.
        views: the wanted views by name, at least one.
        seed: see :func:`features.views.instants`.

    Raises:
        VideoError: nothing decodable, or more than ``MAX_DAMAGED`` of it damaged or missing.
    """
    with bounded(), ExitStack() as files:
        container = files.enter_context(opened(path))
        planned = _planned(container, _video_stream(container))
        if not _rewind(container):
            container = files.enter_context(opened(path))
        video = _video_stream(container)
        times = planned.pts_s, planned.end_s
        numbers = {name: choose(view, *times, seed) for name, view in views.items()}
        picker = _Picker(video, planned, numbers, views)
        video.thread_type = "NONE"  # the stage runs one process a core
        video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        return _run(container, video, picker)


def _run(
    container: av.container.InputContainer, video: av.VideoStream, picker: "_Picker"
) -> Decoded:
    packets = damaged = 0
    for packet in container.demux(video):
        packets += 1
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            continue
        for frame in frames:
            picker.see(frame)
    picker.finish()
    if damaged > MAX_DAMAGED * packets:
        raise VideoError(f"damaged: {damaged} of {packets} packets cannot be decoded")
    return Decoded(
        views=picker.result(),
        frames_decoded=picker.clock.number,
        interlaced=picker.deinterlacer.count,
        damaged=damaged,
    )


# --------------------------------------------------------------------------------- opening


@contextmanager
def bounded() -> Iterator[None]:
    """Limit the memory while a file is read; what FFmpeg and the limit say is a VideoError.

    Errors of the operating system that FFmpeg hands on are no errors of the machine: a damaged
    file gives them too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _data_bytes()
    if taken is not None:
        wanted = [taken + MEMORY_BYTES, *(n for n in (soft, hard) if n != resource.RLIM_INFINITY)]
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (min(wanted), hard))
    try:
        yield
    except MemoryError as error:
        raise VideoError(f"it needs more than {MEMORY_BYTES >> 30} GiB of memory") from error
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise VideoError(f"it needs more than {MEMORY_BYTES >> 30} GiB of memory") from error
        raise VideoError(f"cannot be read to its end: {_words(error)}") from error
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """Return the memory of this process that RLIMIT_DATA counts, None where nothing tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return None
    return pages * resource.getpagesize()


def opened(path: Path) -> av.container.InputContainer:
    """Open a video; what is not one, or no ordinary one, is a VideoError."""
    if not path.is_file():
        raise VideoError("no such file")
    if path.stat().st_size == 0:
        raise VideoError("empty file")
    try:
        return av.open(
            str(path),
            mode="r",
            metadata_errors="ignore",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": CONTAINERS,
                "max_pixels": str(MAX_PIXELS),
            },
        )
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        raise VideoError(f"cannot be opened: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Return the first picture stream that is no cover picture."""
    for stream in container.streams.video:
        if stream.disposition & av.stream.Disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise VideoError("there is no decoder for its pictures")
        if not stream.width or not stream.height:
            raise VideoError("the picture stream has no size")
        if stream.width * stream.height > MAX_PIXELS:
            raise VideoError(f"frames of {stream.width}x{stream.height} are too large")
        return stream
    raise VideoError("no video stream")


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Return the first sound track, None where there is none or no decoder for it."""
    audio = container.streams.audio
    return audio[0] if audio and audio[0].codec_context else None


def _pixel_aspect(video: av.VideoStream) -> float:
    """Return the width of a pixel over its height."""
    aspect = float(video.sample_aspect_ratio or 1)
    if not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
        raise VideoError(f"pixels {aspect:g} times as wide as high are no picture")
    return aspect


# -------------------------------------------------------------------------------- planning


def _planned(container: av.container.InputContainer, video: av.VideoStream) -> Plan:
    """Read all packets' time stamps without decoding and say when their frames are shown.

    Packets that an edit list cuts off, and those without content, are shown at no time.
    """
    packets = [
        (packet.pts, packet.dts, packet.duration or 0)
        for packet in container.demux(video)
        if packet.size and not packet.is_discard and (packet.pts, packet.dts) != (None, None)
    ]
    if not packets:
        raise VideoError("no packet has a time stamp")
    pts, dts, durations = zip(*packets, strict=True)
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
        self.aspect = _pixel_aspect(video)
        self.wanted = {n: planned.pts_s[np.unique(numbers)] for n, numbers in chosen.items()}
        self.rows: dict[str, list[_Row]] = {name: [] for name in chosen}
        self.met: dict[str, list[int]] = {name: [] for name in chosen}  # row of each wanted
        self.held: Shown | None = None

    def see(self, frame: av.VideoFrame) -> None:
        """Take the next frame that the decoder gave."""
        self._take(self.clock.see(frame))

    def finish(self) -> None:
        """Give what is still wanted to the last frame, and refuse a clip that ends too early."""
        self._take(self.clock.finish())
        for whole in self.deinterlacer.finish():
            self._hold(whole)
        if self.held is None:
            raise VideoError("no frame could be decoded")
        self._keep(until_s=np.inf)
        self._check_length(self.held.time_s)

    def _take(self, timed: Iterable[Shown]) -> None:
        for shown in timed:
            for whole in self.deinterlacer.see(shown):
                self._hold(whole)

    def _hold(self, shown: Shown) -> None:
        """Take the next picture; the one before it is now known to be over."""
        if self.held is not None:
            self._keep(until_s=shown.time_s - ROUNDING_S)
        self.held = shown

    def _keep(self, until_s: float) -> None:
        assert self.held is not None
        shown = self.held
        pictures: dict[int, NDArray[np.uint8]] = {}
        for name, wanted in self.wanted.items():
            after = int(np.searchsorted(wanted, until_s, side="left"))
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
        frames = np.stack([fit(picture, pictures[0].shape) for picture in pictures])
        index, pts_s = np.asarray(numbers, np.int64), np.asarray(times, np.float64)
        chosen = self.chosen[name]
        if chosen.ndim == 1:
            return Frames(frames, index, pts_s)
        rows = np.asarray(self.met[name])[np.searchsorted(np.unique(chosen), chosen)]  # (T, L)
        return Frames(frames[rows], index[rows], pts_s[rows])


_Row = tuple[int, float, NDArray[np.uint8]]
"""A frame that a view keeps: its number, time in seconds, picture."""
