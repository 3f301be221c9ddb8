"""How sure the scores of a single split are: intervals over its test videos, by the bootstrap.

Of several runs the spread over runs tells more (`heads.training.metrics`). With one split alone,
the test videos are drawn again and again with replacement, and the interval is where the middle
95 % of the scores lie (percentile method; B. Efron and R. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13). It speaks of other videos of the same kind, not of other trainings.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from heads.training.metrics import CONFIDENCE, Labels, Numbers

RESAMPLES = 9_999

_AT_ONCE = 4_000_000
"""Videos, over all resamples, that are in memory at the same time."""

Score = Callable[..., Numbers]


def bootstrapped(
    labels: Labels, predicted: Labels, seed: int
) -> dict[str, tuple[float, float] | None]:
    """Return the 95 % intervals of accuracy and balanced accuracy over test videos.

    Args:
        labels: int64 (N,), positions among the classes.
        predicted: int64 (N,), likewise.
        seed: of the resamples.

    Returns:
        `accuracy` and `balanced_accuracy` -> (low, high) in [0, 1]; None where all answers are
        right, or all wrong: resamples of them cannot differ.
    """
    scores: dict[str, Score] = {"accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy}
    right = labels == predicted
    if right.all() or not right.any():
        return dict.fromkeys(scores)
    return {name: _interval(score, labels, right, seed) for name, score in scores.items()}


def _interval(
    score: Score, labels: Labels, right: NDArray[np.bool_], seed: int
) -> tuple[float, float]:
    from scipy.stats import bootstrap  # slow to import

    found = bootstrap(
        (labels, right),
        score,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _AT_ONCE // len(labels)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _accuracy(labels: Labels, right: NDArray[np.bool_], axis: int = -1) -> Numbers:
    return np.asarray(right.mean(axis=axis, dtype=np.float64))


def _balanced_accuracy(labels: Labels, right: NDArray[np.bool_], axis: int = -1) -> Numbers:
    """Return the mean recall over the classes that a resample has."""
    recalls, present = 0.0, 0
    for label in np.unique(labels):
        of_class = labels == label
        videos = of_class.sum(axis=axis)
        recalls = recalls + (right & of_class).sum(axis=axis) / np.maximum(videos, 1)
        present = present + (videos > 0)
    return np.asarray(recalls / present)
