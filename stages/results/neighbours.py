"""Which videos may be copies of each other: those that are near in features of their frames.

A video has up to two places. *What* it shows is the mean of a feature over rows and places of a
row. *Where* it shows it is the mean and the deviation of a map over its channels, place by place,
and this place is compared mirrored as well: what a network makes of a mirrored frame is another
vector, and most so in a random network, but over all its channels the map is nearly the mirrored
map. Each number is standardised over the videos, so that none counts for its scale, and places
are compared by the cosine.

This finds candidates and decides nothing: in a random network's features distinct videos of one
studio are as near as a copy of another size. `stages.results.likeness` looks at the frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.results.extracted import (
    Feature,
    Values,
    mean_rows,
    measured_means,
    standardised,
)

NEIGHBOURS = 10
"""Candidates are among so many nearest of each other; more copies of one video are a chain."""

BLOCK_VIDEOS = 1024
"""Videos compared with all others at a time: 10,000 take 40 MB."""


@dataclass(frozen=True)
class Places:
    """Where each video lies.

    Attributes:
        videos: their ids.
        values: (N, D), each of length 1.
        mirrored: the same of mirrored videos; None where that is not known.
    """

    videos: list[str]
    values: Values
    mirrored: Values | None


def has_map(feature: Feature) -> bool:
    """Tell whether a row of a feature is a map, of which left and right can be told."""
    sizes = dict(zip(feature.axes.split(), feature.shape, strict=True))
    return sizes.get("H", 1) > 1 and sizes.get("W", 1) > 1


def places(files: Mapping[str, Path], feature: Feature, unread: list[str]) -> list[Places]:
    """Return what each video shows and, of a map, where; arguments as of `mean_rows`."""
    if not has_map(feature):
        videos, means = measured_means(files, feature, unread)
        return [Places(videos, unit(standardised(means)), None)]
    axes = feature.axes.split()
    height, width = axes.index("H"), axes.index("W")
    size = (feature.shape[height], feature.shape[width])
    videos = []
    what = np.zeros((len(files), int(np.prod(feature.shape)) // (size[0] * size[1])), np.float32)
    where = np.zeros((len(files), 2, *size), np.float32)
    for video, row in mean_rows(files, feature, unread):
        maps = np.moveaxis(row, (height, width), (-2, -1)).reshape(-1, *size)
        at = len(videos)
        what[at], where[at] = maps.mean(axis=(1, 2)), (maps.mean(axis=0), maps.std(axis=0))
        videos.append(video)
    what, where = what[: len(videos)], where[: len(videos)]
    both = np.concatenate([where, where[..., ::-1]]).reshape(2 * len(videos), -1)
    seen = unit(standardised(both))  # a mirrored video is standardised as the others are
    return [
        Places(videos, unit(standardised(what)), None),
        Places(videos, seen[: len(videos)], seen[len(videos) :]),
    ]


def unit(values: Values) -> Values:
    """Return rows of length 1; a row of zeros stays so."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    found: Values = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return found


def near_pairs(spaces: Sequence[Places]) -> list[tuple[str, str]]:
    """Return pairs of videos that are near in one of the spaces, those that stand out first.

    A pair is near if each is among the `NEIGHBOURS` nearest of the other. How far it stands out is
    its distance as a share of the distance within which these lie: a pair of a crowd does not.
    """
    shares: dict[tuple[str, str], float] = {}
    for space in spaces:
        for share, one, other in _near(space):
            first, second = sorted((space.videos[one], space.videos[other]))
            shares[first, second] = min(share, shares.get((first, second), np.inf))
    return sorted(shares, key=lambda pair: (shares[pair], pair))


def _near(space: Places) -> Iterator[tuple[float, int, int]]:
    """Yield the near pairs of a space: share of the neighbours' distance, and both positions."""
    count = len(space.videos)
    near = min(NEIGHBOURS, count - 1)
    if near < 1:
        return
    nearest, distances = _nearest(space, near)
    reach = np.maximum(distances.max(axis=1), np.finfo(np.float32).tiny)
    one, other = np.repeat(np.arange(count), near), nearest.ravel()
    share = distances.ravel() / np.minimum(reach[one], reach[other])
    for at in np.flatnonzero(share <= 1):
        yield float(share[at]), int(one[at]), int(other[at])


def _nearest(space: Places, near: int) -> tuple[NDArray[np.int64], Values]:
    """Return the positions of each video's nearest, (N, near), and their distances."""
    count = len(space.videos)
    nearest = np.zeros((count, near), np.int64)
    distances = np.zeros((count, near), np.float32)
    for first in range(0, count, BLOCK_VIDEOS):
        block = slice(first, min(first + BLOCK_VIDEOS, count))
        cosine = space.values[block] @ space.values.T
        if space.mirrored is not None:
            np.maximum(cosine, space.values[block] @ space.mirrored.T, out=cosine)
        cosine[np.arange(len(cosine)), np.arange(first, block.stop)] = -np.inf
        nearest[block] = np.argpartition(-cosine, near - 1, axis=1)[:, :near]
        found = np.take_along_axis(cosine, nearest[block], axis=1)
        distances[block] = np.sqrt(np.maximum(0, 2 - 2 * found))
    return nearest, distances
