import numpy as np
import pytest

from heads.training.bootstrap import bootstrapped, bootstrapped_measure
from heads.training.measures import measured
from heads.training.metrics import score_run
from heads.training.reliability import reliability
from heads.training.scores import scores_of
from heads.training.targets import Target, of_classes

CLASSES = ("anger", "joy")
TARGET = of_classes(CLASSES)


def answers(seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    chances = draw.dirichlet((2, 1), 30).astype(np.float32)
    return {
        "label": draw.choice(2, 30, p=[0.8, 0.2]),
        "predicted": chances.argmax(axis=1),
        "probabilities": chances,
    }


def scores(each: dict[str, np.ndarray]) -> dict[str, float]:
    return score_run(each["label"], each["predicted"], CLASSES)


def test_over_runs_are_means_and_the_curve_is_of_all_answers() -> None:
    runs = [answers(0), answers(1)]
    found = measured(TARGET, runs, [scores(each) for each in runs], 0.5, seed=0)
    curves = [reliability(each["label"], each["probabilities"]) for each in runs]
    assert found["ece"]["mean"] == pytest.approx(np.mean([curve.ece for curve in curves]))
    videos = np.sum([curve.videos for curve in curves], axis=0)
    assert found["reliability"]["videos"] == videos.tolist()
    right = np.sum([np.nan_to_num(curve.accuracy) * curve.videos for curve in curves], axis=0)
    told = [share for share in found["reliability"]["accuracy"] if share is not None]
    assert told == pytest.approx((right[videos > 0] / videos[videos > 0]).tolist())
    assert "ci95_bootstrap_low" not in found["accuracy"]


def test_a_single_run_has_intervals_over_its_videos() -> None:
    only = answers(0)
    found = measured(TARGET, [only], [scores(only)], 0.5, seed=4)
    expected = bootstrapped(only["label"], only["predicted"], 4)
    for name in ("accuracy", "balanced_accuracy"):
        score = found[name]
        ends = score["ci95_bootstrap_low"], score["ci95_bootstrap_high"]
        assert ends == expected[name] and ends[0] < score["mean"] < ends[1]
        assert score["ci95_corrected_low"] is None


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Target("labels", ("joy", "fear")), "probabilities"),
        (Target("dimensions", ("valence", "arousal"), (0.0, 1.0)), "estimates"),
    ],
)
def test_labels_and_dimensions_of_a_single_run_have_one_too(target: Target, told: str) -> None:
    draw = np.random.default_rng(2)
    truth, given = draw.random((25, 2)), draw.random((25, 2))
    if target.kind == "labels":
        truth = (truth < 0.4).astype(np.float64)
    only = {"label": truth, told: (0.2 * truth + 0.8 * given).astype(np.float32)}
    scores = scores_of(target, only)
    found = measured(target, [only], [scores], 0.5, seed=4)
    score = found[target.measure]
    ends = score["ci95_bootstrap_low"], score["ci95_bootstrap_high"]
    assert ends == bootstrapped_measure(target, truth, only[told].astype(np.float64), 4)
    assert ends[0] < score["mean"] == scores[target.measure] < ends[1]
    several = measured(target, [only, only], [scores, scores], 0.5, seed=4)
    assert "ci95_bootstrap_low" not in several[target.measure]
