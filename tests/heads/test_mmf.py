"""MMF against torch's own attention, and its equations worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import heads
from heads import mmf
from heads.layers.vlad import NeXtVLAD
from tests.heads.conftest import random_batch

SHAPES: dict[str, tuple[int, ...]] = {"visual": (7,), "audio": (5,), "skeleton": (4, 3)}
SMALL = {
    "width": 8,
    "layers": 1,
    "heads": 2,
    "feedforward": 12,
    "dropout": 0.0,
    "groups": 4,
    "clusters": 2,
    "fusion": 12,
    "reduction": 3,
    "hidden": 10,
}


def network(shapes: dict[str, tuple[int, ...]] = SHAPES, **options: object) -> mmf.MMF:
    torch.manual_seed(0)
    built = mmf.build(mmf.Params(**{**SMALL, **options}), shapes, "abcd")  # type: ignore[arg-type]
    assert isinstance(built, mmf.MMF)
    with torch.no_grad():
        for weight in built.parameters():  # biases and normalisations are 0 and 1 at first
            weight.add_(0.1 * torch.randn(weight.shape))
    return built.double()


def batch(
    shapes: dict[str, tuple[int, ...]] = SHAPES,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    features, mask = random_batch(shapes)
    return {role: rows.double() for role, rows in features.items()}, mask


def attention_of_torch(layer: mmf.EncoderLayer) -> nn.MultiheadAttention:
    width = layer.attended.in_features
    theirs = nn.MultiheadAttention(width, layer.heads, batch_first=True).double()
    theirs.in_proj_weight.data = layer.query_key_value.weight.data
    theirs.in_proj_bias.data = layer.query_key_value.bias.data
    theirs.out_proj.load_state_dict(layer.attended.state_dict())
    return theirs


def encode(encoder: mmf.Encoder, rows: Tensor, places: list[int]) -> Tensor:
    """One video (T, D), its real rows alone, through torch's attention."""
    width = rows.shape[1]
    if encoder.sinusoidal:
        waves = [
            [
                (math.sin if at % 2 == 0 else math.cos)(t / 10_000 ** (2 * (at // 2) / width))
                for at in range(width)
            ]
            for t in places
        ]
        rows = rows + torch.tensor(waves, dtype=torch.float64)
    for layer in encoder.layers:
        assert isinstance(layer, mmf.EncoderLayer)
        x = rows.unsqueeze(0)
        rows = layer.attended_norm(rows + attention_of_torch(layer)(x, x, x)[0].squeeze(0))
        rows = layer.norm(rows + layer.contract(functional.relu(layer.expand(rows))))
    return encoder.norm(rows)


def fuse(built: mmf.MMF, joined: np.ndarray) -> np.ndarray:
    """Equations 2 to 4, with running statistics."""
    w = {name: value.numpy() for name, value in built.state_dict().items()}

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    f1 = np.maximum(norm("w1_norm", joined @ w["w1.weight"].T), 0)  # eq. 2
    inner = norm("w2_norm", np.maximum(f1 @ w["w2.weight"].T, 0))
    f2 = 1 / (1 + np.exp(-inner @ w["w3.weight"].T))  # eq. 3
    return f1 * f2  # eq. 4


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_is_torchs_attention_over_the_real_rows(training: bool) -> None:
    torch.manual_seed(0)
    layer = mmf.EncoderLayer(8, 4, 12, 0.0).double().train(training)
    features, masks = batch({"visual": (8,)})
    rows, mask = features["visual"], masks["visual"]
    mask[3] = False
    theirs = attention_of_torch(layer)
    some = mask.any(1)
    x = rows[some]
    attended, _ = theirs(x, x, x, key_padding_mask=~mask[some])
    wanted = layer.attended_norm(x + attended)
    wanted = layer.norm(wanted + layer.contract(functional.relu(layer.expand(wanted))))
    torch.testing.assert_close(layer(rows[mask], mask), wanted[mask[some]])


def test_a_layer_starts_as_torchs_own_does() -> None:
    torch.manual_seed(0)
    layer = mmf.EncoderLayer(64, 4, 128, 0.0)
    bound = math.sqrt(6 / (64 + 3 * 64))
    assert layer.query_key_value.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert not layer.query_key_value.bias.any()
    assert not layer.attended.bias.any()


@pytest.mark.parametrize("positions", ["sinusoidal", "none"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("hidden", [10, None])
def test_a_video_is_encoded_aggregated_fused_and_classified(
    positions: str, layers: int, hidden: int | None
) -> None:
    built = network(positions=positions, layers=layers, hidden=hidden).eval()
    features, mask = batch()
    output = built(features, mask)
    joined = []
    for name in ("visual", "audio", "skeleton"):
        encode_one, vlad = built.encode[name], built.aggregate[name]
        assert isinstance(encode_one, mmf.Encoder) and isinstance(vlad, NeXtVLAD)
        found = []
        for b in range(4):
            real = mask[name][b]
            rows = built.project[name](features[name][b][real].flatten(1))
            rows = encode(encode_one, rows, real.nonzero().flatten().tolist())
            descriptor, weights = vlad(rows, torch.ones(1, len(rows), dtype=torch.bool))
            found.append(descriptor[0].detach().numpy())
            torch.testing.assert_close(output[f"{name}_weights"][b][real], weights[0])
        joined.append(np.array(found))
    fused = fuse(built, np.hstack(joined))
    np.testing.assert_allclose(output["fused"].detach(), fused)
    state = torch.from_numpy(fused)
    if built.hidden is not None:
        state = functional.relu(built.hidden(state))
    torch.testing.assert_close(output["logits"], built.classifier(state))


@pytest.mark.parametrize(("name", "at"), [("visual", slice(8)), ("skeleton", slice(16, 24))])
def test_a_modality_without_a_row_is_its_learned_vector(name: str, at: slice) -> None:
    built = network().eval()
    features, mask = batch()
    wanted = built(features, mask)["logits"]
    mask[name][1] = False
    joined: list[Tensor] = []
    built.w1.register_forward_pre_hook(lambda _, x: joined.append(x[0]))
    found = built(features, mask)["logits"]
    torch.testing.assert_close(joined[0][1, at], built.absent[name])
    torch.testing.assert_close(found[[0, 2, 3]], wanted[[0, 2, 3]])


def test_a_single_row_of_a_single_video_trains_with_the_running_statistics() -> None:
    built = network()
    features, mask = batch()
    one = ({r: x[:1, :1] for r, x in features.items()}, {r: m[:1, :1] for r, m in mask.items()})
    trained = built.train()(*one)["logits"]
    assert torch.equal(built.eval()(*one)["logits"], trained)
    with torch.no_grad():  # where torch would change over to another implementation
        assert torch.equal(built(*one)["logits"], trained)


def test_an_encoder_gives_the_same_numbers_in_every_mode() -> None:
    built = network(layers=2)
    encoder = built.encode["visual"]
    rows, mask = torch.randn(9, 8).double(), torch.tensor([[1, 0, 1, 1, 1], [1] * 5]).bool()
    wanted = encoder.train()(rows, mask)
    assert torch.equal(encoder.eval()(rows, mask), wanted)
    with torch.no_grad():
        assert torch.equal(encoder(rows, mask), wanted)


def test_places_are_those_of_the_frames_not_of_the_real_rows() -> None:
    built = network({"visual": (7,)}).eval()
    rows = torch.randn(1, 2, 7).double()
    mask = torch.ones(1, 2, dtype=torch.bool)
    gap = torch.cat([rows[:, :1], torch.zeros(1, 3, 7).double(), rows[:, 1:]], dim=1)
    with_gap = torch.tensor([[True, False, False, False, True]])
    near = built({"visual": rows}, {"visual": mask})["logits"]
    far = built({"visual": gap}, {"visual": with_gap})["logits"]
    assert not torch.allclose(near, far)


def test_coordinates_may_come_as_landmarks_or_in_one_row() -> None:
    features, mask = batch()
    logits = network().eval()(features, mask)["logits"]
    flat = network(SHAPES | {"skeleton": (12,)}).eval()
    features["skeleton"] = features["skeleton"].flatten(2)
    torch.testing.assert_close(flat(features, mask)["logits"], logits)


def test_dropout_is_in_the_encoder_and_in_training_alone() -> None:
    built = network(dropout=0.5)
    rows, mask = torch.randn(5, 8).double(), torch.ones(1, 5, dtype=torch.bool)
    encoder = built.encode["audio"]
    assert torch.equal(encoder.eval()(rows, mask), encoder(rows, mask))
    assert not torch.equal(encoder.train()(rows, mask), encoder(rows, mask))


def test_every_dropout_is_where_vaswani_has_it() -> None:
    """The same seed draws the same masks: of the input, the weights, each part, and inside."""
    encoder = network(dropout=0.4).encode["audio"].train()
    assert isinstance(encoder, mmf.Encoder)
    (layer,) = encoder.layers
    assert isinstance(layer, mmf.EncoderLayer)
    attention = attention_of_torch(layer)
    attention.dropout = 0.4

    def drop(x: Tensor) -> Tensor:
        return functional.dropout(x.contiguous(), 0.4)

    rows, mask = torch.randn(3, 5, 8).double(), torch.ones(3, 5, dtype=torch.bool)
    torch.manual_seed(1)
    found = encoder(rows.flatten(0, 1), mask)
    torch.manual_seed(1)
    x = drop(rows + mmf.sinusoids(5, 8, rows.device))
    x = layer.attended_norm(x + drop(attention(x, x, x)[0]))
    x = layer.norm(x + drop(layer.contract(drop(functional.relu(layer.expand(x))))))
    torch.testing.assert_close(found, encoder.norm(x).flatten(0, 1))


@pytest.mark.parametrize(
    ("options", "name", "shape"),
    [
        ({"width": 16}, "project.visual.weight", (16, 7)),
        ({"layers": 2}, "encode.audio.layers.1.norm.weight", (8,)),
        ({"feedforward": 9}, "encode.audio.layers.0.expand.weight", (9, 8)),
        ({"expansion": 3}, "aggregate.audio.expand.weight", (24, 8)),
        ({"groups": 2}, "aggregate.audio.attend.weight", (2, 16)),
        ({"clusters": 5}, "w1.weight", (12, 60)),
        ({"fusion": 15}, "w1.weight", (15, 24)),
        ({"reduction": 4}, "w2.weight", (3, 12)),
        ({"hidden": 6}, "classifier.weight", (4, 6)),
        ({"hidden": None}, "classifier.weight", (4, 12)),
    ],
)
def test_every_size_is_a_parameter(
    options: dict[str, object], name: str, shape: tuple[int, ...]
) -> None:
    assert network(**options).state_dict()[name].shape == shape


@pytest.mark.parametrize("options", [{"heads": 4}, {"final_norm": False}, {"positions": "none"}])
def test_every_choice_without_a_size_changes_the_answer(options: dict[str, object]) -> None:
    base, other = network(), network(**options)
    other.load_state_dict(base.state_dict(), strict="final_norm" not in options)
    features, mask = batch()
    wanted, found = base.eval()(features, mask), other.eval()(features, mask)
    assert not torch.allclose(found["logits"], wanted["logits"])


def test_the_default_sizes_are_the_papers() -> None:
    shapes: dict[str, tuple[int, ...]] = {"visual": (768,), "audio": (128,), "skeleton": (33, 3)}
    with torch.device("meta"):
        built = heads.load("mmf").build(mmf.Params(), shapes, "abcdefgh")
    state = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    assert state["project.skeleton.weight"] == (512, 99)
    assert state["aggregate.visual.assign.weight"] == (8 * 4, 1024)
    assert state["w1.weight"] == (512, 3 * 512)
    assert state["w2.weight"] == (64, 512)
    assert state["classifier.weight"] == (8, 512)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 0}, "clusters must be at least 1, found 0"),
        ({"hidden": 0}, "hidden must be at least 1 or null, found 0"),
        ({"heads": 3}, r"width must be even and a multiple of heads \(3\), found 8"),
        ({"width": 7, "heads": 1}, "width must be even"),
        ({"groups": 3}, r"width times expansion \(2\) must be a multiple of groups \(3\)"),
        ({"reduction": 13}, r"fusion must be at least reduction \(13\), found 12"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"positions": "learned"}, "positions"),
    ],
)
def test_wrong_hyper_parameters_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("mmf"), SMALL | options)


def test_no_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="visual, audio, skeleton or more"):
        mmf.build(mmf.Params(), {}, "abc")
