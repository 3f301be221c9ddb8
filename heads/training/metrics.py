"""How well a head did: one run's scores, their mean over runs, and two heads compared.

Splits of one data set share videos, so runs are not independent, and Student's interval over them
is too narrow: 2.45 times with ten runs of which a third tests. The corrected one allows for the
shared videos, for the mean over runs as for two heads that are compared pair by pair. C. Nadeau and
Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003, section 3: 1/J +
n_test/n_train stands in place of 1/J in the variance of the mean over J runs.
"""

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtr, stdtrit  # Student's t: stdtr, quantile stdtrit

Labels = NDArray[np.int64]
Numbers = NDArray[np.float64]

CONFIDENCE = 0.95
"""Of all intervals."""

# Differences of shares that spread less are equal: what is left is rounding.
_NO_SPREAD = 1e-12


def score_run(labels: Labels, predicted: Labels, classes: Sequence[str]) -> dict[str, float]:
    """Return the scores of one run by name.

    Args:
        labels: int64 (N,), positions in `classes`.
        predicted: int64 (N,), likewise.
        classes: names of the classes.

    Returns:
        `accuracy`, `balanced_accuracy` (mean recall over the classes that have a test video),
        `macro_f1` (mean over all classes), and for each class `<class>/precision`,
        `<class>/recall`, `<class>/f1`; all in [0, 1], 0 where undefined.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support  # slow to import

    precision, recall, f1, videos = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(classes)), zero_division=0
    )
    scores = {
        "accuracy": float(accuracy_score(labels, predicted)),
        "balanced_accuracy": float(np.mean(recall[videos > 0])),
        "macro_f1": float(np.mean(f1)),
    }
    for label, name in enumerate(classes):
        scores[f"{name}/precision"] = float(precision[label])
        scores[f"{name}/recall"] = float(recall[label])
        scores[f"{name}/f1"] = float(f1[label])
    return scores


def over_runs(
    values: Sequence[float], test_per_train: float, bounds: tuple[float, float] = (0.0, 1.0)
) -> dict[str, float | int | None]:
    """Return mean, standard deviation and 95 % intervals of one score over runs.

    Args:
        values: the score of each run.
        test_per_train: n_test / n_train, test videos over training videos of a run.
        bounds: between which the score lies; the intervals are cut there.

    Returns:
        `mean`; `std` (n - 1 in the denominator), `ci95_corrected_low` and `ci95_corrected_high`,
        which allow for the videos that runs share (Nadeau and Bengio), `ci95_plain_low` and
        `ci95_plain_high`, Student's, as if they shared none: None with a single run; `runs`, their
        number.

    Raises:
        ValueError: no value, or a negative ratio.
    """
    if not values:
        raise ValueError("a mean over runs takes at least one run, found none")
    _check_ratio(test_per_train)
    mean, runs = float(np.mean(values)), len(values)
    std = float(np.std(values, ddof=1)) if runs > 1 else None
    summary: dict[str, float | int | None] = {"mean": mean, "std": std}
    for name, ratio in (("corrected", test_per_train), ("plain", 0.0)):
        low = high = None
        if std is not None:
            half = _quantile(runs) * std * sqrt(1 / runs + ratio)
            low, high = max(bounds[0], mean - half), min(bounds[1], mean + half)
        summary |= {f"ci95_{name}_low": low, f"ci95_{name}_high": high}
    return summary | {"runs": runs}


def _quantile(runs: int) -> float:
    """Return how many standard errors a 95 % interval over runs goes to each side."""
    return float(stdtrit(runs - 1, (1 + CONFIDENCE) / 2))


def _check_ratio(test_per_train: float) -> None:
    if test_per_train < 0:
        raise ValueError(f"test_per_train must be at least 0, found {test_per_train}")


def per_class(
    runs: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return class -> `precision`, `recall`, `f1`, each the mean over what `score_run` gave."""
    return {
        name: {
            score: float(np.mean([run[f"{name}/{score}"] for run in runs]))
            for score in ("precision", "recall", "f1")
        }
        for name in classes
    }


