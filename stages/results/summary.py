"""Summary: what the top of the page says, and what its numbers do not show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.results.files import Result, interval
from stages.results.page import Inputs
from stages.results.scores import best_first, skew_of


@dataclass(frozen=True)
class Summary:
    """The top of the page.

    Attributes:
        data: what the videos are called.
        videos: how many they are.
        failed: how many of them no stage could use.
        classes: their labels.
        experiments: how many.
        runs: of the experiment that has most.
        best: the most accurate one.
        accuracy: its accuracy over the runs, see `heads.training.metrics.over_runs`.
        interval: its 95 % interval, or two None.
        balanced: its balanced accuracy; None where classes are even, and it says nothing else.
        chance: one over the number of classes.
        void: what makes a comparison with published numbers void.
        limits: what the numbers do not show.
        software: name and version of what made the features.
    """

    data: str
    videos: int
    failed: int
    classes: list[str]
    experiments: int
    runs: int
    best: str
    accuracy: Mapping[str, Any]
    interval: tuple[float | None, float | None]
    balanced: float | None
    chance: float
    void: list[str]
    limits: list[str]
    software: list[str]


def summary(inputs: Inputs) -> Summary:
    """Return what the top of the page says."""
    results = inputs.results
    best = best_first(results)[0]
    return Summary(
        data=inputs.dataset or ("the built-in sample" if inputs.is_sample else str(inputs.root)),
        videos=len(inputs.videos),
        failed=sum(row["status"] == "failed" for row in inputs.videos),
        classes=_classes(inputs),
        experiments=len(results),
        runs=max(len(result.runs) for result in results),
        best=best.name,
        accuracy=best.metrics["accuracy"],
        interval=interval(best.metrics["accuracy"]),
        balanced=best.metrics["balanced_accuracy"]["mean"] if skew_of(best) else None,
        chance=best.metrics["chance"],
        void=_void(inputs),
        limits=_limits(inputs, best),
        software=_software(inputs),
    )


def _classes(inputs: Inputs) -> list[str]:
    """Return the classes; of several corpora those that all have."""
    found = {row.get("class", row["label"]) for row in inputs.videos}
    return sorted(str(name) for name in found if name is not None)


def _void(inputs: Inputs) -> list[str]:
    reasons = []
    if inputs.is_sample:
        reasons.append(
            "the videos are the built-in sample, one photograph warped and set to made-up scenes "
            "and sounds"
        )
    if not all(result.metrics["pretrained"] for result in inputs.results):
        reasons.append("some features come from seeded weights, networks that were never trained")
    return reasons


def _limits(inputs: Inputs, best: Result) -> list[str]:
    """Say what a reader might take the numbers for, and should not."""
    count, runs = len(inputs.results), len(best.runs)
    limits = []
    if count > 1:
        limits.append(
            f"{best.name} is the best of {count} on the videos that test it, so its number is a "
            "little too good; whether it is better than another is a question for the differences."
        )
    if runs > 1:
        limits.append(
            "The interval is about other splits of these videos and other trainings, not about "
            "other videos."
        )
    else:
        limits.append(
            "There is one run, so nothing is known of how trainings and splits vary: the interval "
            "is about other videos alone."
        )
    if skew := skew_of(best):
        limits.append(str(skew))
    return limits


def _software(inputs: Inputs) -> list[str]:
    software: dict[str, str] = {}
    for result in inputs.results:
        for origin in result.about["features"].values():
            software |= origin["software"]
    return [f"{name} {version}" for name, version in sorted(software.items())]
