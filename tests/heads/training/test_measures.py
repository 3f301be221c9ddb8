import numpy as np
import pytest

from heads.training.bootstrap import bootstrapped
from heads.training.measures import measured
from heads.training.metrics import score_run
from heads.training.reliability import reliability

CLASSES = ("anger", "joy")


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
    found = measured(runs, [scores(each) for each in runs], 0.5, seed=0)
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
    found = measured([only], [scores(only)], 0.5, seed=4)
    expected = bootstrapped(only["label"], only["predicted"], 4)
    for name in ("accuracy", "balanced_accuracy"):
        score = found[name]
        ends = score["ci95_bootstrap_low"], score["ci95_bootstrap_high"]
        assert ends == expected[name] and ends[0] < score["mean"] < ends[1]
        assert score["ci95_corrected_low"] is None
