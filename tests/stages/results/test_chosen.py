"""Which videos are shown: by their probabilities, each once, as many as there is room for."""

from pathlib import Path
from typing import Any

import pytest

from stages.results.chosen import ASKED, RIGHT, UNCERTAIN, WRONG, choose
from stages.results.files import Result
from tests.stages.results.made_results import write_result

CLASSES = ("joy", "sadness")


def row(run: str, video_id: str, joy: float) -> dict[str, Any]:
    """Return a row of the predictions."""
    chances = {"p_joy": joy, "p_sadness": 1 - joy}
    answer = {"predicted": "joy" if joy >= 0.5 else "sadness"}
    return {"run": run, "video_id": video_id, "label": video_id.split("/")[0]} | answer | chances


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """Two runs; of joy in the first: two right, two wrong."""
    made = write_result(tmp_path, "caan", classes=CLASSES, runs=2)
    made.predictions[:] = [
        row("split_00", "joy/sure", 0.9),
        row("split_00", "joy/hardly", 0.51),
        row("split_00", "joy/off", 0.4),
        row("split_00", "joy/far", 0.1),
        row("split_00", "sadness/only", 0.2),
        row("split_01", "joy/surest", 0.99),
        row("split_01", "sadness/other", 0.3),
    ]
    return made


def chosen(result: Result, *videos: str, most: int = 9) -> list[tuple[str, str]]:
    return [(c.answer[1], c.why) for c in choose(result, videos, most)]


def test_each_class_has_its_surest_right_and_wrong_and_its_least_sure_video(result: Result) -> None:
    assert chosen(result) == [
        ("joy/sure", RIGHT),
        ("sadness/only", RIGHT),
        ("joy/far", WRONG),
        ("joy/hardly", UNCERTAIN),
    ]


def test_videos_asked_for_come_first_in_the_run_that_tested_them(result: Result) -> None:
    choices = choose(result, ["sadness/other", "joy/sure", "joy/sure", "joy/none"], 9)
    assert [(c.answer, c.why) for c in choices[:2]] == [
        (("split_01", "sadness/other"), ASKED),
        (("split_00", "joy/sure"), ASKED),
    ]
    assert (choices[2].answer[1], choices[2].why) == ("joy/hardly", RIGHT)


def test_where_there_is_room_for_few_the_right_ones_of_all_classes_come_first(
    result: Result,
) -> None:
    assert chosen(result, most=2) == [("joy/sure", RIGHT), ("sadness/only", RIGHT)]
    assert chosen(result, "joy/off", most=1) == [("joy/off", ASKED)]


def test_entropy_is_largest_where_all_is_alike(result: Result) -> None:
    by_video = {c.answer[1]: c for c in choose(result, [], 9)}
    assert by_video["joy/hardly"].entropy == pytest.approx(0.693, abs=1e-3)
    assert by_video["joy/sure"].entropy < by_video["sadness/only"].entropy
