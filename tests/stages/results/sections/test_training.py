from pathlib import Path

import numpy as np
import pytest

from stages.results.sections import training
from tests.stages.results.made_page import inputs_of, page_of, table_rows
from tests.stages.results.made_results import write_result


def test_a_curve_has_a_line_a_run_and_their_mean(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", phases=("local", "global"), validation=True)
    figure = training.section(inputs_of(result)).figures["training caan"]
    above, below = figure.axes
    loss = [float(row["loss"]) for row in result.curves if row["run"] == "split_00"]
    runs, mean, phase = above.lines[:3], above.lines[3], above.lines[4]
    assert [list(line.get_ydata()) for line in runs] == [loss] * 3
    np.testing.assert_allclose(mean.get_ydata(), loss)
    assert list(phase.get_xdata()) == [3.5, 3.5]
    assert [text.get_text() for text in above.texts] == ["local", "global"]
    assert [text.get_text() for text in below.get_legend().get_texts()] == [
        "training",
        "validation",
    ]


def test_the_table_has_the_last_epoch(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", validation=True)
    second = write_result(tmp_path, "face", phases=("local", "global"))
    rows = table_rows(page_of(inputs_of(first, second), training), "training")
    last = [float(row["training"]) for row in first.curves if row["epoch"] == "3"]
    assert rows[0][:3] == ["caan", "all", "3"] and rows[0][5] == "50.0"
    assert float(rows[0][4]) == pytest.approx(100 * np.mean(last), abs=0.05)
    assert rows[1][:3] == ["face", "local, global", "6"] and rows[1][5] == "–"
