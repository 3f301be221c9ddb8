"""How well a head did: one run's scores, and their mean over runs.

The t-interval takes runs as independent. Splits of one data set share videos, so it says how
much the runs scatter, and is narrower than an interval over new data sets would be.
"""

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # quantile of Student's t
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

Labels = NDArray[np.int64]

_CONFIDENCE = 0.95


def score_run(labels: Labels, predicted: Labels, classes: Sequence[str]) -> dict[str, float]:
    """Return the scores of one run by name.

    Args:
        labels: int64 (N,), positions in `classes`.
        predicted: int64 (N,), likewise.
        classes: names of the classes.

    Returns:
        `accuracy`, `macro_f1` (mean over all classes), and for each class
        `<class>/precision`, `<class>/recall`, `<class>/f1`; all in [0, 1], 0 where undefined.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(classes)), zero_division=0
    )
    scores = {
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(np.mean(f1)),
    }
    for at, name in enumerate(classes):
        scores[f"{name}/precision"] = float(precision[at])
        scores[f"{name}/recall"] = float(recall[at])
        scores[f"{name}/f1"] = float(f1[at])
    return scores


def over_runs(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return mean, standard deviation and 95 % t-interval of one score in 0..1 over runs.

    The interval is cut at 0 and 1. Runs share videos, so it is narrower than that of new data.

    Returns:
        `mean`; `std` (n - 1 in the denominator), `ci95_low`, `ci95_high`: None with a single run;
        `runs`, their number.

    Raises:
        ValueError: no value.
    """
    if not values:
        raise ValueError("a mean over runs takes at least one run, found none")
    mean, runs = float(np.mean(values)), len(values)
    if runs == 1:
        return {"mean": mean, "std": None, "ci95_low": None, "ci95_high": None, "runs": 1}
    std = float(np.std(values, ddof=1))
    half = float(stdtrit(runs - 1, (1 + _CONFIDENCE) / 2)) * std / sqrt(runs)
    return {
        "mean": mean,
        "std": std,
        "ci95_low": max(0.0, mean - half),
        "ci95_high": min(1.0, mean + half),
        "runs": runs,
    }


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
