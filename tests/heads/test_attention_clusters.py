"""Attention clusters against their equations, worked out in numpy one unit at a time."""

import numpy as np
import pytest
import torch

from heads import attention_clusters
from tests.heads.conftest import random_batch

CLASSES = ("anger", "joy", "sadness")
Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, np.ndarray]
BOTH: Shapes = {"face": (6,), "scene": (5,)}

ACTIVATIONS = {
    "softmax": np.exp,
    "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
    "softplus": lambda s: np.log1p(np.exp(s)),
}


def network(
    shapes: Shapes, **options: object
) -> tuple[attention_clusters.AttentionClusters, Weights]:
    torch.manual_seed(0)
    params = attention_clusters.Params(**options)  # type: ignore[arg-type]
    built = attention_clusters.build(params, shapes, CLASSES)
    assert isinstance(built, attention_clusters.AttentionClusters)
    built = built.double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def unit(
    w: Weights, role: str, at: int, rows: np.ndarray, activation: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vector and the weights of unit `at` before the shift."""
    cell = w[f"clusters.{role}.score.weight"][at]
    bias = w.get(f"clusters.{role}.score.bias", np.zeros(at + 1))[at]
    scores = [ACTIVATIONS[activation](cell @ row + bias) for row in rows]
    weights = np.array(scores) / sum(scores)
    return sum(a * row for a, row in zip(weights, rows, strict=True)), weights


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("shifting", [True, False])
def test_a_video_is_the_concatenation_of_all_units(
    units: int, shifting: bool, activation: str
) -> None:
    built, w = network(BOTH, units=units, shifting=shifting, activation=activation)
    features, mask = random_batch(BOTH)
    features = {role: rows.double() for role, rows in features.items()}
    output = built(features, mask)
    for b in range(4):
        parts = []
        for role in ("face", "scene"):
            used = mask[role][b].numpy()
            found = output[f"{role}_weights"][b].detach().reshape(5, units)
            for at in range(units):
                value, weights = unit(w, role, at, features[role][b].numpy()[used], activation)
                np.testing.assert_allclose(found[used, at], weights)
                if shifting:
                    alpha = w[f"clusters.{role}.alpha"][at, 0]
                    value = alpha * value + w[f"clusters.{role}.beta"][at, 0]
                    value = value / (np.sqrt(units) * np.sqrt((value**2).sum()))
                parts.append(value)
        logits = w["classifier.weight"] @ np.concatenate(parts) + w["classifier.bias"]
        np.testing.assert_allclose(output["logits"][b].detach(), logits)


def test_one_unit_has_a_weight_a_row_and_several_have_one_each() -> None:
    for units, shape in ((1, (4, 5)), (3, (4, 5, 3))):
        built, _ = network({"face": (6,)}, units=units)
        features, mask = random_batch({"face": (6,)})
        found = built({"face": features["face"].double()}, mask)["face_weights"]
        assert found.shape == shape


def test_the_default_is_the_simplification() -> None:
    built, w = network(BOTH)
    assert set(w) == {"classifier.weight", "classifier.bias"} | {
        f"clusters.{role}.{name}" for role in BOTH for name in ("score.weight", "absent")
    }
    assert built.classifier.in_features == 6 + 5


def test_every_unit_of_an_absent_role_has_its_learned_vector() -> None:
    built, w = network({"face": (6,)}, units=2)
    output = built({"face": torch.zeros(1, 0, 6).double()}, {"face": torch.zeros(1, 0).bool()})
    joined = np.tile(w["clusters.face.absent"], 2)
    logits = w["classifier.weight"] @ joined + w["classifier.bias"]
    np.testing.assert_allclose(output["logits"][0].detach(), logits)
    assert output["face_weights"].shape == (1, 0, 2)


@pytest.mark.parametrize("units", [16, 4096])
def test_shifts_start_as_wide_as_the_fourth_root_of_the_units_is_small(units: int) -> None:
    torch.manual_seed(0)
    params = attention_clusters.Params(units=units, shifting=True)
    clusters = [attention_clusters.Cluster(2, params) for _ in range(8192 // units)]
    for name in ("alpha", "beta"):
        found = torch.cat([getattr(cluster, name).detach() for cluster in clusters])
        assert found.std().item() == pytest.approx(units**-0.25, rel=0.05)
        assert abs(found.mean().item()) < 0.05 * units**-0.25


def test_no_role_and_no_unit_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one role"):
        attention_clusters.build(attention_clusters.Params(), {}, CLASSES)
    with pytest.raises(ValueError, match="units must be at least 1, found 0"):
        attention_clusters.Params(units=0)
