"""Accuracy: every experiment with its spread, its interval, balanced accuracy and macro F1."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from features.backbones import IMPORTED
from stages.results import figures
from stages.results.files import Result, interval
from stages.results.page import Inputs, Section
from stages.results.scores import best_first, run_accuracies, skew_of
from stages.results.searched import tried, unlike_ranks
from stages.results.table import Column, Strip, Table, parted

TITLE = "Accuracy"

MOST_ROWS = 40
"""Experiments of the figure; more are no figure of a paper."""

COLUMNS = (
    Column("experiment"),
    Column("accuracy, %", "spread", best=True),
    Column("runs, 0\N{EN DASH}100\N{NO-BREAK SPACE}%", "strip"),
    Column("95\N{NO-BREAK SPACE}% interval", "interval"),
    Column("balanced accuracy, %", "spread", best=True),
    Column("macro F1, %", "spread", best=True),
    Column("settings tried", "count"),
    Column("head"),
    Column("features", "lines"),
    Column("weights"),
    Column("videos", "count"),
)

OFTEN_ALIKE = ("settings tried", "weights", "videos")
"""Columns that are left out, and said in a line, where all experiments have the same in them."""


def section(inputs: Inputs) -> Section:
    """Return the section."""
    results = inputs.results
    first = results[0].metrics
    rows = [_row(result) for result in results]
    table, alike = parted(Table(COLUMNS, rows, "Accuracy of the experiments"), OFTEN_ALIKE)
    content = {
        "runs": max(len(result.runs) for result in results),
        "chance": first["chance"],
        "commonest_class": first["commonest_class"],
        "selection": _selection(results),
        "alike": alike,
        "unlike": unlike_ranks(results),
        "skew": skew_of(results[0]),
        "drawn": min(len(results), MOST_ROWS),
        "experiments": len(results),
    }
    figure = _figure(best_first(results)[:MOST_ROWS])
    return Section(TITLE, "accuracy.html", content, {"accuracy": table}, {"accuracy": figure})


def _row(result: Result) -> tuple[object, ...]:
    metrics, about = result.metrics, result.about
    accuracy, f1, balanced = (metrics[n] for n in ("accuracy", "macro_f1", "balanced_accuracy"))
    dots = tuple(run_accuracies(result).values())
    ends = interval(accuracy)
    return (
        result.name,
        (accuracy["mean"], accuracy["std"]),
        Strip(accuracy["mean"], *ends, dots, metrics["chance"], (0, 1)),
        ends,
        (balanced["mean"], balanced["std"]),
        (f1["mean"], f1["std"]),
        tried(result),
        about["head"],
        tuple(f"{role}: {source}" for role, source in about["roles"].items()),
        _weights(result),
        metrics["videos"],
    )


def _weights(result: Result) -> str:
    """Say what weights made the features; of imported ones it is not known here."""
    own = "pretrained" if result.metrics["pretrained"] else "seeded"
    modules = [each.get("module") for each in result.about["features"].values()]
    return ", ".join(sorted({IMPORTED if name == IMPORTED else own for name in modules}))


def _selection(results: Sequence[Result]) -> list[str]:
    """Say which network answered, experiment by experiment where they differ."""
    by_rule: dict[str, list[str]] = {}
    for result in results:
        by_rule.setdefault(str(result.about["selection"]), []).append(result.name)
    return [
        f"{', '.join(names) if len(by_rule) > 1 else 'In every run'}: the network of the {rule} "
        "answers."
        for rule, names in by_rule.items()
    ]


def _figure(results: Sequence[Result]) -> Figure:
    """Return the experiments below each other: runs, mean and interval beside chance."""
    best = results[0]
    alt = (
        f"Accuracy of {len(results)} experiments, the best on top: dots are runs, bars 95 % "
        f"intervals, dashed is chance. Best: {best.name}, "
        f"{100 * best.metrics['accuracy']['mean']:.1f} %."
    )
    figure = figures.new(alt, height_in=0.55 + 0.2 * len(results))
    axes = figure.subplots()
    accuracies = [result.metrics["accuracy"] for result in results]
    figures.draw_intervals(
        axes,
        [result.name for result in results],
        [list(run_accuracies(result).values()) for result in results],
        [accuracy["mean"] for accuracy in accuracies],
        [interval(accuracy) for accuracy in accuracies],
    )
    axes.axvline(100 * best.metrics["chance"], color=figures.INK, linestyle="--", linewidth=0.8)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy, %")
    return figure
