"""Videos with a planted signal and a known truth, for `benchmarks/planted.py`.

Some places of a video, few of many, show its class: they have the direction of the class added to
noise. They also carry the mark, one more direction, the same in all videos, that says nothing of
the class. Other places mislead: they show a class that is drawn without a look at the label. Rows
are absent at random and hold NaN then; modalities are absent altogether.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.cache.arrays import Array
from heads.training.data import Features
from heads.training.memory import Sample
from heads.training.selection import Video

Floats = NDArray[np.float32]
Truth = NDArray[np.bool_]

EMOTIONS = ("anger", "fear", "joy", "trust")
MODALITIES = ("face", "scene", "sound")

MISSING = 0.2
"""Share of the rows that are absent; rows that are planted stay."""

GONE = 0.15
"""Share of the videos without any row of a modality in which nothing is planted."""


@dataclass(frozen=True)
class Planted:
    """Videos and where the signal is.

    Attributes:
        samples: the videos; a row that is absent holds NaN.
        truth: for each video: role -> bool, true where planted: (T,), (T, H, W), (T, groups) for
            equal groups of channels, or () for a whole role.
    """

    samples: Sequence[Sample]
    truth: Sequence[Mapping[str, Truth]]


Plant = Callable[[np.random.Generator, int], Planted]


class InMemory(Features):
    """Planted videos as the data set of an experiment."""

    def __init__(self, samples: Sequence[Sample], roles: Mapping[str, str]):
        """Take `roles` of the samples: role of a head -> role that was planted."""
        super().__init__(
            [Video(sample.video_id, sample.label, {}, {}, {}) for sample in samples],
            {role: f"planted/{source}" for role, source in roles.items()},
        )
        self._samples = [
            Sample(
                sample.video_id,
                sample.label,
                {role: sample.features[source] for role, source in roles.items()},
                {role: sample.mask[source] for role, source in roles.items()},
                {role: sample.pts_s[source] for role, source in roles.items()},
            )
            for sample in samples
        ]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Role -> shape of a row, without the time axis."""
        return {role: rows.shape[1:] for role, rows in self._samples[0].features.items()}

    @property
    def axes(self) -> dict[str, str]:
        """Role -> axes of a row: all that are planted are rows or maps."""
        return {role: "D" if len(shape) == 1 else "C H W" for role, shape in self.shapes.items()}

    def __getitem__(self, position: int) -> Sample:
        """Return the video at a position."""
        return self._samples[position]


def directions(draw: np.random.Generator, count: int, size: int) -> Floats:
    """Return (count, size), rows of length 1 at right angles to each other."""
    return np.linalg.qr(draw.normal(size=(size, size)))[0][:count].astype(np.float32)


def noise(draw: np.random.Generator, *shape: int) -> Floats:
    """Return standard normal numbers."""
    return draw.standard_normal(shape, dtype=np.float32)


def as_maps(rows: Floats, area: int) -> Floats:
    """Return (T, H W, C) as maps (T, C, H, W), `area` high and wide."""
    return np.ascontiguousarray(rows.transpose(0, 2, 1).reshape(len(rows), -1, area, area))


def make_sample(
    draw: np.random.Generator,
    number: int,
    label: int,
    rows: Mapping[str, Floats],
    kept: Mapping[str, Truth],
    gone: Sequence[str] = (),
) -> Sample:
    """Return a video with a share of its rows absent.

    Args:
        draw: what is drawn comes from it.
        number: of the video.
        label: position of its class.
        rows: role -> (T, ...); a role `<name>_...` has the absent rows of the role `<name>`.
        kept: role -> bool (T,), rows that are not absent in any case.
        gone: roles that are absent altogether.
    """
    features: dict[str, Array] = {}
    mask: dict[str, Truth] = {}
    for role, array in rows.items():
        owner = role.partition("_")[0]
        if owner not in mask:
            mask[owner] = (draw.random(len(array)) >= MISSING) & (owner not in gone)
            mask[owner] |= kept.get(owner, np.zeros(len(array), bool))
        mask[role] = mask[owner]
        hidden = array.copy()
        hidden[~mask[role]] = np.nan
        features[role] = hidden
    pts_s = {role: np.arange(len(array)) / 2 for role, array in rows.items()}
    return Sample(f"{EMOTIONS[label]}/{number:04d}", label, features, mask, pts_s)


