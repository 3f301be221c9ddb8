"""Leaks: videos that a run trains on and, as a copy, tests on as well."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.results.copies import ALIKE, Pair, Runs, Search, groups, runs_of, search
from stages.results.extracted import extracted
from stages.results.files import Result
from stages.results.likeness import LEAST_ALIKE
from stages.results.page import Inputs, Picture, Section
from stages.results.pictures import KIND, NotHere, sprite
from stages.results.table import Column, Table

TITLE = "Leaks"

MOST_SHOWN = 12
"""Groups of copies with their stills; tables/leaks has all."""

STILL_PX = 160
"""Height of a still."""


@dataclass(frozen=True)
class Shown:
    """A group of copies as the page shows it.

    Attributes:
        stills: of the two that are most alike; none where they may not be shown or are not here.
        videos: ids of these two, then of the others.
        alike: how sure it is, in words.
        runs: that train on one of the group and test on another.
    """

    stills: tuple[Picture, ...]
    videos: tuple[str, ...]
    alike: str
    runs: tuple[str, ...]


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where no run tests anything."""
    runs = runs_of(inputs.videos)
    if not any(runs.test.values()):
        return None
    sources = [each for each in map(extracted, inputs.backbones) if each]
    found = search(inputs.videos, sources)
    together = groups(found.pairs)
    shown = [_shown(inputs, group, found, runs) for group in together[:MOST_SHOWN]]
    tests = {
        (run, video): None
        for pair in found.pairs
        for run in runs.parting(*pair.videos)
        for video in pair.videos
        if run in runs.test[video]
    }
    content = {
        "search": found,
        "least": LEAST_ALIKE,
        "groups": shown,
        "more": len(together) - len(shown),
        "tests": len(tests),
        "of_tests": sum(map(len, runs.test.values())),
        "faces": inputs.settings.faces,
    }
    tables = {}
    if found.pairs:
        tables["leaks"] = _pairs(found.pairs, runs)
        tables["leaks-experiments"] = _experiments(inputs.results, set(tests))
    return Section(TITLE, "leaks.html", content, tables)


def _shown(inputs: Inputs, group: Sequence[Pair], found: Search, runs: Runs) -> Shown:
    best = max(group, key=lambda pair: (pair.how != ALIKE, pair.alike.value if pair.alike else 0))
    others = {video for pair in group for video in pair.videos} - set(best.videos)
    parting = {run for pair in group for run in runs.parting(*pair.videos)}
    words = best.how
    if best.alike and best.how == ALIKE:
        words = f"frames alike to {best.alike.value:.3f}"
        words += ", one mirrored" if best.alike.mirrored else ""
    return Shown(
        _stills(inputs, best, found), (*best.videos, *sorted(others)), words, tuple(sorted(parting))
    )


def _stills(inputs: Inputs, pair: Pair, found: Search) -> tuple[Picture, ...]:
    """Return the two frames that are most alike, where the page may show them and has room."""
    faces = inputs.settings.faces
    if faces == "leave out" or not pair.alike or not found.view:
        return ()
    pictures = []
    for video, row in zip(pair.videos, pair.alike.rows, strict=True):
        try:
            still = sprite(found.view, video, [row], faces, STILL_PX)
        except NotHere:
            return ()
        pictures.append(Picture(still.data, KIND, f"A frame of {video}", still.size))
    return tuple(pictures) if inputs.pictures.take(*(each.data for each in pictures)) else ()


def _pairs(pairs: Sequence[Pair], runs: Runs) -> Table:
    columns = (
        Column("video"),
        Column("copy"),
        Column("told by"),
        Column("likeness", "number"),
        Column("mirrored"),
        Column("runs that train on one and test on the other", "lines"),
    )
    rows = [
        (
            *pair.videos,
            pair.how,
            round(pair.alike.value, 3) if pair.alike else None,
            None if pair.alike is None else "yes" if pair.alike.mirrored else "no",
            tuple(sorted(runs.parting(*pair.videos))),
        )
        for pair in pairs
    ]
    return Table(columns, rows, "Pairs of copies that a run parts into train and test")


def _experiments(results: Sequence[Result], tests: set[tuple[str, str]]) -> Table:
    """Return how many test answers of each experiment are about copies of its training videos."""
    columns = (
        Column("experiment"),
        Column("test answers", "count"),
        Column("about copies", "count"),
        Column("accuracy on copies, %", "percent"),
        Column("accuracy on the others, %", "percent"),
    )
    rows = []
    for result in results:
        right: dict[bool, list[bool]] = {True: [], False: []}
        for row in result.predictions:
            is_copy = (str(row["run"]), str(row["video_id"])) in tests
            right[is_copy].append(row["label"] == row["predicted"])
        shares = [sum(each) / len(each) if each else None for each in right.values()]
        rows.append((result.name, len(result.predictions), len(right[True]), *shares))
    return Table(columns, rows, "What the leaks are worth to each experiment, all runs together")
