"""What is printed at the end of a run: the best experiment, where the page is, what to try next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from stages.engine.paths import REPORT, has_sample
from stages.engine.progress import console, in_a_line, styled
from stages.results.files import Result, interval
from stages.results.scores import skew_of

PAGE = REPORT / "index.html"


def say_closing(root: Path, results: Sequence[Result]) -> None:
    """Print it; on a terminal that can, the page's path is a link to it.

    Args:
        root: where the videos came from, ``index.root``.
        results: at least one experiment's.
    """
    for line in closing(root, results):
        console.print(line, soft_wrap=True)


def closing(root: Path, results: Sequence[Result]) -> list[Text]:
    """Return the lines."""
    ranked = sorted(results, key=lambda result: -result.metrics["accuracy"]["mean"])
    best = ranked[0]
    others = f", the best of {len(ranked)} experiments" if len(ranked) > 1 else ""
    lines = [
        styled("best:   ", (in_a_line(best.name), "bold"), f", {_accuracy(best.metrics)}{others}"),
        styled(
            f"chance: {best.metrics['chance']:.1%}; "
            f"always the commonest class: {best.metrics['commonest_class']:.1%}"
        ),
    ]
    if skew := skew_of(best):
        balanced = best.metrics["balanced_accuracy"]["mean"]
        lines.append(styled(in_a_line(f"skewed: balanced accuracy {balanced:.1%}; {skew}")))
    if made_up := _made_up(root, results):
        lines.append(
            styled(
                ("note:   ", "yellow"),
                f"{' and '.join(made_up)}: this shows the pipeline at work, and nothing about "
                "emotion",
            )
        )
    lines.append(styled("page:   ", (str(PAGE), f"link {PAGE.absolute().as_uri()}")))
    return [*lines, styled(f"next:   {in_a_line('; '.join(_next(root, ranked)))}")]


def _accuracy(metrics: dict[str, Any]) -> str:
    accuracy = metrics["accuracy"]
    low, high = interval(accuracy)
    over = f"over {accuracy['runs']} runs" if accuracy["runs"] > 1 else "over its test videos"
    if low is None or high is None:
        return f"accuracy {accuracy['mean']:.1%} in a single run, which has no interval"
    return f"accuracy {accuracy['mean']:.1%}, 95 % interval {low:.1%} to {high:.1%} {over}"


def _made_up(root: Path, results: Sequence[Result]) -> list[str]:
    """Return what keeps the numbers from speaking of emotion."""
    return [
        *(["the built-in sample"] if has_sample(root) else []),
        *([] if all(result.metrics["pretrained"] for result in results) else ["random networks"]),
    ]


def _next(root: Path, ranked: Sequence[Result]) -> list[str]:
    """Return what to try next, the cheapest first."""
    best = ranked[0]
    answered = _answered(best)
    rival = next((other for other in ranked[1:] if _answered(other) == answered), None)
    steps = [f"affectline compare {best.name} {rival.name}"] if rival else []
    if has_sample(root):
        steps.append("your own videos (docs/own-videos.md)")
    if not all(result.metrics["pretrained"] for result in ranked):
        steps.append("real networks (source: pretrained in params.yaml)")
    return steps or ["docs/reading-the-results.md says how sure these numbers are"]


def _answered(result: Result) -> set[tuple[str, str]]:
    """Return (run, video) of each answer: two experiments with the same can be compared."""
    return {(str(row["run"]), str(row["video_id"])) for row in result.predictions}