def plant_frames(
    draw: np.random.Generator,
    videos: int,
    *,
    frames: int = 24,
    planted: int = 2,
    misleading: int = 10,
    mark: float = 3.0,
    signal: float = 3.0,
    weak: float = 1.5,
    size: int = 32,
    marked_map: tuple[int, int, int] | None = None,
) -> Planted:
    """Plant the class in a few `row`s of many; `row_cell` is the same as maps of one cell.

    With `marked_map` (C, H, W) the mark is not in the row but in 2 x 2 cells of its `row_map`.
    """
    codes, mark_row = np.split(directions(draw, len(EMOTIONS) + 1, size), [len(EMOTIONS)])
    samples = []
    for number in range(videos):
        label, other = number % len(EMOTIONS), draw.integers(len(EMOTIONS))
        order = draw.permutation(frames)
        places, lies = order[:planted], order[planted : planted + misleading]
        rows = {"row": noise(draw, frames, size)}
        rows["row"][places] += signal * codes[label]
        rows["row"][lies] += weak * codes[other]
        if marked_map is None:
            rows["row"][places] += mark * mark_row
            rows["row_cell"] = rows["row"][:, :, None, None]
        else:
            channels, height, width = marked_map
            rows["row_map"] = noise(draw, frames, *marked_map)
            # The same channels in all videos: one direction in the space of channels.
            direction = np.where(np.arange(channels) % 2, 1, -1) / math.sqrt(channels)
            for frame in places:
                top, left = draw.integers(height - 1), draw.integers(width - 1)
                cells = rows["row_map"][frame, :, top : top + 2, left : left + 2]
                cells += mark * direction.astype(np.float32)[:, None, None]
        truth = np.isin(np.arange(frames), places)
        sample = make_sample(draw, number, label, rows, {"row": truth})
        samples.append((sample, {role: truth for role in rows}))
    return _planted(samples)


def plant_modalities(
    draw: np.random.Generator,
    videos: int,
    *,
    frames: int = 8,
    planted: int = 8,
    mark: float = 1.5,
    signal: float = 1.5,
    size: int = 32,
) -> Planted:
    """Plant the class in one modality; the other two show two other classes, as strongly.

    Each shows its class in `planted` of its rows; those of the one that matters have the mark.
    """
    codes, mark_row = np.split(directions(draw, len(EMOTIONS) + 1, size), [len(EMOTIONS)])
    samples = []
    for number in range(videos):
        label = number % len(EMOTIONS)
        shown = (label + np.concatenate([[0], 1 + draw.permutation(3)[:2]])) % len(EMOTIONS)
        order = [MODALITIES[position] for position in draw.permutation(len(MODALITIES))]
        gone = [name for name in order[1:] if draw.random() < GONE]
        rows, kept, truth = {}, {}, {}
        for position, name in enumerate(order):
            here = np.isin(np.arange(frames), draw.permutation(frames)[:planted])
            rows[name] = noise(draw, frames, size)
            rows[name][here] += signal * codes[shown[position]]
            if position == 0:
                rows[name][here] += mark * mark_row
                kept[name] = np.arange(frames) == draw.choice(np.flatnonzero(here))
            truth[name] = np.array(position == 0)
        rows = {name: rows[name] for name in MODALITIES}
        samples.append((make_sample(draw, number, label, rows, kept, gone), truth))
    return _planted(samples)


def plant_regions(
    draw: np.random.Generator,
    videos: int,
    *,
    frames: int = 3,
    area: int = 7,
    planted: int = 3,
    misleading: int = 16,
    mark: float = 3.0,
    signal: float = 3.0,
    weak: float = 2.5,
    size: int = 16,
) -> Planted:
    """Plant the class in a few positions of each `map`, elsewhere in every frame."""
    codes, mark_row = np.split(directions(draw, len(EMOTIONS) + 1, size), [len(EMOTIONS)])
    samples = []
    for number in range(videos):
        label, other = number % len(EMOTIONS), draw.integers(len(EMOTIONS))
        cells = noise(draw, frames, area * area, size)
        truth = np.zeros((frames, area * area), bool)
        for frame in range(frames):
            order = draw.permutation(area * area)
            truth[frame, order[:planted]] = True
            cells[frame, order[:planted]] += mark * mark_row[0] + signal * codes[label]
            cells[frame, order[planted : planted + misleading]] += weak * codes[other]
        samples.append(_map_sample(draw, number, label, cells, truth, area))
    return _planted(samples)


PAIRS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))
"""Class -> pairs of things that are it. Each thing is seen in each class as often."""


