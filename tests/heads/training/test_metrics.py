import json
from math import comb, sqrt

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from heads.training.metrics import mcnemar, over_runs, paired_difference, per_class, score_run

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
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert scores["macro_f1"] == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_a_class_that_is_never_predicted_scores_zero_without_a_warning() -> None:
    assert score_run(LABELS, PREDICTED, CLASSES)["sadness/precision"] == 0


def test_a_class_without_test_videos_still_counts() -> None:
    scores = score_run(np.array([0, 0]), np.array([0, 0]), CLASSES)
    assert scores["macro_f1"] == pytest.approx(1 / 3)


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    labels, predicted = draw.choice(3, 50, p=[0.7, 0.2, 0.1]), draw.choice(3, 50)
    expected = balanced_accuracy_score(labels, predicted)
    assert score_run(labels, predicted, CLASSES)["balanced_accuracy"] == pytest.approx(expected)
    # Of a class without a test video nothing is known: it is no recall of 0.
    some = labels < 2
    found = score_run(labels[some], np.minimum(predicted[some], 1), CLASSES)
    expected = balanced_accuracy_score(labels[some], np.minimum(predicted[some], 1))
    assert found["balanced_accuracy"] == pytest.approx(expected)


def test_the_plain_interval_over_runs_is_students() -> None:
    # 2.776 is the 97.5 % quantile for 4 degrees of freedom, from a printed table.
    found = over_runs([0.5, 0.6, 0.4, 0.55, 0.45], 0.5)
    std = 0.0790569
    assert found["mean"] == pytest.approx(0.5)
    assert found["std"] == pytest.approx(std, abs=1e-6)
    assert found["ci95_plain_low"] == pytest.approx(0.5 - 2.776 * std / 5**0.5, abs=1e-4)
    assert found["ci95_plain_high"] == pytest.approx(0.5 + 2.776 * std / 5**0.5, abs=1e-4)
    assert found["runs"] == 5


def test_the_corrected_interval_allows_for_the_videos_that_runs_share() -> None:
    scores = [0.50, 0.53, 0.47, 0.52, 0.49, 0.51, 0.48, 0.54, 0.46, 0.50]
    found = over_runs(scores, 367 / 734)
    mean = sum(scores) / 10
    variance = sum((score - mean) ** 2 for score in scores) / 9
    # Nadeau and Bengio: (1/J + n_test/n_train) s^2; 2.262 is Student's for 9 degrees of freedom.
    half = 2.262157 * ((1 / 10 + 367 / 734) * variance) ** 0.5
    assert found["ci95_corrected_low"] == pytest.approx(mean - half, abs=1e-6)
    assert found["ci95_corrected_high"] == pytest.approx(mean + half, abs=1e-6)
    wide, narrow = (
        float(found[f"ci95_{name}_high"] or 0) - float(found[f"ci95_{name}_low"] or 0)
        for name in ("corrected", "plain")
    )
    assert wide / narrow == pytest.approx(6**0.5)  # 2.45
    # Two heads of which one is always 0.1 are compared as that score alone is judged.
    difference = paired_difference([score + 0.1 for score in scores], [0.1] * 10, 367 / 734)
    assert difference["ci95_low"] == pytest.approx(found["ci95_corrected_low"])
    assert list(found).index("ci95_corrected_low") < list(found).index("ci95_plain_low")


def test_intervals_over_runs_end_at_0_and_1() -> None:
    found = over_runs([0.0, 1.0], 0.5)
    assert (found["ci95_corrected_low"], found["ci95_corrected_high"]) == (0, 1)


def test_a_single_run_has_no_spread() -> None:
    assert json.dumps(over_runs([0.25], 0.5)) == (
        '{"mean": 0.25, "std": null, "ci95_corrected_low": null, "ci95_corrected_high": null, '
        '"ci95_plain_low": null, "ci95_plain_high": null, "runs": 1}'
    )


def test_a_negative_ratio_is_an_error() -> None:
    with pytest.raises(ValueError, match="test_per_train must be at least 0, found -0.5"):
        over_runs([0.5, 0.6], -0.5)


def test_no_run_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        over_runs([], 0.5)


def test_scores_per_class_are_means_over_runs() -> None:
    runs = [score_run(LABELS, PREDICTED, CLASSES), score_run(LABELS, LABELS, CLASSES)]
    found = per_class(runs, CLASSES)
    assert list(found) == list(CLASSES)
    assert found["joy"] == {"precision": 0.75, "recall": 0.75, "f1": 0.75}


FIRST = [0.61, 0.55, 0.58, 0.66, 0.60]
SECOND = [0.57, 0.56, 0.51, 0.58, 0.57]


def test_without_overlap_a_paired_difference_is_scipys_paired_t_test() -> None:
    found = paired_difference(FIRST, SECOND, 0)
    wanted = stats.ttest_rel(FIRST, SECOND)
    interval = wanted.confidence_interval(0.95)
    assert found["mean"] == pytest.approx(0.042)
    assert found["p"] == pytest.approx(wanted.pvalue)
    assert (found["ci95_low"], found["ci95_high"]) == pytest.approx((interval.low, interval.high))
    assert found["runs"] == 5


