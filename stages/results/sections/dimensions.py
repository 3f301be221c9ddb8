"""Dimensions: experiments that tell numbers of a video, such as valence and arousal."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heads.training.scores import concordance
from stages.results import figures
from stages.results.files import Result, interval
from stages.results.page import Inputs, Section
from stages.results.scores import MOST_DRAWN, best_first
from stages.results.searched import tried, unlike_ranks
from stages.results.table import Column, Table, parted
from stages.results.told import OFTEN_ALIKE, Numbers, arrays_of, of_kind

TITLE = "Dimensions"

COLUMNS = (
    Column("experiment"),
    Column("target"),
    Column("CCC", "decimal"),
    Column("over runs ±", "decimal"),
    Column("95\N{NO-BREAK SPACE}% interval of CCC"),
    Column("RMSE", "decimal"),
    Column("Pearson", "decimal"),
    Column("head"),
    Column("features", "lines"),
    Column("videos", "count"),
    Column("settings tried", "count"),
)

EACH = (
    Column("experiment"),
    Column("dimension"),
    Column("CCC", "decimal"),
    Column("RMSE", "decimal"),
    Column("Pearson", "decimal"),
    Column("bias", "decimal"),
    Column("limits of agreement"),
)

LIMIT = 1.96
"""Standard deviations to each side of the bias, between which 95 % of normal differences lie."""


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where no experiment tells dimensions."""
    results = of_kind(inputs.results, "dimensions")
    if not results:
        return None
    rows = [_row(result) for result in results]
    each = [row for result in results for row in _each(result)]
    caption = "Dimensions: means over dimensions and runs"
    table, alike = parted(Table(COLUMNS, rows, caption), OFTEN_ALIKE)
    tables = {
        "dimensions": table,
        "dimension-scores": Table(EACH, each, "Each dimension, means over the runs"),
    }
    drawn = best_first(results)[:MOST_DRAWN]
    content = {
        "runs": max(len(result.runs) for result in results),
        "drawn": {result.name: f"dimensions {result.name}" for result in drawn},
        "experiments": len(results),
        "alike": alike,
        "unlike": unlike_ranks(results),
        "ranges": {str(result.target.name): result.target.range for result in results},
    }
    drawings = {f"dimensions {result.name}": _figure(result) for result in drawn}
    return Section(TITLE, "dimensions.html", content, tables, drawings)


def _row(result: Result) -> tuple[object, ...]:
    metrics, about = result.metrics, result.about
    low, high = interval(metrics["CCC"])
    return (
        result.name,
        result.target.name,
        metrics["CCC"]["mean"],
        metrics["CCC"]["std"],
        None if low is None or high is None else _ends(low, high),
        metrics["RMSE"]["mean"],
        metrics["Pearson"]["mean"],
        about["head"],
        tuple(f"{role}: {source}" for role, source in about["roles"].items()),
        metrics["videos"],
        tried(result),
    )


def _ends(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}".replace("-", "−")


def _each(result: Result) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name, (truth, told) in _pairs(result).items():
        scores = result.metrics["per_dimension"][name]
        bias, low, high = agreement(truth, told)
        numbers = (scores[kind] for kind in ("CCC", "RMSE", "Pearson"))
        rows.append((result.name, name, *numbers, bias, _ends(low, high)))
    return rows


def _pairs(result: Result) -> dict[str, tuple[Numbers, Numbers]]:
    """Return dimension -> truth and estimates, the test videos of all runs one after another."""
    arrays = arrays_of(result).values()
    truth, told = (np.concatenate(parts) for parts in zip(*arrays, strict=True))
    return {n: (truth[:, at], told[:, at]) for at, n in enumerate(result.target.names)}


def agreement(truth: Numbers, told: Numbers) -> tuple[float, float, float]:
    """Return the mean of the differences told - truth, and its limits of agreement.

    J. M. Bland and D. G. Altman, "Statistical methods for assessing agreement between two methods
    of clinical measurement", Lancet 327, 1986: mean ± 1.96 standard deviations (n - 1).
    """
    off = told - truth
    bias, spread = float(off.mean()), float(off.std(ddof=1)) if len(off) > 1 else 0.0
    return bias, bias - LIMIT * spread, bias + LIMIT * spread


def _figure(result: Result) -> Figure:
    """Return a row a dimension: told over true, and their difference over their mean."""
    pairs = _pairs(result)
    said = []
    for name, (truth, told) in pairs.items():
        bias, low, high = agreement(truth, told)
        said.append(
            f"{name}: CCC {concordance(truth, told):.2f}, bias {bias:+.2f}, limits of agreement "
            f"{low:+.2f} to {high:+.2f}"
        )
    alt = (
        f"{result.name}, test videos of all runs. Left, told over true, on the dashed line where "
        "they are the same. Right, Bland and Altman's plot: the difference told - true over the "
        f"mean of the two, with the bias and dashed limits of agreement. {'; '.join(said)}."
    )
    figure = figures.new(alt, figures.PAGE_IN, 0.3 + 2.3 * len(pairs))
    rows = figure.subplots(len(pairs), 2, squeeze=False)
    ends = result.target.range or (-1.0, 1.0)
    for (left, right), (name, (truth, told)) in zip(rows, pairs.items(), strict=True):
        _scatter(left, name, truth, told, ends)
        _bland_altman(right, name, truth, told, ends)
    return figure


def _dots(axes: Axes, across: Numbers, up: Numbers) -> None:
    opacity = min(0.6, max(0.1, 80 / len(across)))
    axes.plot(across, up, "o", color=figures.PALETTE[0], alpha=opacity, markersize=3)


def _scatter(
    axes: Axes, name: str, truth: Numbers, told: Numbers, ends: tuple[float, float]
) -> None:
    _dots(axes, truth, told)
    axes.plot(ends, ends, "--", color=figures.INK, linewidth=0.8)
    room = 0.03 * (ends[1] - ends[0])
    axes.set_xlim(ends[0] - room, ends[1] + room)
    axes.set_ylim(ends[0] - room, ends[1] + room)
    axes.set_xlabel(f"{figures.label(name)}, true")
    axes.set_ylabel("told")


def _bland_altman(
    axes: Axes, name: str, truth: Numbers, told: Numbers, ends: tuple[float, float]
) -> None:
    _dots(axes, (truth + told) / 2, told - truth)
    bias, low, high = agreement(truth, told)
    for value, style in ((bias, "-"), (low, "--"), (high, "--")):
        axes.axhline(value, color=figures.PALETTE[1], linestyle=style, linewidth=1.0)
        place = (1.01, value)
        text = f"{value:+.2f}".replace("-", "−")
        axes.annotate(
            text, place, xycoords=("axes fraction", "data"), va="center", ha="left", fontsize=7
        )
    axes.axhline(0, color=figures.INK, linewidth=0.6, alpha=0.5)
    room = 0.03 * (ends[1] - ends[0])
    axes.set_xlim(ends[0] - room, ends[1] + room)
    axes.set_xlabel(f"{figures.label(name)}, mean of true and told")
    axes.set_ylabel("told − true")
