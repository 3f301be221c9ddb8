"""Protocols: by which rule the runs divide the videos, where groups or corpora are kept apart.

Rows are those of the index: ``video_id``, ``label``, ``status``, ``sha256``, and ``group`` or
``corpus`` where a column of the CSV says so. A run is a column ``split_<name>``: train, test or
null. Files of the same content are never on both sides, and the order of the rows does not matter.
What is drawn per class and without groups is in :mod:`features.video.splits`.
"""

import hashlib
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from features.cache import tables
from features.video.listing import DataSetError
from features.video.splits import check_copies, run_names
from heads.training.groups import draw_groups

MOST_RUNS = 1000
"""Of one group each."""

_SHOWN = 5
"""So many groups are named in a message."""

_LONGEST_NAME = 60
"""Characters of a run's name that come from a group's."""

Unit = list[tables.Row]
"""Rows that stay together."""


def add_holdout(
    rows: Sequence[tables.Row],
    *,
    runs: int,
    test_share: float,
    seed: int,
    classes: bool = True,
) -> list[str]:
    """Add runs that test about a share of each class, in whole groups; return their names.

    Args:
        rows: of the index.
        runs: how many.
        test_share: of each class, as near as whole groups come to it.
        seed: of the order in which each run tries the groups.
        classes: labels are classes, and not only strata: each must train in every run.

    Raises:
        DataSetError: a group that holds a whole class.
    """
    units = _units(rows)
    if classes:
        _check_spread(units)
    names = run_names(runs)
    for name in names:
        ordered = sorted(units, key=lambda unit: _draw(seed, name, _name(unit)))
        drawn = draw_groups([[row["label"] for row in unit] for unit in ordered], test_share)
        tested = {row["video_id"] for position in drawn for row in ordered[position]}
        _write(units, name, {str(video_id) for video_id in tested})
    if classes:
        _check_classes(rows, names)
    return names


def add_folds(
    rows: Sequence[tables.Row], *, folds: int, seed: int, classes: bool = True
) -> list[str]:
    """Add folds that test each video once, stratified as far as groups allow; return their names.

    Args:
        rows: of the index.
        folds: how many.
        seed: of the drawing.
        classes: as of `add_holdout`.

    Raises:
        DataSetError: fewer groups, or videos, than folds, or one that holds a whole class.
    """
    units = _units(rows)
    if len(units) < folds:
        raise DataSetError(
            f"expected at least as many {_what(units)}s as folds, {folds}, found {len(units)}: "
            f"{_shorten([_name(unit) for unit in units])}; lower index.splits.folds"
        )
    if classes:
        _check_spread(units)
    digest = hashlib.sha256(str(seed).encode()).digest()
    names = run_names(folds)
    cut = _cut(units, folds, int.from_bytes(digest[:4], "big"))
    for name, tested in zip(names, cut, strict=True):
        _write(units, name, tested)
    if classes:
        _check_classes(rows, names)
    return names


