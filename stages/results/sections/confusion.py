"""Confusion: what each class's videos were taken for."""

from collections import Counter

import numpy as np
from matplotlib.figure import Figure

from stages.results import figures
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.scores import chosen
from stages.results.table import Column, Table

TITLE = "Confusion"

COLUMNS = (
    Column("experiment"),
    Column("true class"),
    Column("answer"),
    Column("videos", "count"),
    Column("of the true class, %", "percent", heat=True),
)


def section(inputs: Inputs) -> Section:
    """Return the section."""
    rows = [
        (result.name, label, answer, count, count / max(sum(counts[label].values()), 1))
        for result in inputs.results
        for counts in [_counts(result)]
        for label in result.target.names
        for answer, count in counts[label].items()
    ]
    table = Table(COLUMNS, rows, "Test videos of each class by the answer, all runs together")
    drawn = chosen(inputs.results)
    content = {
        "drawn": {result.name: f"confusion {result.name}" for result in drawn},
        "experiments": len(inputs.results),
    }
    drawings = {f"confusion {result.name}": _figure(result) for result in drawn}
    return Section(TITLE, "confusion.html", content, {"confusion": table}, drawings)


def _counts(result: Result) -> dict[str, dict[str, int]]:
    """Return true class -> answer -> number of test videos, of all runs together."""
    pairs = Counter((str(row["label"]), str(row["predicted"])) for row in result.predictions)
    classes = result.target.names
    return {label: {answer: pairs[label, answer] for answer in classes} for label in classes}


def _figure(result: Result) -> Figure:
    classes = list(result.target.names)
    counts = np.array([list(answers.values()) for answers in _counts(result).values()])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = 100 * np.trace(counts) / max(counts.sum(), 1)
    alt = (
        f"Confusion of {result.name}: rows are the true classes, columns the answers, in % of the "
        f"true class's test videos, all runs together; {right:.1f} % lie on the diagonal."
    )
    size = 1.5 + 0.24 * len(classes)
    figure = figures.new(alt, min(size + 0.4, figures.PAGE_IN), min(size, figures.PAGE_IN))
    axes = figure.subplots()
    figures.draw_heat(axes, shares, classes, classes)
    axes.set_ylabel("true class")
    axes.set_xlabel("answer")
    axes.xaxis.set_label_position("top")
    axes.set_aspect("equal")
    return figure
