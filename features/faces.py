"""Faces over the rows of a view: tracks, the main person, square crops.

Tracks join detections of neighbouring rows by overlap (Hungarian assignment on intersection over
union). Rows lie seconds apart in a long video, so a track may be short. The main person's rule:

    tracks are ranked by the sum of score x box area over their rows, and each row shows the face
    of the highest-ranked track that has a face there.

So one person is kept for as long as overlap can follow them, and a row is empty only where no
face was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment

CROP = 224
"""Side of a crop, pixels: what VGG-Face reads."""


@dataclass(frozen=True)
class Detections:
    """Faces of one frame, n of them.

    Attributes:
        boxes: (n, 4) float32, x0 y0 x1 y1 in pixels.
        scores: (n,) float32 in 0..1.
        landmarks: (n, P, 2) float32, x y in pixels.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of boxes, (n, 4) and (m, 4) -> (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = _area(a)[:, None] + _area(b)[None, :] - shared
    ratio: NDArray[np.float32] = shared / np.maximum(union, np.finfo(np.float32).tiny)
    return ratio


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    sides: NDArray[np.float32] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return sides[:, 0] * sides[:, 1]


def link(
    rows: Sequence[Detections], *, min_overlap: float, max_gap: int
) -> list[NDArray[np.int64]]:
    """Number the detections of each row by track: one (n,) int64 array a row, tracks from 0.

    Args:
        rows: detections in order of time.
        min_overlap: least intersection over union of two detections of one track.
        max_gap: rows without the face that a track outlives.
    """
    last_box: dict[int, NDArray[np.float32]] = {}
    last_row: dict[int, int] = {}
    tracks: list[NDArray[np.int64]] = []
    for number, row in enumerate(rows):
        numbers = np.full(len(row.scores), -1, np.int64)
        alive = [track for track in last_box if number - last_row[track] <= max_gap + 1]
        if alive and len(numbers):
            ious = overlap(np.stack([last_box[track] for track in alive]), row.boxes)
            for one, other in zip(*linear_sum_assignment(-ious), strict=True):
                if ious[one, other] >= min_overlap:
                    numbers[other] = alive[one]
        for face in range(len(numbers)):
            if numbers[face] < 0:
                numbers[face] = len(last_box)
            last_box[int(numbers[face])] = row.boxes[face]
            last_row[int(numbers[face])] = number
        tracks.append(numbers)
    return tracks


def main_person(
    rows: Sequence[Detections], tracks: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return, for each row, which of its detections shows the main person; -1 where none does."""
    weight: dict[int, float] = {}
    for row, numbers in zip(rows, tracks, strict=True):
        for track, score, area in zip(numbers, row.scores, _area(row.boxes), strict=True):
            weight[int(track)] = weight.get(int(track), 0.0) + float(score) * float(area)
    chosen = np.full(len(rows), -1, np.int64)
    for number, numbers in enumerate(tracks):
        if len(numbers):
            ranks = [(-weight[int(track)], int(track)) for track in numbers]
            chosen[number] = min(range(len(ranks)), key=ranks.__getitem__)
    return chosen


def crop(frame: NDArray[np.uint8], box: NDArray[np.float32], *, margin: float) -> NDArray[np.uint8]:
    """Cut a square around a face and bring it to 224 x 224.

    The square's side is the box's longer side plus ``margin`` of it on each side. Past the
    frame's edge the last pixels are repeated.

    Args:
        frame: (H, W, 3) uint8.
        box: (4,) x0 y0 x1 y1, pixels.
        margin: share of the longer side.

    Returns:
        (224, 224, 3) uint8.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    height, width = frame.shape[:2]
    past = max(
        0, half - centre_x, half - centre_y, centre_x + half - width, centre_y + half - height
    )
    pad = int(np.ceil(past))
    wide = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), mode="edge") if pad else frame
    square = (centre_x - half + pad, centre_y - half + pad)
    image = Image.fromarray(wide).resize(
        (CROP, CROP),
        Image.Resampling.BILINEAR,
        box=(*square, square[0] + 2 * half, square[1] + 2 * half),
    )
    return np.asarray(image)
