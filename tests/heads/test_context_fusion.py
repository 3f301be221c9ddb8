"""The context fusion network against its layers, worked out in numpy."""

import numpy as np
import pytest
import torch

import heads
from heads import context_fusion
from tests.heads.conftest import random_batch

CLASSES = ("anger", "joy", "sadness")
Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, np.ndarray]
SIZES = {"embedding": 8, "fusion": 12, "hidden": 7}
THREE: Shapes = {"event": (6,), "object": (5,), "scene": (4,)}


def network(shapes: Shapes, **options: object) -> tuple[torch.nn.Module, Weights]:
    torch.manual_seed(0)
    params = context_fusion.Params(**{**SIZES, **options})  # type: ignore[arg-type]
    built = context_fusion.build(params, shapes, CLASSES).double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def layer(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """Return ReLU(FC), or x where there is no such layer."""
    if f"{name}.0.weight" not in w:
        return x
    return np.maximum(w[f"{name}.0.weight"] @ x + w[f"{name}.0.bias"], 0)


def equations(w: Weights, pooled: dict[str, np.ndarray]) -> np.ndarray:
    joined = np.concatenate([layer(w, f"embed.{r}", pooled[r]) for r in sorted(pooled)])
    fused = layer(w, "hidden", layer(w, "fusion", joined))
    return w["classifier.weight"] @ fused + w["classifier.bias"]


@pytest.mark.parametrize(("pool", "over_time"), [("mean", np.mean), ("max", np.max)])
@pytest.mark.parametrize("embedding", [8, None])
@pytest.mark.parametrize("hidden", [7, None])
def test_a_video_is_its_pooled_roles_embedded_and_fused(
    pool: str, over_time: np.ufunc, embedding: int | None, hidden: int | None
) -> None:
    built, w = network(THREE, pool=pool, embedding=embedding, hidden=hidden)
    features, mask = random_batch(THREE)
    features = {role: rows.double() for role, rows in features.items()}
    logits = built(features, mask)["logits"].detach()
    for b in range(4):
        pooled = {r: over_time(features[r][b].numpy()[mask[r][b].numpy()], axis=0) for r in THREE}
        np.testing.assert_allclose(logits[b], equations(w, pooled))


def test_an_absent_role_is_its_learned_vector() -> None:
    built, w = network(THREE)
    features, mask = random_batch(THREE)
    features = {role: rows.double() for role, rows in features.items()}
    mask["object"][1] = False
    pooled = {r: features[r][1].numpy()[mask[r][1].numpy()].mean(0) for r in ("event", "scene")}
    logits = built(features, mask)["logits"][1].detach()
    np.testing.assert_allclose(logits, equations(w, pooled | {"object": w["absent.object"]}))


def test_the_default_sizes_are_those_that_caan_was_inspired_to() -> None:
    with torch.device("meta"):
        built = heads.load("context_fusion").build(
            context_fusion.Params(), {"face": (4096,), "context": (4096,)}, CLASSES
        )
    shapes = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    assert shapes["embed.face.0.weight"] == shapes["embed.context.0.weight"] == (1024, 4096)
    assert shapes["fusion.0.weight"] == (2048, 2048)
    assert shapes["hidden.0.weight"] == (1024, 2048)


def test_a_single_role_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"at least two roles to fuse, found \['face'\]"):
        context_fusion.build(context_fusion.Params(), {"face": (6,)}, CLASSES)


@pytest.mark.parametrize("name", ["embedding", "fusion", "hidden"])
def test_a_size_of_zero_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        context_fusion.Params(**{name: 0})  # type: ignore[arg-type]
