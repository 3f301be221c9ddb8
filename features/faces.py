"""Faces over the rows of a view: tracks, the main person, crops and aligned faces.

Tracks join detections of neighbouring rows by overlap (Hungarian assignment on intersection over
union) and end at a cut. Rows lie seconds apart in a long video, so a track may be short. The main
person's rule:

    tracks are ranked by the sum of score x box area over their rows, and each row shows the face
    of the highest-ranked track that has a face there.

So one person is kept within a shot for as long as overlap can follow them, and a row is empty only
where no face was found.

``margin`` means the same however a face is cut out: the square's side is the longer side of the
face's box plus ``margin`` of it on each side.

A detector is a module beside this one with the WEIGHTS, Options, ONE_CORE and build of a backbone.
Its Options have ``min_score``, its LANDMARKS name the points of a face, and the network that it
builds is a :class:`Detector`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # slow to import, and tracks and crops do without it
    from torch import Tensor

    Forward = Callable[[Tensor], Mapping[str, Tensor]]

CROP = 224
"""Side of a crop, pixels: what VGG-Face reads."""

TEMPLATE = {
    "right eye": (38.2946, 51.6963),
    "left eye": (73.5318, 51.5014),
    "nose tip": (56.0252, 71.7366),
    "right mouth corner": (41.5493, 92.3655),
    "left mouth corner": (70.7299, 92.2041),
    "mouth": (56.1396, 92.2848),  # between the corners
}
"""Where the points of an aligned face lie, x and y in a picture of TEMPLATE_SIDE.

Source: ArcFace's template (Deng et al. 2019), ``arcface_src`` in insightface's
python-package/insightface/utils/face_align.py.
"""

TEMPLATE_SIDE = 112

LEVELS = np.array([math.isqrt(value) for value in range(256)], np.uint16)
"""Level of a channel's value, 0..15: finer in the dark, where most of a stage or a night lies."""

NEAR = (1, 2, 3, 2, 1)
"""What a pixel counts for its own level of a channel, in the middle, and for those about it."""

LARGEST = 3
"""Largest half side of a square, in longest sides of the frame.

A face that fills the frame needs 2.5 with the largest margin. Random weights draw boxes without
bounds, whose repeated edges would fill the memory.
"""


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


