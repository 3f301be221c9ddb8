"""Classes: precision, recall and F1 of each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stages.results import figures
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.scores import best_first
from stages.results.table import Column, Table

TITLE = "Classes"

MOST_ROWS = 30
"""Experiments of the figure."""

SCORES = {"precision": "precision, %", "recall": "recall, %", "f1": "F1, %"}
"""Column of `per_class.csv` -> head of ours."""


def section(inputs: Inputs) -> Section:
    """Return the section."""
    results = inputs.results
    classes = sorted({row["class"] for result in results for row in result.per_class})
    by_class = Table(
        (Column("experiment"), *(Column(name, "percent", heat=True) for name in classes)),
        [(result.name, *map(_f1(result).get, classes)) for result in results],
        "F1 of each class, %, mean over the runs",
    )
    heads = (Column(head, "percent", heat=True) for head in SCORES.values())
    scores = Table(
        (Column("experiment"), Column("class"), *heads),
        [
            (result.name, row["class"], *(float(row[score]) for score in SCORES))
            for result in results
            for row in result.per_class
        ],
        "Precision, recall and F1 of each class, mean over the runs",
    )
    drawn = best_first(results)[:MOST_ROWS]
    content = {"drawn": len(drawn), "experiments": len(results)}
    tables = {"classes": by_class, "class-scores": scores}
    return Section(TITLE, "classes.html", content, tables, {"classes": _figure(drawn, classes)})


def _f1(result: Result) -> dict[str, float]:
    return {row["class"]: float(row["f1"]) for row in result.per_class}


def _figure(results: Sequence[Result], classes: Sequence[str]) -> Figure:
    """Return F1 as a map: a row an experiment, a column a class."""
    alt = f"F1 of {len(classes)} classes in {len(results)} experiments, in %, the deeper the higher"
    width = figures.PAGE_IN if len(classes) > 8 else figures.COLUMN_IN
    figure = figures.new(alt, width, height_in=0.9 + 0.2 * len(results))
    shares = np.array([[_f1(result).get(name, 0.0) for name in classes] for result in results])
    figures.draw_heat(figure.subplots(), shares, [result.name for result in results], classes)
    return figure
