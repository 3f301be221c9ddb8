"""The LSTMs and their weighted mean, worked out in numpy one row at a time."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import heads
from heads import Roles, lstm
from tests.heads.conftest import random_batch

Weights = dict[str, np.ndarray]
SHAPES: dict[str, tuple[int, ...]] = {"face": (6,), "motion": (2, 2)}
SMALL = {"units": 7, "dropout": 0.0}
LABELS = torch.tensor([0, 1, 0, 2])


def network(
    shapes: dict[str, tuple[int, ...]] = SHAPES, **options: object
) -> tuple[lstm.TemporalFusion, Weights]:
    torch.manual_seed(0)
    built = lstm.build(lstm.Params(**{**SMALL, **options}), shapes, "abc")  # type: ignore[arg-type]
    assert isinstance(built, lstm.TemporalFusion)
    built = built.double()
    with torch.no_grad():
        built.absent["logits"].copy_(torch.tensor([0.3, -0.2, 0.1]))
        for weight in built.fusion.values():
            weight.copy_(torch.tensor([0.4, -0.9]))
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def batch(
    shapes: dict[str, tuple[int, ...]] = SHAPES,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    features, mask = random_batch(shapes)
    return {role: rows.double() for role, rows in features.items()}, mask


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def scores(w: Weights, role: str, rows: np.ndarray, read: str = "last") -> np.ndarray:
    """Logits of one video (T, D) in one role."""
    prefix = f"parts.{role}.lstm."
    h = c = np.zeros(w[f"{prefix}weight_hh_l0"].shape[1])
    states = []
    for x in rows:
        gates = w[f"{prefix}weight_ih_l0"] @ x + w[f"{prefix}bias_ih_l0"]
        gates = gates + w[f"{prefix}weight_hh_l0"] @ h + w[f"{prefix}bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    state = states[-1] if read == "last" else np.mean(states, axis=0)
    prefix = f"parts.{role}.classifier."
    return w[f"{prefix}weight"] @ state + w[f"{prefix}bias"]


def real_rows(
    features: dict[str, Tensor], mask: dict[str, Tensor], role: str, b: int
) -> np.ndarray:
    return features[role][b][mask[role][b]].flatten(1).numpy()


@pytest.mark.parametrize("read", ["last", "mean"])
def test_one_role_is_an_lstm_over_its_real_rows(read: str) -> None:
    shapes = {"face": (6,)}
    built, w = network(shapes, read=read)
    features, mask = batch(shapes)
    output = built(features, mask)
    for b in range(4):
        wanted = scores(w, "face", real_rows(features, mask, "face", b), read)
        np.testing.assert_allclose(output["role_logits"][b, 0].detach(), wanted)
        np.testing.assert_allclose(
            torch.softmax(output["logits"][b], 0).detach(), softmax(wanted), rtol=1e-6
        )
    assert built.attention == {}


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
@pytest.mark.parametrize("weights", [None, {"face": 3.0, "motion": 1.0}])
def test_scores_are_fused_by_their_weighted_mean(
    kind: str, weights: dict[str, float] | None
) -> None:
    built, w = network(scores=kind, weights=weights)
    features, mask = batch()
    output = built(features, mask)
    share = softmax(np.array([0.4, -0.9])) if weights is None else np.array([0.75, 0.25])
    for b in range(4):
        parts = [scores(w, role, real_rows(features, mask, role, b)) for role in SHAPES]
        if kind == "logits":
            wanted = share @ np.array(parts)
        else:
            wanted = np.log(share @ np.array([softmax(x) for x in parts]))
        np.testing.assert_allclose(output["logits"][b].detach(), wanted, rtol=1e-5)
        np.testing.assert_allclose(output["role_weights"][b].detach(), share, rtol=1e-6)


def test_learned_weights_are_attention_over_roles_and_fixed_ones_are_not() -> None:
    assert network()[0].attention == {"role_weights": Roles(("face", "motion"))}
    assert network(weights={"face": 1.0, "motion": 1.0})[0].attention == {}


def test_an_absent_role_takes_no_part_and_a_video_without_any_has_learned_scores() -> None:
    built, w = network()
    features, mask = batch()
    mask["face"][1] = False
    mask["face"][2] = mask["motion"][2] = False
    output = built(features, mask)
    alone = softmax(scores(w, "motion", real_rows(features, mask, "motion", 1)))
    np.testing.assert_allclose(torch.softmax(output["logits"][1], 0).detach(), alone)
    assert output["role_weights"].tolist()[1] == [0, 1]
    assert output["role_weights"].tolist()[2] == [0, 0]
    np.testing.assert_allclose(output["logits"][2].detach(), w["absent.logits"])


def test_a_role_that_no_video_of_a_batch_has_is_left_out() -> None:
    built, _ = network()
    features, mask = batch()
    wanted = built(features, mask | {"motion": torch.zeros_like(mask["motion"])})["logits"]
    features["motion"] = features["motion"][:, :0]
    found = built(features, mask | {"motion": mask["motion"][:, :0]})["logits"]
    assert torch.equal(found, wanted)


def test_probabilities_that_underflow_keep_their_logarithm() -> None:
    built, _ = network({"face": (6,)})
    with torch.no_grad():
        built.parts["face"].classifier.bias.copy_(torch.tensor([0.0, -2000.0, 0.0]))  # type: ignore[union-attr]
    features, mask = batch({"face": (6,)})
    assert built(features, mask)["logits"].isfinite().all()


def test_the_roles_train_on_their_own_and_then_the_weights() -> None:
    built, _ = network()
    assert list(built.phases()) == ["modalities", "fusion"]
    features, mask = batch()
    mask["motion"][3] = False
    mask["face"][2] = mask["motion"][2] = False
    output = built(features, mask)
    logs = torch.log_softmax(output["role_logits"], dim=2)
    face, motion = -logs[[0, 1, 3], 0, LABELS[[0, 1, 3]]], -logs[[0, 1], 1, LABELS[[0, 1]]]
    none = -torch.log_softmax(built.absent["logits"], 0)[LABELS[2]]
    wanted = face.mean() + motion.mean() + none
    torch.testing.assert_close(built.loss(output, LABELS, "modalities"), wanted)
    fused = -torch.log_softmax(output["logits"], 1)[range(4), LABELS]
    torch.testing.assert_close(built.loss(output, LABELS, "fusion"), fused.mean())
    built.zero_grad()
    built.loss(output, LABELS, "modalities").backward()  # type: ignore[no-untyped-call]
    assert not any(weight.grad.any() for weight in built.fusion.parameters())


@pytest.mark.parametrize(
    ("shapes", "options", "phases"),
    [
        (SHAPES, {"training": "joint"}, ["all"]),
        (SHAPES, {"weights": {"face": 1.0, "motion": 2.0}}, ["modalities"]),
        ({"face": (6,)}, {}, ["modalities"]),
    ],
)
def test_without_weights_to_learn_there_is_one_phase(
    shapes: dict[str, tuple[int, ...]], options: dict[str, object], phases: list[str]
) -> None:
    assert list(network(shapes, **options)[0].phases()) == phases


def test_joint_training_sees_the_fused_score_alone() -> None:
    built, _ = network(training="joint")
    output = built(*batch())
    wanted = -torch.log_softmax(output["logits"], 1)[range(4), LABELS].mean()
    torch.testing.assert_close(built.loss(output, LABELS, "all"), wanted)


def test_dropout_is_in_training_alone() -> None:
    built, _ = network(dropout=0.5)
    features, mask = batch()
    assert torch.equal(built.eval()(features, mask)["logits"], built(features, mask)["logits"])
    once, again = (built.train()(features, mask)["logits"] for _ in range(2))
    assert not torch.equal(once, again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units must be at least 1, found 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"weights": {"face": 0.0}}, "weights must be above 0"),
        ({"weights": {"face": math.nan}}, "weights"),
        ({"scores": "votes"}, "scores"),
    ],
)
def test_wrong_hyper_parameters_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("lstm"), options)


def test_weights_of_other_roles_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"must name the roles \['face', 'motion'\], found"):
        network(weights={"face": 1.0})


def test_no_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one role"):
        lstm.build(lstm.Params(), {}, "abc")
