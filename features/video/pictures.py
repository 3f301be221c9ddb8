"""Decoded frames in, pictures out: whole frames, square pixels, upright, RGB, small enough."""

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import av
import av.error
import av.filter
import numpy as np
from av.buffer import Buffer
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from features.video.clock import Shown

SMALLEST = 16
"""Frames with a side shorter than this stay as they are: bwdif takes no plane below 3x4, and the
chroma of 4:1:0 has a quarter of the frame's width and height."""


class Deinterlacer:
    """Makes whole frames of those that say that they are two fields, taken at two instants.

    FFmpeg's bwdif (the BBC's w3fdif with yadif's edges) keeps the field that is shown first and
    makes the lines of the other from it and from the fields before and after. One frame out for
    each one in, in the same order; the others, and all before the first of them, pass untouched.
    """

    def __init__(self) -> None:
        """Start without a filter: most videos need none."""
        self.graph: av.filter.Graph | None = None
        self.form: tuple[int, int, str] = (0, 0, "")
        self.waiting: deque[Shown] = deque()
        self.count = 0  # frames that were deinterlaced

    def see(self, shown: Shown) -> Iterator[Shown]:
        """Take the next frame and yield those that are done: the filter looks one ahead."""
        frame = shown.frame
        fields = frame.interlaced_frame and min(frame.width, frame.height) >= SMALLEST
        if self.graph is None and not fields:
            yield shown
            return
        form = (frame.width, frame.height, frame.format.name)
        if self.graph is not None and form != self.form:
            yield from self.finish()
            yield from self.see(shown)
            return
        self.count += fields
        if self.graph is None:
            self.graph, self.form = _bwdif(frame), form
        self.waiting.append(shown)
        self.graph.push(frame)
        yield from self._done()

    def finish(self) -> Iterator[Shown]:
        """Yield what the filter still holds."""
        if self.graph is not None:
            self.graph.push(None)
            yield from self._done()
            self.graph = None

    def _done(self) -> Iterator[Shown]:
        assert self.graph is not None
        while True:
            try:
                frame = self.graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield replace(self.waiting.popleft(), frame=frame)


def _bwdif(frame: av.VideoFrame) -> av.filter.Graph:
    """Return the filter for frames of this size and format."""
    graph = av.filter.Graph()
    graph.threads = 1  # the stage runs one process a core
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        ),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def picture(frame: av.VideoFrame, max_short_side: int, aspect: float) -> NDArray[np.uint8]:
    """Return a frame as (H, W, 3) uint8 RGB: square pixels, upright, shrunk to the side.

    Args:
        frame: decoded, not interlaced.
        max_short_side: pixels that the shorter side has at most; never enlarged.
        aspect: a pixel's width over its height.
    """
    width, height = shown_size(frame, max_short_side, aspect)
    pixels = frame.reformat(
        width=width, height=height, format="rgb24", interpolation=Interpolation.AREA
    ).to_ndarray()
    return np.ascontiguousarray(_upright(pixels.astype(np.uint8, copy=False), frame))


def _upright(pixels: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Turn and mirror a picture as the frame's display matrix says, by quarters.

    The matrix (ISO 14496-12, 8.3.2; FFmpeg's display.h) is nine int32 a b u c d v x y w: what is
    stored at (p, q), right and down, is shown at (a p + c q, b p + d q) and moved back into view.
    """
    matrix = cast(Mapping[str, Buffer], frame.side_data).get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    a, b, _u, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        right, down = a, d
    else:
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def shown_size(frame: av.VideoFrame, max_short_side: int, aspect: float) -> tuple[int, int]:
    """Return width and height of a frame with square pixels, its shorter side at most so long."""
    width, height = frame.width * aspect, float(frame.height)
    scale = min(1.0, max_short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring a picture of a clip that changes size midway to the size of its first."""
    if pixels.shape == shape:
        return pixels
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    resized = frame.reformat(width=shape[1], height=shape[0]).to_ndarray(format="rgb24")
    return resized.astype(np.uint8, copy=False)
