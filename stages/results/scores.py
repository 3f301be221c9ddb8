"""Scores of results: what sections ask of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.results.files import Result

MOST_DRAWN = 12
"""Experiments that have a figure of their own: each takes half a second and much of the page."""


def corrected(score: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the corrected interval of a score over runs; two None with a single run."""
    return score["ci95_corrected_low"], score["ci95_corrected_high"]


def run_accuracies(result: Result) -> dict[str, float]:
    """Return run -> accuracy in 0..1, by the name of the run."""
    right: dict[str, list[bool]] = {}
    for row in result.predictions:
        right.setdefault(str(row["run"]), []).append(row["label"] == row["predicted"])
    return {run: sum(answers) / len(answers) for run, answers in sorted(right.items())}


def best_first(results: Sequence[Result]) -> list[Result]:
    """Return the results by mean accuracy, the highest first."""
    return sorted(results, key=lambda result: -result.metrics["accuracy"]["mean"])


def chosen(results: Sequence[Result], most: int = MOST_DRAWN) -> list[Result]:
    """Return the first result and the best others, at most ``most``, in the order they have."""
    kept = {results[0].name, *(result.name for result in best_first(results[1:])[: most - 1])}
    return [result for result in results if result.name in kept]
