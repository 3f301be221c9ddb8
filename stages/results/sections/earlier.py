"""The report's sections: each takes what it shows and returns HTML, empty where there is none."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from features.cache import tables
from stages.results.attention import read_attention
from stages.results.compare import MCNEMAR, Comparison, PaperTable, compare
from stages.results.files import Result
from stages.results.sections import earlier_figures as figures

# ------------------------------------------------------------------------------- accuracy


def accuracy(results: Sequence[Result]) -> str:
    """Return the table of experiments: features, accuracy with its spread, macro F1."""
    scale = figures.axis("0", "50", "100 %")
    head = [
        ("experiment", False),
        ("features", False),
        (scale, False),
        ("accuracy, %", True),
        ("corrected 95 % interval", True),
        ("macro F1, %", True),
    ]
    rows = []
    for result in results:
        metrics, about = result.metrics, result.about
        accuracy, f1 = metrics["accuracy"], metrics["macro_f1"]
        roles = "<br>".join(
            f"{html.escape(role)}: <code>{html.escape(source)}</code>"
            for role, source in about["roles"].items()
        )
        weights = "pretrained" if metrics["pretrained"] else "seeded"
        rows.append(
            (
                f"<b>{html.escape(result.name)}</b><br>"
                f"<small>{html.escape(about['head'])}, {weights} features</small>",
                f"<span>{roles}</span>",
                figures.strip(
                    accuracy["mean"],
                    _corrected(accuracy),
                    _run_accuracies(result),
                    metrics["chance"],
                    (0, 1),
                ),
                f"<span><b>{_percent(accuracy['mean'])}</b>{_spread(accuracy['std'])}</span>",
                _interval(*_corrected(accuracy)),
                f"{_percent(f1['mean'])}{_spread(f1['std'])}",
            )
        )
    first = results[0].metrics
    spread = (
        "A dot is a run, the upright bar their mean ± standard deviation, the line its 95 % "
        "interval, corrected for the videos that the runs share (Nadeau and Bengio 2003); the "
        "plain one, as if they shared none, is too narrow and stands in results/*.json beside it. "
    )
    return figures.table(head, rows, "cards") + (
        f"<p><small>{spread if len(results[0].runs) > 1 else ''}Dashed: chance, "
        f"{_percent(first['chance'])} %. The commonest class alone gives "
        f"{_percent(first['commonest_class'])} %.</small></p><p><small>Nothing is chosen on the "
        f"test videos. {_selection(results)}</small></p>"
    )


def _selection(results: Sequence[Result]) -> str:
    """Say which network answered, experiment by experiment where they differ."""
    by_rule: dict[str, list[str]] = {}
    for result in results:
        by_rule.setdefault(str(result.about["selection"]), []).append(result.name)
    lines = [
        f"{', '.join(names) if len(by_rule) > 1 else 'In every run'}: the network of the {rule} "
        "answers."
        for rule, names in by_rule.items()
    ]
    return html.escape(" ".join(lines))


def _run_accuracies(result: Result) -> list[float]:
    right: dict[str, list[bool]] = {}
    for row in result.predictions:
        right.setdefault(str(row["run"]), []).append(row["label"] == row["predicted"])
    return [sum(answers) / len(answers) for _, answers in sorted(right.items())]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _spread(std: float | None) -> str:
    """Return the deviation behind a mean; one run has none."""
    return "" if std is None else f" ± {_percent(std)}"


def _corrected(score: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the corrected interval of a score over runs."""
    return score["ci95_corrected_low"], score["ci95_corrected_high"]


def _interval(low: float | None, high: float | None) -> str:
    """Return an interval in per cent; one run has none."""
    return "–" if low is None or high is None else f"{_signed(low, '')} to {_signed(high, '')}"


def _signed(share: float, plus: str = "+") -> str:
    text = f"{100 * share:{plus}.1f}"
    return text.replace("-", "−")


# ---------------------------------------------------------------------------- differences


