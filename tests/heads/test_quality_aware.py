"""QAN against its equations, worked out in numpy one frame at a time."""

import numpy as np
import pytest
import torch

from heads import quality_aware
from heads.layers import losses
from tests.heads.conftest import random_batch

CLASSES = ("anger", "joy", "sadness")
Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, np.ndarray]
ROW: Shapes = {"image": (6,)}
WITH_MAP: Shapes = {"image": (6,), "image_map": (2, 4, 3)}


def network(shapes: Shapes, **options: object) -> tuple[quality_aware.QualityAware, Weights]:
    torch.manual_seed(0)
    params = quality_aware.Params(**{"embedding": 8, "channels": 4, **options})  # type: ignore[arg-type]
    built = quality_aware.build(params, shapes, CLASSES)
    assert isinstance(built, quality_aware.QualityAware)
    built = built.double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def doubles(shapes: Shapes) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    features, mask = random_batch(shapes)
    return {role: rows.double() for role, rows in features.items()}, mask


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def sigmoid(x: np.ndarray) -> float:
    return 1 / (1 + np.exp(-x.item()))


def quality_of_map(w: Weights, image: np.ndarray) -> float:
    """One convolution with padding, ReLU, one cell and a sigmoid."""
    side = w["score.0.weight"].shape[-1]
    around = np.pad(image, ((0, 0), *2 * [(side // 2, side // 2)]))
    maps = np.zeros((4, *image.shape[1:]))
    for channel, y, x in np.ndindex(*maps.shape):
        kernel = w["score.0.weight"][channel]
        maps[channel, y, x] = (kernel * around[:, y : y + side, x : x + side]).sum()
        maps[channel, y, x] += w["score.0.bias"][channel]
    return sigmoid(linear(w, "score.3", np.maximum(maps, 0).ravel()))


@pytest.mark.parametrize("shapes", [ROW, WITH_MAP])
@pytest.mark.parametrize(("embedding", "kernel"), [(8, 3), (None, 3), (8, 1)])
def test_a_video_is_the_mean_of_its_frames_weighted_by_quality(
    shapes: Shapes, embedding: int | None, kernel: int
) -> None:
    built, w = network(shapes, embedding=embedding, kernel=kernel)
    features, mask = doubles(shapes)
    output = built(features, mask)
    for b in range(4):
        used = [i for i in range(5) if mask["image"][b, i]]
        mu, r = [], []
        for i in used:
            x = features["image"][b, i].numpy()
            r.append(np.maximum(linear(w, "embed.0", x), 0) if embedding else x)
            if shapes is ROW:
                mu.append(sigmoid(linear(w, "score.0", x)))
            elif mask["image_map"][b, i]:
                mu.append(quality_of_map(w, features["image_map"][b, i].numpy()))
            else:
                nothing = np.broadcast_to(w["absent.image_map"], (2, 4, 3))
                mu.append(quality_of_map(w, nothing))
        video = sum(m * x for m, x in zip(mu, r, strict=True)) / sum(mu)
        np.testing.assert_allclose(output["quality"][b, used].detach(), mu / np.sum(mu))
        np.testing.assert_allclose(output["video"][b].detach(), video)
        np.testing.assert_allclose(output["logits"][b].detach(), linear(w, "classifier", video))
        np.testing.assert_allclose(
            output["frame_logits"][b, used].detach(), [linear(w, "classifier", x) for x in r]
        )


def test_a_video_without_a_row_is_its_learned_vector() -> None:
    built, w = network(WITH_MAP)
    features, mask = doubles(WITH_MAP)
    mask["image"][1] = False
    output = built(features, mask)
    np.testing.assert_allclose(output["video"][1].detach(), w["absent.image"])
    assert not output["quality"][1].any()


def test_the_loss_is_the_weighted_sum_of_its_three_parts() -> None:
    labels = torch.tensor([0, 1, 0, 2])
    options = {"frame_weight": 2.0, "triplet_weight": 3.0, "video_weight": 0.5, "margin": 0.7}
    built, _ = network(ROW, mining="hard", **options)
    features, mask = doubles(ROW)
    output = built(features, mask)
    frames = [
        -torch.log_softmax(output["frame_logits"][b, i], 0)[labels[b]].item()
        for b, i in mask["image"].nonzero().tolist()
    ]
    videos = [-torch.log_softmax(output["logits"][b], 0)[labels[b]].item() for b in range(4)]
    triplets = losses.triplet(output["video"], labels, margin=0.7, mining="hard").item()
    wanted = 2 * np.mean(frames) + 3 * triplets + 0.5 * np.mean(videos)
    assert built.loss(output, labels, "all").item() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"takes one role.*found \[\]"),
        ({"face": (6,), "image": (6,)}, r"takes one role.*found \['face', 'image'\]"),
        ({"face": (6,), "image_map": (3, 4, 4)}, "takes one role"),
        ({"image_map": (3, 4, 4)}, "'image_map' of quality_aware takes rows of one axis"),
        ({"image": (6,), "image_map": (3,)}, r"'image_map' .* takes rows \(C, H, W\)"),
    ],
)
def test_roles_that_do_not_go_together_are_named(shapes: Shapes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quality_aware.build(quality_aware.Params(), shapes, CLASSES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": 0}, "embedding must be at least 1 or null"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"kernel": 4}, "kernel must be odd and above 0, found 4"),
        ({"triplet_weight": -1.0}, "at least 0"),
        ({"frame_weight": 0.0, "triplet_weight": 0.0, "video_weight": 0.0}, "one of frame_weight"),
    ],
)
def test_numbers_out_of_their_range_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quality_aware.Params(**options)  # type: ignore[arg-type]
