"""What is printed at the end of a run: the best experiment, where the page is, what to try next."""

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from stages.engine.paths import REPORT, has_sample
from stages.engine.progress import console, in_a_line, styled
from stages.results.files import Result, interval
from stages.results.scores import best_first, skew_of
from stages.results.searched import unlike_ranks
from stages.results.told import by_kind

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
    lines = []
    for of in by_kind(results):
        lines += _best(best_first(of))
    if made_up := _made_up(root, results):
        lines.append(
            styled(
                ("note:   ", "yellow"),
                f"{' and '.join(made_up)}: this shows the pipeline at work, and nothing about "
                "emotion",
            )
        )
    lines.append(styled("page:   ", (str(PAGE), f"link {PAGE.absolute().as_uri()}")))
    return [*lines, styled(f"next:   {in_a_line('; '.join(_next(root, results)))}")]


def _best(ranked: Sequence[Result]) -> list[Text]:
    """Return the lines on the best of the experiments that tell one kind of target."""
    best, chance = ranked[0], ranked[0].metrics["chance"]
    others = f", the best of {len(ranked)} experiments" if len(ranked) > 1 else ""
    lines = [styled("best:   ", (in_a_line(best.name), "bold"), f", {_score(best)}{others}")]
    if said := unlike_ranks(ranked):
        lines.append(styled(("note:   ", "yellow"), in_a_line(said)))
    if best.target.kind != "class":
        by_chance = f"{chance:.2f}" if best.target.kind == "dimensions" else f"{chance:.1%}"
        return [*lines, styled(f"chance: {by_chance}")]
    commonest = best.metrics["commonest_class"]
    lines.append(styled(f"chance: {chance:.1%}; always the commonest class: {commonest:.1%}"))
    if skew := skew_of(best):
        balanced = best.metrics["balanced_accuracy"]["mean"]
        lines.append(styled(in_a_line(f"skewed: balanced accuracy {balanced:.1%}; {skew}")))
    return lines


def _score(result: Result) -> str:
    """Return the measure of a result's target, and its interval."""
    measure = result.target.measure
    form = ".2f" if result.target.kind == "dimensions" else ".1%"
    score = result.metrics[measure]
    low, high = interval(score)
    over = f"over {score['runs']} runs" if score["runs"] > 1 else "over its test videos"
    if low is None or high is None:
        return f"{measure} {score['mean']:{form}} in a single run, which has no interval"
    return f"{measure} {score['mean']:{form}}, 95 % interval {low:{form}} to {high:{form}} {over}"


def _made_up(root: Path, results: Sequence[Result]) -> list[str]:
    """Return what keeps the numbers from speaking of emotion."""
    return [
        *(["the built-in sample"] if has_sample(root) else []),
        *([] if all(result.metrics["pretrained"] for result in results) else ["random networks"]),
    ]


def _next(root: Path, results: Sequence[Result]) -> list[str]:
    """Return what to try next, the cheapest first."""
    steps = []
    for of in map(best_first, by_kind(results)):
        same = [other for other in of[1:] if _answered(other) == _answered(of[0])]
        if same and (of[0].target.kind == "class" or len(of[0].runs) > 1):
            steps.append(f"affectline compare {of[0].name} {same[0].name}")
    if has_sample(root):
        steps.append("your own videos (docs/own-videos.md)")
    if not all(result.metrics["pretrained"] for result in results):
        steps.append("real networks (source: pretrained in params.yaml)")
    return steps or ["docs/reading-the-results.md says how sure these numbers are"]


def _answered(result: Result) -> set[tuple[str, str]]:
    """Return (run, video) of each answer: two experiments with the same can be compared."""
    return {(str(row["run"]), str(row["video_id"])) for row in result.predictions}