def _cut(units: Sequence[Unit], folds: int, seed: int) -> list[set[str]]:
    """Return the ids that each fold tests."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    videos = [(str(row["video_id"]), str(row["label"])) for unit in units for row in unit]
    groups = [number for number, unit in enumerate(units) for _ in unit]
    labels = [label for _, label in videos]
    if (most := max(Counter(labels).values())) < folds:
        raise DataSetError(
            f"expected a class of at least as many videos as folds, {folds}, found {most} in the "
            "largest; lower index.splits.folds"
        )
    # where each is alone, the plain one does the same at a fraction of the time
    kind = StratifiedKFold if len(units) == len(videos) else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that not every fold can test
        cut = list(kind(folds, shuffle=True, random_state=seed).split(labels, labels, groups))
    return [{videos[position][0] for position in test} for _, test in cut]


def add_groups_out(rows: Sequence[tables.Row], *, classes: bool = True) -> list[str]:
    """Add a run a group, named after it, that tests the group alone; return their names.

    Args:
        rows: of the index, with ``group``.
        classes: as of `add_holdout`.

    Raises:
        DataSetError: fewer than two groups, or more than there may be runs, one that holds a whole
            class, copies in two groups.
    """
    groups = _by(rows, "group")
    if len(groups) < 2:
        raise DataSetError(
            f"expected at least two groups to leave one out, found {_shorten(list(groups))}"
        )
    if len(groups) > MOST_RUNS:
        raise DataSetError(
            f"expected at most {MOST_RUNS} groups, as each is a run, found {len(groups)}; kind "
            "kfold tests several in a run"
        )
    if classes:
        _check_spread(list(groups.values()))
    names = _slugs(list(groups), "")
    for name, group in zip(names, groups, strict=True):
        tested = {str(row["video_id"]) for row in groups[group]}
        _write(list(groups.values()), name, tested)
    check_copies(rows, names)
    return names


def add_cross_corpus(
    rows: Sequence[tables.Row],
    *,
    train: Literal["others", "each"],
    names: Mapping[str, Mapping[str, str | None]] | None,
) -> list[str]:
    """Add runs that test other corpora than they train, and the column ``class``; return the runs.

    The classes are those that every corpus has, by its own names or by ``names``. A video of
    another class has no class and is in no run.

    Args:
        rows: of the index, with ``corpus``.
        train: with ``others`` a run tests a corpus and trains on all others; with ``each`` it
            trains on one and tests all others.
        names: corpus -> its name of a class -> that of all, None to leave the class out. None where
            no classes are told: then all videos are in.

    Raises:
        DataSetError: fewer than two corpora, names of what is not there, fewer than two classes
            that all corpora have.
    """
    corpora = _by(rows, "corpus")
    if len(corpora) < 2:
        raise DataSetError(f"expected at least two corpora, found {_shorten(list(corpora))}")
    if names is not None:
        _name_classes(rows, corpora, names)
    runs = _slugs(list(corpora), "from_" if train == "each" else "")
    for run, corpus in zip(runs, corpora, strict=True):
        for row in rows:
            if row["status"] == "ok":
                is_own = row["corpus"] == corpus
                side = "test" if is_own == (train == "others") else "train"
                row[run] = None if row.get("class", "") is None else side
    check_copies(rows, runs)
    return runs


def _name_classes(
    rows: Sequence[tables.Row],
    corpora: Mapping[str, Unit],
    names: Mapping[str, Mapping[str, str | None]],
) -> None:
    """Add the column ``class`` to the rows."""
    if unknown := sorted(names.keys() - corpora.keys()):
        raise DataSetError(
            f"index.splits.map: expected one of the corpora {_shorten(list(corpora))}, found "
            f"{unknown[0]!r}"
        )
    for corpus, known in names.items():
        labels = sorted({str(row["label"]) for row in rows if row["corpus"] == corpus})
        if unknown := sorted(known.keys() - {*labels}):
            raise DataSetError(
                f"index.splits.map.{corpus}: expected one of its classes {', '.join(labels)}, "
                f"found {unknown[0]!r}"
            )
    for row in rows:
        label = str(row["label"])
        row["class"] = names.get(str(row["corpus"]), {}).get(label, label)
    of_each = {name: {row["class"] for row in unit} - {None} for name, unit in corpora.items()}
    common = set.intersection(*of_each.values())
    if len(common) < 2:
        had = [f"{name}: {', '.join(sorted(map(str, own)))}" for name, own in of_each.items()]
        raise DataSetError(
            "expected at least two classes that all corpora have, found "
            f"{len(common)} ({'; '.join(had)}); "
            "index.splits.map gives a class the name that it has elsewhere"
        )
    for row in rows:
        if row["class"] not in common:
            row["class"] = None


def left_out(rows: Sequence[tables.Row]) -> dict[tuple[str, str], int]:
    """Return (corpus, class) -> number of its usable videos, of classes that not all corpora have.

    Args:
        rows: of the index, with ``corpus`` and, if classes are told, ``class``.
    """
    counts = Counter(
        (str(row["corpus"]), str(row["label"]))
        for row in rows
        if row["status"] == "ok" and row.get("class", "") is None
    )
    return dict(sorted(counts.items()))


def check_apart(rows: Sequence[tables.Row], names: Sequence[str]) -> None:
    """Check runs that a CSV gives.

    Raises:
        DataSetError: a group trains and tests in the same run.
    """
    torn = []
    for group, members in _by(rows, "group").items():
        for name in names:
            counts = Counter(row[name] for row in members if row[name])
            if len(counts) > 1:
                torn.append(
                    f"{group} ({counts['train']} train and {counts['test']} test in {name})"
                )
    if torn:
        raise DataSetError(
            f"expected each group on one side of a run, found both: {_shorten(torn)}. Correct the "
            "split columns, or let them be drawn: index.splits.kind"
        )


# ---------------------------------------------------------------------------------- units


def _units(rows: Sequence[tables.Row]) -> list[Unit]:
    """Return the usable rows, those of one group or of the same content together.

    Both the units and their rows are in order of their ids.
    """
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while (higher := above.setdefault(name, name)) != name:
            above[name] = name = above[higher]
        return name

    ordered = sorted(
        (row for row in rows if row["status"] == "ok"), key=lambda row: str(row["video_id"])
    )
    for row in ordered:
        if row.get("group") is not None:
            above[top(f"group {row['group']}")] = top(f"content {row['sha256']}")
    units: dict[str, Unit] = {}
    for row in ordered:
        units.setdefault(top(f"content {row['sha256']}"), []).append(row)
    return list(units.values())


def _by(rows: Sequence[tables.Row], column: str) -> dict[str, Unit]:
    """Return the usable rows by a column, sorted."""
    units: dict[str, Unit] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok":
            units[str(row[column])].append(row)
    return dict(sorted(units.items()))


def _name(unit: Unit) -> str:
    """Return what a unit is called: by its groups, or its first video."""
    groups = sorted({str(row["group"]) for row in unit if row.get("group") is not None})
    return " + ".join(groups) or str(unit[0]["video_id"])


def _what(units: Sequence[Unit]) -> str:
    return "group" if any("group" in unit[0] for unit in units) else "video"


def _write(units: Sequence[Unit], name: str, tested: set[str]) -> None:
    for unit in units:
        for row in unit:
            row[name] = "test" if row["video_id"] in tested else "train"


def _draw(seed: int, name: str, unit: str) -> str:
    return hashlib.sha256(f"{seed} {name} {unit}".encode()).hexdigest()


def _slugs(groups: Sequence[str], prefix: str) -> list[str]:
    """Return a name of a column and a file for each group, unlike the others without case too."""
    names: list[str] = []
    taken: set[str] = set()
    for group in groups:
        plain = re.sub(r"[^A-Za-z0-9]+", "-", group).strip("-")[:_LONGEST_NAME] or "group"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(f"split_{prefix}{name}")
    return names


# --------------------------------------------------------------------------------- checks


def _check_spread(units: Sequence[Unit]) -> None:
    """Raise DataSetError where one unit has all that is of a class: it cannot train and test."""
    holders: dict[str, set[int]] = defaultdict(set)
    for number, unit in enumerate(units):
        for row in unit:
            holders[str(row["label"])].add(number)
    alone = [
        f"{label} in {_name(units[number])}"
        for label, (number, *others) in sorted(holders.items())
        if not others
    ]
    if alone:
        raise DataSetError(
            f"expected videos of each class in at least two {_what(units)}s, so that it can train "
            f"and test, found all of {_shorten(alone)}; add videos, or leave the class out"
        )


def _check_classes(rows: Sequence[tables.Row], names: Sequence[str]) -> None:
    """Raise DataSetError where a run trains on no video of a class."""
    usable = [row for row in rows if row["status"] == "ok"]
    classes = {str(row["label"]) for row in usable}
    for name in names:
        lacking = classes - {str(row["label"]) for row in usable if row[name] == "train"}
        if lacking:
            raise DataSetError(
                f"expected each run to train on every class, found that {name} tests all of "
                f"{_shorten(sorted(lacking))}; another index.splits.seed, or more folds, may part "
                "them"
            )


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
