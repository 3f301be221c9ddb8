import json
import re
from pathlib import Path

from stages.results.compare import compare
from stages.results.sections import differences
from tests.stages.results.made_page import Text, inputs_of, page_of, table_rows
from tests.stages.results.made_results import write_result


def test_experiments_are_compared_with_the_first(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", accuracy=0.9, videos=30, seed=1)
    second = write_result(tmp_path, "face", accuracy=0.5, videos=30, seed=2)
    third = write_result(tmp_path, "odd", videos=30, skip=["joy/v0001"])
    page = page_of(inputs_of(first, second, third), differences)
    text = Text(page)
    ((name, points, _strip, interval, p),) = table_rows(page, "differences")
    said = compare(second, first).difference
    signed = [f"{100 * float(said[key] or 0):+.1f}" for key in ("mean", "ci95_low", "ci95_high")]
    mean, low, high = (number.replace("-", "−") for number in signed)
    assert (name, points, interval) == ("face", mean, f"{low} to {high}")
    assert p == ("&lt; 0.001" if float(said["p"] or 0) < 0.001 else f"{said['p']:.3f}")
    assert "corrected resampled t-test" in text
    assert "odd and caan have other test videos: only caan answers split_00: joy/v0001" in text


def test_one_experiment_has_no_differences(tmp_path: Path) -> None:
    assert differences.section(inputs_of(write_result(tmp_path, "caan"))) is None


def test_a_single_run_is_compared_by_mcnemar(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", runs=1, seed=n) for n in range(2)]
    text = Text(page_of(inputs_of(*results), differences))
    assert "By McNemar's exact test" in text and "corrected 95 % interval" not in text


def test_where_none_can_be_compared_the_page_says_why(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", runs=3)
    page = page_of(inputs_of(first, write_result(tmp_path, "face", runs=2)), differences)
    assert "face and caan have other runs" in Text(page)
    assert "table-differences" not in page


def test_the_pairs_of_the_page_are_whole_json(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", seed=n) for n in range(4)]
    page = page_of(inputs_of(*results), differences)
    found = re.search(r'<script type="application/json" id="pairs">(.*?)</script>', page, re.S)
    assert found
    pairs = json.loads(found[1])
    assert pairs["names"] == ["e0", "e1", "e2", "e3"]
    assert [len(pairs[name][0]) for name in ("mean", "low", "high", "p")] == [6] * 4


def test_the_script_has_its_elements(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", seed=n) for n in range(2)]
    page = page_of(inputs_of(*results), differences)
    script = page.rpartition("<script>")[2]
    asked = re.findall(r'"(chooser[a-z-]*|pairs)"', script)
    assert len(set(asked)) == 5 and set(asked) <= set(Text(page).ids)


def test_experiments_that_cannot_be_compared_for_one_reason_are_told_once(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", seed=n) for n in range(2)]
    odd = [write_result(tmp_path, f"odd{n}", seed=n, runs=2) for n in range(5)]
    part = differences.section(inputs_of(*results, *odd))
    assert part and len(part.content["reasons"]) == 1
    assert part.content["reasons"][0].startswith("odd0 (and 4 more) and e0 have other runs")
