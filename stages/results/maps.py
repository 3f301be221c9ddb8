"""Maps of regions: pictures that lie over a frame, and the strongest relations between regions."""

import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.results.attention import Values

TILE_PX = 24
"""Side of a map's picture; the browser draws it as large as the frame."""

LEVELS = 32
"""Of colour."""

DEEPEST = 0.75
"""Opacity of the deepest colour: the frame stays to be seen."""

LEAST_FULL = 1.5
"""Times an even share that the deepest colour means at least: a flat map must not look steep."""

MOST_RELATIONS = 6

KIND = "image/png"


@dataclass(frozen=True)
class Relation:
    """What one region takes from another, places as shares of the map's width and height.

    Attributes:
        source: x and y of the region that is taken from.
        target: of the one that takes.
        weight: s_ij, in times an even share.
    """

    source: tuple[float, float]
    target: tuple[float, float]
    weight: float


def planes(maps: Values) -> Values:
    """Return maps (T, ..., H, W) as (T, H, W): the mean over a snippet's time."""
    return maps.mean(axis=tuple(range(1, maps.ndim - 2))) if maps.ndim > 3 else maps


def even_shares(maps: Values) -> Values:
    """Return maps (T, H, W) in times an even share: 1 where a region has what all have on average.

    Rows without weight are 0.
    """
    means = maps.mean(axis=(1, 2), keepdims=True)
    shares: Values = np.divide(maps, means, out=np.zeros_like(maps), where=means > 0)
    return shares


def heat(shares: Values) -> bytes:
    """Return maps in times an even share, (T, H, W), as pictures side by side, a PNG.

    Clear up to an even share, the deepest colour at the largest of them all.
    """
    full = max(float(shares.max(initial=0)), LEAST_FULL)
    tiles = [_tile((plane - 1) / (full - 1)) for plane in shares]
    image = Image.fromarray(np.concatenate(tiles, axis=1), "P")
    strengths = np.linspace(0, 1, LEVELS)
    colours = np.rint(255 * matplotlib.colormaps["plasma"](strengths)[:, :3]).astype(np.uint8)
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    opacity = np.rint(255 * DEEPEST * strengths).astype(np.uint8).tobytes()
    image.save(buffer, "PNG", transparency=opacity, optimize=True)
    return buffer.getvalue()


def _tile(strengths: Values) -> NDArray[np.uint8]:
    """Return a map of strengths, at most 1, as levels (TILE_PX, TILE_PX), drawn smoothly."""
    plane = Image.fromarray(strengths.astype(np.float32))
    smooth = np.asarray(plane.resize((TILE_PX, TILE_PX), Image.Resampling.BILINEAR))
    levels: NDArray[np.uint8] = np.rint(np.clip(smooth, 0, 1) * (LEVELS - 1)).astype(np.uint8)
    return levels


def relations(query: Values, key: Values) -> list[Relation]:
    """Return the strongest relations of two different regions, the strongest first.

    S of RDAM's eq. 5 from B and C (H, W), as `heads.rdam.relation_matrix` has it; that one is in
    torch, which the page does without.
    """
    height, width = query.shape
    scores = query.reshape(-1, 1) * key.reshape(1, -1)
    matrix = np.exp(scores - scores.max(axis=1, keepdims=True))
    matrix *= matrix.shape[1] / matrix.sum(axis=1, keepdims=True)  # in times an even share
    np.fill_diagonal(matrix, -1)
    largest = np.argsort(-matrix, axis=None, kind="stable")[:MOST_RELATIONS]
    pairs = zip(*np.unravel_index(largest, matrix.shape), strict=True)
    return [
        Relation(
            _place(int(source), height, width),
            _place(int(target), height, width),
            float(matrix[target, source]),
        )
        for target, source in pairs
        if matrix[target, source] >= 0
    ]


def _place(number: int, height: int, width: int) -> tuple[float, float]:
    """Return the middle of a region; they are counted row by row."""
    row, column = divmod(number, width)
    return (column + 0.5) / width, (row + 0.5) / height
