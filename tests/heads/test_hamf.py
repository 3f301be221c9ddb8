"""HAMF against its equations, worked out in numpy one video, frame and place at a time."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

import heads
from heads import hamf
from tests.heads.conftest import random_batch

CLASSES = ("anger", "joy", "sadness")
SIZES: dict[str, object] = {
    "local_channels": 4,
    "local_hidden": 5,
    "frame_hidden": 7,
    "global_hidden": (6, 5),
    "hidden": 9,
    "dropout": 0.0,
}
THREE: dict[str, tuple[int, ...]] = {"face": (6,), "image": (6,), "scene": (6,)}
FACE: dict[str, tuple[int, ...]] = {"face": (6,)}
MAPPED: dict[str, tuple[int, ...]] = {"face": (6,), "face_map": (2, 4, 3)}
LABELS = torch.tensor([0, 1, 0, 1, 2, 2])

Weights = dict[str, np.ndarray]


def network(shapes: Mapping[str, tuple[int, ...]], **options: object) -> tuple[hamf.HAMF, Weights]:
    torch.manual_seed(0)
    built = hamf.build(hamf.Params(**{**SIZES, **options}), shapes, CLASSES)  # type: ignore[arg-type]
    assert isinstance(built, hamf.HAMF)
    built = built.double()
    return built, {name: value.numpy() for name, value in built.state_dict().items()}


def doubles(
    shapes: Mapping[str, tuple[int, ...]], videos: int = 6
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    features, mask = random_batch(shapes, videos=videos)
    return {role: rows.double() for role, rows in features.items()}, mask


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def sigmoid_sum(x: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-x))
    return positive / positive.sum()


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", np.zeros(1))


def convolve(w: Weights, name: str, image: np.ndarray) -> np.ndarray:
    """Convolution (C, H, W) -> (C', H, W), a product for each place."""
    kernels, biases = w[f"{name}.weight"], w[f"{name}.bias"]
    side = kernels.shape[-1]
    around = np.pad(image, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    _, height, width = image.shape
    return np.array(
        [
            [
                [
                    (kernel * around[:, y : y + side, x : x + side]).sum() + bias
                    for x in range(width)
                ]
                for y in range(height)
            ]
            for kernel, bias in zip(kernels, biases, strict=True)
        ]
    )


def layers_of(w: Weights, start: str) -> list[str]:
    """Return the names of the layers below `start` that have weights, in order."""
    names = {name.rpartition(".")[0] for name in w if name.startswith(start)}
    return sorted(names, key=lambda name: int(name.rpartition(".")[2]))


def local_score(w: Weights, modality: str, x: np.ndarray, active: tuple[bool, ...]) -> float:
    """Eqs. 2 and 3 of one frame; `active` tells after which layer there is a sigma."""
    *hidden, cell = layers_of(w, f"score.{modality}.")
    assert len(hidden) == len(active)
    for name, sigma in zip(hidden, active, strict=True):
        x = convolve(w, name, x) if x.ndim == 3 else linear(w, name, x)
        x = relu(x) if sigma else x
    return linear(w, cell, x.ravel()).item()


def two_layers(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return linear(w, f"{name}.3", relu(linear(w, f"{name}.0", x)))


def global_score(w: Weights, at: int, x: np.ndarray) -> float:
    """Eqs. 7 and 8 of the modality number `at`."""
    depth = len([name for name in w if name.startswith("importance.weights.")])
    for layer in range(depth):
        if layer:
            x = relu(x)
        weights = w[f"importance.weights.{layer}"]
        x = weights[at % len(weights)] @ x
        biases = w.get(f"importance.biases.{layer}")
        if biases is not None:
            x = x + biases[at % len(biases)]
    return x.item()


def frames_of(
    features: Mapping[str, Tensor], mask: Mapping[str, Tensor], role: str, video: int
) -> np.ndarray:
    return features[role][video][mask[role][video]].numpy()


def modality_of(
    w: Weights, features: Mapping[str, Tensor], mask: Mapping[str, Tensor], role: str, video: int
) -> np.ndarray:
    """X_i of one video without maps, in the default reading."""
    rows = frames_of(features, mask, role, video)
    depth = len(layers_of(w, f"score.{role}.")) - 1
    scores = np.array([local_score(w, role, x, (True,) * depth) for x in rows])
    return (rows * sigmoid_sum(scores)[:, None]).sum(0)


@pytest.mark.parametrize("local", ["L1", "L2", "L3"])
@pytest.mark.parametrize("shapes", [FACE, MAPPED])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_frame_is_scored_by_equations_2_and_3_and_weighs_the_sum_of_equation_4(
    local: str, shapes: dict[str, tuple[int, ...]], kernel: int
) -> None:
    built, w = network(shapes, local_attention=local, local_kernel=kernel)
    features, mask = doubles(shapes)
    if "face_map" in shapes:
        mask["face_map"] = mask["face"]
    output = built(features, mask)
    for video in range(6):
        rows = frames_of(features, mask, "face", video)
        seen = frames_of(features, mask, list(shapes)[-1], video)
        s = np.array([local_score(w, "face", x, (True,) * int(local[1])) for x in seen])
        found = output["face_scores"][video].detach()
        np.testing.assert_allclose(found[mask["face"][video]], sigmoid_sum(s))
        x = (rows * sigmoid_sum(s)[:, None]).sum(0)
        np.testing.assert_allclose(output["face_video"][video].detach(), x)
        logits = two_layers(w, "classifier", x)
        np.testing.assert_allclose(output["logits"][video].detach(), logits)


@pytest.mark.parametrize(
    ("local", "active"),
    [("L1", (True,)), ("L2", (True, False)), ("L3", (True, True, True))],
)
@pytest.mark.parametrize("shapes", [FACE, MAPPED])
def test_equation_3_as_printed_has_no_second_sigma_in_l2_and_no_last_bias_in_l3(
    local: str, active: tuple[bool, ...], shapes: dict[str, tuple[int, ...]]
) -> None:
    built, w = network(shapes, local_attention=local, literal_eq3=True, frame_normalise="none")
    last = layers_of(w, "score.face.")[-1]
    assert (f"{last}.bias" in w) == (local != "L3")
    features, mask = doubles(shapes)
    seen = frames_of(features, mask, list(shapes)[-1], 0)
    s = [local_score(w, "face", x, active) for x in seen]
    np.testing.assert_allclose(built(features, mask)["face_scores"][0].detach(), s)


@pytest.mark.parametrize(
    ("normalise", "function"),
    [("sigmoid_sum", sigmoid_sum), ("softmax", softmax), ("none", lambda s: s)],
)
def test_the_scores_of_frames_are_normalised_as_asked(normalise: str, function: object) -> None:
    built, w = network(FACE, frame_normalise=normalise)
    features, mask = doubles(FACE)
    output = built(features, mask)
    for video in range(6):
        rows = frames_of(features, mask, "face", video)
        s = np.array([local_score(w, "face", x, (True, True)) for x in rows])
        weights = function(s)  # type: ignore[operator]
        found = output["face_video"][video].detach()
        np.testing.assert_allclose(found, (rows * weights[:, None]).sum(0))


def test_a_frame_without_its_map_has_the_learned_vector_at_every_place() -> None:
    built, w = network(MAPPED, local_attention="L1", frame_normalise="none")
    features, mask = doubles(MAPPED)
    mask["face_map"][0, 2] = False
    image = np.broadcast_to(w["absent_map.face"], (2, 4, 3))
    s = local_score(w, "face", image, (True,))
    assert built(features, mask)["face_scores"][0, 2].item() == pytest.approx(s)


def test_a_map_without_its_row_does_not_count() -> None:
    built, _ = network(MAPPED)
    features, mask = doubles(MAPPED)
    mask["face"][0, 2], mask["face_map"][0, 2] = False, True
    wanted = built(features, mask)
    features["face_map"][0, 2] += 1
    assert not wanted["face_scores"][0, 2]
    assert torch.equal(built(features, mask)["logits"], wanted["logits"])


def test_the_papers_score_networks_are_l1_for_the_image_and_l2_for_others() -> None:
    _, w = network(THREE)
    depth = {role: len(layers_of(w, f"score.{role}.")) - 1 for role in THREE}
    assert depth == {"face": 2, "image": 1, "scene": 2}


def test_each_modality_may_have_a_score_network_of_its_own() -> None:
    built, w = network(THREE, local_attention={"face": "L3", "image": "none", "scene": "L1"})
    assert len(layers_of(w, "score.face.")) == 4
    assert len(layers_of(w, "score.scene.")) == 2
    assert set(built.attention) == {"face_scores", "scene_scores", "modality_scores"}
    features, mask = doubles(THREE)
    output = built(features, mask)
    mean = frames_of(features, mask, "image", 3).mean(0)
    np.testing.assert_allclose(output["image_video"][3].detach(), mean)


@pytest.mark.parametrize("layers", ["G1", "G2", "G3"])
@pytest.mark.parametrize("shared", ["none", "biases", "all"])
@pytest.mark.parametrize("normalise", ["softmax", "none"])
def test_modalities_are_weighed_by_equations_6_to_9(
    layers: str, shared: str, normalise: str
) -> None:
    built, w = network(
        THREE, global_attention=layers, global_shared=shared, modality_normalise=normalise
    )
    features, mask = doubles(THREE)
    mask["scene"][2] = False
    mask["face"][4] = mask["image"][4] = False
    output = built(features, mask)
    for video in range(6):
        had = [at for at, role in enumerate(sorted(THREE)) if mask[role][video].any()]
        x = {at: modality_of(w, features, mask, sorted(THREE)[at], video) for at in had}
        alpha = np.array([global_score(w, at, x[at]) for at in had])
        if normalise == "softmax":
            alpha = softmax(alpha)
        wanted = np.zeros(3)
        wanted[had] = alpha
        np.testing.assert_allclose(output["modality_scores"][video].detach(), wanted)
        fused = sum(a * x[at] for a, at in zip(alpha, had, strict=True))
        np.testing.assert_allclose(output["fused"][video].detach(), fused)
        logits = two_layers(w, "classifier", np.asarray(fused))
        np.testing.assert_allclose(output["logits"][video].detach(), logits)


def test_the_global_weights_have_the_index_of_a_modality_where_equations_7_and_8_have_it() -> None:
    for shared, weights, biases in (("none", 3, 3), ("biases", 3, 1), ("all", 1, 1)):
        _, w = network(THREE, global_shared=shared, modality_normalise="none")
        assert w["importance.weights.0"].shape == (weights, 6, 6)
        assert w["importance.weights.1"].shape == (weights, 1, 6)
        assert [w[f"importance.biases.{at}"].shape for at in (0, 1)] == [(biases, 6), (biases, 1)]


def test_with_all_shared_permuting_the_modalities_changes_nothing() -> None:
    built, _ = network(
        THREE, local_attention="none", global_shared="all", modality_normalise="none"
    )
    apart, _ = network(THREE, local_attention="none", modality_normalise="none")
    features, mask = doubles(THREE)
    turned = dict(zip(THREE, ("image", "scene", "face"), strict=True))
    other = (
        {role: features[turned[role]] for role in THREE},
        {role: mask[turned[role]] for role in THREE},
    )
    torch.testing.assert_close(built(*other)["logits"], built(features, mask)["logits"])
    assert not torch.allclose(apart(*other)["logits"], apart(features, mask)["logits"])


def test_other_fusions_are_equation_6_concatenated_and_equation_9_as_printed() -> None:
    features, mask = doubles(THREE)
    mask["scene"][2] = False
    concat, w = network(THREE, fusion="concat")
    product, v = network(THREE, fusion="product")
    found = concat(features, mask), product(features, mask)
    for video in range(6):
        had = [role for role in sorted(THREE) if mask[role][video].any()]
        rows = np.zeros((3, 6))
        for at, role in enumerate(sorted(THREE)):
            if role in had:
                rows[at] = modality_of(w, features, mask, role, video)
        weighted = rows * found[0]["modality_scores"][video].detach().numpy()[:, None]
        np.testing.assert_allclose(found[0]["fused"][video].detach(), weighted.ravel())
        rows = np.zeros((3, 6))
        for at, role in enumerate(sorted(THREE)):
            if role in had:
                rows[at] = modality_of(v, features, mask, role, video)
        weighted = rows * found[1]["modality_scores"][video].detach().numpy()[:, None]
        np.testing.assert_allclose(
            found[1]["fused"][video].detach(), (rows @ weighted.T).ravel(), atol=1e-12
        )


def test_without_attention_it_is_a_mean_over_the_modalities_of_means_over_their_frames() -> None:
    built, w = network(THREE, local_attention="none", global_attention="none")
    features, mask = doubles(THREE)
    mask["scene"][2] = False
    output = built(features, mask)
    assert built.attention == {}
    for video in range(6):
        had = [role for role in THREE if mask[role][video].any()]
        mean = np.mean([frames_of(features, mask, role, video).mean(0) for role in had], axis=0)
        logits = two_layers(w, "classifier", mean)
        np.testing.assert_allclose(output["logits"][video].detach(), logits)


def test_a_video_without_any_row_has_the_learned_vector_in_place_of_f() -> None:
    built, w = network(THREE)
    features, mask = doubles(THREE)
    for role in THREE:
        mask[role][1] = False
    output = built(features, mask)
    logits = two_layers(w, "classifier", w["absent.video"])
    np.testing.assert_allclose(output["logits"][1].detach(), logits)
    assert not output["modality_scores"][1].any()


def test_a_smaller_modality_is_mapped_to_the_size_of_the_largest() -> None:
    shapes: dict[str, tuple[int, ...]] = {"face": (6,), "sound": (4,)}
    built, w = network(shapes)
    features, mask = doubles(shapes)
    x = [
        modality_of(w, features, mask, "face", 0),
        linear(w, "project.sound", modality_of(w, features, mask, "sound", 0)),
    ]
    alpha = softmax(np.array([global_score(w, at, x[at]) for at in (0, 1)]))
    fused = built(features, mask)["fused"][0].detach()
    np.testing.assert_allclose(fused, alpha[0] * x[0] + alpha[1] * x[1])
    assert "project.face.weight" not in w


def test_a_missing_modality_of_another_size_leaves_no_trace_of_its_bias() -> None:
    shapes: dict[str, tuple[int, ...]] = {"face": (6,), "sound": (4,)}
    built, w = network(shapes, modality_normalise="none", fusion="concat")
    features, mask = doubles(shapes)
    mask["sound"][0] = False
    assert not built(features, mask)["fused"][0, 6:].any()


def test_modalities_may_have_different_numbers_of_rows() -> None:
    built, w = network(THREE)
    features, mask = doubles(THREE)
    features["face"], mask["face"] = features["face"][:, :2], mask["face"][:, :2]
    features["image"], mask["image"] = features["image"][:, :0], mask["image"][:, :0]
    output = built(features, mask)
    assert output["face_scores"].shape == (6, 2)
    assert output["image_scores"].shape == (6, 0)
    assert not output["modality_scores"][:, 1].any()
    np.testing.assert_allclose(
        output["scene_video"][3].detach(), modality_of(w, features, mask, "scene", 3)
    )


def test_the_local_loss_is_frames_triplets_and_videos_of_every_modality() -> None:
    options = {"frame_weight": 2.0, "triplet_weight": 3.0, "video_weight": 0.5, "margin": 0.3}
    built, w = network(THREE, **options)
    features, mask = doubles(THREE)
    mask["scene"][0] = False  # of class 0: it takes no part in the triplets
    wanted = 0.0
    for role in THREE:
        had = [video for video in range(6) if mask[role][video].any()]
        x = {video: modality_of(w, features, mask, role, video) for video in had}
        of_frames = [
            -np.log(softmax(two_layers(w, f"frames.{role}", row))[LABELS[video]])
            for video in had
            for row in frames_of(features, mask, role, video)
        ]
        of_videos = [
            -np.log(softmax(two_layers(w, f"frames.{role}", x[video]))[LABELS[video]])
            for video in had
        ]
        unit = {video: x[video] / np.linalg.norm(x[video]) for video in had}
        triplets = [
            np.square(unit[a] - unit[p]).sum() - np.square(unit[a] - unit[n]).sum() + 0.3
            for a in had
            for p in had
            for n in had
            if a != p and LABELS[a] == LABELS[p] and LABELS[a] != LABELS[n]
        ]
        violated = [value for value in triplets if value > 0]
        wanted += 2 * np.mean(of_frames) + 3 * np.mean(violated) + 0.5 * np.mean(of_videos)
    output = built(features, mask)
    assert built.loss(output, LABELS, "local").item() == pytest.approx(wanted)


def test_equation_1_as_printed_has_no_hinge_and_no_normalisation() -> None:
    built, w = network(
        FACE,
        frame_weight=0.0,
        video_weight=0.0,
        triplet_hinge=False,
        triplet_normalise=False,
        margin=0.01,
    )
    features, mask = doubles(FACE)
    x = [modality_of(w, features, mask, "face", video) for video in range(6)]
    values = [
        np.square(x[a] - x[p]).sum() - np.square(x[a] - x[n]).sum() + 0.01
        for a in range(6)
        for p in range(6)
        for n in range(6)
        if a != p and LABELS[a] == LABELS[p] and LABELS[a] != LABELS[n]
    ]
    output = built(features, mask)
    assert built.loss(output, LABELS, "local").item() == pytest.approx(np.mean(values))
    assert not [name for name in w if name.startswith("frames")]
    hard, _ = network(FACE, frame_weight=0.0, video_weight=0.0, mining="hard")
    every, _ = network(FACE, frame_weight=0.0, video_weight=0.0)
    assert hard.loss(output, LABELS, "local") > every.loss(output, LABELS, "local")


def test_local_and_global_are_trained_separately() -> None:
    built, w = network(THREE | {"face_map": (2, 4, 3)})
    features, mask = doubles(THREE | {"face_map": (2, 4, 3)})
    mask["face_map"][1, 1] = False
    for role in THREE:
        mask[role][5] = False
    assert list(built.phases()) == ["local", "global"]
    names = {
        "local": {name for name in w if name.startswith(("score", "frames", "absent_map"))},
    }
    names["global"] = set(w) - names["local"]
    for phase, modules in built.phases().items():
        inside = {id(weight) for module in modules for weight in module.parameters()}
        own = {name for name, weight in built.named_parameters() if id(weight) in inside}
        assert own == names[phase]
        built.zero_grad()
        built.requires_grad_(False)
        for module in modules:
            module.requires_grad_(True)
        built.loss(built(features, mask), LABELS, phase).backward()  # type: ignore[no-untyped-call]
        assert {name for name, p in built.named_parameters() if p.grad is not None} == own


def test_joint_training_is_one_phase_with_both_losses() -> None:
    built, _ = network(THREE, training="joint")
    output = built(*doubles(THREE))
    assert {name: list(modules) for name, modules in built.phases().items()} == {"joint": [built]}
    local, final, joint = (built.loss(output, LABELS, p) for p in ("local", "global", "joint"))
    cross_entropy = -torch.log_softmax(output["logits"], 1)[range(6), LABELS].mean()
    torch.testing.assert_close(final, cross_entropy)
    torch.testing.assert_close(joint, local + final)


def test_without_local_attention_there_is_nothing_local_to_train() -> None:
    built, w = network(THREE, local_attention="none")
    assert {name: list(modules) for name, modules in built.phases().items()} == {"global": [built]}
    assert not [name for name in w if name.startswith(("score", "frames"))]


def test_one_modality_is_local_attention_and_the_classifier() -> None:
    for options in ({}, {"fusion": "product", "modality_normalise": "none"}):
        built, w = network(FACE, **options)
        output = built(*doubles(FACE))
        assert torch.equal(output["fused"], output["face_video"])
        assert built.attention == {"face_scores": heads.Rows("face")}
        assert list(built.phases()) == ["local", "global"]
        assert not [name for name in w if name.startswith("importance")]


def test_the_order_of_roles_in_the_settings_means_nothing() -> None:
    once, w = network(THREE)
    again, v = network(dict(reversed(THREE.items())))
    assert once.attention == again.attention
    assert once.attention["modality_scores"] == heads.Roles(("face", "image", "scene"))
    assert all(np.array_equal(w[name], v[name]) for name in w)


def test_a_bias_that_a_softmax_cancels_is_not_there() -> None:
    _, w = network(THREE, frame_normalise="softmax", global_shared="biases")
    assert "score.face.4.weight" in w and "score.face.4.bias" not in w
    assert "importance.biases.0" in w and "importance.biases.1" not in w


def test_dropout_works_in_training_alone() -> None:
    built, _ = network(FACE, dropout=0.9)
    batch = doubles(FACE)
    assert not torch.equal(built(*batch)["logits"], built(*batch)["logits"])
    assert not torch.equal(built(*batch)["face_video_logits"], built(*batch)["face_video_logits"])
    built.eval()
    assert torch.equal(built(*batch)["logits"], built(*batch)["logits"])


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ({}, {}, r"needs a role with rows of one axis, found \[\]"),
        ({"face": (2, 4, 3)}, {}, r"'face' of hamf takes rows of one axis.*\(2, 4, 3\)"),
        ({"modality": (6,)}, {}, "name that role otherwise"),
        ({"face": (6,), "scene_map": (2, 4, 3)}, {}, "the map of a modality 'scene', found"),
        ({"face": (6,), "face_map": (3,)}, {}, r"takes rows \(C, H, W\), found the shape \(3,\)"),
        (MAPPED, {"local_attention": "none"}, "remove the role"),
        (THREE, {"local_attention": {"face": "L1"}}, r"'scene'\], found \['face'\]"),
    ],
)
def test_roles_that_do_not_go_together_are_named(
    shapes: dict[str, tuple[int, ...]], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(shapes, **options)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"local_attention": "L4"}, "'L3' or 'none', found 'L4'"),
        ({"local_attention": {"face": "L4"}}, "'L3' or 'none', found 'L4'"),
        ({"local_channels": 0}, "local_channels must be at least 1, found 0"),
        ({"local_kernel": 2}, "must be odd and above 0, found 2"),
        ({"global_hidden": [6, 0]}, "global_hidden must be at least 1"),
        ({"dropout": 1.0}, "below 1, found 1.0"),
        ({"frame_weight": -1.0}, "frame_weight must be at least 0, found -1.0"),
        ({"triplet_weight": 0.0, "video_weight": 0.0}, "nothing else trains the local attention"),
    ],
)
def test_wrong_hyper_parameters_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("hamf"), overrides)


