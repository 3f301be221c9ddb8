"""NeXtVLAD against its definition, worked out in numpy one row at a time."""

import math

import numpy as np
import pytest
import torch

import heads
from heads import nextvlad
from heads.layers.vlad import NeXtVLAD
from tests.heads.conftest import random_batch

Weights = dict[str, np.ndarray]
SHAPES: dict[str, tuple[int, ...]] = {"face": (6,), "sound": (5,)}
SMALL = {"projection": 8, "groups": 4, "clusters": 3, "hidden": 12, "reduction": 2, "dropout": 0.0}


def arrays(network: torch.nn.Module) -> Weights:
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def scramble(network: torch.nn.Module) -> None:
    """Give batch normalisation and biases values that are not 0 and 1."""
    draw = torch.Generator().manual_seed(5)
    for value in network.state_dict().values():
        if value.dtype.is_floating_point and (value == value.flatten()[0]).all():
            value.copy_(0.5 + torch.rand(value.shape, generator=draw, dtype=value.dtype))


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0.0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def batch_norm(w: Weights, name: str, rows: np.ndarray, training: bool) -> np.ndarray:
    """Rows (N, D); statistics of these rows in training, else the running ones."""
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    if training:
        mean, var = rows.mean(0), rows.var(0)
    return (rows - mean) / np.sqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def describe(
    w: Weights, videos: list[np.ndarray], groups: int, clusters: int, training: bool
) -> tuple[np.ndarray, list[list[float]]]:
    """Return descriptors (B, d K) and the mean attention of each row; videos are (T_b, D)."""
    wide = [linear(w, "expand", x) for video in videos for x in video]
    depth = len(wide[0]) // groups
    channels = np.array([linear(w, "assign", x) for x in wide])
    channels = batch_norm(w, "assign_norm", channels, training)
    flat, attention, at = [], [], 0
    for video in videos:
        vlad = np.zeros((depth, clusters))
        attention.append([])
        for _ in video:
            gates = sigmoid(linear(w, "attend", wide[at]))
            attention[-1].append(float(np.mean(gates)))
            for g in range(groups):
                e = np.exp(channels[at, g * clusters : (g + 1) * clusters])
                part = wide[at][g * depth : (g + 1) * depth]
                for k in range(clusters):
                    vlad[:, k] += gates[g] * e[k] / e.sum() * (part - w["centres"][:, k])
            at += 1
        vlad /= np.sqrt((vlad**2).sum(axis=0))
        flat.append([vlad[f, k] for f in range(depth) for k in range(clusters)])
    return batch_norm(w, "norm", np.array(flat), training), attention


def gated(w: Weights, joined: np.ndarray, training: bool) -> np.ndarray:
    """The head: hidden, gate, classifier."""
    h = batch_norm(w, "hidden_norm", np.array([linear(w, "hidden", x) for x in joined]), training)
    middle = np.array([linear(w, "squeeze", x) for x in h])
    middle = np.maximum(batch_norm(w, "squeeze_norm", middle, training), 0)
    gate = sigmoid(np.array([linear(w, "excite", x) for x in middle]))
    return np.array([linear(w, "classifier", x) for x in h * gate])


def network(shapes: dict[str, tuple[int, ...]], **options: object) -> nextvlad.GatedNeXtVLAD:
    torch.manual_seed(0)
    built = nextvlad.build(nextvlad.Params(**{**SMALL, **options}), shapes, "abc")  # type: ignore[arg-type]
    assert isinstance(built, nextvlad.GatedNeXtVLAD)
    scramble(built)
    return built.double()


def part(w: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): v for name, v in w.items() if name.startswith(prefix)}


@pytest.mark.parametrize("training", [True, False])
def test_descriptors_are_normalised_residuals_to_every_cluster(training: bool) -> None:
    torch.manual_seed(0)
    vlad = NeXtVLAD(6, expansion=2, groups=3, clusters=5).double()
    scramble(vlad)
    features, mask = random_batch({"face": (6,)})
    real, rows = mask["face"], features["face"].double()
    videos = [rows[b][real[b]].numpy() for b in range(4)]
    wanted, attention = describe(arrays(vlad), videos, 3, 5, training)
    found, weights = vlad.train(training)(rows[real], real)
    np.testing.assert_allclose(found.detach(), wanted)
    np.testing.assert_allclose(weights[real].detach(), np.concatenate(attention))
    assert not weights[~real].any()


def test_a_layer_has_as_many_parameters_as_the_reference() -> None:
    vlad = NeXtVLAD(512, expansion=2, groups=8, clusters=4)
    assert sum(weight.numel() for weight in vlad.parameters()) == 567_880
    assert vlad.size == 512


