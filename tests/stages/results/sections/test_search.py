from pathlib import Path

import pytest

from stages.results.sections import accuracy, differences, papers, search, settings
from stages.results.summary import summary
from tests.stages.results.made_page import Text, inputs_of, page_of, table_rows
from tests.stages.results.made_results import write_result


def test_each_run_shows_what_it_has_chosen_and_how_all_trials_did(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", tried=4)
    page = page_of(inputs_of(result, write_result(tmp_path, "face")), search)
    rows = table_rows(page, "search")
    assert [row[:3] for row in rows] == [["caan", f"split_0{n}", "4"] for n in range(3)]
    for row, (run, of_run) in zip(rows, result.search["runs"].items(), strict=True):
        chosen = of_run["settings"]
        assert row[3] == f"epochs: {chosen['epochs']} learning_rate: {chosen['learning_rate']}"
        told = [trial["score"] for trial in of_run["trials"] if "failed" not in trial]
        assert row[5] == f"{100 * max(told):.1f}" and len(told) == 3
        tests = [r["label"] == r["predicted"] for r in result.predictions if r["run"] == run]
        assert row[7] == f"{100 * sum(tests) / len(tests):.1f}"
    trials = table_rows(page, "search-trials")
    assert len(trials) == 12 and trials[3][4:] == ["–", "–", "the loss is inf"]
    text = Text(page)
    assert "4 settings tried in each run, seed 1, 25 % of the training videos held out" in text
    assert "learning_rate log_uniform [1e-05, 0.01]." in text
    (axes,) = search.section(inputs_of(result)).figures["search caan"].axes  # type: ignore[union-attr]
    dots = [float(line.get_xdata()[0]) for line in axes.lines if line.get_label() == "chosen"]  # type: ignore[index, arg-type]
    runs = result.search["runs"].values()
    assert dots == pytest.approx([100 * r["trials"][r["chosen"]]["score"] for r in runs])


def test_without_a_search_there_is_no_section_and_the_count_is_one_for_all(tmp_path: Path) -> None:
    inputs = inputs_of(write_result(tmp_path, "caan"), write_result(tmp_path, "face", seed=1))
    assert search.section(inputs) is None
    text = Text(page_of(inputs, accuracy, differences))
    assert "Alike in all: settings tried 1," in text and "ranked alike" not in text


def test_searched_and_unsearched_are_nowhere_compared_without_a_word(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", videos=30)
    other = write_result(tmp_path, "face", videos=30, tried=5, accuracy=0.8, seed=1)
    inputs = inputs_of(first, other)
    page = page_of(inputs, accuracy, differences, settings)
    column = [c.name for c in accuracy.COLUMNS].index("settings tried")
    assert [row[column] for row in table_rows(page, "accuracy")] == ["1", "5"]
    text = Text(page)
    ranks = "ot ranked alike: 5 settings were tried of face; 1 setting was tried of caan"
    assert f"N{ranks}. The best of many settings is better by that alone." in text
    assert f"Experiments are n{ranks}." in summary(inputs).limits
    (row,) = table_rows(page, "differences")
    assert row[-1] == "5, of caan 1"
    assert "Not compared alike: of some more settings were tried than of others" in text
    assert "searched in log_uniform [1e-05, 0.01]" in text
    (pair,) = differences.section(inputs).tables["pairs"].rows  # type: ignore[union-attr]
    assert pair[-2:] == (1, 5)
    assert '"tried":[1,5]' in page
    rows = Text(page_of(inputs, papers))
    assert "Not trained alike, so not to be compared: " in rows and "settings tried 5" in rows
