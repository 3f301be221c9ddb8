"""What the report draws: pieces of HTML that need no network and fit a phone.

Text stays text; only training curves are drawn by matplotlib, as SVG, and attention is a picture
of one pixel a weight, which the browser enlarges.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

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
