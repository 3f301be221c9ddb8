"""Faces hidden in pictures: what of a frame is blurred where `report.faces` is `blur`.

Faces were looked for in the rows of the view `segments` alone, so a frame of another view lies
between two frames in which they were. What is blurred is rather too much:

- a crop of a face is blurred whole;
- a frame that was looked at: the boxes found in it and in the rows before and after it, where each
  is drawn out to hold the face of the same track in all three, and half its size on each side;
- a frame between two rows: likewise the boxes of both;
- any other frame is blurred whole: one in which no face was found; one between rows that have not
  the same tracks, or lie in two shots; one before the first row or behind the last; all of a video
  without a file of faces, or of a detector with random weights.

A face that the detector missed beside one that it found is not hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.cache import arrays
from features.video.views import ROUNDING_S
from stages.engine.items import item_path
from stages.engine.paths import VIEWS

FACES, LOOKED_AT = "faces", "segments"
"""The view of crops, and the view whose rows the detector saw."""

MARGIN = 0.5
"""Added on each side of a box, as a share of its width or height."""

CELLS = 5
"""Blurred pixels are means of so many parts of the longer side, then drawn smoothly."""

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Hiding:
    """What of a picture is blurred.

    Attributes:
        boxes: (n, 4) x0 y0 x1 y1 as shares of its width and height; None: all of it.
    """

    boxes: Boxes | None

    def applied(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture, (H, W, 3), with what is to be hidden blurred."""
        height, width = picture.shape[:2]
        if self.boxes is None:
            return blurred(picture)
        result = picture.copy()
        for x0, y0, x1, y1 in np.clip(self.boxes, 0, 1):
            top, bottom = int(np.floor(y0 * height)), int(np.ceil(y1 * height))
            left, right = int(np.floor(x0 * width)), int(np.ceil(x1 * width))
            if top < bottom and left < right:
                result[top:bottom, left:right] = blurred(result[top:bottom, left:right])
        return result


WHOLE = Hiding(None)


def blurred(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture of which CELLS means along its longer side are left."""
    height, width = picture.shape[:2]
    cell = max(height, width) / CELLS
    few = (max(1, round(width / cell)), max(1, round(height / cell)))
    image = Image.fromarray(np.ascontiguousarray(picture)).resize(few, Image.Resampling.BOX)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Found:
    """Where faces are in the rows that the detector saw.

    Attributes:
        pts_s: (R,) float64 ascending, times of these rows in seconds.
        shot: (R,) number of the shot that a row is in.
        tracks: of each row, track -> (4,) box in shares of the frame.
    """

    pts_s: NDArray[np.float64]
    shot: NDArray[np.int64]
    tracks: tuple[Mapping[int, Boxes], ...]

    def hiding(self, time_s: float) -> Hiding:
        """Return what is blurred in the frame of a time."""
        after = int(np.searchsorted(self.pts_s, time_s - ROUNDING_S))
        if after < len(self.pts_s) and abs(self.pts_s[after] - time_s) <= ROUNDING_S:
            near = [row for row in (after - 1, after + 1) if self._has_row(row, self.shot[after])]
            return self._around([after], near)
        before = after - 1
        if before < 0 or after >= len(self.pts_s) or self.shot[before] != self.shot[after]:
            return WHOLE
        if self.tracks[before].keys() != self.tracks[after].keys():  # who moved, and where to?
            return WHOLE
        return self._around([before, after], [])

    def _has_row(self, row: int, shot: int) -> bool:
        return 0 <= row < len(self.pts_s) and bool(self.shot[row] == shot)

    def _around(self, rows: Sequence[int], near: Sequence[int]) -> Hiding:
        """Return the boxes of rows, all of which must have one, and of the rows near them."""
        if not all(self.tracks[row] for row in rows):
            return WHOLE
        parts: dict[int, list[Boxes]] = {}
        for row in (*rows, *near):
            for track, box in self.tracks[row].items():
                parts.setdefault(track, []).append(box)
        return Hiding(np.array([_drawn_out(np.array(boxes)) for boxes in parts.values()]))


def _drawn_out(boxes: Boxes) -> Boxes:
    """Return the box (4,) about boxes (n, 4) with its margin."""
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    margin = MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(axis=0)
    return np.concatenate([low - margin, high + margin])


def hidden(
    view: str, video_id: str, rows: Sequence[int], time_s: NDArray[np.float64]
) -> dict[int, Hiding]:
    """Return row -> what is blurred in its picture, for rows of a video's view.

    Args:
        view: its name.
        video_id: of the video.
        rows: of the view.
        time_s: (T,) times of all rows of the view.
    """
    found = None if view == FACES else found_faces(video_id)
    return {row: found.hiding(float(time_s[row])) if found else WHOLE for row in rows}


def found_faces(video_id: str) -> Found | None:
    """Return where a video's faces are; None where that is not known."""
    path = item_path(video_id)
    names = ("index", "pts_s", "shot", "det_row", "det_track", "det_box")
    try:
        found, about = arrays.read(VIEWS / FACES / path, names)
        with arrays.streamed(VIEWS / LOOKED_AT / path, ["frames"]) as (views, _):
            height, width = views["frames"].shape[1:3]
    except arrays.ArrayFileError:
        return None
    if not isinstance(weights := about.get("weights"), dict) or weights["pretrained"] != "true":
        return None
    shares = found["det_box"].astype(np.float64) / [width, height, width, height]
    seen = np.flatnonzero(found["index"].astype(np.int64) >= 0)
    tracks: dict[int, dict[int, Boxes]] = {int(row): {} for row in seen}
    for row, track, box in zip(found["det_row"], found["det_track"], shares, strict=True):
        tracks[int(row)][int(track)] = box
    return Found(
        found["pts_s"][seen].astype(np.float64),
        found["shot"][seen].astype(np.int64),
        tuple(tracks[int(row)] for row in seen),
    )
