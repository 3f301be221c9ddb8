"""What is measured of an experiment's answers, over all its runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.cache.arrays import Array
from heads.training.bootstrap import bootstrapped, bootstrapped_measure
from heads.training.metrics import over_runs
from heads.training.reliability import reliability
from heads.training.scores import MEASURED, of_runs
from heads.training.targets import Target


def measured(
    target: Target,
    answers: Sequence[Mapping[str, Array]],
    scores: Sequence[Mapping[str, float]],
    test_per_train: float,
    seed: int,
) -> dict[str, Any]:
    """Return the measures of an experiment, each over the runs.

    Args:
        target: what is told.
        answers: arrays of each run, see `heads.training.run.run_arrays`.
        scores: of each run, what `heads.training.scores.scores_of` gives.
        test_per_train: n_test / n_train of a run.
        seed: of the bootstrap, where there is a single run.

    Returns:
        Of labels and dimensions what `heads.training.scores.of_runs` has; of classes `accuracy`,
        `balanced_accuracy`, `macro_f1` and `ece` (`heads.training.reliability`), each as
        `heads.training.metrics.over_runs` has it, and `reliability`: `videos`, `confidence` and
        `accuracy` of each bin, the answers of all runs together; null in empty bins. Of a single
        run accuracy, balanced accuracy, mAP and CCC have `ci95_bootstrap_low` and
        `ci95_bootstrap_high` too, null where no resample differs.
    """
    if target.kind == "class":
        told = _of_classes(answers, scores, test_per_train)
    else:
        told = of_runs(target, scores, test_per_train)
    if len(answers) == 1:
        for name, interval in _intervals(target, answers[0], seed).items():
            low, high = interval or (None, None)
            told[name] |= {"ci95_bootstrap_low": low, "ci95_bootstrap_high": high}
    return told


def _intervals(
    target: Target, answer: Mapping[str, Array], seed: int
) -> dict[str, tuple[float, float] | None]:
    """Return score -> its interval over the test videos of a single run."""
    if target.kind == "class":
        labels, predicted = (answer[name].astype(np.int64) for name in ("label", "predicted"))
        return bootstrapped(labels, predicted, seed)
    told = answer["probabilities" if target.kind == "labels" else "estimates"]
    truth = answer["label"].astype(np.float64)
    interval = bootstrapped_measure(target, truth, told.astype(np.float64), seed)
    return {target.measure: interval}


def _of_classes(
    answers: Sequence[Mapping[str, Array]],
    scores: Sequence[Mapping[str, float]],
    test_per_train: float,
) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: over_runs([score[name] for score in scores], test_per_train)
        for name in MEASURED["class"]
    }
    labels = [answer["label"].astype(np.int64) for answer in answers]
    chances = [answer["probabilities"].astype(np.float64) for answer in answers]
    curves = [reliability(*of_run) for of_run in zip(labels, chances, strict=True)]
    told["ece"] = over_runs([curve.ece for curve in curves], test_per_train)
    pooled = reliability(np.concatenate(labels), np.concatenate(chances))
    told["reliability"] = {
        "videos": pooled.videos.tolist(),
        "confidence": _null_where_none(pooled.confidence),
        "accuracy": _null_where_none(pooled.accuracy),
    }
    return told


def _null_where_none(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
