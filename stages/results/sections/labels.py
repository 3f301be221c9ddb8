"""Labels: experiments that tell which of several labels a video has, and each label."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from stages.results import figures
from stages.results.files import Result, interval
from stages.results.page import Inputs, Section
from stages.results.scores import MOST_DRAWN, best_first, score_of
from stages.results.searched import tried, unlike_ranks
from stages.results.table import Column, Strip, Table, parted
from stages.results.told import OFTEN_ALIKE, of_kind, run_scores

TITLE = "Labels"

COLUMNS = (
    Column("experiment"),
    Column("target"),
    Column("mAP, %", "spread"),
    Column("runs, 0\N{EN DASH}100\N{NO-BREAK SPACE}%", "strip"),
    Column("95\N{NO-BREAK SPACE}% interval", "interval"),
    Column("chance, %", "percent"),
    Column("macro F1, %", "spread"),
    Column("head"),
    Column("features", "lines"),
    Column("videos", "count"),
    Column("settings tried", "count"),
)

EACH = (
    Column("experiment"),
    Column("label"),
    Column("AP, %", "percent", heat=True),
    Column("F1, %", "percent", heat=True),
    Column("precision, %", "percent"),
    Column("recall, %", "percent"),
    Column("videos that have it, %", "percent"),
)


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where no experiment tells labels."""
    results = of_kind(inputs.results, "labels")
    if not results:
        return None
    each = [
        (
            result.name,
            label,
            *(scores[kind] for kind in ("ap", "f1", "precision", "recall", "share")),
        )
        for result in results
        for label, scores in result.metrics["per_label"].items()
    ]
    rows = [_row(result) for result in results]
    table, alike = parted(Table(COLUMNS, rows, "Labels: mAP and macro F1"), OFTEN_ALIKE)
    tables = {
        "labels": table,
        "label-scores": Table(EACH, each, "Each label, means over the runs"),
    }
    drawn = best_first(results)[:MOST_DRAWN]
    content = {
        "runs": max(len(result.runs) for result in results),
        "drawn": len(drawn),
        "experiments": len(results),
        "alike": alike,
        "unlike": unlike_ranks(results),
    }
    return Section(TITLE, "labels.html", content, tables, {"labels": _figure(drawn)})


def _row(result: Result) -> tuple[object, ...]:
    metrics, about = result.metrics, result.about
    score, ends, f1 = metrics["mAP"], interval(metrics["mAP"]), metrics["macro_f1"]
    dots = tuple(run_scores(result).values())
    return (
        result.name,
        result.target.name,
        (score["mean"], score["std"]),
        Strip(score["mean"], *ends, dots, metrics["chance"], (0, 1)),
        ends,
        metrics["chance"],
        (f1["mean"], f1["std"]),
        about["head"],
        tuple(f"{role}: {source}" for role, source in about["roles"].items()),
        metrics["videos"],
        tried(result),
    )


def _figure(results: Sequence[Result]) -> Figure:
    """Return the average precision of each label, a mark an experiment, over the label's share."""
    labels = list(dict.fromkeys(name for result in results for name in result.target.names))
    best = results[0]
    alt = (
        f"Average precision of {len(labels)} labels in {len(results)} experiments, in %; grey bars "
        "are the share of videos that have the label, which is what chance gives. Best mAP: "
        f"{best.name}, {100 * score_of(best):.1f} %."
    )
    figure = figures.new(alt, height_in=0.9 + 0.24 * len(labels) + 0.16 * len(results))
    axes = figure.subplots()
    shares = {n: s["share"] for r in reversed(results) for n, s in r.metrics["per_label"].items()}
    bars = [100 * shares[name] for name in labels]
    axes.barh(range(len(labels)), bars, color=figures.INK, alpha=0.2, height=0.6, label="chance")
    for number, result in enumerate(results):
        points = [
            (100 * scores["ap"], labels.index(name))
            for name, scores in result.metrics["per_label"].items()
            if scores["ap"] is not None
        ]
        axes.plot(
            *zip(*points, strict=True),
            "osD^vP"[number % 6],
            color=figures.PALETTE[number % len(figures.PALETTE)],
            label=figures.label(result.name),
        )
    axes.set_yticks(range(len(labels)), [figures.label(name) for name in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(0, 101)
    axes.set_xlabel("average precision, %")
    axes.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
