"""CAAN against its equations, worked out in numpy one frame at a time."""

import numpy as np
import pytest
import torch

import heads
from heads import caan
from tests.heads.conftest import random_batch

SIZES = {"embedding": 8, "fusion": 12, "feature": 7, "score_hidden": (6, 5), "score_channels": 4}
SHAPES: dict[str, tuple[int, ...]] = {"face": (6,), "context": (5,)}

CLASSES = ("anger", "joy", "sadness")

Weights = dict[str, np.ndarray]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def score(w: Weights, x: np.ndarray) -> float:
    """Eq. 3 with all its hidden layers."""
    layers = sorted({name.split(".")[1] for name in w if name.startswith("score.")}, key=int)
    for layer in layers[:-1]:
        x = relu(linear(w, f"score.{layer}", x))
    return linear(w, f"score.{layers[-1]}", x).item()


def equations(
    w: Weights, frames: list[dict[str, np.ndarray | None]], score_input: str = "g"
) -> tuple[np.ndarray, list[float], list[np.ndarray]]:
    """Return R_V, sigmoid(s_i) and g_i of one video; a modality that is None is absent."""
    g, s = [], []
    for frame in frames:
        parts = [
            w[f"absent.{name}"] if x is None else relu(linear(w, f"embed.{name}", x))
            for name, x in frame.items()
        ]
        r = np.concatenate(parts)
        if "fusion.weight" in w:
            r = relu(linear(w, "fusion", r))  # eq. 1
        g.append(linear(w, "feature", r))  # eq. 2
        s.append(1 / (1 + np.exp(-score(w, g[-1] if score_input == "g" else r))))  # eq. 3
    video = sum(g_i * s_i for g_i, s_i in zip(g, s, strict=True)) / sum(s)  # eq. 4
    return video, s, g


