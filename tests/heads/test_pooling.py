"""Pooling against means, maxima and layers worked out in numpy one video at a time."""

import numpy as np
import pytest
import torch

from heads import pooling
from tests.heads.conftest import random_batch

CLASSES = ("anger", "joy", "sadness")
Shapes = dict[str, tuple[int, ...]]
BOTH: Shapes = {"face": (6,), "context": (5,)}


def network(shapes: Shapes, **options: object) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    params = pooling.Params(**{"embedding": 8, "hidden": 7, **options})  # type: ignore[arg-type]
    built = pooling.build(params, shapes, CLASSES).double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def linear(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def two_layers(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return linear(w, "classifier", relu(linear(w, "hidden", x)))


def real_rows(shapes: Shapes) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list]:
    """Return a batch and, for each of its videos, role -> its real rows."""
    features, mask = random_batch(shapes)
    features = {role: rows.double() for role, rows in features.items()}
    videos = [
        {role: features[role][b].numpy()[mask[role][b].numpy()] for role in shapes}
        for b in range(4)
    ]
    return features, mask, videos


@pytest.mark.parametrize(("pool", "over_time"), [("mean", np.mean), ("max", np.max)])
def test_one_role_is_its_pooled_real_rows_and_two_layers(pool: str, over_time: np.ufunc) -> None:
    built, w = network({"face": (6,)}, pool=pool)
    features, mask, videos = real_rows({"face": (6,)})
    logits = built(features, mask)["logits"].detach()
    for b, video in enumerate(videos):
        pooled = over_time(video["face"], axis=0)
        np.testing.assert_allclose(logits[b], two_layers(w, pooled))


@pytest.mark.parametrize(("pool", "over_time"), [("mean", np.mean), ("max", np.max)])
@pytest.mark.parametrize("pooled", ["embeddings", "features"])
def test_several_roles_are_embedded_pooled_and_concatenated(
    pooled: str, pool: str, over_time: np.ufunc
) -> None:
    built, w = network(BOTH, pool=pool, pooled=pooled)
    features, mask, videos = real_rows(BOTH)
    logits = built(features, mask)["logits"].detach()
    for b, video in enumerate(videos):
        parts = []
        for role in ("context", "face"):
            rows = video[role]
            if pooled == "features":
                rows = over_time(rows, axis=0, keepdims=True)
            embedded = [relu(linear(w, f"embed.{role}", row)) for row in rows]
            parts.append(over_time(embedded, axis=0))
        np.testing.assert_allclose(logits[b], two_layers(w, np.concatenate(parts)))


def test_pooling_concatenated_rows_is_concatenating_pooled_rows() -> None:
    built, w = network(BOTH)
    features, _, _ = real_rows(BOTH)
    every = {role: torch.ones(4, 5, dtype=torch.bool) for role in BOTH}
    logits = built(features, every)["logits"].detach()
    for b in range(4):
        fused = [
            np.concatenate(
                [
                    relu(linear(w, f"embed.{role}", features[role][b, i].numpy()))
                    for role in ("context", "face")
                ]
            )
            for i in range(5)
        ]
        np.testing.assert_allclose(logits[b], two_layers(w, np.mean(fused, axis=0)))


def test_without_an_embedding_the_pooled_features_are_concatenated() -> None:
    built, w = network(BOTH, embedding=None)
    features, mask, videos = real_rows(BOTH)
    logits = built(features, mask)["logits"].detach()
    for b, video in enumerate(videos):
        fused = np.concatenate([video["context"].mean(0), video["face"].mean(0)])
        np.testing.assert_allclose(logits[b], two_layers(w, fused))


def test_a_map_is_averaged_over_its_positions_and_points_are_laid_in_a_row() -> None:
    shapes: Shapes = {"image_map": (6, 2, 3), "skeleton": (4, 3)}
    built, w = network(shapes, embedding=None)
    features, mask, videos = real_rows(shapes)
    logits = built(features, mask)["logits"].detach()
    for b, video in enumerate(videos):
        points = video["skeleton"].reshape(-1, 12).mean(0)
        fused = np.concatenate([video["image_map"].mean((0, 2, 3)), points])
        np.testing.assert_allclose(logits[b], two_layers(w, fused))


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_roles_may_have_rows_of_their_own(pool: str) -> None:
    built, _ = network({"face": (6,), "sound": (4,)}, pool=pool)
    features = {"face": torch.ones(1, 24, 6).double(), "sound": torch.ones(1, 3, 4).double()}
    mask = {"face": torch.ones(1, 24).bool(), "sound": torch.ones(1, 3).bool()}
    assert built(features, mask)["logits"].shape == (1, 3)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_an_absent_role_is_its_learned_vector(pool: str) -> None:
    built, w = network({"sound": (4,)}, pool=pool)
    none = torch.zeros(1, 0, 4).double(), torch.zeros(1, 0).bool()
    logits = built({"sound": none[0]}, {"sound": none[1]})["logits"]
    np.testing.assert_allclose(logits[0].detach(), two_layers(w, w["absent.sound"]))


def test_no_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one role"):
        pooling.build(pooling.Params(), {}, CLASSES)


@pytest.mark.parametrize("name", ["hidden", "embedding"])
def test_a_size_of_zero_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        pooling.Params(**{name: 0})  # type: ignore[arg-type]
