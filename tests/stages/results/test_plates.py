"""Plates: a video a class, few rows evenly apart with that of the most weight, a page high."""

import numpy as np
import pytest

from stages.results import figures
from stages.results.cards import Card
from stages.results.chosen import RIGHT, Choice
from stages.results.pictures import encoded
from stages.results.plates import COLUMNS, MOST_LINES, TALLEST_IN, plate
from stages.results.sheets import Sheet
from stages.results.strips import Bar, Cell, Layer, Strip
from tests.stages.results.made_views import noise


def made(label: str, rows: int, most: int, layers: int = 1, planted: int = -1) -> Card:
    """Return a card of a video with `rows` rows, the most weight in row `most`."""
    sheet = Sheet(
        0, encoded(np.hstack(noise(rows, 12, 16))), "image/webp", rows, (16, 12), (12, 16)
    )
    cells = tuple(
        Cell(
            (Bar(1.0 if row == most else 0.1, True, row == planted),),
            (row,) * layers,
            None,
            "",
            f"{row}.0 s",
            f"0.{row:02d}",
            row == planted,
        )
        for row in range(rows)
    )
    role = Strip("face", "w", (Layer("face", "crops", sheet),) * layers, cells, None, None, "", ())
    choice = Choice(("r", f"{label}/v$1$"), label, label, {label: 0.7}, RIGHT)
    return Card(choice, (role,), (), (), {}, frozenset())


def words(*cards: Card) -> list[str]:
    """Return the text of the plate of these cards."""
    figure = plate("e", cards)
    assert figure
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def test_few_rows_are_shown_evenly_apart_and_that_of_the_most_weight_is_one() -> None:
    shown = words(made("joy", rows=30, most=7))
    assert len(shown) == 1 + COLUMNS and "0.07 · 7.0 s" in shown
    assert shown[0] == "joy/v$1$: joy, answered joy (70%)"
    assert {"0.00 · 0.0 s", "0.29 · 29.0 s"} <= set(shown)
    assert len(words(made("joy", rows=3, most=0))) == 1 + 3


def test_a_class_has_one_line_and_the_plate_fits_a_page() -> None:
    many = [made(f"c{number // 2}", 8, 0) for number in range(40)]
    figure = plate("e", many)
    assert figure
    assert sum(":" in text.get_text() for text in figure.axes[0].texts) == MOST_LINES
    tall = plate("e", [made(f"c{number}", 8, 0, layers=4) for number in range(9)])
    assert tall
    width, height = tall.get_size_inches()
    assert width == pytest.approx(figures.PAGE_IN) and 4 < height <= TALLEST_IN


def test_planted_rows_are_explained_where_there_are_any() -> None:
    assert "planted" not in words(made("joy", 4, 0))
    assert "planted" in words(made("joy", 4, 0, planted=2))


def test_without_a_weighed_row_there_is_no_plate() -> None:
    assert plate("e", []) is None
    bare = made("joy", 2, 0)
    empty = Card(bare.choice, (), (), (), {}, frozenset())
    assert plate("e", [empty]) is None


def test_the_same_cards_have_the_same_bytes() -> None:
    first, second = (plate("e", [made("joy", 3, 1)]) for _ in range(2))
    assert first and second
    assert figures.svg(first, "a") == figures.svg(second, "a")
    assert "<image" in figures.svg(first, "a") and "v$1$" in figures.svg(first, "a")
