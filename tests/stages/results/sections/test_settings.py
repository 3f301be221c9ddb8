from pathlib import Path

from stages.results.sections import settings
from tests.stages.results.made_page import FACE, Text, inputs_of, page_of
from tests.stages.results.made_results import write_result


def test_what_is_common_is_said_once(tmp_path: Path) -> None:
    first = write_result(tmp_path, "one", head="pooling", roles=FACE)
    second = write_result(tmp_path, "two", head="pooling", roles={"sound": "vggish/embedding"})
    part = settings.section(inputs_of(first, second))
    assert part.content["common"]["head"] == "pooling"
    assert part.content["own"]["one"] == {"role: face": "vggface/fc6"}
    assert part.content["own"]["two"] == {"role: sound": "vggish/embedding"}
    rows = part.tables["settings"].rows
    assert ("two", "training: epochs", "3") in rows and ("one", "head", "pooling") in rows


def test_one_experiment_has_all_its_settings(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan")
    text = Text(page_of(inputs_of(result), settings))
    assert "training: epochs 3" in text and "runs 3, each of 24 train, 12 test" in text
    assert "Common to all" not in text


def test_videos_left_out_are_named_and_cut_where_they_are_many(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan")
    result.about["missing"] = {f"joy/v{n:03d}": "no <face>" for n in range(30)}
    text = Text(page_of(inputs_of(result), settings))
    assert "caan: 36 videos, 30 left out" in text
    assert "joy/v000: no <face>" in text and "joy/v020" not in text and "and 10 more" in text


def test_of_many_experiments_the_settings_are_folded_away(tmp_path: Path) -> None:
    few = write_result(tmp_path, "few", videos=3, runs=1)
    assert "Of each of the" not in page_of(inputs_of(few), settings)
    many = [write_result(tmp_path, f"e{n}", videos=3, runs=1) for n in range(13)]
    page = page_of(inputs_of(*many), settings)
    assert "Of each of the 13 experiments" in Text(page) and Text(page).open == []
