"""What experiments tell, by the kind of target: results of several are never in one ranking."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heads.training.scores import dimension_scores, label_scores
from heads.training.targets import BETWEEN, KINDS, Kind, Target
from stages.results.files import Result
from stages.results.scores import MOST_DRAWN, chosen, run_accuracies

Numbers = NDArray[np.float64]

OFTEN_ALIKE = ("target", "videos", "settings tried")
"""Columns of labels and of dimensions that are left out, and said in a line, where all experiments
have the same in them."""


def of_kind(results: Sequence[Result], kind: Kind) -> list[Result]:
    """Return the results that tell a target of this kind; of classes those of the first target.

    Two targets of classes are two questions: the page has one of them, see `left_out`.
    """
    of = [result for result in results if result.target.kind == kind]
    return [result for result in of if kind != "class" or result.target.name == of[0].target.name]


def by_kind(results: Sequence[Result]) -> list[list[Result]]:
    """Return the results of the page, those of one kind of target together."""
    return [of for kind in KINDS if (of := of_kind(results, kind))]


def drawn_of(results: Sequence[Result], most: int = MOST_DRAWN) -> list[Result]:
    """Return results that have a figure of their own, of each kind the first and the best.

    Args:
        results: of the page.
        most: how many at most, of each kind as many.
    """
    kinds = by_kind(results)
    each = max(most // max(len(kinds), 1), 1)
    return [result for of in kinds for result in chosen(of, each)]


def left_out(results: Sequence[Result]) -> list[Result]:
    """Return the results that tell another class than the page's."""
    shown = [result.name for result in of_kind(results, "class")]
    return [r for r in results if r.target.kind == "class" and r.name not in shown]


def arrays_of(result: Result) -> dict[str, tuple[Numbers, Numbers]]:
    """Return run -> what is true of its test videos and what was told, (N, width) both.

    Of labels that is 0 or 1 and a probability, of dimensions two numbers in their unit.
    """
    names, runs = result.target.names, {str(row["run"]) for row in result.predictions}
    arrays = {}
    for run in sorted(runs):
        rows = [row for row in result.predictions if row["run"] == run]
        if result.target.kind == "labels":
            cells = [str(row["label"]).split(BETWEEN) for row in rows]
            truth = [[float(name in cell) for name in names] for cell in cells]
            told = [[row[f"p_{name}"] for name in names] for row in rows]
        else:
            truth = [[float(str(row[f"true_{name}"])) for name in names] for row in rows]
            told = [[row[f"predicted_{name}"] for name in names] for row in rows]
        arrays[run] = np.array(truth, np.float64), np.array(told, np.float64)
    return arrays


def run_scores(result: Result) -> dict[str, float]:
    """Return run -> how well the target was told, by its own measure, by the name of the run."""
    target: Target = result.target
    if target.kind == "class":
        return run_accuracies(result)
    scores_of = label_scores if target.kind == "labels" else dimension_scores
    return {
        run: scores_of(truth, told, target.names)[target.measure]
        for run, (truth, told) in arrays_of(result).items()
    }
