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
from heads.training.targets import Target

RESAMPLES = 9_999

# What varies by less does not: it is rounding.
_NO_SPREAD = 1e-12

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


def bootstrapped_measure(
    target: Target, truth: Numbers, told: Numbers, seed: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of mAP or CCC over test videos.

    Args:
        target: of labels or dimensions.
        truth: float64 (N, width), what is true.
        told: float64 (N, width), probabilities or estimates.
        seed: of the resamples.

    Returns:
        (low, high); None where resamples do not differ. Those without any label have no mAP and do
        not count.
    """
    score = _mean_precisions if target.kind == "labels" else _mean_concordances
    draw, videos = np.random.default_rng(seed), len(truth)
    batch = max(1, _AT_ONCE // videos)
    scores = []
    for start in range(0, RESAMPLES, batch):
        size = min(batch, RESAMPLES - start)
        counts = draw.multinomial(videos, np.full(videos, 1 / videos), size)
        scores.append(score(truth, told, counts))
    known = np.concatenate(scores)
    known = known[~np.isnan(known)]
    if not len(known) or np.ptp(known) <= _NO_SPREAD:
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _mean_precisions(truth: Numbers, chances: Numbers, counts: Labels) -> Numbers:
    """Return the mAP of each resample, as `heads.training.scores.label_scores` has it.

    Args:
        truth: (N, labels), 0 or 1.
        chances: (N, labels).
        counts: int64 (R, N), how often a resample has each video.

    Returns:
        (R,), NaN where a resample has no label.
    """
    total, present = np.zeros(len(counts)), np.zeros(len(counts))
    for is_so, scores in zip(truth.T, chances.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
        answered = np.cumsum(counts[:, order], axis=1)[:, last]
        right = np.cumsum(counts[:, order] * is_so[order], axis=1)[:, last]
        gained = np.diff(right, axis=1, prepend=0) / np.maximum(right[:, -1:], 1)
        total += (gained * right / np.maximum(answered, 1)).sum(axis=1)
        present += right[:, -1] > 0
    means: Numbers = np.where(present > 0, total / np.maximum(present, 1), np.nan)
    return means


def _mean_concordances(truth: Numbers, estimates: Numbers, counts: Labels) -> Numbers:
    """Return the mean CCC of each resample, as `heads.training.scores.dimension_scores` has it.

    Args:
        truth: (N, dimensions).
        estimates: (N, dimensions).
        counts: int64 (R, N), how often a resample has each video.

    Returns:
        (R,).
    """
    middle = truth.mean(axis=0)  # near it, squares lose least to rounding
    x, y = truth - middle, estimates - middle

    def mean(values: Numbers) -> Numbers:
        return np.asarray(counts @ values / counts.shape[1])  # (R, dimensions)

    mean_x, mean_y = mean(x), mean(y)
    squares = mean(x * x + y * y)
    below = squares - 2 * mean_x * mean_y  # variances, and the squared distance of the means
    varies = below > _NO_SPREAD * squares
    shared = 2 * (mean(x * y) - mean_x * mean_y)
    concordances: Numbers = np.where(varies, shared / np.where(varies, below, 1), 0.0)
    return np.asarray(concordances.mean(axis=1))