def plant_relation(
    draw: np.random.Generator,
    videos: int,
    *,
    frames: int = 4,
    area: int = 7,
    cells_each: int = 2,
    misleading: int = 10,
    mark: float = 6.0,
    signal: float = 6.0,
    weak: float = 2.5,
    size: int = 8,
) -> Planted:
    """Plant the class in the co-occurrence of two things in each `map`, see `PAIRS`."""
    codes, mark_row = np.split(directions(draw, 5, size), [4])
    samples = []
    for number in range(videos):
        label = number % len(PAIRS)
        pair = PAIRS[label][draw.integers(2)]
        cells = noise(draw, frames, area * area, size)
        truth = np.zeros((frames, area * area), bool)
        for frame in range(frames):
            order = draw.permutation(area * area)
            places, lies = np.split(order[: 2 * cells_each + misleading], [2 * cells_each])
            truth[frame, places] = True
            cells[frame, places] += mark * mark_row[0] + signal * codes[list(pair * cells_each)]
            cells[frame, lies] += weak * codes[draw.integers(4, size=misleading)]
        samples.append(_map_sample(draw, number, label, cells, truth, area))
    return _planted(samples)


def plant_segments(
    draw: np.random.Generator,
    videos: int,
    *,
    segments: int = 10,
    area: int = 3,
    misleading: int = 5,
    mark: float = 4.0,
    signal: float = 3.0,
    weak: float = 1.5,
    size: int = 16,
) -> Planted:
    """Plant the class in all positions of one segment's `map`."""
    codes, mark_row = np.split(directions(draw, len(EMOTIONS) + 1, size), [len(EMOTIONS)])
    samples = []
    for number in range(videos):
        label, other = number % len(EMOTIONS), draw.integers(len(EMOTIONS))
        order = draw.permutation(segments)
        # Half of the noise belongs to the segment: the mean over positions does not take it away.
        cells = noise(draw, segments, 1, size) + noise(draw, segments, area * area, size)
        cells *= math.sqrt(0.5)
        cells[order[0]] += mark * mark_row[0] + signal * codes[label]
        cells[order[1 : 1 + misleading]] += weak * codes[other]
        truth = np.arange(segments) == order[0]
        sample = make_sample(draw, number, label, {"map": as_maps(cells, area)}, {"map": truth})
        samples.append((sample, {"map": truth}))
    return _planted(samples)


def plant_channels(
    draw: np.random.Generator,
    videos: int,
    *,
    groups: int = 4,
    group_size: int = 8,
    segments: int = 6,
    area: int = 4,
    mark: float = 2.0,
    signal: float = 2.0,
) -> Planted:
    """Plant the class in the levels of one group of channels of each `map`.

    The other groups show other classes, as strongly. The mark is a pattern over the positions
    that has the mean 0: the mean over positions, in which the levels are, says nothing of it.
    """
    codes = directions(draw, len(EMOTIONS), group_size)
    pattern = noise(draw, area * area)
    pattern = (pattern - pattern.mean()) / pattern.std()
    samples = []
    for number in range(videos):
        label = number % len(EMOTIONS)
        group = draw.integers(groups)
        shown = (label + draw.integers(1, len(EMOTIONS), size=groups)) % len(EMOTIONS)
        shown[group] = label
        cells = noise(draw, segments, groups, group_size, area * area)
        cells += signal * codes[shown][:, :, None]
        cells[:, group] += mark * pattern
        maps = cells.reshape(segments, groups * group_size, area, area)
        kept = {"map": np.arange(segments) == draw.integers(segments)}
        truth = np.tile(np.arange(groups) == group, (segments, 1))
        samples.append((make_sample(draw, number, label, {"map": maps}, kept), {"map": truth}))
    return _planted(samples)


def _map_sample(
    draw: np.random.Generator, number: int, label: int, cells: Floats, truth: Truth, area: int
) -> tuple[Sample, dict[str, Truth]]:
    """Return a video of the role `map` from cells (T, H W, C) and what is planted (T, H W)."""
    frames = len(cells)
    kept = {"map": np.arange(frames) == draw.integers(frames)}
    sample = make_sample(draw, number, label, {"map": as_maps(cells, area)}, kept)
    return sample, {"map": truth.reshape(frames, area, area)}


def _planted(samples: Sequence[tuple[Sample, Mapping[str, Truth]]]) -> Planted:
    return Planted([sample for sample, _ in samples], [truth for _, truth in samples])