def test_joint_training_needs_no_local_loss() -> None:
    off = {"frame_weight": 0.0, "triplet_weight": 0.0, "video_weight": 0.0}
    built, _ = network(FACE, training="joint", **off)
    output = built(*doubles(FACE))
    joint, final = (built.loss(output, LABELS, phase) for phase in ("joint", "global"))
    torch.testing.assert_close(joint, final)


def test_the_papers_network_has_the_papers_tables() -> None:
    def said(roles: set[str], **options: object) -> set[tuple[str, str, float]]:
        settings = vars(heads.validate(heads.load("hamf"), options))
        return {
            (row.table, row.data, row.accuracy)
            for row in hamf.REFERENCE
            if set(row.roles) == roles and all(settings[k] == v for k, v in row.params.items())
        }

    assert said({"face", "scene", "image"}) == {
        ("Table 4", "MHED", 0.6308),
        ("Table 7", "MHED", 0.6308),
        ("Table 8", "MHED", 0.6308),
        ("Table 9", "Ekman-6", 0.577),
        ("Table 9", "VideoEmotion-8", 0.5313),
    }
    assert said({"event", "object", "scene"}, global_attention="G1") == {
        ("Table 6", "Ekman-6", 0.5668),
        ("Table 6", "VideoEmotion-8", 0.5269),
    }
    assert said({"scene"}, local_attention="L3") == {
        ("Table 3", "MHED", 0.4392),
        ("Table 5", "Ekman-6", 0.436),
        ("Table 5", "VideoEmotion-8", 0.4902),
    }
    assert said({"face"}) == {("Table 7", "MHED", 0.5794)}


