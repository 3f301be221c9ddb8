"""Search: which settings were tried on held-out training videos, and which were chosen."""

import json
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stages.results import figures
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.scores import MOST_DRAWN
from stages.results.searched import tried
from stages.results.table import Column, Kind, Table
from stages.results.told import run_scores

TITLE = "Search"

FIRST = (
    Column("experiment"),
    Column("run"),
    Column("settings tried", "count"),
    Column("chosen", "lines"),
    Column("held-out videos", "count"),
)
"""Columns before those of the measure."""


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where nothing was searched."""
    searched = [result for result in inputs.results if result.search]
    if not searched:
        return None
    drawn = searched[:MOST_DRAWN]
    measures = list(dict.fromkeys(_measure(result) for result in searched))
    kind: Kind = "share" if "CCC" in measures else "percent"
    name, unit = " or ".join(measures), ", %" if kind == "percent" else ""
    tables = {
        "search": Table(
            (
                *FIRST,
                Column(f"held-out {name}{unit}", kind),
                Column(f"median of the trials{unit}", kind),
                Column(f"test {name}{unit}", kind),
            ),
            [row for result in searched for row in _rows(result)],
            "Settings that each run has chosen on held-out training videos",
        ),
        "search-trials": Table(
            (
                *(Column("experiment"), Column("run"), Column("trial", "count")),
                Column("settings", "lines"),
                Column(f"held-out {name}{unit}", kind),
                *(Column("loss", "number"), Column("failed")),
            ),
            [row for result in drawn for row in _trials(result)],
            "Every setting that was tried",
        ),
    }
    content = {
        "drawn": {result.name: f"search {result.name}" for result in drawn},
        "experiments": len(searched),
        "spaces": {result.name: result.about["search"] for result in searched},
    }
    drawings = {f"search {result.name}": _figure(result) for result in drawn}
    return Section(TITLE, "search.html", content, tables, drawings)


def _measure(result: Result) -> str:
    """Return what chose: accuracy, mAP or CCC."""
    return str(result.search["measure"])


def _scores(of_run: dict[str, Any]) -> list[float]:
    """Return the held-out scores of a run's trials, but for those that have none."""
    scores = (trial.get("score") for trial in of_run["trials"])
    return [score for score in scores if score is not None]


def _lines(settings: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}: {json.dumps(value)}" for name, value in settings.items())


def _rows(result: Result) -> list[tuple[object, ...]]:
    tests = run_scores(result)
    return [
        (
            result.name,
            run,
            tried(result),
            _lines(of_run["settings"]),
            of_run["held_out"],
            of_run["trials"][of_run["chosen"]]["score"],
            float(np.median(_scores(of_run))),
            tests.get(run),
        )
        for run, of_run in result.search["runs"].items()
    ]


def _trials(result: Result) -> list[tuple[object, ...]]:
    settings = [_lines(each) for each in result.search["settings"]]
    return [
        (
            result.name,
            run,
            number,
            settings[number],
            trial.get("score"),
            trial.get("loss") if _measure(result) == "accuracy" else None,
            trial.get("failed"),
        )
        for run, of_run in result.search["runs"].items()
        for number, trial in enumerate(of_run["trials"])
    ]


def _figure(result: Result) -> Figure:
    """Return the trials of each run below each other, the chosen one, and the test's score."""
    runs, tests, measure = result.search["runs"], run_scores(result), _measure(result)
    figure = figures.new(
        f"Search of {result.name}: a row a run, dots are the {measure} of {tried(result)} trials "
        "on held-out training videos, the full one is chosen; the bar is that of the test videos.",
        height_in=0.95 + 0.2 * len(runs),
    )
    axes = figure.subplots()
    for place, (run, of_run) in enumerate(runs.items()):
        told = 100 * np.array(_scores(of_run))
        axes.plot(told, np.full(len(told), place), "o", color=figures.INK, alpha=0.3, markersize=3)
        best = 100 * of_run["trials"][of_run["chosen"]]["score"]
        axes.plot([best], [place], "o", color=figures.PALETTE[0], label="chosen", markersize=5)
        at = 100 * tests[run]
        axes.plot([at], [place], "|", color=figures.PALETTE[1], label="test", markersize=9)
    axes.set_yticks(range(len(runs)), list(runs))
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.set_xlim(-101 if measure == "CCC" else 0, 101)
    axes.set_xlabel("CCC × 100" if measure == "CCC" else f"{measure}, %")
    axes.grid(axis="x")
    handles, labels = axes.get_legend_handles_labels()
    # one of each: every run has drawn them
    figure.legend(handles[:2], labels[:2], loc="outside upper right", ncols=2)
    return figure
