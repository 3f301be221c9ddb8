"""Figures: one style for all, as files for a paper and as pictures of the page.

A figure is as wide as it is printed, so its letters are as large as the style says. On the page it
stands in the page's own ink, light or dark, for which everything that is no colour of `PALETTE` is
drawn in `INK`, fainter by its opacity. Text stays text. The same figure has the same bytes.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

INK = "#1b2530"
"""Of lines and letters; on the page the colour of its text."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito, Color Universal Design, 2008, but for black and yellow; those that stand out on
white and on black first."""

COLUMN_IN, PAGE_IN = 3.4, 7.0
"""Width in inches of a figure in one column of a paper, and across two."""

PNG_DPI = 300

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


def inline(figure: Figure, name: str) -> str:
    """Return a figure as SVG to stand in the page.

    Its ids are unlike those of other figures, its ink is the text's colour, its width its
    container's, and it brings no style that others would have too.

    Args:
        figure: made by `new`.
        name: unique in the page, of letters that an id may have.
    """
    root = ElementTree.fromstring(svg(figure, name))
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
        "aria-label": str(figure.get_label()),
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
            value = re.sub(r"font-family: [^;]*;? ?", "", value)
            value = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value)
        element.set(key, value)


@contextmanager
def _any_letter() -> Iterator[None]:
    """Let text be in letters that the font lacks: a viewer of SVG has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
