"""VAANet: its equations in numpy, one number at a time, and its code as layers in a row."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heads
from features.backbones import resnet18_mfcc
from features.networks import resnet18
from heads import vaanet
from heads.training.targets import of_classes
from tests.heads.conftest import random_batch

CLASSES = ("anger", "joy", "sadness")
EKMAN = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
VIDEO_EMOTION = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")
VISUAL: dict[str, tuple[int, ...]] = {"visual": (6, 2, 2)}
AUDIO: dict[str, tuple[int, ...]] = {"audio": (5,)}
SHAPES = VISUAL | AUDIO
SMALL = {"segments": 5, "audio_segments": 5, "conv0": 7, "audio_fc": 4}
PAPER = SMALL | {"form": "paper", "conv0": 0, "audio_fc": 0}

Weights = dict[str, np.ndarray]
Batch = tuple[dict[str, Tensor], dict[str, Tensor]]


def network(
    shapes: dict[str, tuple[int, ...]], seed: int = 0, **options: object
) -> tuple[vaanet.VAANet, Weights]:
    torch.manual_seed(seed)
    built = vaanet.build(vaanet.Params(**{**SMALL, **options}), shapes, CLASSES)  # type: ignore[arg-type]
    assert isinstance(built, vaanet.VAANet)
    built = built.double()
    return built, {name: value.numpy().copy() for name, value in built.state_dict().items()}


def doubles(shapes: dict[str, tuple[int, ...]], *, whole: bool = False, seed: int = 0) -> Batch:
    """Return random rows with holes, or without where `whole`."""
    features, mask = random_batch(shapes, seed=seed)
    if whole:
        mask = {role: torch.ones_like(real) for role, real in mask.items()}
    return {role: rows.double() for role, rows in features.items()}, mask


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def h(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """Return W^1 (W^2 X^T)^T, the inner of eqs. 2, 5, 8 and 10; a row of X is one of the places."""
    inner_w, outer = w[f"{name}.collapse.weight"][0], w[f"{name}.mix.weight"]
    inner = [sum(inner_w[k] * x_j[k] for k in range(len(inner_w))) for x_j in x]
    return np.array([sum(outer[i, j] * s for j, s in enumerate(inner)) for i in range(len(x))])


def visual_equations(
    w: Weights, video: np.ndarray, real: np.ndarray, on: set[str], rescale: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return E^V and the attentions of one video (t, n, ...), eqs. 1 to 9 with sums.

    An absent segment is no super-frame: its p_j is 0, and it has no attention.
    """
    t, n = video.shape[:2]
    m = int(np.prod(video.shape[2:]))
    found = {"spatial": np.zeros((t, m)), "channel": np.zeros((t, n))}
    p = np.zeros((t, n))
    for i in range(t):
        if not real[i]:
            continue
        f = np.array([video[i].reshape(n, m)[:, j] for j in range(m)])  # eq. 1, (m, n)
        if "spatial" in on:
            a = found["spatial"][i] = softmax(h(w, "visual.spatial", f))  # eq. 2
            f = np.array([a[j] * f[j] * (m if rescale else 1) for j in range(m)])  # eq. 3
        g = f.T  # eq. 4, of F^S
        if "channel" in on:
            a = found["channel"][i] = softmax(h(w, "visual.channel", g))  # eq. 5
            g = np.array([a[c] * g[c] * (n if rescale else 1) for c in range(n)])  # eq. 6
        p[i] = [g[c].mean() for c in range(n)]  # eq. 7
    a = np.where(real, 1.0, 0.0)
    if "temporal" in on:
        a = np.where(real, np.maximum(h(w, "visual.segments.scores", p), 0), 0)  # eq. 8
    found["temporal"] = a
    return sum(p[j] * a[j] for j in range(t)), found  # eq. 9


