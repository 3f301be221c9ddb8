"""Figures: one style for all, as files for a paper and as pictures of the page.

A figure is as wide as it is printed, so its letters are as large as the style says. On the page it
stands in the page's own ink, light or dark, for which everything that is no colour of `PALETTE` is
drawn in `INK`, fainter by its opacity. Text stays text. The same figure has the same bytes.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.results.table import one_line

INK = "#1b2530"
"""Of lines and letters; on the page the colour of its text."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito, Color Universal Design, 2008, but for black and yellow; those that stand out on
white and on black first."""

MAP = "#0070b0"
"""Of a map's cells: letters stand on it, so that it is the same in light and in dark."""

COLUMN_IN, PAGE_IN = 3.4, 7.0
"""Width in inches of a figure in one column of a paper, and across two."""

PNG_DPI = 300

_DEEPEST = 0.7
"""Opacity of a map's fullest cell: letters stand out on it in light and in dark."""

_MOST_NUMBERS = 16
"""Columns of a map whose cells are wide enough for a number."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: places are the same on each machine
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "axes.prop_cycle": cycler(color=PALETTE),
    "text.parse_math": False,  # a name may have dollar signs
    "svg.fonttype": "none",
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
}

# One process draws one page: whatever style this machine's matplotlibrc has, it is not asked for.
matplotlib.rcdefaults()
matplotlib.rcParams.update(_STYLE)

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def new(alt: str, width_in: float = COLUMN_IN, height_in: float = 2.4) -> Figure:
    """Return an empty figure in the project's style.

    Args:
        alt: what it shows, in words, for who cannot see it.
        width_in: `COLUMN_IN`, or at most `PAGE_IN`.
        height_in: in inches too.
    """
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.set_label(alt)
    return figure


def label(name: str, longest: int = 24) -> str:
    """Return a name for a figure: in one line, and cut where it is long."""
    text = one_line(name)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def draw_intervals(
    axes: Axes,
    names: Sequence[str],
    runs: Sequence[Sequence[float]],
    means: Sequence[float],
    intervals: Sequence[tuple[float | None, float | None]],
) -> None:
    """Draw experiments below each other: a dot a run, a bar the interval, the mean on it.

    Args:
        axes: to draw in; the axis is in per cent.
        names: of the experiments, the first on top.
        runs: of each, a share (or a difference of shares) of each run.
        means: of each, over its runs.
        intervals: of each, or two None.
    """
    for place, (dots, mean, (low, high)) in enumerate(zip(runs, means, intervals, strict=True)):
        if len(dots) > 1:
            places = np.full(len(dots), place)
            axes.plot(100 * np.array(dots), places, "o", color=INK, alpha=0.35, markersize=3)
        if low is not None and high is not None:
            axes.plot([100 * low, 100 * high], [place, place], color=PALETTE[0])
        axes.plot([100 * mean], [place], "D", color=PALETTE[0], markersize=4.5)
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def draw_heat(
    axes: Axes, shares: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Draw a map of shares, the deeper the larger, with the numbers in per cent.

    Args:
        axes: to draw in.
        shares: (rows, columns), in 0..1.
        rows: names at the left.
        columns: names above.
    """
    cells = np.empty((*shares.shape, 4))
    cells[..., :3] = to_rgb(MAP)
    cells[..., 3] = _DEEPEST * np.clip(shares, 0, 1)
    axes.pcolormesh(cells, edgecolors="none")
    if len(columns) <= _MOST_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            text = f"{100 * share:.0f}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.5)
    axes.set_xticks(np.arange(len(columns)) + 0.5, [label(name, 16) for name in columns])
    axes.set_yticks(np.arange(len(rows)) + 0.5, [label(name) for name in rows])
    axes.invert_yaxis()
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    axes.tick_params(axis="x", rotation=90)  # cells are narrower than names
    axes.spines[["left", "bottom"]].set_visible(False)


def svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG file.

    Args:
        figure: made by `new`.
        name: what its ids are made of.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), _any_letter():
        figure.savefig(buffer, format="svg", metadata=_NOTHING, transparent=True)
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", buffer.getvalue())


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file, on white, `PNG_DPI` dots an inch."""
    buffer = io.BytesIO()
    with _any_letter():
        figure.savefig(
            buffer, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None}
        )
    return buffer.getvalue()


def inline(drawn: str, name: str, alt: str) -> str:
    """Return a figure's SVG file as SVG that stands in the page.

    Its ids are unlike those of other figures, its ink is the text's colour, those of `PALETTE` are
    the page's `--colour-0` and so on, which are lighter in the dark, its width is its container's,
    and it brings no style that others would have too.

    Args:
        drawn: what `svg` gave.
        name: unique in the page, of letters that an id may have.
        alt: what it shows, in words.
    """
    root = ElementTree.fromstring(drawn)
    places = [element for element in root.iter() if element.get(f"{_XLINK}href")]
    used = {str(element.get(f"{_XLINK}href"))[1:] for element in places}
    for parent in root.iter():
        for element in [child for child in parent if child.tag in (f"{_SVG}style",)]:
            parent.remove(element)
    for element in root.iter():
        _make_inline(element, name, used)
    box = root.get("viewBox", "0 0 1 1").split()
    root.attrib = {
        "viewBox": " ".join(box),
        "role": "img",
        "aria-label": one_line(alt),
        # 4 px for 3 pt: as large as in print, at most twice as wide, never wider than its place
        "style": f"max-width: {float(box[2]) * 2:.0f}px",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _make_inline(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Take namespaces, ids that nothing names and the ink out of an element."""
    element.tag = element.tag.removeprefix(_SVG)
    if element.tail:
        element.tail = element.tail.strip() or None
    if element.tag not in ("text", "tspan") and element.text:
        element.text = element.text.strip() or None
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        if key == "id":
            if value in used or element.tag in ("clipPath", "linearGradient"):
                element.set("id", f"{name}-{value}")
            continue
        value = re.sub(r"url\(#", f"url(#{name}-", value).replace(INK, "currentColor")
        if key == f"{_XLINK}href":
            key, value = "href", f"#{name}-{value[1:]}" if value.startswith("#") else value
        if key == "d":
            value = " ".join(value.split())
        if key == "style":
            for number, colour in enumerate(PALETTE):
                value = value.replace(colour, f"var(--colour-{number})")
            value = re.sub(r"font-family: [^;]*;? ?", "", value)
            value = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value)
        element.set(key, value)


@contextmanager
def _any_letter() -> Iterator[None]:
    """Let text be in letters that the font lacks: a viewer of SVG has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
