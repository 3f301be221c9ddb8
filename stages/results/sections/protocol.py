"""Protocol: which videos and groups each run trains and tests, and groups that the runs ignore."""

from collections import defaultdict
from collections.abc import Sequence

from features.cache import tables
from heads.training.groups import ignored_groups
from stages.engine.splits import Kind
from stages.results.page import Inputs, Section
from stages.results.table import Column, Table

TITLE = "Protocol"

MOST_NAMED = 8
"""Groups that a cell names; tables/groups has all."""

WORDS: dict[Kind | None, str] = {
    None: "The runs are those of the CSV, or drawn, a share of each class that tests",
    "holdout": "In each run a drawn share of every class tests",
    "kfold": "The runs are folds, which test each video once",
    "leave_one_group_out": "Each run leaves one group out and tests it",
    "predefined": "The runs are those of the CSV",
    "cross_corpus": "Each run tests other corpora than it trains on",
}


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where there are no runs."""
    usable = [row for row in inputs.videos if row["status"] == "ok"]
    runs = _names(inputs)
    if not runs or not usable:
        return None
    splits = inputs.splits
    is_grouped = "group" in usable[0]
    shown = {"runs": _runs(usable, runs, is_grouped)}
    if is_grouped:
        shown["groups"] = _groups(usable, runs)
    content = {
        "words": WORDS[splits.kind if splits else None],
        "column": splits.groups if splits else None,
        "groups": len({row["group"] for row in usable}) if is_grouped else 0,
        "ignored": ignored(inputs),
        "count": len(runs),
    }
    return Section(TITLE, "protocol.html", content, shown)


def ignored(inputs: Inputs) -> str | None:
    """Return a line on groups that names suggest, where the protocol knows none and parts them."""
    if inputs.splits is not None and inputs.splits.columns:
        return None
    return ignored_groups(inputs.videos, _names(inputs))


def _names(inputs: Inputs) -> list[str]:
    """Return the names of the runs."""
    return [name for name in inputs.videos[0] if name.startswith("split_")]


def _runs(rows: Sequence[tables.Row], runs: Sequence[str], is_grouped: bool) -> Table:
    """Return how many videos, and groups, are on each side of each run."""
    columns = [Column("run"), Column("train", "count"), Column("test", "count")]
    if is_grouped:
        columns += [
            Column("groups that train", "count"),
            Column("groups that test", "count"),
            Column("which test"),
        ]
    lines = []
    for run in runs:
        sides = [[row for row in rows if row[run] == side] for side in ("train", "test")]
        line: list[object] = [run, *map(len, sides)]
        if is_grouped:
            train, test = (sorted({str(row["group"]) for row in side}) for side in sides)
            more = f", … {len(test) - MOST_NAMED} more" if len(test) > MOST_NAMED else ""
            line += [len(train), len(test), ", ".join(test[:MOST_NAMED]) + more]
        lines.append(tuple(line))
    return Table(tuple(columns), lines, "What each run trains and tests")


def _groups(rows: Sequence[tables.Row], runs: Sequence[str]) -> Table:
    """Return how many videos of each class a group has, and which runs test it."""
    of_each: dict[str, list[tables.Row]] = defaultdict(list)
    for row in rows:
        of_each[str(row["group"])].append(row)
    told = [row.get("class", row["label"]) for row in rows]
    classes = sorted({str(name) for name in told if name is not None})
    columns = (
        Column("group"),
        Column("videos", "count"),
        *(Column(name, "count") for name in classes),
        Column("runs that test it", "lines"),
    )
    lines = [
        (
            group,
            len(members),
            *(sum(row.get("class", row["label"]) == name for row in members) for name in classes),
            tuple(run for run in runs if any(row[run] == "test" for row in members)),
        )
        for group, members in sorted(of_each.items())
    ]
    return Table(columns, lines, "Videos of each group by class, and which runs test it")
