"""What the report draws: pieces of HTML that need no network and fit a phone.

Text stays text; only training curves are drawn by matplotlib, as SVG, and attention is a picture
of one pixel a weight, which the browser enlarges.
"""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from features.cache import tables
from stages.results.attention import MapWeights, RoleWeights, RowWeights, Values, Weights

BLUE, ORANGE, GREY, INK = "#2b6ca3", "#c4661f", "#9aa4ad", "#1c2733"

_DARK = 0.65
"""Cells of a deeper colour than this have white text."""

# ---------------------------------------------------------------------------- arrangements


def table(head: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table; ``head`` is (name, whether its column holds numbers), all of it is HTML.

    A table of the kind `cards` becomes a card a row on a phone.
    """
    kinds = [" class=n" if number else "" for _, number in head]
    names = ["" if "<" in name else f' data-is="{name}"' for name, _ in head]
    first = "".join(f"<th{kind}>{name}</th>" for kind, (name, _) in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{k}{is_}>{cell}</td>" for k, is_, cell in zip(kinds, names, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class=scroll><table class="{kind}"><tr>{first}</tr>{body}</table></div>'


def panels(parts: Iterable[tuple[str, str]], kind: str = "panels") -> str:
    """Return small multiples, (title, HTML) each: in rows (`panels`) or in `columns`."""
    shown = "".join(
        f"<figure><h3>{html.escape(name)}</h3>{drawn}</figure>" for name, drawn in parts
    )
    return f"<div class={kind}>{shown}</div>"


# ---------------------------------------------------------------------------------- strips


def strip(
    mean: float,
    interval: tuple[float | None, float | None],
    dots: Iterable[float],
    line: float,
    span: tuple[float, float],
) -> str:
    """Return one line of a dot plot.

    Args:
        mean: over the runs.
        interval: its ends; None where there is none.
        dots: a value a run.
        line: where the dashed line is.
        span: values at the left and the right end.
    """

    def at(value: float) -> str:
        share = (value - span[0]) / (span[1] - span[0])
        return f"{100 * min(max(share, 0), 1):.1f}%"

    low, high = interval
    parts = [f'<s style="left:{at(line)}"></s>']
    parts += [f'<i style="left:{at(value)}"></i>' for value in dots]
    if low is not None and high is not None:
        width = 100 * (min(high, span[1]) - max(low, span[0])) / (span[1] - span[0])
        parts.append(f'<b style="left:{at(low)};width:{width:.1f}%"></b>')
    parts.append(f'<u style="left:{at(mean)}"></u>')
    return f"<div class=strip>{''.join(parts)}</div>"


def axis(*labels: str) -> str:
    """Return the head of a column of strips: labels from its left end to its right."""
    return f"<div class=axis>{''.join(f'<span>{label}</span>' for label in labels)}</div>"


# ------------------------------------------------------------------------------ heat tables


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    form: str = "{:.0f}",
    full: float = 100.0,
) -> str:
    """Return a table whose cells are the deeper blue the larger their value; ``full`` is deepest.

    Args:
        rows: names at the left.
        columns: names above, written upwards.
        values: a row of numbers for each of ``rows``.
        form: how a number is written.
        full: the value of the deepest colour.
    """
    head = "".join(f"<th class=up><span>{html.escape(name)}</span></th>" for name in columns)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(_cell(v, form, full) for v in cells)}</tr>"
        for name, cells in zip(rows, values, strict=True)
    )
    return f"<div class=scroll><table class=heat><tr><th></th>{head}</tr>{body}</table></div>"


def _cell(value: float, form: str, full: float) -> str:
    depth = min(max(value / full, 0.0), 1.0) if full > 0 else 0.0
    text = form.format(value)
    colour = "#fff" if depth > _DARK else INK if float(text) else GREY
    return f'<td style="background:rgba(43,107,163,{depth:.2f});color:{colour}">{text}</td>'


def confusion(predictions: Sequence[tables.Row], classes: Sequence[str]) -> str:
    """Return the confusion of all runs: rows are the true classes, in per cent of their videos."""
    place = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)))
    for row in predictions:
        counts[place[str(row["label"])], place[str(row["predicted"])]] += 1
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return heat(classes, classes, shares.tolist())


# ---------------------------------------------------------------------------------- curves


def curves(rows: Sequence[Mapping[str, str]]) -> str:
    """Return training loss and accuracy by epoch as SVG: a thin line a run, their mean thick."""
    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(3.8, 3.2), height_ratios=(1, 1.3), layout="constrained"
    )
    runs = {run: list(part) for run, part in groupby(rows, key=lambda row: row["run"])}
    _draw_lines(above, runs, "loss", BLUE, "")
    _draw_lines(below, runs, "accuracy", BLUE, "training", 100)
    if all(row["validation"] for row in rows):
        _draw_lines(below, runs, "validation", ORANGE, "validation", 100)
    phases = [row["phase"] for row in next(iter(runs.values()))]
    starts = [at for at in range(1, len(phases)) if phases[at] != phases[at - 1]]
    for axes, name in ((above, "loss"), (below, "accuracy, %")):
        axes.set_ylabel(name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6eaee")
        for start in starts:
            axes.axvline(start + 0.5, color=GREY, linestyle="--", linewidth=0.8)
    if starts:
        for start in (0, *starts):
            above.annotate(phases[start], (start + 1, 1), xycoords=("data", "axes fraction"))
    low, high = above.get_ylim()
    above.set_ylim(min(0, low), high + 0.05 * abs(high))
    below.set_ylim(0, 101)
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    below.legend(frameon=False, loc="lower right", handlelength=1)
    return _svg(figure, "training loss and accuracy by epoch")


def _draw_lines(
    axes: Axes,
    runs: Mapping[str, Sequence[Mapping[str, str]]],
    column: str,
    colour: str,
    label: str,
    scale: float = 1,
) -> None:
    lines = np.array([[scale * float(row[column]) for row in rows] for rows in runs.values()])
    epochs = np.arange(1, lines.shape[1] + 1)
    if len(lines) > 1:
        axes.plot(epochs, lines.T, color=colour, alpha=0.25, linewidth=0.8)
    axes.plot(epochs, lines.mean(axis=0), color=colour, linewidth=2, label=label, marker=".")


def _svg(figure: Figure, label: str) -> str:
    """Return a figure as SVG for a page; the same bytes each time, no address of a namespace."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    plt.close(figure)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", drawn, count=5)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