def audio_equations(
    w: Weights, rows: np.ndarray, real: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return E^A and A^A of one video, eqs. 10 and 11."""
    rows = np.where(real[:, None], rows, 0)
    a = np.where(real, np.maximum(h(w, "audio.segments.scores", rows), 0), 0)
    return sum(rows[j] * a[j] for j in range(len(rows))), a


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("off", ["", "spatial", "channel", "temporal", "spatial channel temporal"])
@pytest.mark.parametrize("shape", [(6, 2, 2), (4, 2, 3, 1)])
def test_the_visual_stream_of_the_paper_is_equations_1_to_9(
    shape: tuple[int, ...], off: str, rescale: bool
) -> None:
    switches = {name: False for name in off.split()}
    built, w = network({"visual": shape}, **PAPER, rescale=rescale, **switches)
    features, mask = doubles({"visual": shape})
    output = built(features, mask)
    on = {"spatial", "channel", "temporal"} - set(switches)
    assert set(built.attention) == on
    for b in range(4):
        embedding, found = visual_equations(
            w, features["visual"][b].numpy(), mask["visual"][b].numpy(), on, rescale
        )
        for name in on:
            given = output[name][b].detach().numpy().reshape(found[name].shape)
            np.testing.assert_allclose(given, found[name], atol=1e-12)
        wanted = w["classifier.weight"] @ embedding + w["classifier.bias"]
        np.testing.assert_allclose(output["logits"][b].detach(), wanted, atol=1e-12)


def test_both_streams_of_the_paper_are_equations_1_to_11() -> None:
    built, w = network(SHAPES, **PAPER)
    features, mask = doubles(SHAPES)
    output = built(features, mask)
    assert output["audio_temporal"].any()
    for b in range(4):
        video, sound = (features[role][b].numpy() for role in ("visual", "audio"))
        e_v, _ = visual_equations(
            w, video, mask["visual"][b].numpy(), {"spatial", "channel", "temporal"}, False
        )
        e_a, weights = audio_equations(w, sound, mask["audio"][b].numpy())
        np.testing.assert_allclose(output["audio_temporal"][b].detach(), weights, atol=1e-12)
        wanted = w["classifier.weight"] @ np.concatenate([e_v, e_a]) + w["classifier.bias"]
        np.testing.assert_allclose(output["logits"][b].detach(), wanted, atol=1e-12)


class Code(nn.Module):
    """The authors' network behind its backbones, step by step: convolutions over [t·B, C, m].

    Without the biases in front of its norms.
    """

    def __init__(self, n0: int, n: int, m: int, t: int, d: int, a: int, t_a: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(nn.Conv1d(n0, n, 1, bias=False), nn.BatchNorm1d(n), nn.ReLU())
        self.sa = nn.Sequential(nn.Conv1d(n, 1, 1, bias=False), nn.BatchNorm1d(1), nn.Tanh())
        self.sa_fc = nn.Linear(m, m, bias=False)
        self.ca = nn.Sequential(nn.Conv1d(m, 1, 1, bias=False), nn.BatchNorm1d(1), nn.Tanh())
        self.ca_fc = nn.Linear(n, n, bias=False)
        self.ta = nn.Sequential(nn.Conv1d(n, 1, 1, bias=False), nn.BatchNorm1d(1), nn.Tanh())
        self.ta_fc = nn.Linear(t, t)
        self.a_fc = nn.Sequential(nn.Linear(d, a, bias=False), nn.BatchNorm1d(a), nn.Tanh())
        self.aa = nn.Sequential(nn.Conv1d(a, 1, 1, bias=False), nn.BatchNorm1d(1), nn.Tanh())
        self.aa_fc = nn.Linear(t_a, t_a)
        self.fc = nn.Linear(n + a, len(CLASSES))

    def forward(self, visual: Tensor, audio: Tensor) -> dict[str, Tensor]:
        videos, t = visual.shape[:2]
        x = visual.transpose(0, 1).reshape(t * videos, visual.shape[2], -1)  # [t·B, n0, m]
        f = self.conv0(x)
        n, m = f.shape[1:]
        spatial = torch.softmax(self.sa_fc(self.sa(f).squeeze(1)), 1)
        f = spatial.unsqueeze(1) * m * f
        g = f.transpose(1, 2)  # [t·B, m, n]
        channel = torch.softmax(self.ca_fc(self.ca(g).squeeze(1)), 1)
        g = channel.unsqueeze(1) * n * g
        p = g.mean(1).reshape(t, videos, n).permute(1, 2, 0)  # [B, n, t]
        temporal = torch.relu(self.ta_fc(self.ta(p).squeeze(1)))
        e_v = (p * temporal.unsqueeze(1)).mean(2)
        q = self.a_fc(audio.reshape(-1, audio.shape[2])).reshape(videos, audio.shape[1], -1)
        q = q.transpose(1, 2)  # [B, a, t_a]
        sound = torch.relu(self.aa_fc(self.aa(q).squeeze(1)))
        e_a = (q * sound.unsqueeze(1)).mean(2)
        return {
            "logits": self.fc(torch.cat([e_v, e_a], 1)),
            "spatial": spatial.reshape(t, videos, m).transpose(0, 1),
            "channel": channel.reshape(t, videos, n).transpose(0, 1),
            "temporal": temporal,
            "audio_temporal": sound,
        }


# Our modules -> those of `Code`; norms lie behind a convolution in the same sequence.
SAME = {
    "visual.conv0": "conv0.0",
    "visual.norm0": "conv0.1",
    "visual.spatial.collapse": "sa.0",
    "visual.spatial.norm": "sa.1",
    "visual.spatial.mix": "sa_fc",
    "visual.channel.collapse": "ca.0",
    "visual.channel.norm": "ca.1",
    "visual.channel.mix": "ca_fc",
    "visual.segments.scores.collapse": "ta.0",
    "visual.segments.scores.norm": "ta.1",
    "visual.segments.scores.mix": "ta_fc",
    "audio.fc": "a_fc.0",
    "audio.norm": "a_fc.1",
    "audio.segments.scores.collapse": "aa.0",
    "audio.segments.scores.norm": "aa.1",
    "audio.segments.scores.mix": "aa_fc",
    "classifier": "fc",
}


def code(built: vaanet.VAANet) -> Code:
    """Return the code's network with the weights of ours; all that ours has but `absent`."""
    other = Code(6, 7, 4, 5, 5, 4, 5).double()
    ours, theirs = built.state_dict(), other.state_dict()
    taken = set()
    for name, value in ours.items():
        module, _, tensor = name.rpartition(".")
        if tensor != "absent":
            key = f"{SAME[module]}.{tensor}"
            theirs[key] = value.reshape(theirs[key].shape)
            taken.add(key)
    assert taken == set(theirs)
    other.load_state_dict(theirs)
    return other


def test_the_code_form_is_the_code_layer_by_layer() -> None:
    built, _ = network(SHAPES)
    other = code(built)
    for seed in range(3):  # also the running statistics follow
        features, mask = doubles(SHAPES, whole=True, seed=seed)
        for mode in (True, False):
            output = built.train(mode)(features, mask)
            wanted = other.train(mode)(features["visual"], features["audio"])
            assert output["temporal"].any() and output["audio_temporal"].any()
            assert set(output) == set(wanted)
            for name, value in wanted.items():
                given = output[name].reshape(value.shape)
                torch.testing.assert_close(given, value, rtol=1e-9, atol=1e-12)


def test_the_code_form_starts_as_the_code_does() -> None:
    built, w = network(SHAPES)
    np.testing.assert_array_equal(w["visual.segments.scores.mix.bias"], 1)
    bias = w["audio.segments.scores.mix.bias"]
    assert np.abs(bias).max() <= 1 / np.sqrt(5) and len(set(bias)) == 5
    big, _ = network({"visual": (64, 2, 2)}, conv0=32)
    assert big.visual is not None and big.visual.conv0 is not None
    # Kaiming's normal by the outputs: sqrt(2 / 32).
    assert big.visual.conv0.weight.std().item() == pytest.approx(0.25, rel=0.1)


def test_the_attention_of_the_sound_starts_as_torch_draws_it_and_of_the_images_by_kaiming() -> None:
    """Of the code's layers 256 -> 1 and 512 -> 1 the first is drawn by torch, bound 1/16."""
    shapes: dict[str, tuple[int, ...]] = {"visual": (4, 16, 16), "audio": (512,)}
    torch.manual_seed(0)
    drawn = [vaanet.build(vaanet.Params(), shapes, CLASSES) for _ in range(4)]
    stds: dict[str, list[float]] = {
        "audio.segments": [],
        "visual.segments": [],
        "visual.spatial": [],
    }
    for built in drawn:
        for name, found in stds.items():
            scores = f"{name}.scores" if "segments" in name else name
            weight = built.get_parameter(f"{scores}.collapse.weight").detach()
            found.append(weight.std().item())
            if name == "audio.segments":
                assert 0.055 < weight.abs().max().item() <= 1 / 16
    assert np.mean(stds.pop("audio.segments")) == pytest.approx(
        256**-0.5 / 3**0.5, rel=0.05
    )  # 0.036
    for found in stds.values():
        assert np.mean(found) == pytest.approx(2**0.5, rel=0.05)


def test_the_sizes_of_the_paper_are_the_defaults() -> None:
    built = vaanet.build(vaanet.Params(), {"visual": (2048, 4, 4), "audio": (512,)}, VIDEO_EMOTION)
    features = {"visual": torch.zeros(1, 10, 2048, 4, 4), "audio": torch.zeros(1, 16, 512)}
    mask = {role: torch.ones(rows.shape[:2], dtype=torch.bool) for role, rows in features.items()}
    output = built.eval()(features, mask)
    assert output["spatial"].shape == (1, 10, 4, 4)
    assert output["channel"].shape == (1, 10, 512)
    assert built.state_dict()["classifier.weight"].shape == (8, 512 + 256)
    paper = vaanet.build(vaanet.Params(form="paper"), {"audio": (512,)}, EKMAN)
    assert paper.state_dict()["classifier.weight"].shape == (6, 512)
    assert not any("norm" in name for name in paper.state_dict())


@pytest.mark.parametrize("form", ["paper", "code"])
def test_what_the_form_has_may_be_switched_by_itself(form: str) -> None:
    base, other = ({"form": form}, {"form": "code" if form == "paper" else "paper"})
    for name, value in {
        "rescale": {"code": True, "paper": False},
        "pool": {"code": "mean", "paper": "sum"},
    }.items():
        features, mask = doubles(SHAPES)
        by_form, _ = network(SHAPES, **base)
        named, _ = network(SHAPES, **base, **{name: value[form]})
        switched, _ = network(SHAPES, **base, **{name: value[other["form"]]})
        logits = by_form(features, mask)["logits"]
        assert torch.equal(named(features, mask)["logits"], logits)
        assert not torch.allclose(switched(features, mask)["logits"], logits)


@pytest.mark.parametrize(
    "change",
    [
        {"form": "paper"},
        {"spatial": False},
        {"channel": False},
        {"temporal": False},
        {"audio_temporal": False},
        {"segments": 6},
        {"audio_segments": 6},
        {"rescale": False},
        {"pool": "sum"},
        {"conv0": 0},
        {"audio_fc": 0},
        {"penalty": 2.0},
        {"positive": ("anger", "joy"), "negative": ("sadness",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_hyper_parameter_changes_the_network_or_its_loss(change: dict[str, object]) -> None:
    features, mask = doubles(SHAPES, whole=True)
    labels = torch.tensor([0, 1, 2, 0])
    found = []
    for options in ({}, change):
        built, _ = network(SHAPES, **options)
        found.append(built.loss(built(features, mask), labels, "all").item())
    assert found[0] != pytest.approx(found[1], rel=1e-9)
    assert set(change) <= {field.name for field in fields(vaanet.Params)}


def test_a_mean_is_over_the_rows_that_there_are() -> None:
    built, w = network(AUDIO, audio_fc=0, audio_temporal=False)
    features, mask = doubles(AUDIO)
    assert not mask["audio"].all()
    means = np.array([features["audio"][b][mask["audio"][b]].mean(0).numpy() for b in range(4)])
    wanted = means @ w["classifier.weight"].T + w["classifier.bias"]
    np.testing.assert_allclose(built(features, mask)["logits"].detach(), wanted, atol=1e-12)


def test_a_batch_norm_sees_real_rows_alone() -> None:
    built, _ = network(VISUAL)
    features, mask = doubles(VISUAL)
    built(features, mask)
    packed = features["visual"][mask["visual"]].flatten(2)
    assert built.visual is not None and built.visual.conv0 is not None
    maps = built.visual.conv0(packed)  # (N, n, m)
    assert built.visual.norm0 is not None and built.visual.norm0.running_mean is not None
    wanted = 0.1 * maps.mean(dim=(0, 2))
    torch.testing.assert_close(built.visual.norm0.running_mean, wanted.detach())


@pytest.mark.parametrize("shapes", [SHAPES, {"audio": (8, 4)}], ids=["both", "mfcc"])
def test_one_row_alone_leaves_the_statistics_as_they_are(
    shapes: dict[str, tuple[int, ...]],
) -> None:
    built, before = network(shapes)
    features = {role: torch.randn(1, 1, *shape).double() for role, shape in shapes.items()}
    mask = {role: torch.ones(1, 1, dtype=torch.bool) for role in shapes}
    trained = built.train()(features, mask)["logits"]
    assert all(module.training for module in built.modules())
    assert torch.equal(built.eval()(features, mask)["logits"], trained)
    for name, value in built.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_mfcc_pass_the_resnet_of_the_backbone_and_train_it() -> None:
    shapes: dict[str, tuple[int, ...]] = {"audio": (8, 4)}
    built, _ = network(shapes)
    backbone = resnet18_mfcc.build().double()
    weights = {k: v for k, v in built.state_dict().items() if k.startswith("audio.resnet.")}
    backbone.load_state_dict({k.removeprefix("audio.resnet."): v for k, v in weights.items()})
    features, mask = doubles(shapes, whole=True)
    pooled = backbone(features["audio"].flatten(0, 1).unsqueeze(1))["pooled"].unflatten(0, (4, 5))
    on_rows, _ = network({"audio": (resnet18.POOLED_DIM,)})
    same = {k: v for k, v in built.state_dict().items() if not k.startswith("audio.resnet.")}
    on_rows.load_state_dict(same)
    wanted = on_rows.eval()({"audio": pooled}, mask)["logits"]
    torch.testing.assert_close(built.eval()(features, mask)["logits"], wanted)
    built.train()(features, mask)["logits"].sum().backward()
    assert built.audio is not None and built.audio.resnet is not None
    first = built.audio.resnet.get_parameter("conv1.weight").grad
    assert first is not None and first.any()


def test_a_video_without_rows_is_its_learned_vector() -> None:
    built, w = network(SHAPES)
    features, mask = doubles(SHAPES)
    mask["audio"][1] = mask["visual"][1] = False
    joined = np.concatenate([w["visual.segments.absent"], w["audio.segments.absent"]])
    wanted = w["classifier.weight"] @ joined + w["classifier.bias"]
    found = built(features, mask)["logits"][1].detach()
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_more_rows_than_the_matrix_has_are_refused_unless_they_are_not_there() -> None:
    built, _ = network(SHAPES, audio_segments=3)
    features, mask = doubles(SHAPES, whole=True)
    with pytest.raises(ValueError, match="'audio'.*at most 3 rows.*found 5: set audio_segments"):
        built(features, mask)
    mask["audio"][:, 3:] = False
    output = built(features, mask)
    assert output["audio_temporal"].shape == (4, 5)
    built, _ = network(VISUAL, segments=4)
    with pytest.raises(ValueError, match="'visual'.*at most 4.*: set segments"):
        built({"visual": features["visual"]}, {"visual": mask["visual"]})


@pytest.mark.parametrize(
    ("classes", "wanted"),
    [
        (VIDEO_EMOTION, [0, 1, 0, 0, 1, 0, 1, 1]),  # the list of the code
        (EKMAN, [0, 0, 0, 1, 0, 1]),
    ],
)
def test_the_polarity_of_the_papers_data_sets_is_known(
    classes: tuple[str, ...], wanted: list[int]
) -> None:
    built = vaanet.build(vaanet.Params(), AUDIO, classes)
    assert isinstance(built, vaanet.VAANet)
    assert built.positive.int().tolist() == wanted


def test_a_class_without_polarity_is_refused_where_the_loss_needs_it() -> None:
    classes = ("Anger", "Happy", "Neutral", "Sadness")
    with pytest.raises(ValueError, match="found Happy, Neutral in neither.*`positive`.*`penalty`"):
        vaanet.build(vaanet.Params(), AUDIO, classes).aim(of_classes(classes))
    vaanet.build(vaanet.Params(penalty=0.0), AUDIO, classes).aim(of_classes(classes))
    built = vaanet.build(
        vaanet.Params(positive=("happy", "NEUTRAL"), negative=("Anger", "sadness")), AUDIO, classes
    )
    assert isinstance(built, vaanet.VAANet)
    assert built.positive.tolist() == [False, True, True, False]


def test_the_loss_is_cross_entropy_with_the_penalty_of_wrong_polarity() -> None:
    built, _ = network(AUDIO)
    plain, _ = network(AUDIO, penalty=0.0)
    # Answers: anger for anger, joy for sadness (wrong polarity), anger for sadness (the same).
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0]])
    labels = torch.tensor([0, 2, 2])
    total = np.log(np.exp(2) + 2)
    each = [total - 2, total, total]
    found = built.loss({"logits": logits}, labels, "all").item()
    assert found == pytest.approx((each[0] + 1.5 * each[1] + each[2]) / 3)
    assert plain.loss({"logits": logits}, labels, "all").item() == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"face": (6,)}, "'visual', 'audio' or both, found \\['face'\\]"),
        ({"visual": (6,)}, "'visual'.*\\(C, H, W\\).*found the shape \\(6,\\)"),
        ({"audio": (6, 2, 2)}, "'audio'.*found the shape \\(6, 2, 2\\)"),
    ],
)
def test_wrong_roles_are_named(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vaanet.build(vaanet.Params(), shapes, CLASSES)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"segments": 0}, "segments must be at least 1, found 0"),
        ({"audio_segments": 0}, "audio_segments must be at least 1"),
        ({"conv0": -1}, "conv0 must be at least 0"),
        ({"penalty": -0.5}, "penalty must be at least 0"),
        ({"form": "thesis"}, "form.*found 'thesis'"),
        ({"positive": ["Anger"]}, "found both: \\['anger'\\]"),
    ],
)
def test_wrong_hyper_parameters_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("vaanet"), overrides)


def test_the_tables_are_the_papers() -> None:
    said = {(r.table, r.data, r.name): r for r in vaanet.REFERENCE}
    assert len(said) == len(vaanet.REFERENCE) == 20
    assert said["Table 1", "VideoEmotion-8", "VAANet"].accuracy == 0.545
    assert said["Table 4", "Ekman-6", "AT"].accuracy == 0.372
    plain = said["Table 5", "Ekman-6", "VS+VCW+VT, CE"]
    assert (plain.accuracy, plain.roles, plain.params["penalty"]) == (0.52, ("visual",), 0.0)
