"""A few frames of a long video: only the groups of pictures that hold them are decoded.

A group starts at a picture from which decoding gives the same frames as from the beginning: an IDR
picture (H.264, ITU-T H.264 7.4.1.2.4) or one that says that it recovers exactly (H.264 D.2.8: open
groups of x264), an IDR or CRA picture (HEVC, ITU-T H.265 8.1.3), a key frame (VP9, AV1). What leads
such a picture, shown before it and coded after it, belongs to the group before. The time stamps of
all packets are known by then, so that a frame's number is its rank among them. Whether that holds
is looked at first (:func:`spans`), and again frame by frame (:func:`decoded`): a stream that does
anything else is decoded from its beginning instead. Damage in what is jumped over stays unknown.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import TYPE_CHECKING

import av
import av.container
import av.error
import numpy as np
from numpy.typing import NDArray

from features.video.clock import Shown, seconds

WORTH = 0.5
"""Most of the frames that may have to be decoded; seeking is not worth it where it saves less."""

NEAR = 16
"""Frames between two groups that are decoded rather than jumped over: a jump empties the decoder,
which then reads as many packets ahead as its codec reorders."""

HEAD = 1024
"""Bytes of a unit that are looked at: SEI messages before a recovery point fit."""

if TYPE_CHECKING:  # at run time it takes no parameter
    VideoPacket = av.Packet[av.VideoStream]

_IDR_H264 = 5
_SEI_H264 = 6
_RECOVERY_POINT = 6
_SLICES_H264 = range(1, 6)
_IDR_OR_CRA_HEVC = (19, 20, 21)
_SLICES_HEVC = range(0, 32)


class NotExact(Exception):
    """Decoding from the middle does not give what was announced: decode from the beginning."""


@dataclass(frozen=True)
class Headers:
    """What packets say before they are decoded, each in decoding order.

    Columns and not objects: a long video has hundreds of thousands.

    Attributes:
        pts: presentation times, in units of the stream's time base; None where it is missing.
        dts: decoding times.
        durations: 0 where it is unknown.
        is_start: whether decoding can begin there; None where that cannot be known.
        is_cut: whether an edit list takes the frame out.
    """

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    is_start: list[bool | None] = field(default_factory=list)
    is_cut: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class Span:
    """Frames that follow each other, of which the first starts a group.

    Attributes:
        first: its number.
        pts: of each frame, in units of the stream's time base.
    """

    first: int
    pts: tuple[int, ...]


def spans(packets: Headers, wanted: NDArray[np.int64]) -> list[Span]:
    """Return what to decode for the frames ``wanted``; nothing where all is to be decoded.

    Args:
        packets: all that there are, at least one.
        wanted: (N,) ascending numbers of frames in order of time.
    """
    if not _is_regular(packets):
        return []
    shown = np.array(packets.pts, np.int64)
    times = np.sort(shown)
    begins = shown[np.array(packets.is_start, bool)]
    starts = np.sort(np.searchsorted(times, begins))  # numbers of the frames that start a group
    ranges: list[tuple[int, int]] = []  # numbers of the first and the last frame
    for last in wanted.tolist():
        first = int(starts[np.searchsorted(starts, last, side="right") - 1])
        if ranges and first - ranges[-1][1] <= NEAR:
            first, _ = ranges.pop()
        ranges.append((first, last))
    if sum(last - first + 1 + NEAR for first, last in ranges) > WORTH * len(shown):
        return []
    return [Span(first, tuple(times[first : last + 1].tolist())) for first, last in ranges]


def _is_regular(packets: Headers) -> bool:
    """Tell whether a frame's number can be told from its packet's time stamp."""
    pts = {stamp for stamp in packets.pts if stamp is not None}
    return (
        len(pts) == len(packets.pts)
        and packets.pts[0] == min(pts)
        and packets.is_start[0] is True
        and None not in packets.is_start
        and True not in packets.is_cut
    )


def decoded(
    container: av.container.InputContainer, video: av.VideoStream, needed: Sequence[Span]
) -> Iterator[Shown]:
    """Yield the frames of the spans, in order.

    Args:
        container: open.
        video: its picture stream.
        needed: see :func:`spans`.

    Raises:
        NotExact: a frame is missing, is another than announced, consists of two fields (which are
            made one with the help of their neighbours), or cannot be decoded.
    """
    for span in needed:
        frames = _frames_from(container, video, span.pts[0])
        for number, pts in enumerate(span.pts, span.first):
            frame = next(frames, None)
            if frame is None or frame.pts != pts or frame.interlaced_frame:
                raise NotExact
            yield Shown(frame, number, seconds(frame))


def _frames_from(
    container: av.container.InputContainer, video: av.VideoStream, pts: int
) -> Iterator[av.VideoFrame]:
    """Yield the frames from the packet with a presentation time on."""
    try:
        container.seek(pts, stream=video, backward=True, any_frame=False)
        packets = container.demux(video)
        for packet in dropwhile(lambda packet: packet.pts != pts, packets):
            yield from packet.decode()
    except av.error.FFmpegError as error:
        raise NotExact from error


# ------------------------------------------------------------------------- where groups start


def start_finder(video: av.VideoStream) -> Callable[["VideoPacket"], bool | None]:
    """Return what tells whether decoding can start at a packet of ``video``; None is unknown."""
    context = video.codec_context
    extradata = bytes(context.extradata or b"")
    if context.name in ("vp9", "libvpx-vp9", "av1", "libdav1d", "libaom-av1"):
        return lambda packet: packet.is_keyframe
    if context.name == "h264":
        size = (extradata[4] & 3) + 1 if extradata[:1] == b"\x01" and len(extradata) > 4 else 0
        return lambda packet: _is_idr_or_recovery(packet, size)
    if context.name == "hevc":
        size = (extradata[21] & 3) + 1 if extradata[:1] == b"\x01" and len(extradata) > 21 else 0
        return lambda packet: _is_idr_or_cra(packet, size)
    return lambda _packet: None


def _is_idr_or_recovery(packet: "VideoPacket", size: int) -> bool | None:
    """Tell whether a packet of H.264 is an IDR picture or an exact recovery point."""
    if not packet.is_keyframe:
        return False
    units = list(_units(bytes(packet), size))
    slices = [unit[0] & 31 for unit in units if unit[0] & 31 in _SLICES_H264]
    if not slices:
        return None
    return slices[0] == _IDR_H264 or any(
        _recovers_exactly(unit[1:]) for unit in units if unit[0] & 31 == _SEI_H264
    )


def _recovers_exactly(messages: bytes) -> bool:
    """Tell whether SEI messages (H.264 7.3.2.3.1, D.1.8) say that all is exact from here on.

    The three bits are: after no frame more (0, as an Exp-Golomb code), exactly, no broken link.
    """
    content = messages.replace(b"\0\0\3", b"\0\0")
    place = 0
    while place + 2 < len(content):
        kind, length = content[place : place + 2]
        if 255 in (kind, length):  # longer codes; a recovery point comes with short ones
            return False
        if kind == _RECOVERY_POINT:
            return content[place + 2] >> 5 == 0b110
        place += 2 + length
    return False


def _is_idr_or_cra(packet: "VideoPacket", size: int) -> bool | None:
    """Tell whether a packet of HEVC is an IDR or CRA picture; None for one after a cut (BLA).

    What leads a BLA picture is not shown although it has a packet: numbers would be off by it.
    """
    if not packet.is_keyframe:
        return False
    kinds = [unit[0] >> 1 & 63 for unit in _units(bytes(packet), size)]
    slices = [kind for kind in kinds if kind in _SLICES_HEVC]
    return True if slices and slices[0] in _IDR_OR_CRA_HEVC else None


def _units(data: bytes, size: int) -> Iterator[bytes]:
    """Yield the beginning of each unit (NAL) of a packet: up to ``HEAD`` bytes, one at least.

    Args:
        data: the packet.
        size: bytes of the length before each unit; 0 where start codes part them (Annex B).
    """
    place = 0
    if not size:
        while (place := data.find(b"\0\0\1", place)) >= 0 and place + 3 < len(data):
            yield data[place + 3 : place + 3 + HEAD]
            place += 3
        return
    while place + size < len(data):
        length = int.from_bytes(data[place : place + size], "big")
        yield data[place + size : place + size + min(max(length, 1), HEAD)]
        place += size + length
