import numpy as np
import pytest

from heads.training.bootstrap import bootstrapped

DRAW = np.random.default_rng(3)
LABELS = DRAW.choice(3, 500, p=[0.6, 0.3, 0.1])
PREDICTED = np.where(DRAW.random(500) < np.array([0.9, 0.6, 0.4])[LABELS], LABELS, 3)


def test_on_many_videos_the_intervals_are_those_of_the_normal_approximation() -> None:
    found = bootstrapped(LABELS, PREDICTED, 0)
    right = LABELS == PREDICTED
    share = right.mean()
    error = 1.96 * np.sqrt(share * (1 - share) / len(right))
    assert found["accuracy"] == pytest.approx((share - error, share + error), abs=0.004)
    # The mean of independent recalls: their variances add, each over the videos of its class.
    recalls = [right[LABELS == label] for label in range(3)]
    mean = np.mean([each.mean() for each in recalls])
    error = 1.96 / 3 * np.sqrt(sum(each.var() / len(each) for each in recalls))
    assert found["balanced_accuracy"] == pytest.approx((mean - error, mean + error), abs=0.006)


def test_the_seed_alone_decides() -> None:
    few = slice(0, 40)
    first, again, other = (bootstrapped(LABELS[few], PREDICTED[few], seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_resample_without_a_class_is_scored_by_the_others() -> None:
    # One video of the second class, which is right: most resamples have it once, or not at all.
    labels, predicted = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 1])
    low, high = bootstrapped(labels, predicted, 0)["balanced_accuracy"] or (None, None)
    assert low is not None and 0 <= low < 0.5 and high == 1


def test_answers_that_are_all_right_or_all_wrong_have_no_interval() -> None:
    labels = np.array([0, 1, 2])
    for predicted in (labels, (labels + 1) % 3):
        assert bootstrapped(labels, predicted, 0) == {"accuracy": None, "balanced_accuracy": None}
