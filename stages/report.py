"""report: one HTML page with the experiments' table, one figure and where the numbers came from.

Reads the index and each experiment's results; writes a page that needs no network.

    python -m stages.report --root data/sample --index data/index.parquet --results results \
        --out report
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from features import tables
from stages.console import StageRun, fail
from stages.items import fresh_outputs
from stages.params import ParamsError, load_params
from stages.results import Result, read_result

SAMPLE = Path("data/sample")
BLUE, GREY = "#2b6ca3", "#9aa4ad"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 62rem;
       margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead { color: #54616d; margin-top: 0; }
.void { background: #fff4d6; border-left: 4px solid #d99a00; padding: .7rem 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .4rem .7rem .4rem 0; border-bottom: 1px solid #dde3e8;
         vertical-align: top; }
th { color: #54616d; font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
td.n { font-variant-numeric: tabular-nums; } code { font-size: .86em; }
img { width: 100%; height: auto; } footer { color: #54616d; font-size: .85rem; margin-top: 3rem; }
"""


def main(
    root: Annotated[Path, typer.Option(help="where the videos came from, as in params.yaml")],
    index: Annotated[Path, typer.Option(help="index of the videos")],
    results: Annotated[Path, typer.Option(help="folder of the experiments' results")],
    out: Annotated[Path, typer.Option(help="folder of the page")],
) -> None:
    """Write the page."""
    try:
        params = load_params()
    except ParamsError as error:
        raise fail(str(error)) from None
    with StageRun("report") as run:
        videos = tables.read(index, ["video_id", "label", "status", "reason"])
        found = [read_result(results, name) for name in params.experiments]
        page = render(params.report.title, root, videos, found)
        with fresh_outputs(out.parent, run) as partial:
            (partial / out.name).mkdir()
            (partial / out.name / "index.html").write_text(page, encoding="utf-8")
        run.count(items=1, computed=1)
        run.note(f"open {out / 'index.html'}")


# ----------------------------------------------------------------------------------- page


def render(
    title: str,
    root: Path,
    videos: Sequence[tables.Row],
    results: Sequence[Result],
) -> str:
    """Return the page as HTML."""
    labels = sorted({str(row["label"]) for row in videos})
    sources: dict[str, Any] = {}
    for result in results:
        sources |= result.about["features"]
    failed = [row for row in videos if row["status"] == "failed"]
    runs = max((int(result.metrics["accuracy"]["runs"]) for result in results), default=0)
    figure = base64.b64encode(draw(results, labels)).decode()
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=lead>{len(videos)} videos of {html.escape(str(root))}, {len(labels)} classes "
        f"({html.escape(', '.join(labels))}), {runs} runs, {len(failed)} videos not usable</p>",
        *_void(root, results),
        "<h2>Accuracy</h2>",
        _results_table(results),
        f'<p><img alt="accuracy by experiment, confusion and attention" '
        f'src="data:image/png;base64,{figure}"></p>',
        "<p>Left: each dot is a run, the bar its mean with the 95 % interval over the runs, the "
        "dashed line chance. Middle and right: the first experiment; rows of the confusion matrix "
        "are the true classes; each row of the attention sheet is a test video of one run, from "
        "black (no weight) to its own largest weight.</p>",
        "<h2>Features</h2>",
        _sources_table(sources),
    ]
    if failed:
        parts += ["<h2>Videos not usable</h2>", _failed_table(failed)]
    software: dict[str, str] = next((origin["software"] for origin in sources.values()), {})
    used = ", ".join(f"{name} {version}" for name, version in sorted(software.items()))
    selection = sorted({str(result.about["selection"]) for result in results})
    parts.append(
        f"<footer>Answers are those of the {html.escape(', '.join(selection))}; nothing is chosen "
        "on the test videos. Every feature file says what went into it: "
        f"<code>affectline show &lt;file&gt;</code>.<br>{html.escape(used)}</footer>"
    )
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    return f"{head}<style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"


def _void(root: Path, results: Sequence[Result]) -> list[str]:
    """Say what makes a comparison with published numbers void."""
    reasons = []
    if root == SAMPLE:
        reasons.append(
            "the videos are the built-in sample, one photograph warped and set to made-up scenes "
            "and sounds"
        )
    if not all(result.metrics["pretrained"] for result in results):
        reasons.append("some features come from seeded weights, networks that were never trained")
    if not reasons:
        return []
    return [
        f"<p class=void><b>These numbers show that the pipeline works, and nothing about "
        f"emotion:</b> {html.escape('; '.join(reasons))}.</p>"
    ]