# ------------------------------------------------------------------------------- attention


def attention(weights: Weights) -> str:
    """Return one attention: a sheet of rows, mean maps, or a table of roles."""
    name = html.escape(weights.name)
    if isinstance(weights, RoleWeights):
        peak = max(float(values.max()) for values in weights.means.values())
        values = [shares.tolist() for shares in weights.means.values()]
        drawn = heat(list(weights.means), weights.roles, values, "{:.2f}", peak)
        caption = "mean weight of each role, by true class"
    elif isinstance(weights, MapWeights):
        low, high = _span(weights.means)
        drawn = _maps(weights.means, low, high)
        caption = f"mean map over the rows of {html.escape(weights.role)}, by true class, from "
        caption += f"{low:.2g} to {high:.2g}"
    else:
        drawn = _sheet(weights)
        caption = f"rows of {html.escape(weights.role)} from left to right, a line a test video of "
        caption += f"{html.escape(weights.run)}, by class{_effective(weights)}"
    return f"{drawn}<figcaption><code>{name}</code>: {caption}</figcaption>"


def _sheet(weights: RowWeights) -> str:
    longest = max(len(row) for videos in weights.videos.values() for row in videos.values())
    parts = []
    for label, videos in weights.videos.items():
        picture = np.full((len(videos), longest), np.nan)
        for number, values in enumerate(videos.values()):
            shares = values / max(values.max(initial=0), 1e-12)
            picture[number, : len(values)] = np.where(values == 0, np.nan, shares)
        height = max(1.1, 0.22 * len(videos))
        parts.append(f"<span>{html.escape(label)}</span>{_picture(picture, f'{height:.2f}rem')}")
    return f"<div class=sheet>{''.join(parts)}</div>"


def _effective(weights: RowWeights) -> str:
    """Say over how many rows the weights spread: (sum w)^2 / sum w^2, the mean over videos."""
    rows = [row for videos in weights.videos.values() for row in videos.values() if row.any()]
    if not rows or min(row.min() for row in rows) < 0:
        return ""
    spread = np.mean([row.sum() ** 2 / np.square(row).sum() for row in rows])
    given = np.mean([np.count_nonzero(row) for row in rows])
    return f". The weights of a video are worth {spread:.1f} of its {given:.1f} rows"


def _span(means: Mapping[str, Values]) -> tuple[float, float]:
    """Return the smallest and the largest value, where the colours of maps begin and end."""
    return (
        min(float(values.min()) for values in means.values()),
        max(float(values.max()) for values in means.values()),
    )


def _maps(means: Mapping[str, Values], low: float, high: float) -> str:
    """Return a tile a class; a map of one axis is a line, of more than two the mean of planes."""
    parts = []
    for label, values in means.items():
        plane = values.mean(axis=tuple(range(values.ndim - 2))) if values.ndim > 2 else values
        picture, name = (plane - low) / max(high - low, 1e-12), html.escape(label)
        if values.ndim == 1:
            parts.append(f"<span>{name}</span>{_picture(picture[None], '1.1rem')}")
        else:
            parts.append(f"<div>{_picture(picture, 'auto')}{name}</div>")
    kind = "sheet" if next(iter(means.values())).ndim == 1 else "tiles"
    return f"<div class={kind}>{''.join(parts)}</div>"


def _picture(shares: NDArray[np.float64], height: str) -> str:
    """Return shares in 0..1 as a picture of a pixel each; NaN is clear."""
    pixels = matplotlib.colormaps["Blues"](0.08 + 0.92 * np.clip(np.nan_to_num(shares), 0, 1))
    pixels[np.isnan(shares), 3] = 0
    buffer = io.BytesIO()
    plt.imsave(buffer, pixels, format="png", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" style="height:{height}" src="data:image/png;base64,{data}">'
