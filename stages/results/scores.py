"""Scores of results: what sections ask of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stages.results.files import Result

MOST_DRAWN = 12
"""Experiments that have a figure of their own: each takes half a second and much of the page."""

SKEWED = 1.5
"""Of classes: so many times as many test videos in the largest as in the smallest."""


@dataclass(frozen=True)
class Skew:
    """Classes of which one has many more test videos than another.

    Attributes:
        largest: name of the one.
        smallest: of the other.
        largest_share: of all test videos, in 0..1.
        smallest_share: likewise.
    """

    largest: str
    smallest: str
    largest_share: float
    smallest_share: float

    def __str__(self) -> str:
        """Say so, and which score to read."""
        return (
            f"Classes are skewed: {self.largest} has {self.largest_share:.0%} of the test videos, "
            f"{self.smallest} {self.smallest_share:.0%}. Read balanced accuracy, the mean recall "
            "of the classes: accuracy is mostly that of the large ones."
        )


def skew_of(result: Result) -> Skew | None:
    """Return how the classes of all test videos are skewed; None where they are even."""
    counts = Counter(str(row["label"]) for row in result.predictions)
    ranked = counts.most_common()
    (largest, most), (smallest, least) = ranked[0], ranked[-1]
    if most < SKEWED * least:
        return None
    return Skew(largest, smallest, most / counts.total(), least / counts.total())


def run_accuracies(result: Result) -> dict[str, float]:
    """Return run -> accuracy in 0..1, by the name of the run."""
    right: dict[str, list[bool]] = {}
    for row in result.predictions:
        right.setdefault(str(row["run"]), []).append(row["label"] == row["predicted"])
    return {run: sum(answers) / len(answers) for run, answers in sorted(right.items())}


def score_of(result: Result) -> float:
    """Return the mean over the runs of the target's measure."""
    return float(result.metrics[result.target.measure]["mean"])


def best_first(results: Sequence[Result]) -> list[Result]:
    """Return results of one kind, that which tells best first."""
    return sorted(results, key=lambda result: -score_of(result))


def chosen(results: Sequence[Result], most: int = MOST_DRAWN) -> list[Result]:
    """Return the first result and the best others, at most ``most``, in the order they have."""
    kept = {results[0].name, *(result.name for result in best_first(results[1:])[: most - 1])}
    return [result for result in results if result.name in kept]