def paired_difference(
    first: Sequence[float], second: Sequence[float], test_per_train: float
) -> dict[str, float | int | None]:
    """Return how much better `first` is than `second`, from scores of the same runs, in order.

    Splits of one data set overlap, so their differences are not independent, and the paired
    t-test takes too many for real: this is the corrected resampled t-test, see this module.

    Args:
        first: a score in 0..1 of each run.
        second: likewise.
        test_per_train: n_test / n_train, test videos over training videos of a run; 0 gives the
            plain paired t-test, as if each run had videos of its own.

    Returns:
        `mean` of the differences first - second; `std` (n - 1 in the denominator); `ci95_low`,
        `ci95_high`; `p`, two-sided; `runs`. Where all differences are the same, there is no
        spread to judge them by: no interval and no p, unless all are 0 (an interval of 0, p 1).

    Raises:
        ValueError: other numbers of runs, fewer than two, or a negative ratio.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"a paired difference takes at least two runs, the same for both, found {len(first)} "
            f"and {len(second)}"
        )
    _check_ratio(test_per_train)
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    said = paired_differences(differences, np.array(test_per_train))
    numbers = {name: None if np.isnan(value) else float(value) for name, value in said.items()}
    return numbers | {"runs": len(differences)}


def paired_differences(differences: Numbers, test_per_train: Numbers) -> dict[str, Numbers]:
    """Return what `paired_difference` says, of many pairs at once.

    Args:
        differences: float64 (..., J), first - second in each of J runs, at least two.
        test_per_train: float64 (...), n_test / n_train of each pair.

    Returns:
        `mean`, `std`, `ci95_low`, `ci95_high` and `p`, each float64 (...), NaN where there is none.
    """
    runs = differences.shape[-1]
    mean, std = differences.mean(axis=-1), differences.std(axis=-1, ddof=1)
    error = std * np.sqrt(1 / runs + test_per_train)
    half = _quantile(runs) * error
    flat, same = std < _NO_SPREAD, np.abs(mean) < _NO_SPREAD
    limit = np.where(same, 0.0, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(runs - 1, -np.abs(mean) / error)
    return {
        "mean": mean,
        "std": std,
        "ci95_low": np.where(flat, limit, np.maximum(-1.0, mean - half)),
        "ci95_high": np.where(flat, limit, np.minimum(1.0, mean + half)),
        "p": np.where(flat, np.where(same, 1.0, np.nan), p),
    }


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, float | int]:
    """Return how much better `first` is than `second` on the test videos of a single split.

    The test is McNemar's, exact: of the videos that one of the two alone answers rightly, each
    is as likely to be the one's as the other's. The interval is that of D. G. Bonett and R. M.
    Price, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on
    Paired Data", J. of Educational and Behavioral Statistics 37, 2012. Both speak of new videos,
    not of new trainings.

    Args:
        first: bool (N,), whether each video is answered rightly.
        second: likewise, the same videos.

    Returns:
        `mean`, accuracy of first - second; `ci95_low`, `ci95_high`; `p`, two-sided;
        `only_first` and `only_second`, videos that one alone answers rightly; `runs`, 1.

    Raises:
        ValueError: other numbers of videos, or none.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(
            f"McNemar's test takes the same videos for both, found {len(first)} and {len(second)}"
        )
    ours, theirs = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    said = mcnemars(np.array(ours), np.array(theirs), len(first))
    counts = {"only_first": ours, "only_second": theirs, "runs": 1}
    return {name: float(value) for name, value in said.items()} | counts


def mcnemars(only_first: Labels, only_second: Labels, videos: int) -> dict[str, Numbers]:
    """Return what `mcnemar` says, of many pairs at once.

    Args:
        only_first: int64 (...), videos that the first of each pair alone answers rightly.
        only_second: likewise, of the second.
        videos: number of all.

    Returns:
        `mean`, `ci95_low`, `ci95_high` and `p`, each float64 (...).
    """
    either = only_first + only_second
    # P(at most the smaller of the two), X ~ B(either, 1/2), and the same on the other side
    p = np.minimum(1.0, 2 * bdtr(np.minimum(only_first, only_second), either, 0.5))
    share, other = (only_first + 1) / (videos + 2), (only_second + 1) / (videos + 2)
    error = np.sqrt((share + other - (share - other) ** 2) / (videos + 2))
    half = float(ndtri((1 + CONFIDENCE) / 2)) * error
    return {
        "mean": (only_first - only_second) / videos,
        "ci95_low": np.maximum(-1.0, share - other - half),
        "ci95_high": np.minimum(1.0, share - other + half),
        "p": p,
    }