def network(shapes: dict[str, tuple[int, ...]], **options: object) -> tuple[caan.CAAN, Weights]:
    torch.manual_seed(0)
    built = caan.build(caan.Params(**{**SIZES, **options}), shapes, CLASSES)  # type: ignore[arg-type]
    assert isinstance(built, caan.CAAN)
    built = built.double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def doubles(
    shapes: dict[str, tuple[int, ...]],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    features, mask = random_batch(shapes)
    return {role: rows.double() for role, rows in features.items()}, mask


@pytest.mark.parametrize("score_input", ["g", "r"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("fusion_layer", [True, False])
def test_a_video_is_equations_1_to_4(score_input: str, layers: int, fusion_layer: bool) -> None:
    built, w = network(
        SHAPES, score_input=score_input, score_layers=layers, fusion_layer=fusion_layer
    )
    features, mask = doubles(SHAPES)
    mask["context"][:] = True
    output = built(features, mask)
    for b in range(4):
        used = [i for i in range(5) if mask["face"][b, i]]
        frames = [{name: features[name][b, i].numpy() for name in SHAPES} for i in used]
        video, s, g = equations(w, frames, score_input)  # type: ignore[arg-type]
        np.testing.assert_allclose(output["video"][b].detach(), video)
        np.testing.assert_allclose(output["logits"][b].detach(), linear(w, "classifier", video))
        np.testing.assert_allclose(output["frame_scores"][b, used].detach(), s / np.sum(s))
        np.testing.assert_allclose(
            output["frame_logits"][b, used].detach(), [linear(w, "classifier", x) for x in g]
        )
        assert output["frames_used"][b].nonzero().flatten().tolist() == used


def test_all_frames_count_when_asked_with_the_learned_vector_for_a_missing_face() -> None:
    built, w = network(SHAPES, frames="all")
    features, mask = doubles(SHAPES)
    mask["context"][:] = True
    output = built(features, mask)
    for b in range(4):
        frames: list[dict[str, np.ndarray | None]] = [
            {
                "face": features["face"][b, i].numpy() if mask["face"][b, i] else None,
                "context": features["context"][b, i].numpy(),
            }
            for i in range(5)
        ]
        np.testing.assert_allclose(output["video"][b].detach(), equations(w, frames)[0])


def test_a_video_without_a_face_keeps_its_context_and_other_videos_their_faces_alone() -> None:
    built, w = network(SHAPES)
    features, mask = doubles(SHAPES)
    mask["context"][:] = True
    mask["face"][1] = False
    output = built(features, mask)
    assert output["frames_used"][1].all()
    assert torch.equal(output["frames_used"][2], mask["face"][2])
    frames: list[dict[str, np.ndarray | None]] = [
        {"face": None, "context": features["context"][1, i].numpy()} for i in range(5)
    ]
    np.testing.assert_allclose(output["video"][1].detach(), equations(w, frames)[0])


def test_a_video_without_any_row_is_one_frame_in_which_everything_is_absent() -> None:
    built, w = network(SHAPES)
    features, mask = doubles(SHAPES)
    for role in SHAPES:
        mask[role][3] = False
    output = built(features, mask)
    video = equations(w, [{"face": None, "context": None}])[0]
    np.testing.assert_allclose(output["video"][3].detach(), video)
    assert not output["frame_scores"][3].any()


def test_a_single_modality_is_not_fused() -> None:
    built, w = network({"context": (5,)})
    features, mask = doubles({"context": (5,)})
    video, _, _ = equations(w, [{"context": x} for x in features["context"][0].numpy()])
    np.testing.assert_allclose(built(features, mask)["video"][0].detach(), video)
    assert "fusion.weight" not in w


@pytest.mark.parametrize(("roles", "layers"), [(("face",), 1), (("context",), 3), (SHAPES, 3)])
def test_the_score_has_as_many_layers_as_the_paper_found_best(
    roles: tuple[str, ...], layers: int
) -> None:
    _, w = network({role: SHAPES[role] for role in roles})
    assert len([name for name in w if name.startswith("score.") and "weight" in name]) == layers


@pytest.mark.parametrize("side", [1, 3, 5])
def test_with_a_map_the_score_is_convolutions_and_one_cell(side: int) -> None:
    shapes: dict[str, tuple[int, ...]] = {"face": (6,), "face_map": (2, 4, 3)}
    built, w = network(shapes, score_layers=1, score_kernel=side)
    features, mask = doubles(shapes)
    pad = side // 2
    s, g = [], []
    for x, image in zip(features["face"][0].numpy(), features["face_map"][0].numpy(), strict=True):
        around = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        maps = np.array(
            [
                [
                    [
                        (kernel * around[:, y : y + side, x0 : x0 + side]).sum() + bias
                        for x0 in range(3)
                    ]
                    for y in range(4)
                ]
                for kernel, bias in zip(w["score.0.weight"], w["score.0.bias"], strict=True)
            ]
        )
        s.append(1 / (1 + np.exp(-linear(w, "score.3", relu(maps).ravel()).item())))
        g.append(linear(w, "feature", relu(linear(w, "embed.face", x))))
    output = built(features, mask)
    np.testing.assert_allclose(output["frame_scores"][0].detach(), s / np.sum(s))
    video = sum(a * b for a, b in zip(g, s, strict=True)) / sum(s)
    np.testing.assert_allclose(output["video"][0].detach(), video)


def test_a_single_modality_may_go_without_the_layer_before_g() -> None:
    shapes: dict[str, tuple[int, ...]] = {"face": (6,)}
    built, w = network(shapes, score_layers=1, single_embedding=False)
    features, mask = doubles(shapes)
    assert not [name for name in w if name.startswith("embed")]
    g = [linear(w, "feature", x) for x in features["face"][0].numpy()]
    s = [1 / (1 + np.exp(-linear(w, "score.0", x).item())) for x in g]
    video = sum(a * b for a, b in zip(g, s, strict=True)) / sum(s)
    np.testing.assert_allclose(built(features, mask)["video"][0].detach(), video)
    mask["face"][0] = False  # without a row the learned vector stands for x_i
    wanted = linear(w, "feature", w["absent.face"])
    np.testing.assert_allclose(built(features, mask)["video"][0].detach(), wanted)
    both = network(SHAPES, single_embedding=False)[1]
    assert "embed.face.weight" in both


def test_the_loss_is_the_weighted_sum_of_its_three_parts() -> None:
    labels = torch.tensor([0, 1, 0, 2])
    output = network(SHAPES)[0](*doubles(SHAPES))

    def loss(**weights: float) -> float:
        return network(SHAPES, **weights)[0].loss(output, labels, "all").item()

    off = {"frame_weight": 0.0, "triplet_weight": 0.0, "video_weight": 0.0}
    parts = {name: loss(**{**off, name: 1.0}) for name in off}
    wanted = 2 * parts["frame_weight"] + 3 * parts["triplet_weight"] + parts["video_weight"] / 2
    found = loss(frame_weight=2.0, triplet_weight=3.0, video_weight=0.5)
    assert found == pytest.approx(wanted)
    assert parts["video_weight"] == pytest.approx(
        -torch.log_softmax(output["logits"], 1)[range(4), labels].mean().item()
    )


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"face_map": (3, 4, 4)}, "needs the role 'face', 'context' or both"),
        ({"face": (3, 4, 4)}, "takes rows of one axis"),
        ({"face": (6,), "face_map": (3,)}, r"takes rows \(C, H, W\)"),
        ({"face": (6,), "context": (5,), "face_map": (3, 4, 4)}, "'face' alone"),
        ({"face": (6,), "context_map": (3, 4, 4)}, "'context' alone"),
    ],
)
def test_roles_that_do_not_go_together_are_named(
    shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        caan.build(caan.Params(), shapes, CLASSES)


def test_the_default_sizes_are_the_papers() -> None:
    with torch.device("meta"):
        built = heads.load("caan").build(
            caan.Params(), {"face": (4096,), "context": (4096,)}, CLASSES
        )
    shapes = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    assert shapes["embed.face.weight"] == shapes["embed.context.weight"] == (1024, 4096)
    assert shapes["fusion.weight"] == (2048, 2048)
    assert shapes["score.4.weight"] == (1, 128)
