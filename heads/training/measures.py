"""What is measured of an experiment's answers, over all its runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.cache.arrays import Array
from heads.training.bootstrap import bootstrapped
from heads.training.metrics import over_runs
from heads.training.reliability import reliability

OVER_RUNS = ("accuracy", "balanced_accuracy", "macro_f1")
"""Scores of a run of which the mean over runs is told."""


def measured(
    answers: Sequence[Mapping[str, Array]],
    scores: Sequence[Mapping[str, float]],
    test_per_train: float,
    seed: int,
) -> dict[str, Any]:
    """Return the measures of classes, each over the runs.

    Args:
        answers: of each run, with `label` (N,), `predicted` (N,) and `probabilities` (N, classes).
        scores: of each run, what `heads.training.metrics.score_run` gives.
        test_per_train: n_test / n_train of a run.
        seed: of the bootstrap, where there is a single run.

    Returns:
        `accuracy`, `balanced_accuracy`, `macro_f1` and `ece` (`heads.training.reliability`), each
        as `heads.training.metrics.over_runs` has it; of a single run the first two have
        `ci95_bootstrap_low` and `ci95_bootstrap_high` too, null where no resample differs.
        `reliability`: `videos`, `confidence` and `accuracy` of each bin, the answers of all runs
        together; null in empty bins.
    """
    told: dict[str, Any] = {
        name: over_runs([score[name] for score in scores], test_per_train) for name in OVER_RUNS
    }
    labels = [answer["label"].astype(np.int64) for answer in answers]
    chances = [answer["probabilities"].astype(np.float64) for answer in answers]
    curves = [reliability(*of_run) for of_run in zip(labels, chances, strict=True)]
    told["ece"] = over_runs([curve.ece for curve in curves], test_per_train)
    if len(answers) == 1:
        predicted = answers[0]["predicted"].astype(np.int64)
        for name, interval in bootstrapped(labels[0], predicted, seed).items():
            low, high = interval or (None, None)
            told[name] |= {"ci95_bootstrap_low": low, "ci95_bootstrap_high": high}
    pooled = reliability(np.concatenate(labels), np.concatenate(chances))
    told["reliability"] = {
        "videos": pooled.videos.tolist(),
        "confidence": _null_where_none(pooled.confidence),
        "accuracy": _null_where_none(pooled.accuracy),
    }
    return told


def _null_where_none(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