class Detector(Protocol):
    """A face detector with its weights."""

    points: int
    """Landmarks of a face."""

    def detect_batch(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """Find the faces of each of some RGB frames, uint8 (N, H, W, 3), best score first."""


class NetworkDetector(Detector, Protocol):
    """A detector around a function of tensors, which any runtime may compute."""

    computed_by: "Forward | None"
    """What computes ``forward``; None: torch, on the device that the detector is on."""

    def prepare(self, frames_NHWC: NDArray[np.uint8]) -> "Tensor":
        """Return network input, (N, ...), of RGB frames, uint8 (N, H, W, 3)."""

    def forward(self, inputs: "Tensor") -> "dict[str, Tensor]":
        """Return what the network says of its input, by name."""


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


def shots(
    frames: NDArray[np.uint8], shown: NDArray[np.bool_], *, cut: float | None
) -> NDArray[np.int64]:
    """Number rows by shot, (T,) int64 from 0.

    A shot begins where the histograms of colours of two neighbouring shown rows differ by more than
    ``cut``: half the sum of their differences as a share of the pixels (total variation distance).
    A colour is a cell of 16 x 16 x 16 LEVELS, and each pixel counts for the cells about its own
    too. So what moves within the frame costs nothing, and a change of light little. In a broadcast,
    at six draws of its rows, its three cuts gave 0.23 to 0.43, a pan by the whole width up to 0.22,
    all else at most 0.15; a picture that gets a third darker gives 0.17.

    Args:
        frames: (T, H, W, 3) uint8.
        shown: (T,) whether the row shows a frame; one that does not belongs to the shot before.
        cut: 0..1; None takes all rows for one shot.
    """
    numbers = np.zeros(len(frames), np.int64)
    if cut is None:
        return numbers
    rows = np.flatnonzero(shown)
    colours = [_colours(frames[row]) for row in rows]
    for row, before, after in zip(rows[1:], colours[:-1], colours[1:], strict=True):
        numbers[row:] += int(np.abs(after - before).sum() / (2 * after.sum()) > cut)
    return numbers


def _colours(frame: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of each colour, and those near it by NEAR: (16, 16, 16)."""
    from scipy.ndimage import convolve1d  # slow to import

    colours = LEVELS.take(frame[..., 0])
    for channel in (1, 2):  # in place: new arrays of a frame's size take longer than the sums
        colours *= 16
        colours += LEVELS.take(frame[..., channel])
    counts = np.bincount(colours.ravel(), minlength=4096)
    counts = counts.reshape(16, 16, 16)
    for axis in range(3):
        counts = convolve1d(counts, NEAR, axis, mode="reflect")  # no pixel is lost at the ends
    return counts


def link(
    rows: Sequence[Detections], shot: NDArray[np.int64], *, min_overlap: float, max_gap: int
) -> list[NDArray[np.int64]]:
    """Number the detections of each row by track: one (n,) int64 array a row, tracks from 0.

    Args:
        rows: detections in order of time.
        shot: (T,) number of each row's shot (:func:`shots`); a track stays in one.
        min_overlap: least intersection over union of two detections of one track.
        max_gap: rows without the face that a track outlives.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    last_box: dict[int, NDArray[np.float32]] = {}
    last_row: dict[int, int] = {}
    tracks: list[NDArray[np.int64]] = []
    for number, row in enumerate(rows):
        numbers = np.full(len(row.scores), -1, np.int64)
        alive = [
            track
            for track, last in last_row.items()
            if number - last <= max_gap + 1 and shot[number] == shot[last]
        ]
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

    Past the frame's edge the last pixels are repeated.

    Args:
        frame: (H, W, 3) uint8.
        box: (4,) x0 y0 x1 y1, pixels.
        margin: added on each side, as a share of the box's longer side.

    Returns:
        (224, 224, 3) uint8.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    half = _half(box, margin)
    return np.asarray(_square(frame, (x0 + x1) / 2, (y0 + y1) / 2, half, CROP))


def _half(box: NDArray[np.float32], margin: float) -> float:
    """Return half the side of the square that shows a face, pixels of the frame."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return max(x1 - x0, y1 - y0) * (0.5 + margin)


def align(
    frame: NDArray[np.uint8],
    box: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    names: Sequence[str],
    *,
    margin: float,
) -> NDArray[np.uint8]:
    """Turn a face upright, put its middle where TEMPLATE's is, and bring it to 224 x 224.

    The turn and the middle are those of the similarity with the least squared distance between the
    landmarks and the template (Umeyama 1991, "Least-squares estimation of transformation parameters
    between two point patterns"). In the plane, with points as complex numbers about their means,
    its rotation and scale are one number. The size is that of the box, as :func:`crop` has it, and
    not the template's: a turned head's eyes lie closer, and the head is no larger for it.
    Past the frame's edge the last pixels are repeated.

    Args:
        frame: (H, W, 3) uint8.
        box: (4,) x0 y0 x1 y1, pixels.
        landmarks: (P, 2) x y, pixels.
        names: of each landmark; those that TEMPLATE does not have are left out.
        margin: added on each side, as a share of the box's longer side.

    Returns:
        (224, 224, 3) uint8.

    Raises:
        ValueError: the landmarks that count lie in one place.
    """
    used = [number for number, name in enumerate(names) if name in TEMPLATE]
    template = np.array([TEMPLATE[names[number]] for number in used]) - TEMPLATE_SIDE / 2
    target = template @ [1, 1j]  # about the middle of the template's picture
    source = landmarks[used].astype(np.float64) @ [1, 1j]
    about = source - source.mean()
    spread = float(np.sum(np.abs(about) ** 2))
    factor = complex(np.sum(about.conj() * (target - target.mean())))
    if spread == 0 or factor == 0:
        raise ValueError(
            "a face cannot be aligned: expected landmarks that lie apart, found "
            f"{landmarks.tolist()}"
        )
    factor /= spread
    middle = source.mean() - target.mean() / factor
    # the face is cut out upright, so large that it can be turned, and then turned
    side = 2 * int(np.ceil(CROP / np.sqrt(2)))
    half = _half(box, margin) * side / CROP
    upright = _square(frame, middle.real, middle.imag, half, side)
    turn = factor.conjugate() / abs(factor)
    c, s = turn.real, turn.imag
    shift_x, shift_y = side / 2 - CROP / 2 * (c - s), side / 2 - CROP / 2 * (s + c)
    turned = upright.transform(
        (CROP, CROP),
        Image.Transform.AFFINE,
        (c, -s, shift_x, s, c, shift_y),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(turned)


def _square(
    frame: NDArray[np.uint8], centre_x: float, centre_y: float, half: float, side: int
) -> Image.Image:
    """Cut the square of ``2 * half`` pixels about a point and bring it to ``side`` pixels."""
    height, width = frame.shape[:2]
    half = min(half, LARGEST * max(height, width))
    # beyond the frame all is edge: from there on nothing changes
    centre_x = min(max(centre_x, -half), width + half)
    centre_y = min(max(centre_y, -half), height + half)
    past = max(
        0, half - centre_x, half - centre_y, centre_x + half - width, centre_y + half - height
    )
    pad = int(np.ceil(past))
    wide = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), mode="edge") if pad else frame
    left, top = centre_x - half + pad, centre_y - half + pad
    return Image.fromarray(wide).resize(
        (side, side),
        Image.Resampling.BILINEAR,
        box=(left, top, left + 2 * half, top + 2 * half),
    )
