"""Summary: what the top of the page says, and what its numbers do not show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heads.training.targets import Target
from stages.results.files import Result, interval
from stages.results.page import Inputs
from stages.results.scores import best_first, skew_of
from stages.results.searched import unlike_ranks
from stages.results.sections.protocol import ignored
from stages.results.told import by_kind, left_out


@dataclass(frozen=True)
class Best:
    """The experiment that tells a target best, by the target's own measure.

    Attributes:
        name: of the experiment.
        measure: accuracy, mAP or CCC.
        score: that, over the runs, see `heads.training.metrics.over_runs`.
        interval: its 95 % interval, or two None.
        chance: what answers by chance come to.
        balanced: its balanced accuracy; None where classes are even, or of another measure.
        is_share: whether the numbers are shares, which are shown in per cent.
    """

    name: str
    measure: str
    score: Mapping[str, Any]
    interval: tuple[float | None, float | None]
    chance: float
    balanced: float | None
    is_share: bool


@dataclass(frozen=True)
class Summary:
    """The top of the page.

    Attributes:
        data: what the videos are called.
        videos: how many they are.
        failed: how many of them no stage could use.
        classes: their labels; none where no experiment tells one of them.
        told: what else is told, a line a target of labels or dimensions.
        experiments: how many.
        runs: of the experiment that has most.
        best: one a measure, which are not compared with each other.
        void: what makes a comparison with published numbers void.
        limits: what the numbers do not show.
        software: name and version of what made the features.
    """

    data: str
    videos: int
    failed: int
    classes: list[str]
    told: list[str]
    experiments: int
    runs: int
    best: list[Best]
    void: list[str]
    limits: list[str]
    software: list[str]


def summary(inputs: Inputs) -> Summary:
    """Return what the top of the page says."""
    results = inputs.results
    kinds = by_kind(results)
    best = [best_first(of)[0] for of in kinds]
    of_classes = best[0].target.kind == "class"
    return Summary(
        data=inputs.dataset or ("the built-in sample" if inputs.is_sample else str(inputs.root)),
        videos=len(inputs.videos),
        failed=sum(row["status"] == "failed" for row in inputs.videos),
        classes=_classes(inputs) if of_classes else [],
        told=[line for line in dict.fromkeys(_told(r.target) for r in results) if line],
        experiments=len(results),
        runs=max(len(result.runs) for result in results),
        best=[_best(result) for result in best],
        void=_void(inputs),
        limits=_limits(kinds, left_out(results)) + _groups(inputs),
        software=_software(inputs),
    )


def _classes(inputs: Inputs) -> list[str]:
    """Return the classes; of several corpora those that all have."""
    found = {row.get("class", row["label"]) for row in inputs.videos}
    return sorted(str(name) for name in found if name is not None)


def _best(result: Result) -> Best:
    metrics, target = result.metrics, result.target
    score = metrics[target.measure]
    is_skewed = target.kind == "class" and skew_of(result)
    return Best(
        name=result.name,
        measure=target.measure,
        score=score,
        interval=interval(score),
        chance=metrics["chance"],
        balanced=metrics["balanced_accuracy"]["mean"] if is_skewed else None,
        is_share=target.kind != "dimensions",
    )


def _told(target: Target) -> str:
    """Return a line on a target; nothing of the classes, which the page names anyhow."""
    names = ", ".join(target.names)
    if target.kind == "class":
        return ""
    if target.kind == "labels":
        return f"{target.name}: any of {names}"
    low, high = target.range or (-1.0, 1.0)
    return f"{target.name}: {names} from {low:g} to {high:g}"


def _groups(inputs: Inputs) -> list[str]:
    """Return a line where names suggest groups that the runs ignore."""
    line = ignored(inputs)
    return [f"{line[0].upper()}{line[1:]}."] if line else []


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


def _limits(kinds: Sequence[Sequence[Result]], others: Sequence[Result]) -> list[str]:
    """Say what a reader might take the numbers for, and should not.

    Args:
        kinds: results, those of one kind of target together.
        others: of which the page has nothing.
    """
    limits = []
    for results in kinds:
        best, count = best_first(results)[0], len(results)
        if count > 1:
            where = "a question for the differences"
            if best.target.kind != "class":
                where = "what `affectline compare` says"
            limits.append(
                f"{best.name} is the best of {count} on the videos that test it, so its number is "
                f"a little too good; whether it is better than another is {where}."
            )
        if said := unlike_ranks(results):
            limits.append(f"Experiments are {said}.")
    if len(kinds) > 1:
        measures = ", ".join(results[0].target.measure for results in kinds)
        limits.append(f"{measures} measure different things and are not to be compared.")
    if others:
        limits.append(
            f"{', '.join(result.name for result in others)} tell another class than this page, "
            "which has one question alone: their numbers are in results/."
        )
    best = best_first(kinds[0])[0]
    if len(best.runs) > 1:
        limits.append(
            "The interval is about other splits of these videos and other trainings, not about "
            "other videos."
        )
    else:
        limits.append(
            "There is one run, so nothing is known of how trainings and splits vary: the interval "
            "is about other videos alone."
        )
    if best.target.kind == "class" and (skew := skew_of(best)):
        limits.append(str(skew))
    return limits


def _software(inputs: Inputs) -> list[str]:
    software: dict[str, str] = {}
    for result in inputs.results:
        for origin in result.about["features"].values():
            software |= origin["software"]
    return [f"{name} {version}" for name, version in sorted(software.items())]
