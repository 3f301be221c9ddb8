"""Beside the papers: each paper's table, its numbers beside ours."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.results.compare import PaperTable, paper_tables
from stages.results.files import Result, interval
from stages.results.page import Inputs, Section
from stages.results.searched import tried
from stages.results.table import Column, Table

TITLE = "Beside the papers"

COLUMNS = (
    Column("row"),
    Column("paper, %", "percent"),
    Column("ours, %", "spread"),
    Column("95 % interval", "interval"),
    Column("experiment"),
)

_OWN = ("epochs", "seed", "threads")
"""Settings of training that may differ within a table: epochs are those of a phase."""


@dataclass(frozen=True)
class Printed:
    """A paper's table.

    Attributes:
        data: the data set.
        table: name of the table with ours beside.
        by_class: name of the one class by class; None where the paper has none of our rows.
        unlike: how our rows were trained, where not alike; empty otherwise.
    """

    data: str
    table: str
    by_class: str | None
    unlike: str


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where no row of a paper was run and no head is broken."""
    printed, tables = [], {}
    for paper in paper_tables(inputs.results, inputs.references):
        title = f"{paper.paper}, {paper.table}: {paper.data}"
        name = f"paper {paper.paper} {paper.table} {paper.data}"
        tables[name] = _table(paper, title)
        by_class = _by_class(paper, title)
        if by_class:
            tables[f"{name} classes"] = by_class
        of_classes = f"{name} classes" if by_class else None
        printed.append(Printed(paper.data, name, of_classes, _unlike(paper)))
    if not printed and not inputs.broken:
        return None
    ours = (inputs.dataset or "").casefold()
    content = {
        "data": inputs.dataset or "unnamed videos (index.dataset)",
        "same": [each for each in printed if each.data.casefold() == ours],
        "other": [each for each in printed if each.data.casefold() != ours],
        "broken": inputs.broken,
    }
    return Section(TITLE, "papers.html", content, tables)


def _table(paper: PaperTable, title: str) -> Table:
    rows: list[tuple[object, ...]] = []
    for reported, ours in paper.rows:
        for result in ours:
            accuracy = result.metrics["accuracy"]
            numbers = (accuracy["mean"], accuracy["std"]), interval(accuracy)
            rows.append((reported.name, reported.accuracy, *numbers, _told_apart(result, ours)))
        if not ours:
            rows.append((reported.name, reported.accuracy, None, None, None))
    return Table(COLUMNS, rows, f"{title}, accuracy")


def _told_apart(result: Result, ours: Sequence[Result]) -> str:
    """Return the name of a result, and what it reads where several are the same row."""
    if len(ours) == 1:
        return result.name
    return f"{result.name}: {', '.join(result.about['roles'].values())}"


def _unlike(paper: PaperTable) -> str:
    """Say which of our rows were trained otherwise than others; nothing where all were alike."""
    trained = {
        result.name: {k: v for k, v in result.about["training"].items() if k not in _OWN}
        | {"settings tried": tried(result)}
        for _, ours in paper.rows
        for result in ours
    }
    names = sorted({name for settings in trained.values() for name in settings})
    differ = [k for k in names if len({json.dumps(s.get(k)) for s in trained.values()}) > 1]
    alike: dict[str, list[str]] = {}
    for name, settings in trained.items():
        text = ", ".join(f"{k} {json.dumps(settings.get(k))}" for k in differ)
        alike.setdefault(text, []).append(name)
    return "; ".join(f"{', '.join(group)}: {text}" for text, group in alike.items() if text)


def _by_class(paper: PaperTable, title: str) -> Table | None:
    """Return accuracy class by class, the paper's and ours, of the rows of which it is printed."""
    rows: list[tuple[object, ...]] = []
    columns = [name for reported, _ in paper.rows for name in reported.classes]
    classes = list(dict.fromkeys(columns))
    for reported, ours in paper.rows:
        lines: dict[str, Mapping[str, float]] = {}
        for result in ours:
            recall = {row["class"].casefold(): float(row["recall"]) for row in result.per_class}
            if reported.classes and all(name.casefold() in recall for name in reported.classes):
                lines[result.name] = {name: recall[name.casefold()] for name in reported.classes}
        if lines:
            for who, shares in {"paper": reported.classes, **lines}.items():
                rows.append((reported.name, who, *(shares.get(name) for name in classes)))
    if not rows:
        return None
    heads = (Column("row"), Column("whose"), *(Column(name, "percent") for name in classes))
    return Table(heads, rows, f"{title}, % of a class's videos that are right")
