"""Training: loss and the target's measure (accuracy, mAP, CCC) by epoch."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.results import figures
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.table import Column, Kind, Table
from stages.results.told import by_kind, drawn_of

TITLE = "Training"

Runs = Mapping[str, Sequence[Mapping[str, str]]]
"""Run -> its rows of `curves.csv`, in the order of the epochs."""


def section(inputs: Inputs) -> Section:
    """Return the section."""
    kinds = by_kind(inputs.results)
    tables = {_name(of[0]): _table(of) for of in kinds}
    drawn = drawn_of(inputs.results)
    content = {
        "drawn": {result.name: f"training {result.name}" for result in drawn},
        "experiments": sum(map(len, kinds)),
        "tables": list(tables),
    }
    drawings = {f"training {result.name}": _figure(result) for result in drawn}
    return Section(TITLE, "training.html", content, tables, drawings)


def _name(result: Result) -> str:
    """Return the name of the table that a result stands in."""
    kind = result.target.kind
    return "training" if kind == "class" else f"training {kind}"


def _table(results: Sequence[Result]) -> Table:
    """Return the table of results of one kind."""
    measure, is_share = results[0].target.measure, results[0].target.kind != "dimensions"
    kind: Kind = "percent" if is_share else "share"
    columns = (
        Column("experiment"),
        Column("phases"),
        Column("epochs", "count"),
        Column("last loss", "number"),
        *(Column(f"{on} {measure}{', %' * is_share}", kind) for on in ("training", "validation")),
    )
    rows = [_row(result) for result in results]
    return Table(columns, rows, f"Loss and {measure} after the last epoch, mean over the runs")


def _runs(result: Result) -> Runs:
    return {run: list(rows) for run, rows in groupby(result.curves, key=lambda row: row["run"])}


def _row(result: Result) -> tuple[object, ...]:
    runs = _runs(result)
    last = [rows[-1] for rows in runs.values()]
    phases = dict.fromkeys(row["phase"] for row in result.curves)
    epochs = max(len(rows) for rows in runs.values())
    columns = ("loss", "training", "validation")
    return (result.name, ", ".join(phases), epochs, *(_mean(last, column) for column in columns))


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> float | None:
    """Return the mean of a column; None where a run lacks it."""
    values = [row[column] for row in rows]
    return float(np.mean([float(value) for value in values])) if all(values) else None


def _figure(result: Result) -> Figure:
    """Return loss above the measure: a thin line a run, their mean thick."""
    runs, measure = _runs(result), result.target.measure
    is_share = result.target.kind != "dimensions"
    scale, unit = (100, ", %") if is_share else (1, "")
    figure = figures.new(
        f"Training of {result.name}: loss, and {measure}{' in %' * is_share}, by epoch; thin lines "
        "are runs, thick ones their mean.",
        height_in=2.7,
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
    _draw_lines(above, runs, "loss", figures.PALETTE[0], "loss")
    _draw_lines(below, runs, "training", figures.PALETTE[0], "training", scale)
    if all(row["validation"] for row in result.curves):
        _draw_lines(below, runs, "validation", figures.PALETTE[1], "validation", scale)
        below.legend(loc="lower right", handlelength=1)
    phases = [row["phase"] for row in next(iter(runs.values()))]
    starts = [at for at in range(1, len(phases)) if phases[at] != phases[at - 1]]
    for axes, name in ((above, "loss"), (below, f"{measure}{unit}")):
        axes.set_ylabel(name)
        axes.grid(axis="y")
        for start in starts:
            axes.axvline(start + 0.5, color=figures.INK, linestyle="--", linewidth=0.7)
    if starts:
        for start in (0, *starts):
            place = (start + 0.7, 1)
            above.annotate(phases[start], place, xycoords=("data", "axes fraction"), fontsize=7)
    low, high = above.get_ylim()
    above.set_ylim(min(0, low), high + 0.05 * abs(high))
    low = below.get_ylim()[0]  # a concordance may be below 0
    below.set_ylim(0 if is_share else min(0, low), 1.01 * scale)
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _draw_lines(
    axes: Axes, runs: Runs, column: str, colour: str, label: str, scale: float = 1
) -> None:
    lines = np.array([[scale * float(row[column]) for row in rows] for rows in runs.values()])
    epochs = np.arange(1, lines.shape[1] + 1)
    if len(lines) > 1:
        axes.plot(epochs, lines.T, color=colour, alpha=0.45, linewidth=0.7)
    marker = "o" if len(epochs) < 15 else None
    axes.plot(epochs, lines.mean(axis=0), color=colour, label=label, marker=marker, markersize=2.5)