def differences(results: Sequence[Result]) -> str:
    """Compare every experiment with the first; nothing where there is one alone."""
    if len(results) == 1:
        return ""
    comparisons: list[Comparison] = []
    other = []
    for result in results[1:]:
        try:
            comparisons.append(compare(result, results[0]))
        except ValueError as error:
            other.append(f"<p class=void>{html.escape(str(error))}</p>")
    first = html.escape(results[0].name)
    if not comparisons:
        return "".join(other)
    sizes = [abs(a - b) for comparison in comparisons for a, b in comparison.runs.values()]
    sizes += [abs(end or 0) for comparison in comparisons for end in _ends(comparison)]
    reach = min(1.0, max(0.1, -(-max(sizes) // 0.1) / 10))
    scale = figures.axis(f"−{100 * reach:.0f}", "0", f"+{100 * reach:.0f}")
    interval = "95 % interval" if comparisons[0].test == MCNEMAR else "corrected 95 % interval"
    head = [(f"less {first}", False), (scale, False), ("points", True), (interval, True)]
    rows = [
        (
            f"<b>{html.escape(comparison.first)}</b>",
            figures.strip(
                _mean(comparison), _ends(comparison), _gaps(comparison), 0, (-reach, reach)
            ),
            f"<b>{_signed(_mean(comparison))}</b>",
            _interval(*_ends(comparison)),
            _p(comparison.difference["p"]),
        )
        for comparison in comparisons
    ]
    how = (
        f"By {MCNEMAR} on the test videos of the single split; interval of Bonett and Price."
        if comparisons[0].test == MCNEMAR
        else "By the corrected resampled t-test (Nadeau and Bengio 2003), which allows for the "
        "videos that the runs share, as its interval does."
    )
    many = (
        f" The {len(comparisons)} p values are not corrected for their number."
        if comparisons[1:]
        else ""
    )
    return (
        figures.table([*head, ("p", True)], rows, "cards")
        + "".join(other)
        + f"<p><small>Accuracy less that of {first}, the first experiment, in points, pair by pair "
        f"on the same runs and videos. A dot is a run. {how}{many} Any other two: "
        "<code>affectline compare</code>.</small></p>"
    )


def _mean(comparison: Comparison) -> float:
    return float(comparison.difference["mean"] or 0)


def _ends(comparison: Comparison) -> tuple[float | None, float | None]:
    """Return the interval of a difference, of the test that the comparison names."""
    return comparison.difference["ci95_low"], comparison.difference["ci95_high"]


def _gaps(comparison: Comparison) -> list[float]:
    return [a - b for a, b in comparison.runs.values()]


def _p(value: float | int | None) -> str:
    if value is None:
        return "–"
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


# --------------------------------------------------------------------------------- papers


def papers(printed: Sequence[PaperTable], dataset: str | None, broken: Sequence[str] = ()) -> str:
    """Return the papers' tables with ours beside; nothing where no row of one was run.

    Args:
        printed: the tables.
        dataset: name of the data, as the papers call it.
        broken: what is wrong with heads whose tables are therefore not among them.
    """
    lacking = "".join(
        f"<p><small>Left out: the tables of {html.escape(line)}</small></p>" for line in broken
    )
    if not printed:
        return lacking
    note = (
        "<p><small>Accuracy in %. Ours is the experiment that has the row's head, roles and "
        "hyper-parameters; – was not run.</small></p>"
    )
    return (
        lacking
        + note
        + figures.panels(
            (
                (f"{table.paper}, {table.table}: {table.data}", _paper(table, dataset))
                for table in printed
            ),
            "columns",
        )
    )


def _paper(table: PaperTable, dataset: str | None) -> str:
    same = dataset is not None and dataset.casefold() == table.data.casefold()
    head = [("row", False), ("paper", True), ("ours", True)]
    rows = []
    for reported, ours in table.rows:
        cells = [
            f"<b>{_percent(result.metrics['accuracy']['mean'])}</b>"
            f"{_spread(result.metrics['accuracy']['std'])}<br><small>"
            f"{html.escape(_told_apart(result, ours))}</small>"
            for result in ours
        ]
        rows.append(
            (html.escape(reported.name), _percent(reported.accuracy), "<br>".join(cells) or "–")
        )
    drawn = figures.table(head, rows) + _unlike(table) + _by_class(table)
    if same:
        return drawn
    ours_is = html.escape(dataset) if dataset else "unnamed videos (index.dataset)"
    return (
        f"<figcaption>Not comparable: {html.escape(table.data)} in the paper, {ours_is} here."
        f"</figcaption>{drawn}"
    )


def _told_apart(result: Result, ours: Sequence[Result]) -> str:
    """Return the name of a result, and what it reads where several are the same row."""
    if len(ours) == 1:
        return result.name
    return f"{result.name}: {', '.join(result.about['roles'].values())}"


_OWN = ("epochs", "seed", "threads")
"""Settings of training that may differ within a table: epochs are those of a phase."""


def _unlike(table: PaperTable) -> str:
    """Say which of our rows were trained otherwise than others; nothing where all were alike."""
    trained = {
        result.name: {k: v for k, v in result.about["training"].items() if k not in _OWN}
        for _, ours in table.rows
        for result in ours
    }
    names = sorted({name for settings in trained.values() for name in settings})
    differ = [k for k in names if len({json.dumps(s.get(k)) for s in trained.values()}) > 1]
    if not differ:
        return ""
    alike: dict[str, list[str]] = {}
    for name, settings in trained.items():
        text = ", ".join(f"{k} {json.dumps(settings.get(k))}" for k in differ)
        alike.setdefault(text, []).append(name)
    lines = "; ".join(f"{', '.join(group)}: {text}" for text, group in alike.items())
    return f"<p class=void>Not trained alike, so not to be compared: {html.escape(lines)}.</p>"


def _by_class(table: PaperTable) -> str:
    """Return accuracy class by class, the paper's and ours, of the rows of which it is printed."""
    drawn = []
    for reported, ours in table.rows:
        columns = list(reported.classes)
        lines = {"paper": [100 * share for share in reported.classes.values()]}
        for result in ours:
            recall = {
                row["class"].casefold(): 100 * float(row["recall"]) for row in result.per_class
            }
            if all(name.casefold() in recall for name in columns):
                lines[result.name] = [recall[name.casefold()] for name in columns]
        if columns and len(lines) > 1:
            drawn.append(
                (reported.name, figures.heat(list(lines), columns, list(lines.values()), "{:.1f}"))
            )
    if not drawn:
        return ""
    summary = "<summary>Class by class: % of its videos that are right</summary>"
    return f"<details>{summary}{figures.panels(drawn)}</details>"


# -------------------------------------------------------------------------------- classes


def classes(results: Sequence[Result]) -> str:
    """Return F1 of each class, class by class beside each other, and what it is made of."""
    classes = [row["class"] for row in results[0].per_class]
    f1 = [{row["class"]: 100 * float(row["f1"]) for row in result.per_class} for result in results]
    names = [result.name for result in results]
    table = figures.heat(names, classes, [[found[name] for name in classes] for found in f1])
    kinds = ("precision", "recall", "f1")
    details = figures.panels(
        (
            result.name,
            figures.heat(
                [row["class"] for row in result.per_class],
                kinds,
                [[100 * float(row[kind]) for kind in kinds] for row in result.per_class],
            ),
        )
        for result in results
    )
    return (
        f"{table}<p><small>F1 of each class in %, mean over the runs.</small></p>"
        f"<details><summary>Precision, recall and F1</summary>{details}</details>"
    )


def confusion(results: Sequence[Result]) -> str:
    """Return the confusion of each experiment."""
    shown = figures.panels(
        (result.name, figures.confusion(result.predictions, result.about["classes"]))
        for result in results
    )
    return (
        f"{shown}<p><small>Rows are the true classes, columns the answers, in % of the true "
        "class's test videos, all runs together.</small></p>"
    )


# ----------------------------------------------------------------- training and attention


def training(results: Sequence[Result]) -> str:
    """Return the training curves of each experiment."""
    shown = figures.panels((result.name, figures.curves(result.curves)) for result in results)
    return (
        f"{shown}<p><small>Thin lines are runs, the thick one is their mean; dashed lines part the "
        "phases.</small></p>"
    )


def attention(results: Sequence[Result]) -> str:
    """Return what each experiment's head attends to."""
    shown, without = [], []
    for result in results:
        kinds = read_attention(result)
        if not kinds:
            without.append(html.escape(result.name))
        shown += [(result.name, figures.attention(weights)) for weights in kinds]
    if not shown:
        return ""
    legend = (
        "The deeper the blue, the more weight: in sheets and tables from none to the largest of "
    )
    legend += "the line (of the table), in maps between the two numbers. Grey: no such row, or one "
    legend += "that has no weight."
    if without:
        legend += f" No attention: {', '.join(without)}."
    return f"{figures.panels(shown)}<p><small>{legend}</small></p>"


# --------------------------------------------------------------------------------- origin


def sources(results: Sequence[Result]) -> str:
    """Return where the features came from, a row a backbone."""
    sources: dict[str, Any] = {}
    for result in results:
        sources |= result.about["features"]
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
    return figures.table(head, rows, "cards")


def settings(results: Sequence[Result]) -> str:
    """Return what each experiment was run with, folded away."""
    parts = []
    for result in results:
        about = result.about
        shown = {name: about[name] for name in ("head", "roles", "params", "training", "splits")}
        lines = "\n".join(f"{name}: {json.dumps(value)}" for name, value in shown.items())
        left_out = f", {len(about['missing'])} videos left out" if about["missing"] else ""
        parts.append(
            f"<details><summary>Settings of {html.escape(result.name)}: "
            f"{result.metrics['videos']} videos{left_out}</summary>"
            f"<pre>{html.escape(lines)}</pre></details>"
        )
    return "".join(parts)


def failed(rows: Sequence[tables.Row]) -> str:
    """Return the videos that no stage could use, each with its reason."""
    if not rows:
        return ""
    cells = [(html.escape(str(row["video_id"])), html.escape(str(row["reason"]))) for row in rows]
    return figures.table([("video", False), ("reason", False)], cells)
