from pathlib import Path

import numpy as np

from stages.results.sections import confusion
from tests.stages.results.made_page import Text, inputs_of, page_of, table_rows
from tests.stages.results.made_results import CLASSES, write_result


def test_confusion_is_in_per_cent_of_the_true_class(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=30)
    figure = confusion.section(inputs_of(result)).figures["confusion caan"]
    numbers = [float(text.get_text()) for text in figure.axes[0].texts]
    shares = np.array(numbers).reshape(3, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 100, atol=1)
    joy = [row["predicted"] for row in result.predictions if row["label"] == "joy"]
    assert shares[1, 1] == round(100 * joy.count("joy") / len(joy))
    rows = table_rows(page_of(inputs_of(result), confusion), "confusion")
    counts = {tuple(row[1:3]): int(row[3]) for row in rows}
    assert counts["joy", "joy"] == joy.count("joy")
    assert counts["joy", "sadness"] == joy.count("sadness") and len(counts) == len(CLASSES) ** 2


def test_of_many_experiments_the_first_and_the_best_are_drawn(tmp_path: Path) -> None:
    results = [
        write_result(tmp_path, f"e{n}", videos=15, runs=2, accuracy=0.2 + n / 25, seed=n)
        for n in range(14)
    ]
    part = confusion.section(inputs_of(*results))
    assert len(part.figures) == 12 and "confusion e0" in part.figures
    best = max(results, key=lambda result: result.metrics["accuracy"]["mean"])
    assert f"confusion {best.name}" in part.figures
    assert {row[0] for row in part.tables["confusion"].rows} == {r.name for r in results}
    page = page_of(inputs_of(*results), confusion)
    assert "the first experiment and the most accurate, 12 of 14" in Text(page)
