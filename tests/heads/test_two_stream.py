"""The two streams against their layers, worked out in numpy one frame at a time."""

import numpy as np
import pytest
import torch

from heads import two_stream
from tests.heads.conftest import random_batch

CLASSES = ("anger", "joy", "sadness")
Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, np.ndarray]
BOTH: Shapes = {"face": (6,), "context": (5,)}
LABELS = torch.tensor([0, 1, 0, 2])


def network(shapes: Shapes, **options: object) -> tuple[two_stream.TwoStream, Weights]:
    torch.manual_seed(0)
    params = two_stream.Params(**{"fusion": 8, **options})  # type: ignore[arg-type]
    built = two_stream.build(params, shapes, CLASSES)
    assert isinstance(built, two_stream.TwoStream)
    built = built.double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def doubles(shapes: Shapes) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    features, mask = random_batch(shapes)
    return {role: rows.double() for role, rows in features.items()}, mask


def fuse(w: Weights, rows: dict[str, np.ndarray | None]) -> np.ndarray:
    """Return f_i of one frame; a role that is None is absent."""
    joined = np.concatenate([w[f"absent.{r}"] if x is None else x for r, x in rows.items()])
    return np.maximum(w["fusion.weight"] @ joined + w["fusion.bias"], 0)


def classify(w: Weights, x: np.ndarray) -> np.ndarray:
    return w["classifier.weight"] @ x + w["classifier.bias"]


def test_a_video_is_the_mean_of_its_fused_frames_with_a_learned_vector_for_what_is_absent() -> None:
    built, w = network(BOTH)
    features, mask = doubles(BOTH)
    output = built(features, mask)
    lacking = 0
    for b in range(4):
        fused = []
        for i in range(5):
            rows = {r: features[r][b, i].numpy() if mask[r][b, i] else None for r in BOTH}
            absent = sum(row is None for row in rows.values())
            lacking += absent == 1
            if absent == 2:
                assert not output["frames_used"][b, i]
                continue
            fused.append(fuse(w, rows))
            np.testing.assert_allclose(
                output["frame_logits"][b, i].detach(), classify(w, fused[-1])
            )
        np.testing.assert_allclose(
            output["logits"][b].detach(), classify(w, np.mean(fused, axis=0))
        )
    assert lacking


def test_a_video_without_a_row_is_one_frame_in_which_everything_is_absent() -> None:
    built, w = network(BOTH)
    features, mask = doubles(BOTH)
    for role in BOTH:
        mask[role][2] = False
    wanted = classify(w, fuse(w, {"face": None, "context": None}))
    np.testing.assert_allclose(built(features, mask)["logits"][2].detach(), wanted)


def test_a_map_is_averaged_over_its_positions() -> None:
    shapes: Shapes = {"face": (6, 2, 3), "frame": (5, 4, 4)}
    built, _ = network(shapes)
    features, mask = doubles(shapes)
    pooled = {role: rows.mean((3, 4)) for role, rows in features.items()}
    flat, _ = network({"face": (6,), "frame": (5,)})
    torch.testing.assert_close(built(features, mask)["logits"], flat(pooled, mask)["logits"])


def test_the_answer_is_the_mean_of_the_frames_answers() -> None:
    built, _ = network(BOTH)
    features, mask = doubles(BOTH)
    mask["context"][:] = True
    output = built(features, mask)
    torch.testing.assert_close(output["logits"], output["frame_logits"].mean(1))


def test_the_loss_is_of_videos_or_of_frames() -> None:
    features, mask = doubles(BOTH)
    for loss, name in (("video", "logits"), ("frame", "frame_logits")):
        built, _ = network(BOTH, loss=loss)
        output = built(features, mask)
        places = (
            output["frames_used"].nonzero().tolist() if loss == "frame" else [[b] for b in range(4)]
        )
        wanted = np.mean(
            [-torch.log_softmax(output[name][tuple(p)], 0)[LABELS[p[0]]].item() for p in places]
        )
        assert built.loss(output, LABELS, "all").item() == pytest.approx(wanted)


def test_a_single_stream_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"at least two of the roles .* found \['face'\]"):
        two_stream.build(two_stream.Params(), {"face": (6,)}, CLASSES)


def test_a_size_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="fusion must be at least 1, found 0"):
        two_stream.Params(fusion=0)
