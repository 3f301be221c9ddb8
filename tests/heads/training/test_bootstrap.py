import numpy as np
import pytest
from scipy.stats import bootstrap

from heads.training import bootstrap as module
from heads.training.bootstrap import bootstrapped, bootstrapped_measure
from heads.training.scores import measure
from heads.training.targets import Target

FEELINGS = Target("labels", ("joy", "fear"))
AFFECT = Target("dimensions", ("valence", "arousal"), (-1.0, 1.0))
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


def told_of(target: Target, videos: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what is true of videos and what was told, with ties among the latter."""
    draw = np.random.default_rng(5)
    truth = draw.uniform(-1, 1, (videos, target.width))
    if target is FEELINGS:
        truth = (truth > 0.3).astype(np.float64)
    return truth, np.round(0.5 * truth + draw.uniform(-0.3, 0.6, truth.shape), 1)


@pytest.mark.parametrize("target", [FEELINGS, AFFECT])
def test_a_measure_has_the_interval_of_its_resamples_scored_one_by_one(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, told = told_of(target, 7)
    monkeypatch.setattr(module, "RESAMPLES", 299)
    monkeypatch.setattr(module, "_AT_ONCE", 70)  # ten resamples at a time
    counts = np.random.default_rng(4).multinomial(7, np.full(7, 1 / 7), 299)
    drawn = [np.repeat(np.arange(7), each) for each in counts]
    scores = [measure(target, truth[rows], told[rows]) for rows in drawn]
    wanted = np.nanquantile(scores, [0.025, 0.975])
    assert bootstrapped_measure(target, truth, told, 4) == pytest.approx(wanted, abs=1e-12)
    monkeypatch.setattr(module, "_AT_ONCE", 10**6)
    assert bootstrapped_measure(target, truth, told, 4) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("target", [FEELINGS, AFFECT])
def test_the_interval_of_a_measure_is_that_of_scipy(target: Target) -> None:
    truth, told = told_of(target, 60)

    def score(rows: np.ndarray) -> float:
        return measure(target, truth[rows], told[rows])

    found = bootstrap(
        (np.arange(60),),
        score,
        vectorized=False,
        n_resamples=400,
        method="percentile",
        rng=np.random.default_rng(8),
    ).confidence_interval
    low, high = bootstrapped_measure(target, truth, told, 0) or (None, None)
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.03)


@pytest.mark.parametrize("target", [FEELINGS, AFFECT])
def test_resamples_that_are_told_alike_have_no_interval(target: Target) -> None:
    truth, told = told_of(target, 1)
    assert bootstrapped_measure(target, truth, told, 0) is None
    no_label = np.zeros((5, 2))
    assert bootstrapped_measure(FEELINGS, no_label, told_of(FEELINGS, 5)[1], 0) is None
    truth, _ = told_of(target, 40)
    assert bootstrapped_measure(target, truth, truth, 0) is None, "all told as they are"