def _table(head: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; ``head`` is (name, whether its column holds numbers), cells are HTML."""
    kinds = [" class=n" if number else "" for _, number in head]
    first = "".join(f"<th{kind}>{name}</th>" for kind, (name, _) in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{first}</tr>{body}</table>"


def _results_table(results: Sequence[Result]) -> str:
    head = [
        ("experiment", False),
        ("head", False),
        ("features", False),
        ("accuracy, %", True),
        ("95 % interval", True),
        ("macro F1, %", True),
        ("chance, %", True),
        ("weights", False),
    ]
    rows = []
    for result in results:
        said, about = result.metrics, result.about
        accuracy, f1 = said["accuracy"], said["macro_f1"]
        roles = "<br>".join(
            f"{html.escape(role)}: <code>{html.escape(source)}</code>"
            for role, source in about["roles"].items()
        )
        rows.append(
            (
                f"<b>{html.escape(result.name)}</b>",
                html.escape(about["head"]),
                roles,
                f"<b>{_percent(accuracy['mean'])}</b> ± {_percent(accuracy['std'])}",
                f"{_percent(accuracy['ci95_low'])} – {_percent(accuracy['ci95_high'])}",
                f"{_percent(f1['mean'])} ± {_percent(f1['std'])}",
                f"{100 * said['chance']:.1f}",
                "pretrained" if said["pretrained"] else "seeded",
            )
        )
    return _table(head, rows)


def _percent(share: float | None) -> str:
    """Return a share as per cent; one run has no spread."""
    return "?" if share is None else f"{100 * share:.1f}"


def _sources_table(sources: dict[str, Any]) -> str:
    head = [(name, False) for name in ("backbone", "weights", "licence", "input", "code")]
    rows = []
    for backbone, origin in sources.items():
        weights = origin["weights"]
        name = str(weights["source"])
        rows.append(
            (
                f"<b>{html.escape(backbone)}</b>",
                html.escape(f"{name}, seed {weights['seed']}" if name == "seeded" else name),
                html.escape(str(weights["licence"]) or "none needed"),
                html.escape(str(origin["view"])),
                f"<code>{origin['code'][:12]}</code>",
            )
        )
    return _table(head, rows)


def _failed_table(rows: Sequence[tables.Row]) -> str:
    cells = [(html.escape(str(row["video_id"])), html.escape(str(row["reason"]))) for row in rows]
    return _table([("video", False), ("reason", False)], cells)


# --------------------------------------------------------------------------------- figure


def draw(results: Sequence[Result], labels: Sequence[str]) -> bytes:
    """Return the figure as PNG: accuracy by run; the first experiment's confusion and attention."""
    figure, axes = plt.subplots(
        1, 3, figsize=(13, 4.6), width_ratios=(1.25, 1, 1.1), layout="constrained"
    )
    _draw_accuracy(axes[0], results)
    _draw_confusion(axes[1], results[0], labels)
    _draw_attention(axes[2], results[0])
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def _draw_accuracy(axes: Axes, results: Sequence[Result]) -> None:
    names = [result.name for result in results]
    for place, result in enumerate(results):
        accuracy = result.metrics["accuracy"]
        runs = 100 * np.asarray(list(_run_accuracies(result).values()))
        axes.plot(runs, np.full(len(runs), place), "o", color=GREY, alpha=0.8, markersize=5)
        if accuracy["ci95_low"] is not None:
            ends = [100 * accuracy["ci95_low"], 100 * accuracy["ci95_high"]]
            axes.plot(ends, [place, place], color=BLUE, linewidth=2.5)
        axes.plot(100 * accuracy["mean"], place, "|", color=BLUE, markersize=18, markeredgewidth=3)
    axes.axvline(100 * results[0].metrics["chance"], color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy, % of test videos")
    axes.set_title("accuracy by experiment", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _run_accuracies(result: Result) -> dict[object, float]:
    right: dict[object, list[bool]] = {}
    for row in result.predictions:
        right.setdefault(row["run"], []).append(row["label"] == row["predicted"])
    return {run: sum(answers) / len(answers) for run, answers in sorted(right.items(), key=str)}


def _draw_confusion(axes: Axes, result: Result, labels: Sequence[str]) -> None:
    place = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)))
    for row in result.predictions:
        counts[place[str(row["label"])], place[str(row["predicted"])]] += 1
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*shares.shape):
        colour = "white" if shares[row, column] > 0.5 else "#1c2733"
        text = f"{100 * shares[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_title(f"{result.name}: confusion, %", loc="left")


def _draw_attention(axes: Axes, result: Result) -> None:
    axes.set_title(f"{result.name}: attention", loc="left")
    rows = result.attention
    if not rows:
        axes.text(0.5, 0.5, "this head has no attention", ha="center", va="center")
        axes.set_axis_off()
        return
    name, run = str(rows[0]["name"]), rows[0]["run"]
    sheet: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["name"] == name and row["run"] == run:
            values = sheet.setdefault(str(row["video_id"]), {})
            values[int(str(row["row"]))] = float(str(row["value"]))
    videos = sorted(sheet)
    picture: NDArray[np.float64] = np.zeros(
        (len(videos), 1 + max(max(values) for values in sheet.values()))
    )
    for number, video in enumerate(videos):
        for column, value in sheet[video].items():
            picture[number, column] = value
    picture /= np.maximum(picture.max(axis=1, keepdims=True), 1e-12)
    axes.imshow(picture, cmap="magma", aspect="auto", vmin=0, vmax=1)
    axes.set_yticks(range(len(videos)), videos, fontsize=8)
    axes.set_xlabel(f"frame of the view ({name}, {run})")


if __name__ == "__main__":
    typer.run(main)
