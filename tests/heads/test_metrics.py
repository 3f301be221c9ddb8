import json

import numpy as np
import pytest

from heads.metrics import over_runs, per_class, score_run

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])
CLASSES = ("anger", "joy", "sadness")


def test_scores_of_a_run_are_as_worked_out_by_hand() -> None:
    scores = score_run(LABELS, PREDICTED, CLASSES)
    assert scores["accuracy"] == 3 / 6
    assert scores["anger/precision"] == 2 / 4
    assert scores["anger/recall"] == pytest.approx(2 / 3)
    assert scores["anger/f1"] == pytest.approx(4 / 7)
    assert scores["joy/f1"] == 1 / 2
    assert scores["macro_f1"] == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_a_class_that_is_never_predicted_scores_zero_without_a_warning() -> None:
    assert score_run(LABELS, PREDICTED, CLASSES)["sadness/precision"] == 0


def test_a_class_without_test_videos_still_counts() -> None:
    scores = score_run(np.array([0, 0]), np.array([0, 0]), CLASSES)
    assert scores["macro_f1"] == pytest.approx(1 / 3)


def test_the_interval_over_runs_is_students() -> None:
    # 2.776 is the 97.5 % quantile for 4 degrees of freedom, from a printed table.
    found = over_runs([0.5, 0.6, 0.4, 0.55, 0.45])
    std = 0.0790569
    assert found["mean"] == pytest.approx(0.5)
    assert found["std"] == pytest.approx(std, abs=1e-6)
    assert found["ci95_low"] == pytest.approx(0.5 - 2.776 * std / 5**0.5, abs=1e-4)
    assert found["ci95_high"] == pytest.approx(0.5 + 2.776 * std / 5**0.5, abs=1e-4)
    assert found["runs"] == 5


def test_a_single_run_has_no_spread() -> None:
    assert json.dumps(over_runs([0.25])) == (
        '{"mean": 0.25, "std": null, "ci95_low": null, "ci95_high": null, "runs": 1}'
    )


def test_no_run_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        over_runs([])


def test_scores_per_class_are_means_over_runs() -> None:
    runs = [score_run(LABELS, PREDICTED, CLASSES), score_run(LABELS, LABELS, CLASSES)]
    found = per_class(runs, CLASSES)
    assert list(found) == list(CLASSES)
    assert found["joy"] == {"precision": 0.75, "recall": 0.75, "f1": 0.75}
