"""Calibration: whether answers are right as often as they are sure."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stages.results import figures
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.scores import chosen
from stages.results.table import Column, Table

TITLE = "Calibration"

COLUMNS = (
    Column("experiment"),
    Column("ECE, %", "spread"),
    Column("mean confidence, %", "percent"),
    Column("right, %", "percent"),
    Column("confidence less right, points", "points"),
)

BIN_COLUMNS = (
    Column("experiment"),
    Column("above, %", "percent"),
    Column("to, %", "percent"),
    Column("answers", "count"),
    Column("mean confidence, %", "percent"),
    Column("right, %", "percent"),
)


def section(inputs: Inputs) -> Section:
    """Return the section."""
    drawn = chosen(inputs.results)
    rows = [_row(result) for result in inputs.results]
    bins = [row for result in drawn for row in _bins(result)]
    tables = {
        "calibration": Table(COLUMNS, rows, "Calibration of the experiments"),
        "calibration-bins": Table(BIN_COLUMNS, bins, "Answers of all runs by their confidence"),
    }
    content = {
        "drawn": {result.name: f"calibration {result.name}" for result in drawn},
        "experiments": len(inputs.results),
        "bins": len(_curve(drawn[0])["videos"]),
    }
    drawings = {f"calibration {result.name}": _figure(result) for result in drawn}
    return Section(TITLE, "calibration.html", content, tables, drawings)


def _curve(result: Result) -> dict[str, Any]:
    """Return `reliability` of `scores.json`, see `heads.training.measures`."""
    curve: dict[str, Any] = result.metrics["reliability"]
    return curve


def _row(result: Result) -> tuple[object, ...]:
    ece, curve = result.metrics["ece"], _curve(result)
    sure, right = (_mean(curve, name) for name in ("confidence", "accuracy"))
    return (result.name, (ece["mean"], ece["std"]), sure, right, sure - right)


def _mean(curve: dict[str, Any], name: str) -> float:
    """Return the mean over all answers of what is known of each bin."""
    values = [value or 0.0 for value in curve[name]]  # of an empty bin nothing counts
    return float(np.average(values, weights=curve["videos"]))


def _bins(result: Result) -> list[tuple[object, ...]]:
    """Return a row for each bin that is not empty."""
    curve = _curve(result)
    count = len(curve["videos"])
    return [
        (result.name, at / count, (at + 1) / count, videos, confidence, accuracy)
        for at, (videos, confidence, accuracy) in enumerate(
            zip(curve["videos"], curve["confidence"], curve["accuracy"], strict=True)
        )
        if videos
    ]


def _figure(result: Result) -> Figure:
    """Return the reliability curve: right answers by confidence above, how many they are below."""
    curve, ece = _curve(result), result.metrics["ece"]["mean"]
    figure = figures.new(
        f"Calibration of {result.name}: share of right answers by confidence, bars; dashed is what "
        f"it should be; below, how many answers are so sure. ECE {100 * ece:.1f} %.",
        height_in=2.9,
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    width = 100 / len(curve["videos"])
    middles = width * (np.arange(len(curve["videos"])) + 0.5)
    right = [100 * (share or 0) for share in curve["accuracy"]]
    above.bar(middles, right, 0.92 * width, color=figures.PALETTE[0])
    above.plot([0, 100], [0, 100], color=figures.INK, linestyle="--", linewidth=0.8)
    place = (0.03, 0.95)
    above.annotate(f"ECE {100 * ece:.1f} %", place, xycoords="axes fraction", va="top", fontsize=7)
    answers = 100 * np.array(curve["videos"]) / sum(curve["videos"])
    below.bar(middles, answers, 0.92 * width, color=figures.INK, alpha=0.45)
    above.set_ylim(0, 101)
    above.set_ylabel("right, %")
    below.set_ylabel("answers, %")
    below.set_xlabel("confidence, %")
    below.set_xlim(0, 100)
    for axes in (above, below):
        axes.grid(axis="y")
    return figure
