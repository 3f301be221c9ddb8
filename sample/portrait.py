"""The person of the sample: cut out of a photograph, with seven expressions made by warping.

The photograph is Eileen Collins (NASA, public domain) as scikit-image ships it,
`skimage.data.astronaut()`: 512 x 512, RGB. All coordinates, here and in `sample.expressions`, are
(x, y) in its pixels, read off by eye. "Left" is the left of the picture.

An expression is a thin-plate spline through face landmarks [Bookstein 1989, "Principal warps"],
which says for each pixel of the face where in the photograph it comes from, and a texture: the
photograph with the teeth replaced, a few creases drawn and the skin tinted. The photograph smiles,
so the neutral face is a warp as well.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import distance_transform_edt
from skimage import data

from sample.expressions import (
    CAVITY_RGB,
    CREASES,
    EXPRESSIONS,
    FIXED,
    LANDMARKS,
    LIP_LINE_RGB,
    MOUTH_INSIDE,
    NEUTRAL,
    SMILE_FOLDS,
    TEETH_SHOWN,
    TINTS,
    Moves,
    Point,
)

Array = npt.NDArray[np.float32]

SIDE_PX = 512  # of the photograph
FACE_LEFT_PX, FACE_TOP_PX, FACE_RIGHT_PX, FACE_BOTTOM_PX = 166, 68, 286, 196  # what warps may move
FACE_BOX = (slice(FACE_TOP_PX, FACE_BOTTOM_PX), slice(FACE_LEFT_PX, FACE_RIGHT_PX))
FACE_CENTRE: Point = (224.0, 122.0)

# Seeds of the cut-out: outside OUTLINE is background, inside CORE and HELMET is the person.
OUTLINE = (
    ((150, 60), (165, 30), (200, 8), (250, 8), (290, 30), (306, 70), (300, 110), (282, 140))
    + ((275, 160), (310, 215), (312, 240), (345, 255), (370, 310), (372, 350), (420, 338))
    + ((462, 345), (485, 375), (497, 410), (501, 450), (511, 455), (511, 511), (12, 511))
    + ((18, 450), (14, 400), (25, 330), (40, 265), (75, 235), (112, 210), (108, 185), (130, 150))
    + ((170, 140), (150, 100))
)
CORE = (
    ((165, 75), (185, 40), (215, 28), (250, 32), (280, 55), (290, 85), (275, 108), (264, 125))
    + ((256, 150), (252, 174), (262, 187), (284, 208), (298, 228), (300, 255), (335, 270))
    + ((350, 320), (350, 350), (400, 355), (460, 370), (480, 420), (485, 500), (40, 505))
    + ((30, 440), (35, 380), (40, 330), (55, 270), (90, 235), (125, 215), (122, 190), (140, 168))
    + ((180, 160), (189, 152), (188, 130), (175, 110), (165, 95))
)
HELMET_CENTRE, HELMET_AXES = (390, 442), (104, 90)


@dataclass(frozen=True)
class Portrait:
    """The person, ready to be drawn.

    person_HWC: float32 (512, 512, 4): RGB times alpha, and alpha, in 0..255.
    fade_HW: float32 (H, W) of the face box: 1 inside, falling to 0 at the border of the box.
    source_HW2: expression -> float32 (H, W, 2): where in the face box (x, y) a pixel comes from.
    texture_HWC: expression -> float32 (H, W, 3): the face box before it is warped, 0..255.
    """

    person_HWC: Array
    fade_HW: Array
    source_HW2: dict[str, Array]
    texture_HWC: dict[str, Array]


@dataclass(frozen=True)
class Stance:
    """Where the person stands in a picture.

    face_x, face_y: centre of the face in pixels of the picture; scale: pixels of the picture a
    pixel of the photograph; angle_deg: counter-clockwise.
    """

    face_x: float
    face_y: float
    scale: float
    angle_deg: float


def load_portrait() -> Portrait:
    """Cut the person out of the photograph and work out the seven expressions (about 0.5 s)."""
    photo: npt.NDArray[np.uint8] = np.asarray(data.astronaut())  # type: ignore[no-untyped-call]
    if photo.shape != (SIDE_PX, SIDE_PX, 3):
        raise ValueError(
            f"skimage.data.astronaut(): expected {(SIDE_PX, SIDE_PX, 3)}, found {photo.shape}; "
            "the coordinates in sample/ are for that picture: install scikit-image 0.26"
        )
    face = photo[FACE_BOX].astype(np.float32)
    return Portrait(
        person_HWC=_cut_out(photo),
        fade_HW=_fade_border(),
        source_HW2={name: _bend(moves) for name, moves in EXPRESSIONS.items()},
        texture_HWC={name: _paint(face, name) for name in EXPRESSIONS},
    )


def draw_face(portrait: Portrait, expression: str, strength: float) -> Array:
    """Draw the face box with an expression, float32 (H, W, 3) in 0..255.

    strength: 0 is the neutral face, 1 the full expression.
    """
    neutral, full = portrait.source_HW2[NEUTRAL], portrait.source_HW2[expression]
    source = neutral + np.float32(strength) * (full - neutral)
    texture = portrait.texture_HWC[NEUTRAL]
    if strength > 0:
        texture = texture + np.float32(strength) * (portrait.texture_HWC[expression] - texture)
    columns, rows = source[..., 0], source[..., 1]
    warped = cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.float32)


def draw_person(
    portrait: Portrait,
    expression: str,
    strength: float,
    stance: Stance,
    width_px: int,
    height_px: int,
) -> Array:
    """Draw the person into an empty picture.

    Returns float32 (height_px, width_px, 4): RGB times alpha, and alpha, in 0..255.
    """
    person = portrait.person_HWC.copy()
    box = person[FACE_BOX][..., :3]  # a view: the face is drawn into person
    alpha = person[FACE_BOX][..., 3:] / np.float32(255)
    face = alpha * draw_face(portrait, expression, strength)
    box += portrait.fade_HW[..., None] * (face - box)
    affine = cv2.getRotationMatrix2D(FACE_CENTRE, stance.angle_deg, stance.scale)
    affine[:, 2] += np.array([stance.face_x, stance.face_y]) - np.array(FACE_CENTRE)
    drawn = cv2.warpAffine(person, affine, (width_px, height_px), flags=cv2.INTER_LINEAR)
    return np.asarray(drawn, dtype=np.float32)


def _cut_out(photo_HWC: npt.NDArray[np.uint8]) -> Array:
    """Return the person as float32 (512, 512, 4), RGB times alpha and alpha in 0..255."""
    seeds = np.full(photo_HWC.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    cv2.fillPoly(seeds, [np.array(OUTLINE, dtype=np.int32)], cv2.GC_PR_FGD)
    cv2.fillPoly(seeds, [np.array(CORE, dtype=np.int32)], cv2.GC_FGD)
    cv2.ellipse(seeds, HELMET_CENTRE, HELMET_AXES, 0, 0, 360, cv2.GC_FGD, -1)
    cv2.setRNGSeed(0)  # grabCut starts its colour models with k-means
    behind, person = np.zeros((1, 65)), np.zeros((1, 65))  # its colour models, filled by it
    no_box = (0, 0, 0, 0)
    cv2.grabCut(photo_HWC, seeds, no_box, behind, person, 6, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside)
    inside = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    # The rim of the cut-out holds colours of the old background: take them from 2 px inside.
    sure = cv2.erode(inside, np.ones((5, 5), np.uint8))
    nearest = distance_transform_edt(sure == 0, return_distances=False, return_indices=True)
    colour = photo_HWC[nearest[0], nearest[1]].astype(np.float32)
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.3)
    alpha = np.clip((soft - 0.35) / 0.6, 0, 1)[..., None]
    return np.concatenate([colour * alpha, 255 * alpha], axis=2).astype(np.float32)


def _fade_border() -> Array:
    """Return float32 (H, W) of the face box: 1 inside, falling to 0 over its last 8 px."""
    height, width = FACE_BOTTOM_PX - FACE_TOP_PX, FACE_RIGHT_PX - FACE_LEFT_PX
    y, x = np.mgrid[:height, :width]
    border = np.minimum.reduce([x, y, width - 1 - x, height - 1 - y])
    return np.asarray(np.clip(border / 8, 0, 1), dtype=np.float32)


def _bend(moves: Moves) -> Array:
    """Return float32 (H, W, 2): the pixel of the face box that moves to each pixel, as (x, y)."""
    left, top, right, bottom = FACE_LEFT_PX, FACE_TOP_PX, FACE_RIGHT_PX, FACE_BOTTOM_PX
    border = [(x, y) for x in np.linspace(left, right, 7) for y in (top, bottom)]
    border += [(x, y) for y in np.linspace(top, bottom, 7)[1:-1] for x in (left, right)]
    still = np.array([*border, *FIXED])
    before = np.array(list(LANDMARKS.values()))
    shift = np.array([moves.get(name, (0.0, 0.0)) for name in LANDMARKS])
    spline = RBFInterpolator(
        np.concatenate([before + shift, still]),
        np.concatenate([-shift, np.zeros_like(still)]),
        kernel="thin_plate_spline",
    )
    y, x = np.mgrid[top:bottom, left:right]
    grid = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    source = grid + spline(grid) - (left, top)
    return np.asarray(source.reshape(bottom - top, right - left, 2), dtype=np.float32)


def _paint(face_HWC: Array, expression: str) -> Array:
    """Return the texture of an expression: creases, tint and what is between the lips."""
    painted = face_HWC
    if expression != "joy":
        smooth = np.asarray(cv2.GaussianBlur(face_HWC, (0, 0), 4.0), dtype=np.float32)
        for fold in SMILE_FOLDS:
            painted = _mix(painted, smooth, 0.8 * _stroke(fold, 5.0, 1.6))
    gain = np.array(TINTS.get(expression, (1, 1, 1)), dtype=np.float32)
    inside = _fill(MOUTH_INSIDE)
    painted = _mix(painted, painted * gain, _oval() * (1 - inside))
    for line, width_px, depth in CREASES.get(expression, ()):
        painted = painted * (1 - depth * _stroke(line, width_px, 1.0)[..., None])
    if expression == "surprise":
        cavity = np.full_like(face_HWC, 1) * np.array(CAVITY_RGB, dtype=np.float32)
        painted = _mix(painted, cavity, inside)
    elif expression not in TEETH_SHOWN:
        line_colour = np.full_like(face_HWC, 1) * np.array(LIP_LINE_RGB, dtype=np.float32)
        painted = _mix(painted, line_colour, inside)
    return np.clip(painted, 0, 255).astype(np.float32)


def _mix(below: Array, above: Array, weight_HW: Array) -> Array:
    """Lay one picture over another."""
    return np.asarray(below + weight_HW[..., None] * (above - below), dtype=np.float32)


FINE = 8  # masks are drawn this much larger, then averaged: soft edges below a pixel


def _fine(points: tuple[Point, ...]) -> npt.NDArray[np.int32]:
    """Return points of the photograph in pixels of a mask that is FINE times the face box."""
    offset = np.array([FACE_LEFT_PX, FACE_TOP_PX])
    return np.asarray(np.round((np.array(points) - offset + 0.5) * FINE), dtype=np.int32)


def _shrink(mask: npt.NDArray[np.uint8]) -> Array:
    """Average a fine mask to the size of the face box, 0..1."""
    size = (FACE_RIGHT_PX - FACE_LEFT_PX, FACE_BOTTOM_PX - FACE_TOP_PX)
    small = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    return small / np.float32(255)


def _blank() -> npt.NDArray[np.uint8]:
    size = ((FACE_BOTTOM_PX - FACE_TOP_PX) * FINE, (FACE_RIGHT_PX - FACE_LEFT_PX) * FINE)
    return np.zeros(size, dtype=np.uint8)


def _fill(points: tuple[Point, ...]) -> Array:
    """Return the mask of a polygon, float32 (H, W) in 0..1."""
    mask = _blank()
    cv2.fillPoly(mask, [_fine(points)], 255)
    return _shrink(mask)


def _stroke(points: tuple[Point, ...], width_px: float, blur_px: float) -> Array:
    """Return the mask of a soft line, float32 (H, W) in 0..1."""
    mask = _blank()
    cv2.polylines(mask, [_fine(points)], False, 255, max(1, round(width_px * FINE)))
    return np.asarray(cv2.GaussianBlur(_shrink(mask), (0, 0), blur_px), dtype=np.float32)


def _oval() -> Array:
    """Return the mask of the skin of the face, soft, float32 (H, W) in 0..1."""
    mask = _blank()
    centre = _fine(((224.0, 128.0),))[0]
    cv2.ellipse(mask, (int(centre[0]), int(centre[1])), (36 * FINE, 44 * FINE), 0, 0, 360, 255, -1)
    return np.asarray(cv2.GaussianBlur(_shrink(mask), (0, 0), 5.0), dtype=np.float32)
