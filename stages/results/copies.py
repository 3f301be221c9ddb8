"""Copies: pairs of videos of which one run trains on the one and tests on the other.

Copies of the same content are told from the tables. Others are near in the features of their
frames (`stages.results.neighbours`) and alike in the frames themselves
(`stages.results.likeness`). Features and frames are read where they are; what is not here is said.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from features.cache import tables
from stages.engine.items import item_path
from stages.engine.paths import VIEWS
from stages.results.extracted import Extracted, Feature
from stages.results.likeness import (
    BASELINE_VIDEOS,
    Frames,
    Likeness,
    least_alike,
    likeness,
    read_small,
)
from stages.results.neighbours import has_map, near_pairs, places

FRAME_VIEWS = ("segments", "uniform", "snippets")
"""Views of whole frames, in the order in which they are looked at."""

MOST_LOOKED_AT = 400
"""Pairs whose frames are compared: those that stand out most."""

SAME_FILE, SAME_FEATURES, ALIKE = "the same file", "the same features", "frames alike"


@dataclass(frozen=True)
class Runs:
    """Which runs train on a video and which test on it.

    Attributes:
        train: video -> runs.
        test: likewise.
    """

    train: Mapping[str, frozenset[str]]
    test: Mapping[str, frozenset[str]]

    def parting(self, one: str, other: str) -> frozenset[str]:
        """Return the runs that train on one of two videos and test on the other."""
        return (self.train[one] & self.test[other]) | (self.test[one] & self.train[other])


def runs_of(rows: Sequence[tables.Row]) -> Runs:
    """Return the runs of the index's usable videos."""
    sides: dict[str, dict[str, frozenset[str]]] = {"train": {}, "test": {}}
    for row in rows:
        if row["status"] == "ok":
            for side, videos in sides.items():
                videos[str(row["video_id"])] = frozenset(
                    name for name in row if name.startswith("split_") and row[name] == side
                )
    return Runs(**sides)


@dataclass(frozen=True)
class Pair:
    """Two videos of which one is a copy of the other, or both of a third.

    Attributes:
        videos: their ids.
        how: `SAME_FILE`, `SAME_FEATURES` or `ALIKE`.
        alike: of their frames, where these were compared.
    """

    videos: tuple[str, str]
    how: str
    alike: Likeness | None = None


@dataclass(frozen=True)
class Search:
    """What was looked for and how.

    Attributes:
        pairs: copies that a run parts, in the order of their names.
        source: `backbone/feature` that the candidates are from; None where there is none.
        flips: whether candidates are looked for mirrored too.
        videos: how many have features.
        near: candidates that a run parts.
        looked_at: how many of them were compared by their frames.
        view: of those frames; None where none are here.
        least: likeness of copies.
    """

    pairs: list[Pair]
    source: str | None = None
    flips: bool = False
    videos: int = 0
    near: int = 0
    looked_at: int = 0
    view: str | None = None
    least: float = 0.0


def search(rows: Sequence[tables.Row], sources: Sequence[Extracted]) -> Search:
    """Look for copies that a run parts into train and test.

    Args:
        rows: of the index.
        sources: what is here of each backbone.
    """
    runs = runs_of(rows)
    pairs = {pair.videos: pair for pair in _same(rows, sources, runs)}
    chosen = source_of(sources)
    if chosen is None:
        return Search(list(pairs.values()))
    source, feature = chosen
    files = {video: path for video, path in source.files.items() if video in runs.train}
    spaces = places(files, feature, [])
    near = [pair for pair in near_pairs(spaces) if pair not in pairs and runs.parting(*pair)]
    view = next((name for name in FRAME_VIEWS if any(_files(name, files))), None)
    looked_at, least = 0, 0.0
    if view:
        small = _Small(view)
        least = least_alike(small.some(files))
        for pair in near[:MOST_LOOKED_AT]:
            one, other = small[pair[0]], small[pair[1]]
            if one is None or other is None:
                continue
            looked_at += 1
            alike = likeness(one, other)
            if alike.value >= least:
                pairs[pair] = Pair(pair, ALIKE, alike)
    return Search(
        [pairs[pair] for pair in sorted(pairs)],
        f"{source.backbone}/{feature.name}",
        has_map(feature),
        len(spaces[0].videos),
        len(near),
        looked_at,
        view,
        least,
    )


def source_of(sources: Sequence[Extracted]) -> tuple[Extracted, Feature] | None:
    """Return the feature by which videos are compared; None where none is fit for it.

    One of whole frames is before one of faces, a map before a vector, a small one before a large
    one. Sound and points of a body say too little.
    """
    views = (*FRAME_VIEWS, "faces")
    fit = [
        (views.index(source.view), not has_map(feature), feature.measured, at, number)
        for at, source in enumerate(sources)
        if source.view in views and not any("K" in each.axes for each in source.features)
        for number, feature in enumerate(source.features)
    ]
    if not fit:
        return None
    *_, at, number = min(fit)
    return sources[at], sources[at].features[number]


def _same(rows: Sequence[tables.Row], sources: Sequence[Extracted], runs: Runs) -> Iterable[Pair]:
    """Yield the parted pairs of the same content: of each video with the first that has it."""
    by_content: dict[tuple[str, object], list[str]] = defaultdict(list)
    for row in rows:
        by_content[SAME_FILE, row.get("sha256")].append(str(row["video_id"]))
    for source in sources:
        for row in source.rows:
            content = row.get("content") and (source.backbone, row["content"])
            by_content[SAME_FEATURES, content].append(str(row["video_id"]))
    told: set[tuple[str, str]] = set()
    for (how, content), videos in by_content.items():
        known = [video for video in dict.fromkeys(videos) if content and video in runs.train]
        for at, other in enumerate(known):
            # one for each video: of a hundred copies there are 5,000 pairs
            one = next((video for video in known[:at] if runs.parting(video, other)), None)
            if one and (pair := (min(one, other), max(one, other))) not in told:
                told.add(pair)
                yield Pair(pair, how)


def _files(view: str, videos: Iterable[str]) -> Iterable[Path]:
    return (
        path for path in (VIEWS / view / item_path(video) for video in videos) if path.is_file()
    )


class _Small:
    """The small frames of videos, each read once."""

    def __init__(self, view: str) -> None:
        self.view = view
        self.known: dict[str, Frames | None] = {}

    def __getitem__(self, video: str) -> Frames | None:
        if video not in self.known:
            self.known[video] = read_small(VIEWS / self.view / item_path(video))
        return self.known[video]

    def some(self, videos: Iterable[str]) -> dict[str, Frames]:
        """Return the frames of a few videos that are picked by the hash of their names."""
        picked = sorted(videos, key=lambda name: hashlib.sha256(name.encode()).digest())
        found = {video: self[video] for video in picked[:BASELINE_VIDEOS]}
        return {video: frames for video, frames in found.items() if frames}


def groups(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return pairs that hang together, the largest group first."""
    videos = sorted({video for pair in pairs for video in pair.videos})
    number = {video: at for at, video in enumerate(videos)}
    ends = np.array([[number[video] for video in pair.videos] for pair in pairs]).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(videos),) * 2)
    _, member = connected_components(graph, directed=False)
    found: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        found[int(member[number[pair.videos[0]]])].append(pair)
    return sorted(found.values(), key=lambda group: (-len(group), group[0].videos))
