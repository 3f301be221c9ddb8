"""How alike the frames of two videos are: whether one is a copy of the other.

A frame is made grey and small, its soft shades are taken away and its contrast is made 1: encoding,
size, brightness and a change of colour leave what is left nearly as it was. Two frames are as alike
as these are (their correlation), two videos as the frames of the one are, in the median, to the
frame of the other that is most like each, mirrored or not: of a copy that was trimmed all frames
are in the original. Copies with another cut of the picture, bars at its edges or writing over it
are not found.

Frames of a view are drawn at random moments, of a copy at others: the more rows a view has, the
surer a copy with much movement is found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from features.cache import arrays
from stages.results.extracted import Values
from stages.results.neighbours import unit

SIDE_PX = 32
"""Of a small frame, which is square whatever its video's aspect."""

SOFT_PX = 2.0
"""Deviation of the blur that is taken away, in pixels of the small frame."""

FLAT = 1.0
"""Grey levels (root of the mean square) below which a frame shows nothing: black, a fade."""

MOST_ROWS = 24
"""Frames of a video that are compared, evenly over its rows."""

LEAST_ALIKE = 0.95
"""Likeness of copies.

Those of clips of the sample and of seven others, encoded anew, trimmed, mirrored and at half the
size, with 24 rows, came to 0.976 or more; distinct clips of those to at most 0.87, and with 6 rows
distinct clips of samples to at most 0.933.
"""

BASELINE_VIDEOS = 40
"""Videos that tell how alike the data's videos are anyway."""

COPIES = 0.1
"""Share of the pairs of videos that may be copies before all are taken to be alike anyway."""


@dataclass(frozen=True)
class Frames:
    """The small frames of a video.

    Attributes:
        rows: of the view, those that show something.
        values: (T, SIDE_PX**2) float32, each of length 1.
    """

    rows: tuple[int, ...]
    values: Values


@dataclass(frozen=True)
class Likeness:
    """How alike two videos are.

    Attributes:
        value: -1..1, 1 where each frame of the one is in the other.
        mirrored: whether that is so when one of them is mirrored.
        rows: row of the first and of the second whose frames are most alike.
    """

    value: float
    mirrored: bool
    rows: tuple[int, int]


def read_small(path: Path) -> Frames | None:
    """Return the small frames of a view's file; None where it is not here, damaged or too flat.

    The file goes through memory a block at a time.
    """
    try:
        shown = np.flatnonzero(arrays.read(path, ["valid"])[0]["valid"])
        picked = shown[
            np.linspace(0, len(shown) - 1, min(MOST_ROWS, len(shown))).round().astype(int)
        ]
        wanted, small, row = set(picked.tolist()), {}, 0
        with arrays.streamed(path, ["frames"]) as (found, _):
            for block in found["frames"].parts:
                for frame in block:
                    if row in wanted:
                        small[row] = _small(frame)
                    row += 1
    except arrays.ArrayFileError:
        return None
    rows = [row for row, values in small.items() if np.sqrt(np.mean(values**2)) > FLAT]
    if not rows:
        return None
    return Frames(tuple(rows), unit(np.stack([small[row].ravel() for row in rows])))


def _small(frame: arrays.Array) -> Values:
    """Return a frame (H, W, 3), or the middle one of a snippet, as (SIDE_PX, SIDE_PX) float32."""
    pixels = frame.astype(np.uint8, copy=False)
    picture = Image.fromarray(pixels if pixels.ndim == 3 else pixels[len(pixels) // 2])
    size = (SIDE_PX, SIDE_PX)
    grey = np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), np.float32)
    sharp = grey - gaussian_filter(grey, SOFT_PX)
    found: Values = sharp - sharp.mean()
    return found


def likeness(one: Frames, other: Frames) -> Likeness:
    """Compare two videos."""
    flipped = other.values.reshape(-1, SIDE_PX, SIDE_PX)[..., ::-1].reshape(other.values.shape)
    best: tuple[float, bool, NDArray[np.float32]] | None = None
    for mirrored, values in ((False, other.values), (True, flipped)):
        pairs = one.values @ values.T
        value = float(max(np.median(pairs.max(axis=1)), np.median(pairs.max(axis=0))))
        if best is None or value > best[0]:
            best = (value, mirrored, pairs)
    assert best
    value, mirrored, pairs = best
    row, column = np.unravel_index(int(pairs.argmax()), pairs.shape)
    return Likeness(value, mirrored, (one.rows[int(row)], other.rows[int(column)]))


def least_alike(frames: Mapping[str, Frames]) -> float:
    """Return from where on two videos are alike, given some videos that were picked blindly.

    `LEAST_ALIKE`, and where the data's videos are alike anyway (one studio, one photograph) half
    way from there to 1. What they are anyway is the likeness that a share `COPIES` of the pairs
    exceed, or one pair for two videos where these are few: so many may be copies.
    """
    some = list(frames.values())
    values = [likeness(a, b).value for at, a in enumerate(some) for b in some[:at]]
    copies = max(len(some) // 2, int(COPIES * len(values)))
    if len(values) <= copies:
        return LEAST_ALIKE
    usual = sorted(values, reverse=True)[copies]
    return max(LEAST_ALIKE, (1 + usual) / 2)
