from pathlib import Path

import pytest

from stages.results.sections import calibration
from tests.stages.results.made_page import Text, inputs_of, page_of, table_rows
from tests.stages.results.made_results import write_result


def test_the_table_holds_confidence_against_right_answers(tmp_path: Path) -> None:
    # Answers are 1 / 1.2 sure: so far from it is the share of right ones, in every run.
    sure = 1 / 1.2
    result = write_result(tmp_path, "caan", accuracy=0.6, videos=30)
    other = write_result(tmp_path, "bold", accuracy=0.3, videos=30, seed=1)
    page = page_of(inputs_of(result, other), calibration)
    for row, each in zip(table_rows(page, "calibration"), (result, other), strict=True):
        right = each.metrics["accuracy"]["mean"]
        assert row[0] == each.name
        assert row[2:4] == [f"{100 * sure:.1f}", f"{100 * right:.1f}"]
        assert float(row[1].split(" ±")[0]) == pytest.approx(
            100 * each.metrics["ece"]["mean"], abs=0.06
        )
        assert row[4] == f"{100 * (sure - right):+.1f}".replace("-", "−")
    (first, second) = table_rows(page, "calibration-bins")
    assert first[1:5] == ["80.0", "86.7", "90", "83.3"] and second[0] == "bold"
    assert "in 15 bins of equal width (Guo and others 2017)" in Text(page)


def test_each_curve_is_drawn_with_its_error(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan")
    section = calibration.section(inputs_of(result))
    figure = section.figures["calibration caan"]
    above, below = ([bar.get_bbox() for bar in axes.patches] for axes in figure.axes)  # type: ignore[attr-defined]
    (share,) = [bar for bar in above if bar.height > 0]
    assert share.height == pytest.approx(100 * result.metrics["accuracy"]["mean"])
    assert (share.x0 + share.x1) / 2 == pytest.approx(100 * 12.5 / 15)
    assert sum(bar.height for bar in below) == pytest.approx(100)
    assert f"ECE {100 * result.metrics['ece']['mean']:.1f} %" in str(figure.get_label())
