"""How well labels and dimensions are told: average precision, F1, concordance, distance.

Those of one of several classes are in `heads.training.metrics`. What has no meaning is 0, as there,
but for the average precision of a label that no test video has: NaN, and in no mean.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.cache.arrays import Array
from heads.training.metrics import over_runs, score_run
from heads.training.targets import Kind, Target

Numbers = NDArray[np.float64]

THRESHOLD = 0.5
"""Probability from which a label is answered."""

MEASURED: Mapping[Kind, tuple[str, ...]] = {
    "class": ("accuracy", "balanced_accuracy", "macro_f1"),
    "labels": ("mAP", "macro_f1"),
    "dimensions": ("CCC", "RMSE", "Pearson"),
}
"""Kind of a target -> scores of a run, the first of which says how well it is told."""


def measured_of(scores: Mapping[str, object]) -> tuple[str, ...]:
    """Return which of `MEASURED` an experiment's scores over its runs have."""
    return next(names for names in MEASURED.values() if names[0] in scores)


def average_precision(truth: Numbers, scores: Numbers) -> float:
    """Return sum (R_n - R_n-1) P_n over the scores from the highest down; NaN where none is true.

    Videos of the same score are taken together, so that their order does not matter.

    Args:
        truth: (N,), 0 or 1.
        scores: (N,), larger where the label is likelier.
    """
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    right = np.cumsum(truth[order])[last]
    precision, recall = right / (last + 1), right / right[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def concordance(first: Numbers, second: Numbers) -> float:
    """Return Lin's concordance correlation coefficient of two series (N,), in -1..1.

    2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), the moments divided by N (Lin 1989); 0 where one of
    the two does not vary.
    """
    off, off_second = first - first.mean(), second - second.mean()
    apart = np.square(first.mean() - second.mean())
    below = np.square(off).mean() + np.square(off_second).mean() + apart
    return float(2 * (off * off_second).mean() / below) if below > 0 else 0.0


def pearson(first: Numbers, second: Numbers) -> float:
    """Return Pearson's correlation of two series (N,), in -1..1; 0 where one does not vary."""
    off, off_second = first - first.mean(), second - second.mean()
    below = np.sqrt(np.square(off).sum() * np.square(off_second).sum())
    return float((off * off_second).sum() / below) if below > 0 else 0.0


def label_scores(truth: Numbers, chances: Numbers, names: Sequence[str]) -> dict[str, float]:
    """Return the scores of one run by name, all in 0..1.

    Args:
        truth: (N, labels), 0 or 1.
        chances: (N, labels), the probability of each.
        names: of the labels.

    Returns:
        `mAP`, the mean of the average precision over the labels that a test video has; `macro_f1`,
        the mean over all labels; for each label `<label>/ap`, `<label>/precision`,
        `<label>/recall` and `<label>/f1`, at a probability of 0.5, 0 where undefined, and
        `<label>/share`, of the videos that have it: what chance's average precision comes to.
    """
    scores: dict[str, float] = {}
    answered = chances >= THRESHOLD
    for n, name in enumerate(names):
        right = float((answered[:, n] * truth[:, n]).sum())
        said, true = float(answered[:, n].sum()), float(truth[:, n].sum())
        scores |= {
            f"{name}/ap": average_precision(truth[:, n], chances[:, n]),
            f"{name}/precision": right / said if said else 0.0,
            f"{name}/recall": right / true if true else 0.0,
            f"{name}/f1": 2 * right / (said + true) if said + true else 0.0,
            f"{name}/share": true / len(truth),
        }
    return {
        "mAP": mean_of([scores[f"{name}/ap"] for name in names]),
        "macro_f1": mean_of([scores[f"{name}/f1"] for name in names]),
        **scores,
    }


def dimension_scores(truth: Numbers, estimates: Numbers, names: Sequence[str]) -> dict[str, float]:
    """Return the scores of one run by name.

    Args:
        truth: (N, dimensions).
        estimates: (N, dimensions), in the same unit.
        names: of the dimensions.

    Returns:
        `CCC`, `RMSE` and `Pearson`, each the mean over the dimensions, and of each dimension
        `<dimension>/CCC`, `<dimension>/RMSE` (in its unit) and `<dimension>/Pearson`.
    """
    scores: dict[str, float] = {}
    for n, name in enumerate(names):
        true, told = truth[:, n], estimates[:, n]
        scores |= {
            f"{name}/CCC": concordance(true, told),
            f"{name}/RMSE": float(np.sqrt(np.square(true - told).mean())),
            f"{name}/Pearson": pearson(true, told),
        }
    means = {
        kind: mean_of([scores[f"{name}/{kind}"] for name in names])
        for kind in MEASURED["dimensions"]
    }
    return means | scores


def scores_of(target: Target, answer: Mapping[str, Array]) -> dict[str, float]:
    """Return the scores of one run, of any kind of target.

    Args:
        target: what was told.
        answer: arrays of `heads.training.run.run_arrays`.
    """
    if target.kind == "class":
        labels, predicted = answer["label"].astype(int), answer["predicted"].astype(int)
        return score_run(labels, predicted, target.names)
    truth = answer["label"].astype(np.float64)
    if target.kind == "labels":
        return label_scores(truth, answer["probabilities"].astype(np.float64), target.names)
    return dimension_scores(truth, answer["estimates"].astype(np.float64), target.names)


def of_runs(
    target: Target, runs: Sequence[Mapping[str, float]], test_per_train: float
) -> dict[str, object]:
    """Return what is told of an experiment over its runs, of labels or dimensions.

    Args:
        target: what was told.
        runs: what `scores_of` gave of each.
        test_per_train: see `over_runs`.

    Returns:
        The scores of `MEASURED`, see `over_runs`; `chance`, what answers by chance come to;
        `per_label` or `per_dimension`: name -> score -> mean over the runs, None where no run has
        one.
    """
    names = MEASURED[target.kind]
    told: dict[str, object] = {}
    for name in names:
        values = [run[name] for run in runs]
        told[name] = over_runs(values, test_per_train, _bounds(target, name))
    each = ("ap", "precision", "recall", "f1", "share") if target.kind == "labels" else names
    of_each = {
        name: {score: _or_none(mean_of([run[f"{name}/{score}"] for run in runs])) for score in each}
        for name in target.names
    }
    if target.kind == "dimensions":
        return told | {"chance": 0.0, "per_dimension": of_each}
    shares = [float(scores["share"] or 0) for scores in of_each.values()]
    return told | {"chance": mean_of(shares), "per_label": of_each}


def _bounds(target: Target, score: str) -> tuple[float, float]:
    """Return between which numbers a score lies."""
    if target.kind == "labels":
        return 0.0, 1.0
    low, high = target.range or (-1.0, 1.0)
    return (0.0, high - low) if score == "RMSE" else (-1.0, 1.0)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of the values that are numbers; NaN where none is."""
    numbers = [value for value in values if not np.isnan(value)]
    return float(np.mean(numbers)) if numbers else float("nan")


def measure(target: Target, truth: Numbers, told: Numbers) -> float:
    """Return how well a target is told, by its own measure: accuracy, mAP or CCC.

    Args:
        target: that.
        truth: what is true, (N,) of a class, else (N, width).
        told: (N, width), what `heads.training.answer.told` makes of the logits, or the logits
            themselves where only their order counts.
    """
    if target.kind == "class":
        return float(np.mean(told.argmax(axis=1) == truth))
    score = label_scores if target.kind == "labels" else dimension_scores
    return score(truth, told, target.names)[target.measure]
