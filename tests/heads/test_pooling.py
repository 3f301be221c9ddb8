import numpy as np
import pytest
import torch

from heads import average
from tests.heads.conftest import random_batch


def network(
    shapes: dict[str, tuple[int, ...]], **options: object
) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    params = average.Params(**{"embedding": 8, "hidden": 7, **options})  # type: ignore[arg-type]
    built = average.build(params, shapes, 3).double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def linear(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def two_layers(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return linear(w, "classifier", np.maximum(linear(w, "hidden", x), 0))


def test_one_role_is_the_mean_of_its_real_rows_and_two_layers() -> None:
    built, w = network({"face": (6,)})
    features, mask = random_batch({"face": (6,)})
    logits = built({"face": features["face"].double()}, mask)["logits"]
    for b in range(4):
        rows = features["face"][b].double().numpy()[mask["face"][b].numpy()]
        np.testing.assert_allclose(logits[b].detach(), two_layers(w, rows.mean(0)))


@pytest.mark.parametrize("pool", ["embeddings", "features"])
def test_several_roles_are_embedded_averaged_and_concatenated(pool: str) -> None:
    shapes: dict[str, tuple[int, ...]] = {"face": (6,), "context": (5,)}
    built, w = network(shapes, pool=pool)
    features, mask = random_batch(shapes)
    logits = built({role: rows.double() for role, rows in features.items()}, mask)["logits"]
    for b in range(4):
        parts = []
        for role in ("context", "face"):
            rows = features[role][b].double().numpy()[mask[role][b].numpy()]
            if pool == "features":
                rows = rows.mean(0, keepdims=True)
            embedded = [np.maximum(linear(w, f"embed.{role}", row), 0) for row in rows]
            parts.append(np.mean(embedded, axis=0))
        np.testing.assert_allclose(logits[b].detach(), two_layers(w, np.concatenate(parts)))


def test_roles_may_have_rows_of_their_own() -> None:
    built, _ = network({"face": (6,), "sound": (4,)})
    features = {"face": torch.ones(1, 24, 6).double(), "sound": torch.ones(1, 3, 4).double()}
    mask = {"face": torch.ones(1, 24).bool(), "sound": torch.ones(1, 3).bool()}
    assert built(features, mask)["logits"].shape == (1, 3)


def test_an_absent_role_is_its_learned_vector() -> None:
    built, w = network({"sound": (4,)})
    none = torch.zeros(1, 0, 4).double(), torch.zeros(1, 0).bool()
    logits = built({"sound": none[0]}, {"sound": none[1]})["logits"]
    np.testing.assert_allclose(logits[0].detach(), two_layers(w, w["absent.sound"]))


def test_no_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one role"):
        average.build(average.Params(), {}, 3)


def test_a_size_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="hidden must be at least 1"):
        average.Params(hidden=0)