def test_weights_have_the_variance_of_two_over_the_fan_in() -> None:
    torch.manual_seed(0)
    vlad = NeXtVLAD(256, expansion=2, groups=4, clusters=16)
    gated = nextvlad.build(nextvlad.Params(projection=None), {"image": (512,)}, "abcd")
    assert isinstance(gated, nextvlad.GatedNeXtVLAD)
    for weight, fan_in, rel in (
        (vlad.expand.weight, 256, 0.05),
        (vlad.attend.weight, 512, 0.15),
        (vlad.assign.weight, 512, 0.05),
        (vlad.centres, 128, 0.1),
        (gated.hidden.weight, 512, 0.05),
        (gated.squeeze.weight, 1024, 0.05),
        (gated.excite.weight, 128, 0.05),
    ):
        assert weight.var().item() == pytest.approx(2 / fan_in, rel=rel)
        assert abs(weight.mean().item()) < 5 * (2 / fan_in / weight.numel()) ** 0.5
    assert not vlad.expand.bias.any() and not vlad.attend.bias.any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("projection", [8, None])
def test_a_video_is_its_roles_descriptors_gated(training: bool, projection: int | None) -> None:
    shapes: dict[str, tuple[int, ...]] = {"face": (2, 4), "sound": (8,)}
    built = network(shapes, projection=projection)
    features, mask = random_batch(shapes)
    features = {role: rows.double() for role, rows in features.items()}
    w = arrays(built)
    joined = []
    for role in ("face", "sound"):
        videos = [features[role][b][mask[role][b]].flatten(1).numpy() for b in range(4)]
        if projection is not None:
            videos = [np.array([linear(w, f"project.{role}", x) for x in v]) for v in videos]
        joined.append(describe(part(w, f"aggregate.{role}."), videos, 4, 3, training)[0])
    logits = built.train(training)(features, mask)["logits"]
    np.testing.assert_allclose(logits.detach(), gated(w, np.hstack(joined), training))


def test_a_role_without_a_row_is_its_learned_vector_and_stays_out_of_the_statistics() -> None:
    built = network(SHAPES).train()
    features, mask = random_batch(SHAPES)
    mask["sound"][2] = False
    features = {role: rows.double() for role, rows in features.items()}
    w = arrays(built)
    joined = np.zeros((4, 2 * 12))
    joined[:, :12] = descriptors(w, features, mask, "face", [0, 1, 2, 3])
    joined[[0, 1, 3], 12:] = descriptors(w, features, mask, "sound", [0, 1, 3])
    joined[2, 12:] = w["absent.sound"]
    wanted = gated(w, joined, training=True)
    np.testing.assert_allclose(built(features, mask)["logits"].detach(), wanted)


def descriptors(
    w: Weights,
    features: dict[str, torch.Tensor],
    mask: dict[str, torch.Tensor],
    role: str,
    videos: list[int],
) -> np.ndarray:
    """Descriptors of some videos in training, the batch being these alone."""
    rows = [features[role][b][mask[role][b]].numpy() for b in videos]
    rows = [np.array([linear(w, f"project.{role}", x) for x in video]) for video in rows]
    return describe(part(w, f"aggregate.{role}."), rows, 4, 3, training=True)[0]


def test_a_single_video_of_one_row_trains() -> None:
    built = network({"face": (6,)}).train()
    features, mask = torch.randn(1, 1, 6).double(), torch.ones(1, 1, dtype=torch.bool)
    output = built({"face": features}, {"face": mask})
    built.loss(output, torch.tensor([1]), "all").backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in built.parameters())


def test_dropout_is_of_the_descriptors_and_in_training_alone() -> None:
    built = network(SHAPES, dropout=0.9)
    batch = random_batch(SHAPES)
    features = {role: rows.double() for role, rows in batch[0].items()}
    once, again = (built.eval()(features, batch[1])["logits"] for _ in range(2))
    assert torch.equal(once, again)
    once, again = (built.train()(features, batch[1])["logits"] for _ in range(2))
    assert not torch.equal(once, again)


@pytest.mark.parametrize(
    ("options", "name", "shape"),
    [
        ({"projection": 16}, "project.face.weight", (16, 6)),
        ({"expansion": 3}, "aggregate.face.expand.weight", (24, 8)),
        ({"groups": 2}, "aggregate.face.attend.weight", (2, 16)),
        ({"clusters": 7}, "aggregate.face.centres", (4, 7)),
        ({"hidden": 20}, "hidden.weight", (20, 24)),
        ({"reduction": 4}, "squeeze.weight", (3, 12)),
    ],
)
def test_every_size_is_a_parameter(
    options: dict[str, object], name: str, shape: tuple[int, ...]
) -> None:
    assert network(SHAPES, **options).state_dict()[name].shape == shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 0}, "clusters must be at least 1, found 0"),
        ({"projection": 9}, r"projection times expansion \(2\) must be a multiple of groups \(4\)"),
        ({"projection": 0}, "found projection 0"),
        ({"reduction": 13}, r"hidden must be at least reduction \(13\), found 12"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, found 1.0"),
        ({"dropout": math.nan}, "dropout"),
    ],
)
def test_wrong_hyper_parameters_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("nextvlad"), SMALL | options)


def test_rows_that_do_not_divide_into_groups_are_named() -> None:
    with pytest.raises(ValueError, match="role 'sound'.*found .* 5"):
        nextvlad.build(nextvlad.Params(projection=None), {"face": (8,), "sound": (5,)}, "abc")


def test_no_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one role"):
        nextvlad.build(nextvlad.Params(), {}, "abc")
