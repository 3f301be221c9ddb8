from pathlib import Path

from stages.results.sections import classes
from tests.stages.results.made_page import inputs_of, page_of, table_rows
from tests.stages.results.made_results import write_result


def test_each_class_has_its_scores_in_every_experiment(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", videos=30, seed=n) for n in range(2)]
    page = page_of(inputs_of(*results), classes)
    wanted = [[r.name, *(f"{100 * float(row['f1']):.1f}" for row in r.per_class)] for r in results]
    assert table_rows(page, "classes") == wanted
    scores = table_rows(page, "class-scores")
    assert len(scores) == 2 * 3
    joy = next(row for row in results[1].per_class if row["class"] == "joy")
    numbers = [f"{100 * float(joy[kind]):.1f}" for kind in ("precision", "recall", "f1")]
    assert ["e1", "joy", *numbers] in scores


def test_a_cell_is_as_deep_as_its_share(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=30)
    page = page_of(inputs_of(result), classes)
    for row in result.per_class:
        assert f'style="--share:{round(float(row["f1"]), 3)}"' in page
