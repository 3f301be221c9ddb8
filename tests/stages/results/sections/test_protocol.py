from dataclasses import replace
from pathlib import Path

from features.cache import tables
from stages.engine.splits import Splits
from stages.results.sections import protocol
from stages.results.summary import summary
from tests.stages.results.made_page import Text, inputs_of, page_of
from tests.stages.results.made_results import write_result

RUNS = ("split_s0", "split_s1", "split_s2", "split_s3")


def rows_of(*, grouped: bool) -> list[tables.Row]:
    """Return videos of four speakers; a run tests one, or every other video of all."""
    rows: list[tables.Row] = []
    for place in range(24):
        speaker, label = place // 6, ("joy", "fear")[place % 2]
        row: tables.Row = {"video_id": f"{label}/s{speaker}_{place}", "label": label}
        row |= {"status": "ok", "reason": None} | ({"group": f"s{speaker}"} if grouped else {})
        for number, run in enumerate(RUNS):
            tests = speaker == number if grouped else place % 4 == number
            row[run] = "test" if tests else "train"
        rows.append(row)
    broken: tables.Row = {"video_id": "joy/x", "label": "joy", "status": "failed", "reason": "no"}
    return [*rows, broken | dict.fromkeys(RUNS) | ({"group": "s9"} if grouped else {})]


def test_each_run_says_which_groups_it_tests(tmp_path: Path) -> None:
    splits = Splits(kind="leave_one_group_out", groups="speaker")
    result = write_result(tmp_path / "made", "caan")
    inputs = replace(inputs_of(result, videos=rows_of(grouped=True)), splits=splits)
    section = protocol.section(inputs)
    assert section is not None
    assert section.tables["runs"].rows[1] == ("split_s1", 18, 6, 3, 1, "s1")
    assert section.tables["groups"].rows[0] == ("s0", 6, 3, 3, ("split_s0",))
    text = Text(page_of(inputs, protocol))
    assert "Each run leaves one group out and tests it; no speaker is on both sides" in text
    assert "(4 in all)" in text and "Warning" not in text


def test_names_that_suggest_groups_are_a_warning(tmp_path: Path) -> None:
    result = write_result(tmp_path / "made", "caan")
    inputs = inputs_of(result, videos=rows_of(grouped=False))
    text = Text(page_of(inputs, protocol))
    assert "Warning: names suggest 4 groups (s0, s1, s2, …) that the splits ignore" in text
    splits = Splits(kind="kfold", folds=4, seed=0, groups="speaker")
    assert "Warning" not in Text(page_of(replace(inputs, splits=splits), protocol))
    assert any(line.startswith("Names suggest 4 groups") for line in summary(inputs).limits)
    assert protocol.section(inputs_of(result)) is None, "no runs are known"