def test_the_overlap_of_splits_widens_the_interval_as_worked_out_by_hand() -> None:
    # Differences in points: 4 -1 7 8 3, mean 4.2, squared deviations 0.04 27.04 7.84 14.44 1.44:
    # variance 50.8 / 4 = 12.7. A third of the videos tests: n_test / n_train = 1/2, and
    # t = 4.2 / sqrt((1/5 + 1/2) 12.7) = 1.4086; 2.776 is the 97.5 % quantile for 4 degrees.
    found = paired_difference(FIRST, SECOND, 0.5)
    error = sqrt(0.7 * 12.7) / 100
    assert found["std"] == pytest.approx(sqrt(12.7) / 100)
    assert found["ci95_low"] == pytest.approx(0.042 - 2.776 * error, abs=1e-4)
    assert found["ci95_high"] == pytest.approx(0.042 + 2.776 * error, abs=1e-4)
    assert found["p"] == pytest.approx(2 * stats.t.sf(0.042 / error, 4))
    back = paired_difference(SECOND, FIRST, 0.5)
    assert (back["mean"], back["p"]) == pytest.approx((-0.042, found["p"]))


def test_the_correction_keeps_the_false_alarms_of_overlapping_splits_near_their_level() -> None:
    # Two heads of the same accuracy on 60 videos: each video is right or wrong for each head, and
    # 10 splits draw 20 of them. Nothing is trained here, so that only the shared videos count.
    draw = np.random.default_rng(0)
    alarms = {0.0: 0, 0.5: 0}
    for _ in range(300):
        right = draw.random((2, 60)) < 0.5
        parts = [draw.permutation(60)[:20] for _ in range(10)]
        first, second = ([float(answers[part].mean()) for part in parts] for answers in right)
        for ratio in alarms:
            p = paired_difference(first, second, ratio)["p"]
            alarms[ratio] += p is not None and p < 0.05
    assert alarms[0.0] > 0.3 * 300
    assert alarms[0.5] < 0.1 * 300


def test_differences_that_do_not_spread_have_no_interval() -> None:
    found = paired_difference([0.8, 0.7], [0.7, 0.6], 0.5)
    assert (found["ci95_low"], found["ci95_high"], found["p"]) == (None, None, None)
    same = paired_difference([0.8, 0.7], [0.8, 0.7], 0.5)
    assert (same["mean"], same["ci95_low"], same["ci95_high"], same["p"]) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    "arguments", [([0.5], [0.5], 0.5), ([0.5, 0.6], [0.5], 0.5), ([0.5, 0.6], [0.5, 0.6], -1)]
)
def test_a_difference_that_cannot_be_is_an_error(
    arguments: tuple[list[float], list[float], float],
) -> None:
    with pytest.raises(ValueError, match="found"):
        paired_difference(*arguments)


def answers(both: int, only_first: int, only_second: int, none: int) -> list[np.ndarray]:
    counts = (both, only_first, only_second, none)
    return [np.repeat(np.array(right, bool), counts) for right in ((1, 1, 0, 0), (1, 0, 1, 0))]


@pytest.mark.parametrize(("ours", "theirs"), [(9, 2), (2, 9), (5, 5), (1, 0), (6, 0)])
def test_mcnemars_p_is_scipys_binomial_test(ours: int, theirs: int) -> None:
    found = mcnemar(*answers(20, ours, theirs, 10))
    assert found["p"] == pytest.approx(stats.binomtest(ours, ours + theirs).pvalue)
    assert found["mean"] == pytest.approx((ours - theirs) / (30 + ours + theirs))
    assert (found["only_first"], found["only_second"]) == (ours, theirs)


def test_mcnemars_p_and_interval_are_as_worked_out_by_hand() -> None:
    # 9 against 2 of 41: P(X <= 2 of 11) = (1 + 11 + 55) / 2048, twice.
    found = mcnemar(*answers(20, 9, 2, 10))
    assert found["p"] == pytest.approx(2 * sum(comb(11, k) for k in range(3)) / 2**11)
    # (9 + 1) / 43 - (2 + 1) / 43 = 7/43; its variance (13/43 - (7/43)^2) / 43.
    half = 1.959964 * sqrt((13 / 43 - (7 / 43) ** 2) / 43)
    assert found["ci95_low"] == pytest.approx(7 / 43 - half, abs=1e-6)
    assert found["ci95_high"] == pytest.approx(7 / 43 + half, abs=1e-6)


def test_two_that_answer_alike_do_not_differ() -> None:
    found = mcnemar(*answers(7, 0, 0, 3))
    assert (found["mean"], found["p"]) == (0, 1)
    assert found["ci95_low"] == -found["ci95_high"] < 0


def test_mcnemar_takes_the_same_videos() -> None:
    right = np.ones(3, bool)
    with pytest.raises(ValueError, match="found 3 and 2"):
        mcnemar(right, right[:2])