def test_the_default_sizes_are_the_papers() -> None:
    roles: dict[str, tuple[int, ...]] = {role: (4096,) for role in THREE}
    maps: dict[str, tuple[int, ...]] = {f"{role}_map": (512, 7, 7) for role in THREE}
    with torch.device("meta"):
        built = hamf.build(hamf.Params(), roles | maps, CLASSES)
    shapes = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    assert shapes["score.face.0.weight"] == (128, 512, 3, 3)
    assert shapes["score.face.5.weight"] == (1, 128 * 7 * 7)
    assert shapes["importance.weights.0"] == (3, 512, 4096)
    assert shapes["classifier.0.weight"] == (1024, 4096)


@pytest.mark.parametrize("shared", ["none", "biases", "all"])
def test_the_importance_of_modalities_starts_as_torchs_linear_layers_do(shared: str) -> None:
    sizes = (400, 256, 64)
    params = hamf.Params(global_attention="G3", global_hidden=sizes[1:], global_shared=shared)  # type: ignore[arg-type]
    torch.manual_seed(0)
    found = hamf._Importance(sizes[0], 3, params)
    for at, (size, width) in enumerate(zip(sizes, (*sizes[1:], 1), strict=True)):
        theirs = torch.nn.Linear(size, 3 * width)
        ours = found.weights[at].detach()
        assert ours.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.1)
        assert 0.9 < ours.abs().max().item() * size**0.5 <= 1
        if at < 2:
            bias = found.biases[at].detach()
            assert bias.std().item() == pytest.approx(theirs.bias.std().item(), rel=0.15)
            assert bias.abs().max().item() * size**0.5 <= 1
