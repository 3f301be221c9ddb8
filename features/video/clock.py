"""When frames are shown, also where the container does not say it.

AVI keeps packets in decoding order and no other time than that. FFmpeg's reader guesses when the
frame of a packet is shown, and guesses wrong where a codec reorders frames out of its sight:
H.264, and MPEG-4 with packed B-frames (XviD). The times of the decoded frames then run backwards.
FFmpeg's own tools notice (`guess_correct_pts`, libavcodec/decode.c): they count how often frames'
presentation times and decoding times do not ascend, and take those that do so less often. So does
this module, with two differences. A frame waits until those have come that could show its time to
be wrong: so the first frames are right too. And a frame that goes by its decoding time gets the
time that was planned for its place: so the frames that a view chose are those that it gets.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

HELD = 16
"""Frames that wait: a wrong time shows at the latest behind the B-frames that follow, and no codec
that reorders has more of them in a row (H.264, x264)."""


@dataclass(frozen=True)
class Plan:
    """What the packets say before they are decoded.

    Attributes:
        pts_s: (N,) float64, ascending times in seconds at which frames are shown.
        end_s: end of the last frame.
        dts: (P,) int64, ascending decoding times, in the stream's time base.
    """

    pts_s: NDArray[np.float64]
    end_s: float
    dts: NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """A decoded frame, its number in order of time from 0, and its time in seconds."""

    frame: av.VideoFrame
    number: int
    time_s: float


def plan(
    pts: Sequence[int | None],
    dts: Sequence[int | None],
    durations: Sequence[int],
    time_base: Fraction,
) -> Plan:
    """Return when the frames of packets are shown.

    Presentation times that come twice are counted, and decoding times that do not ascend: the
    decoding times are taken, from the first presentation time on, where they are the better ones.

    Args:
        pts: presentation time of each packet, in decoding order, in units of ``time_base``.
        dts: decoding time of each packet; at least one of the two is there.
        durations: of each packet, 0 where it is unknown.
        time_base: a unit, in seconds.
    """
    either = [d if p is None else p for p, d in zip(pts, dts, strict=True)]
    shown = np.array(either, np.float64)
    coded = np.array([d for d in dts if d is not None], np.int64)
    times = np.unique(shown)
    if len(coded) == len(shown) and len(shown) - len(times) > np.sum(np.diff(coded) <= 0):
        shown = coded + (shown.min() - coded.min())
        times = np.unique(shown)
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    last = float(np.max(shown + np.array(durations, np.float64)))
    unit_s = float(time_base)
    end_s = max(last, float(times[-1]) + step) * unit_s
    return Plan(times * unit_s, end_s, np.unique(coded))


class Clock:
    """Gives frames their numbers and times. They come out in the order in which they went in."""

    def __init__(self, video: av.VideoStream, plan: Plan) -> None:
        """Prepare for the frames of ``video`` from its start, whose packets gave ``plan``."""
        self.video = video
        self.plan = plan
        self.held: deque[av.VideoFrame] = deque()
        self.last: dict[str, int] = {}
        self.faults = {"pts": 0, "dts": 0}
        self.first_place = 0  # of the first frame among the decoding times, less that in the plan
        self.place = -1  # in the plan, of the frame that came out last
        self.number = 0  # of the next frame to come out

    def see(self, frame: av.VideoFrame) -> Iterator[Shown]:
        """Take the next frame and yield those whose time is sure."""
        if not self.last and frame.dts is not None:
            planned = 0 if frame.pts is None else self._planned(seconds(frame))
            self.first_place = int(np.searchsorted(self.plan.dts, frame.dts)) - max(planned, 0)
        self._count("pts", frame.pts, frame.dts)
        self._count("dts", frame.dts, frame.pts)
        self.held.append(frame)
        waiting = HELD if self.video.codec_context.has_b_frames else 0
        while len(self.held) > waiting:
            yield self._shown(self.held.popleft())

    def finish(self) -> Iterator[Shown]:
        """Yield the frames that still wait."""
        while self.held:
            yield self._shown(self.held.popleft())

    def _count(self, name: str, stamp: int | None, other: int | None) -> None:
        """Count a fault if a time does not ascend; where it is missing, the other stands for it."""
        if stamp is not None and name in self.last and stamp <= self.last[name]:
            self.faults[name] += 1
        instant = other if stamp is None else stamp
        if instant is not None:
            self.last[name] = instant

    def _shown(self, frame: av.VideoFrame) -> Shown:
        if frame.pts is not None and self.faults["pts"] <= self.faults["dts"]:
            time_s = seconds(frame)
            self.place = self._planned(time_s)
        else:
            place = self.place + 1  # a decoder that is emptied gives frames without decoding times
            if frame.dts is not None:
                place = int(np.searchsorted(self.plan.dts, frame.dts)) - self.first_place
            self.place = min(max(place, 0), len(self.plan.pts_s) - 1)
            time_s = float(self.plan.pts_s[self.place])
        self.number += 1
        return Shown(frame, self.number - 1, time_s)

    def _planned(self, time_s: float) -> int:
        """Return the place in the plan of what is shown at an instant; -1 is before it."""
        return int(np.searchsorted(self.plan.pts_s, time_s, side="right")) - 1


def seconds(frame: av.VideoFrame) -> float:
    """Return a frame's presentation time in seconds."""
    unit_s = frame.time_base
    assert frame.pts is not None and unit_s is not None
    return frame.pts * unit_s.numerator / unit_s.denominator  # rounded once, as a Fraction is
