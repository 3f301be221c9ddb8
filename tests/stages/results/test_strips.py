"""Strips: many rows under few pictures, masks, weights of any size, what is said of them."""

from pathlib import Path

import numpy as np
import pytest

from stages.results.attention import RowWeights
from stages.results.page import Budget
from stages.results.pictures import MOST_PICTURES
from stages.results.sheets import Sheets
from stages.results.strips import LINE_CELLS, Asked, Source, Strip, strip, written
from tests.stages.results.made_views import noise, write_view

ANSWER = ("run", "joy/a")
SOURCE = Source("frame", "segments", "vgg16", "vgg16", {})


def strip_of(
    weights: np.ndarray | None, pts_s: np.ndarray, maps: np.ndarray | None = None
) -> Strip:
    """Return the strip of a video with these weights, its frames below the current folder."""
    attention = RowWeights("scores", "frame", pts_s={ANSWER: pts_s})
    if weights is not None:
        attention.weights[ANSWER] = weights
    if maps is not None:
        attention.maps[ANSWER] = maps
    found = strip(Asked(ANSWER, Sheets("show", Budget(1e6))), SOURCE, [attention])
    assert found
    return found


def test_many_rows_have_a_bar_each_and_share_pictures(in_folder: Path) -> None:
    pts_s = np.arange(100) / 10
    write_view("segments", "joy/a", noise(100, 32, 40), pts_s)
    found = strip_of(np.linspace(0.1, 1, 100), pts_s)
    assert len(found.cells) == 25 <= MOST_PICTURES
    assert sum(len(cell.bars) for cell in found.cells) == 100
    assert not any(cell.weight for cell in found.cells)
    assert "A picture stands for 4 rows, of which it is the middle one." in found.facts
    assert found.layers[0].sheet and found.layers[0].sheet.count == 25
    assert found.line == 9 <= LINE_CELLS  # 9, 9 and 7


def test_rows_past_the_clip_are_left_out_and_masked_ones_are_told(in_folder: Path) -> None:
    pts_s = np.array([0.0, 1.0, 2.0, np.nan, np.nan])
    valid = np.array([True, False, True, False, False])
    write_view("segments", "joy/a", noise(5, 32, 40), pts_s, valid)
    found = strip_of(np.array([0.25, 0, 0.75, 0, 0]), pts_s)
    assert [(cell.bars[0].is_seen, cell.pictures) for cell in found.cells] == [
        (True, (0,)),
        (False, (None,)),
        (True, (1,)),
    ]
    assert found.facts == ("The weights are worth 1.6 of 2 rows.",)
    assert "most weight, 0.75, at 2.0 s" in found.alt


def test_weights_below_zero_have_no_bar_and_their_sign(in_folder: Path) -> None:
    pts_s = np.arange(3.0)
    write_view("segments", "joy/a", noise(3, 32, 40), pts_s)
    found = strip_of(np.array([-0.5, 0.5, 0.25]), pts_s)
    assert [cell.bars[0].share for cell in found.cells] == [0, 1, 0.5]
    assert [cell.weight for cell in found.cells] == ["−0.50", "0.50", "0.25"]
    assert found.facts == ()
    none = strip_of(np.zeros(3), pts_s)
    assert [cell.bars[0].share for cell in none.cells] == [0, 0, 0]


def test_colour_is_said_in_times_an_even_share(in_folder: Path) -> None:
    pts_s = np.arange(2.0)
    write_view("segments", "joy/a", noise(2, 224, 224), pts_s)
    maps = np.full((2, 2, 2), 0.25)
    maps[1] = [[0.7, 0.1], [0.1, 0.1]]
    found = strip_of(None, pts_s, maps)
    assert found.heat and found.heat.count == 2
    assert "Colour: scores, at most 2.8 times an even share." in found.facts
    assert not any(cell.bars for cell in found.cells)
    channels = strip_of(np.ones(2), pts_s, np.array([[0.5, 0.5, 0, 0], [1.0, 0, 0, 0]]))
    assert "scores: worth 1.5 of 4 a row." in channels.facts and channels.heat is None


@pytest.mark.parametrize(
    ("weight", "largest", "text"),
    [
        (0.123, 0.5, "0.12"),
        (0.0123, 0.05, "0.012"),
        (0.00123, 0.0099, "0.0012"),
        (-3.0, 12.0, "−3.00"),
        (0.0, 0.0, "0.00"),
    ],
)
def test_the_largest_weight_has_two_digits(weight: float, largest: float, text: str) -> None:
    assert written(weight, largest) == text
