"""Plates: a figure an experiment for a paper, videos as lines of pictures with weights below."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.results import figures
from stages.results.cards import Card
from stages.results.pictures import Frame
from stages.results.strips import Cell, Strip

MOST_LINES = 6
COLUMNS = 8

CELL_IN = 0.94 * figures.PAGE_IN / COLUMNS
"""Width of a picture, inches."""

TALLEST_IN = 9.0
"""Height of a page of print, inches."""

BAR_IN, GAP_IN = 0.28, 0.22
"""Height of the bars, and of the words between two lines, inches."""


def plate(name: str, cards: Sequence[Card]) -> Figure | None:
    """Return a figure of an experiment's strips; None where no row is weighed.

    A line is the first weighed strip of a video, a video a class (label, dimension); of many rows
    as many evenly apart as there is room for, that of the most weight among them.

    Args:
        name: of the experiment.
        cards: in the order of the page.
    """
    lines = _lines(cards)
    if not lines:
        return None
    heights_in = [_pictures_in(strip) + BAR_IN + 2 * GAP_IN for _, strip, _ in lines]
    fitting = max(int(np.searchsorted(np.cumsum(heights_in), TALLEST_IN, side="right")), 1)
    lines, bottom_in = lines[:fitting], sum(heights_in[:fitting])
    videos = ", ".join(card.choice.answer[1] for card, _, _ in lines)
    alt = f"{name}: rows of {videos} with their weights"
    figure = figures.new(alt, figures.PAGE_IN, bottom_in)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top_in = bottom_in
    for (card, strip, cells), height_in in zip(lines, heights_in, strict=False):
        bottom_in -= height_in
        _draw(axes, card, strip, cells, bottom_in)
    if any(bar.is_planted for _, _, cells in lines for cell in cells for bar in cell.bars):
        where = (figures.PAGE_IN - 0.06, top_in - GAP_IN + 0.05)
        axes.text(*where, "planted", ha="right", color=figures.PALETTE[1])
    axes.set(xlim=(0, figures.PAGE_IN), ylim=(0, top_in))
    return figure


def _lines(cards: Sequence[Card]) -> list[tuple[Card, Strip, list[Cell]]]:
    lines: list[tuple[Card, Strip, list[Cell]]] = []
    names: set[str] = set()
    for card in cards:
        strip = next((strip for strip in card.strips if any(c.bars for c in strip.cells)), None)
        name = card.choice.of or card.choice.label
        if strip is None or name in names or len(lines) == MOST_LINES:
            continue
        names.add(name)
        lines.append((card, strip, [strip.cells[place] for place in _places(strip)]))
    return lines


def _places(strip: Strip) -> list[int]:
    """Return which cells of a strip are shown: evenly apart, with that of the most weight."""
    count = min(len(strip.cells), COLUMNS)
    places = [int(place) for place in np.rint(np.linspace(0, len(strip.cells) - 1, count))]
    shares = [max((bar.share for bar in cell.bars), default=0.0) for cell in strip.cells]
    most = int(np.argmax(shares))
    if most not in places:
        nearest = min(range(count), key=lambda number: abs(places[number] - most))
        places[nearest] = most
    return places


def _pictures_in(strip: Strip) -> float:
    """Return how tall the pictures of a cell are together, inches."""
    sheets = [layer.sheet for layer in strip.layers if layer.sheet]
    return sum(CELL_IN * sheet.size[1] / sheet.size[0] for sheet in sheets)


def _draw(axes: Axes, card: Card, strip: Strip, cells: Sequence[Cell], bottom_in: float) -> None:
    """Draw a line into axes that are counted in inches; it begins at ``bottom_in``."""
    choice = card.choice
    answer = f"{choice.label}, answered {choice.predicted}"
    if choice.predicted in choice.chances:
        answer += f" ({choice.chances[choice.predicted]:.0%})"
    base_in = bottom_in + GAP_IN
    top_in = base_in + BAR_IN + _pictures_in(strip)
    axes.text(0.03, top_in + 0.05, f"{choice.answer[1]}: {answer}")
    layers = [(at, layer.sheet) for at, layer in enumerate(strip.layers) if layer.sheet]
    pictures = {at: _pictures(sheet.data, sheet.count) for at, sheet in layers}
    for column, cell in enumerate(cells):
        left_in = 0.03 + column * figures.PAGE_IN / COLUMNS
        above_in = top_in
        for at, sheet in layers:
            low_in = above_in - CELL_IN * sheet.size[1] / sheet.size[0]
            if (place := cell.pictures[at]) is not None:
                where = (left_in, left_in + CELL_IN, low_in, above_in)
                axes.imshow(
                    pictures[at][place], extent=where, aspect="auto", interpolation="nearest"
                )
            above_in = low_in
        step_in = CELL_IN / max(len(cell.bars), 1)
        axes.bar(
            [left_in + (number + 0.5) * step_in for number in range(len(cell.bars))],
            [0.95 * BAR_IN * bar.share for bar in cell.bars],
            width=0.5 * step_in,
            bottom=base_in,
            color=[figures.PALETTE[1 if bar.is_planted else 0] for bar in cell.bars],
        )
        axes.hlines(base_in, left_in, left_in + CELL_IN, color=figures.INK, linewidth=0.6)
        words = " · ".join(filter(None, (cell.weight, cell.time)))
        axes.text(left_in, base_in - 0.03, words, va="top", fontsize=6)


def _pictures(data: bytes, count: int) -> list[Frame]:
    """Return the pictures of a sheet."""
    return np.split(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), count, axis=1)
