import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, f1_score

from heads.training.scores import (
    average_precision,
    concordance,
    dimension_scores,
    label_scores,
    measure,
    of_runs,
)
from heads.training.targets import Target, of_classes

DRAW = np.random.default_rng(3)
LABELS = Target("labels", ("joy", "fear", "calm"))
VALENCE = Target("dimensions", ("valence", "arousal"), (1.0, 9.0))


def test_average_precision_is_that_of_scikit_learn_ties_or_not() -> None:
    for decimals in (1, 8):  # with one there are many ties
        truth = (DRAW.random(60) < 0.3).astype(float)
        scores = np.round(DRAW.random(60) + 0.3 * truth, decimals)
        wanted = average_precision_score(truth, scores)
        assert average_precision(truth, scores) == pytest.approx(wanted)
        turned = DRAW.permutation(60)
        assert average_precision(truth[turned], scores[turned]) == pytest.approx(wanted)


def test_average_precision_of_an_example_by_hand() -> None:
    truth, scores = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(truth, scores) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert np.isnan(average_precision(np.zeros(4), scores))


def test_concordance_of_what_is_known() -> None:
    x = DRAW.normal(5, 2, 500)
    spread = x.var()
    assert concordance(x, x) == pytest.approx(1)
    assert concordance(x, 2 * x.mean() - x) == pytest.approx(-1)
    shifted = 2 * spread / (2 * spread + 3**2)
    assert concordance(x, x + 3) == pytest.approx(shifted) == concordance(x + 3, x)
    centred = x - x.mean()
    assert concordance(centred, 0.5 * centred) == pytest.approx(2 * 0.5 / (1 + 0.5**2))
    assert concordance(x, np.full(500, x.mean())) == 0 == concordance(np.ones(3), np.ones(3))


def test_concordance_is_pearson_times_what_the_bias_takes() -> None:
    x, y = DRAW.normal(0, 1, 80), DRAW.normal(1, 2, 80) + 1
    y += x
    v, u = x.std() / y.std(), (x.mean() - y.mean()) / np.sqrt(x.std() * y.std())
    bias = 2 / (v + 1 / v + u**2)  # Lin 1989, C_b
    assert concordance(x, y) == pytest.approx(pearsonr(x, y)[0] * bias)


def test_scores_of_labels_leave_a_label_without_a_video_out_of_the_mean() -> None:
    truth = np.array([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    chances = np.array([[0.9, 0.2, 0.1], [0.4, 0.7, 0.2], [0.6, 0.5, 0.9], [0.1, 0.3, 0.3]])
    scores = label_scores(truth, chances, LABELS.names)
    assert scores["joy/ap"] == pytest.approx((1 + 2 / 3) / 2) and scores["fear/ap"] == 1
    assert np.isnan(scores["calm/ap"]) and scores["mAP"] == pytest.approx((5 / 6 + 1) / 2)
    for at, name in enumerate(LABELS.names):
        wanted = f1_score(truth[:, at], chances[:, at] >= 0.5, zero_division=0)
        assert scores[f"{name}/f1"] == pytest.approx(wanted), name
    assert scores["macro_f1"] == pytest.approx((0.5 + 1 + 0) / 3)
    told = of_runs(LABELS, [scores, scores], 0.5)
    assert told["per_label"]["calm"]["ap"] is None  # type: ignore[index]
    assert told["chance"] == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_scores_of_dimensions_are_those_of_numpy_and_scipy() -> None:
    truth = DRAW.uniform(1, 9, (50, 2))
    told = truth + DRAW.normal(0.5, 1, (50, 2))
    scores = dimension_scores(truth, told, VALENCE.names)
    for at, name in enumerate(VALENCE.names):
        x, y = truth[:, at], told[:, at]
        wanted = (
            2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        )
        assert scores[f"{name}/CCC"] == pytest.approx(wanted)
        assert scores[f"{name}/RMSE"] == pytest.approx(np.sqrt(((x - y) ** 2).mean()))
        assert scores[f"{name}/Pearson"] == pytest.approx(pearsonr(x, y)[0])
    for kind in ("CCC", "RMSE", "Pearson"):
        assert scores[kind] == pytest.approx(
            np.mean([scores[f"{name}/{kind}"] for name in VALENCE.names])
        )
    low = scores | {"CCC": -0.9}
    interval = of_runs(VALENCE, [scores, low], 0.5)["CCC"]
    assert interval["ci95_plain_low"] == -1, "a concordance may be below 0"  # type: ignore[index]


def test_a_target_has_its_own_measure() -> None:
    one = np.array([[2.0, 1], [0, 3]])
    assert measure(of_classes("ab"), np.array([0, 0]), one) == 0.5
    assert measure(VALENCE, one, one) == 1 and VALENCE.measure == "CCC"
    assert measure(Target("labels", ("a", "b")), np.eye(2), np.eye(2)) == 1
