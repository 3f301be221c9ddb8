"""RDAM against its equations, worked out in numpy one frame and one position at a time."""

import itertools

import numpy as np
import pytest
import torch

import heads
from heads import pooling, rdam
from tests.heads.conftest import random_batch

SIZES = {"channels": 4, "feature": 7, "score_hidden": 5, "fusion": 6}
SHAPES: dict[str, tuple[int, ...]] = {"face": (6, 2, 3), "frame": (5, 3, 2)}
FRAME = {"frame": SHAPES["frame"]}

Weights = dict[str, np.ndarray]


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def convolutions(w: Weights, attention: str, channels: int = 4) -> dict[str, np.ndarray]:
    """Return name -> (outputs, C), in the order in which the network keeps them."""
    wanted = {"location": ["location"], "dual": ["location"]}.get(attention, [])
    wanted += {"relation": ["query", "key", "related"]}.get(attention, [])
    wanted += {"dual": ["query", "key", "related"]}.get(attention, [])
    wanted += [] if attention == "relation" else ["located"]
    sizes = {"located": channels, "related": channels}
    rows = iter(w["convolutions.weight"][:, :, 0, 0])
    return {n: np.stack(list(itertools.islice(rows, sizes.get(n, 1)))) for n in wanted}


def global_softmax_relation(b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Eq. 4 as it is written, over all pairs, and the division of eq. 5."""
    count = b.size
    s = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            s[i, j] = np.exp(b.flat[i] * c.flat[j])
    s = s / s.sum()  # eq. 4
    for i in range(count):
        s[i] = s[i] / s[i].sum()  # the denominator of eq. 5
    return s


def fused_map(
    w: Weights, m: np.ndarray, attention: str, rescale: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the sum of eqs. 6 and 7, (channels, H, W), and the attention over regions."""
    size, height, width = m.shape
    conv, found = convolutions(w, attention), {}
    places = list(itertools.product(range(height), range(width)))  # eq. 1
    fused = np.zeros((4, height, width))
    if attention in ("location", "dual"):
        x = np.array([[np.exp(conv["location"] @ m[:, i, j]).item() for j in range(width)]
                      for i in range(height)])  # fmt: skip
        x = x / x.sum()  # eq. 2
        found["location"] = x
    if attention != "relation":
        for i, j in places:
            weight = 1.0 if attention == "none" else x[i, j] / x.sum()  # eq. 3
            weight *= len(places) if rescale and attention != "none" else 1
            fused[:, i, j] += np.tanh(
                conv["located"] @ (m[:, i, j] * weight) + w["biases.located"][:, 0, 0]
            )  # eq. 6
    if attention in ("relation", "dual"):
        b = np.array([(conv["query"] @ m[:, i, j]).item() for i, j in places])
        b = b + w["biases.query"].item()
        c = np.array([(conv["key"] @ m[:, i, j]).item() for i, j in places])
        s = global_softmax_relation(b, c)
        for at, (i, j) in enumerate(places):
            m_r = m[:, i, j].copy()
            for other, (h, v) in enumerate(places):
                m_r += m[:, h, v] * s[at, other]  # eq. 5
            fused[:, i, j] += np.tanh(conv["related"] @ m_r + w["biases.related"][:, 0, 0])  # eq. 7
        found |= {
            "relation_query": b.reshape(height, width),
            "relation_key": c.reshape(height, width),
            "relation": s.mean(axis=0).reshape(height, width),
        }
    return fused, found


ALPHA = {
    "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
    "softplus": lambda s: np.log1p(np.exp(s)),
    "softmax": np.exp,
    "literal": lambda s: s,
}


def stream(
    w: Weights, maps: list[np.ndarray], params: rdam.Params
) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Return F_V and what each frame has of attention."""
    f, alpha, found = [], [], []
    for m in maps:
        fused, attention = fused_map(w, m, params.attention, params.location_rescale)
        pooled = fused.mean(axis=(1, 2)) if params.pool == "average" else fused.reshape(-1)
        f.append(linear(w, "feature", pooled))
        alpha.append(np.float64(1.0))
        if params.frame_attention:
            hidden = linear(w, "score.0", f[-1])
            hidden = np.maximum(hidden, 0) if params.score_relu else hidden
            score = linear(w, "score.2", hidden).item()  # eq. 10
            alpha[-1] = ALPHA[params.frame_activation](np.float64(score))
        found.append(attention)
    total = sum(alpha)
    video = sum(a * f_i for a, f_i in zip(alpha, f, strict=True)) / total  # eq. 11
    if params.frame_attention:
        for attention, a in zip(found, alpha, strict=True):
            attention["frame_scores"] = a / total
    return video, found


def network(
    shapes: dict[str, tuple[int, ...]], **options: object
) -> tuple[rdam.RDAM, rdam.Params, Weights]:
    torch.manual_seed(0)
    params = heads.validate(heads.load("rdam"), {**SIZES, **options})
    built = rdam.build(params, shapes, ("anger", "joy", "sadness")).double()
    assert isinstance(built, rdam.RDAM)
    return built, params, {name: value.numpy() for name, value in built.state_dict().items()}


def of_stream(w: Weights, role: str) -> Weights:
    start = f"streams.{role}."
    return {name.removeprefix(start): x for name, x in w.items() if name.startswith(start)}


def doubles(
    shapes: dict[str, tuple[int, ...]], **options: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    features, mask = random_batch(shapes, **options)
    return {role: rows.double() for role, rows in features.items()}, mask


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "location"},
        {"attention": "relation"},
        {"attention": "none"},
        {"attention": "none", "frame_attention": False},
        {"location_rescale": False},
        {"pool": "none"},
        {"score_relu": False, "frame_activation": "literal"},
        {"frame_activation": "softmax"},
        {"frame_activation": "softplus", "fusion": None},
    ],
    ids=str,
)
def test_a_video_is_equations_1_to_11(options: dict[str, object]) -> None:
    built, params, w = network(SHAPES, **options)
    features, mask = doubles(SHAPES)
    output = {name: value.detach() for name, value in built(features, mask).items()}
    for b in range(4):
        videos = []
        for role in SHAPES:
            real = mask[role][b].nonzero().flatten().tolist()
            maps = [features[role][b, i].numpy() for i in real]
            video, found = stream(of_stream(w, role), maps, params)
            videos.append(video)
            np.testing.assert_allclose(output[f"{role}_video"][b], video)
            for at, attention in zip(real, found, strict=True):
                names = {f"{role}_{name}" for name in attention}
                assert names == {name for name in built.attention if name.startswith(f"{role}_")}
                for name, value in attention.items():
                    np.testing.assert_allclose(output[f"{role}_{name}"][b, at], value)
        joined = np.concatenate(videos)
        if params.fusion is not None:
            joined = np.maximum(linear(w, "fusion", joined), 0)
        np.testing.assert_allclose(output["logits"][b], linear(w, "classifier", joined))


def test_one_stream_is_classified_from_its_own_feature() -> None:
    built, params, w = network(FRAME)
    features, mask = doubles(FRAME)
    output = built(features, mask)
    assert "fusion.weight" not in w
    maps = [m.numpy() for m in features["frame"][0]]
    video, _ = stream(of_stream(w, "frame"), maps, params)
    np.testing.assert_allclose(output["logits"][0].detach(), linear(w, "classifier", video))


def test_the_softmax_over_all_pairs_and_the_one_over_a_row_give_the_same_relation() -> None:
    draw = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 4), (3, 2)):
        b, c = draw.normal(0, 2, (2, height, width))
        found = rdam.relation_matrix(torch.from_numpy(b), torch.from_numpy(c))
        np.testing.assert_allclose(found, global_softmax_relation(b, c), rtol=1e-12)


def test_scores_that_underflow_over_all_pairs_still_have_a_relation() -> None:
    b, c = torch.tensor([[0.0, 30.0]]), torch.tensor([[10.0, 9.0]])
    found = rdam.relation_matrix(b, c)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    exponents = (b.T @ c).flatten()
    assert not torch.softmax(exponents, 0).reshape(2, 2)[0].any()


def test_the_relation_matrix_follows_from_the_outputs() -> None:
    built, _, _ = network(FRAME)
    features, mask = doubles(FRAME)
    output = built.eval()(features, mask)
    matrix = rdam.relation_matrix(output["frame_relation_query"], output["frame_relation_key"])
    assert matrix.shape == (4, 5, 6, 6)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(4, 5, 6).double())
    received = matrix.mean(-2).reshape(4, 5, 3, 2)[mask["frame"]]
    torch.testing.assert_close(output["frame_relation"][mask["frame"]], received)


def test_maps_of_attention_sum_to_one_over_the_positions_of_a_real_frame() -> None:
    built, _, _ = network(SHAPES)
    features, mask = doubles(SHAPES)
    output = built(features, mask)
    for role in SHAPES:
        for name in ("location", "relation"):
            total = output[f"{role}_{name}"].sum(dim=(2, 3))
            torch.testing.assert_close(total, mask[role].double())


def explicit(query: torch.Tensor, key: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return the sum of eq. 5 with all matrices at once."""
    scores = torch.einsum("ni,nj->nij", query.flatten(1), key.flatten(1))
    relation = scores.exp() / scores.exp().sum(2, keepdim=True)
    return torch.einsum("nij,ndj->ndi", relation, maps.flatten(2)).reshape(maps.shape)


@pytest.mark.parametrize("numbers", [1, 3 * 36, 2**23])
def test_a_few_frames_at_a_time_give_the_numbers_and_gradients_of_all_at_once(
    numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rdam, "_RELATION_NUMBERS", numbers)
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 7, 2, 3, generator=draw, dtype=torch.float64)
    maps = torch.randn(7, 4, 2, 3, generator=draw, dtype=torch.float64)
    upstream = torch.randn(maps.shape, generator=draw, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for x in (query, key, maps)]
    found, received = rdam.relate(*inputs)
    wanted = explicit(*inputs)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(received.sum((1, 2)), torch.ones(7).double())
    gradients = torch.autograd.grad(found, inputs, upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted, inputs, upstream))


def test_one_frame_at_a_time_and_all_at_once_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    features, mask = doubles(SHAPES)
    gradients = []
    for numbers in (1, 2**23):
        monkeypatch.setattr(rdam, "_RELATION_NUMBERS", numbers)
        built, _, _ = network(SHAPES)
        loss = built.loss(built(features, mask), torch.tensor([0, 1, 2, 1]), "all")
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append([weight.grad for weight in built.parameters()])
    torch.testing.assert_close(*gradients)


def test_neither_masked_frames_nor_more_than_a_few_matrices_take_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, size = 8, (2, 8, 8)
    limit = 3 * side**4
    monkeypatch.setattr(rdam, "_RELATION_NUMBERS", limit)
    made, kept = [], []
    whole = rdam.relation_matrix

    def watched(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        matrix = whole(query, key)
        made.append(tuple(matrix.shape))
        return matrix

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    monkeypatch.setattr(rdam, "relation_matrix", watched)
    shapes: dict[str, tuple[int, ...]] = {"frame": size}
    built, _, _ = network(shapes)
    features, mask = doubles(shapes, rows=9)
    real = int(mask["frame"].sum())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = built(features, mask)
        assert sum(frames for frames, _, _ in made) == real < 36
        assert max(frames for frames, _, _ in made) == 3
        # What waits for the gradient is as large as the maps, not as the matrices.
        assert max(kept) <= 36 * 4 * side**2 < limit
        output["logits"].sum().backward()
    assert sum(frames for frames, _, _ in made) == 2 * real


def test_a_stream_without_any_row_is_its_learned_vector() -> None:
    built, _, w = network(SHAPES)
    features, mask = doubles(SHAPES)
    mask["face"][1] = False
    output = built(features, mask)
    np.testing.assert_array_equal(output["face_video"][1].detach(), w["streams.face.absent"])
    assert not output["face_frame_scores"][1].any()


def test_only_the_attention_that_there_is_has_a_name() -> None:
    built, _, _ = network(SHAPES, attention="none", frame_attention=False)
    assert built.attention == {}
    built, _, _ = network({"face": (6, 2, 3)}, attention="relation")
    assert built.attention == {
        f"face_{name}": heads.Rows("face")
        for name in ("relation", "relation_query", "relation_key", "frame_scores")
    }


def test_a_uniform_location_map_is_no_attention() -> None:
    found = []
    for attention in ("none", "location"):
        built, _, _ = network(FRAME, attention=attention)
        torch.manual_seed(1)
        for name, weight in built.named_parameters():
            last = torch.randn((4, *weight.shape[1:]) if "convolutions" in name else weight.shape)
            weight.data[-len(last) :] = last.double()  # `located` comes last
            if "convolutions" in name:
                weight.data[:-4] = 0.0
        found.append(built(*doubles(FRAME))["logits"])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "none"},
        {"attention": "location"},
        {"attention": "relation"},
        {"location_rescale": False},
        {"channels": 3},
        {"pool": "none"},
        {"feature": 3},
        {"frame_attention": False},
        {"frame_activation": "softmax"},
        {"score_hidden": 3},
        {"score_relu": False},
        {"fusion": 3},
        {"fusion": None},
    ],
    ids=str,
)
def test_every_hyper_parameter_has_an_effect(options: dict[str, object]) -> None:
    features, mask = doubles(SHAPES)
    # Weights of one shape are the same in both networks, and do not make the difference.
    wanted, found = network(SHAPES)[0], network(SHAPES, **options)[0]
    shapes = {name: weight.shape for name, weight in wanted.named_parameters()}
    for built in (wanted, found):
        for weight in built.parameters():
            torch.manual_seed(2)
            weight.data = torch.randn(weight.shape).double()
    assert not torch.allclose(found(features, mask)["logits"], wanted(features, mask)["logits"])
    changed = {name: weight.shape for name, weight in found.named_parameters()} != shapes
    same = ("location_rescale", "frame_activation", "score_relu")
    assert changed == (not set(options) <= set(same))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"attention": "both"}, "attention: .*'dual'.*found 'both'"),
        ({"channels": 0}, "channels must be at least 1, found 0"),
        ({"fusion": 0}, "fusion must be at least 1 or null, found 0"),
        ({"pool": "max"}, "pool: .*'average'.*found 'max'"),
        ({"frame_activation": "tanh"}, "frame_activation: .*'sigmoid'"),
    ],
)
def test_wrong_hyper_parameters_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("rdam"), overrides)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"'face', 'frame' or both, found \[\]"),
        ({"sound": (3, 4, 4)}, r"found \['sound'\]"),
        ({"face": (2048,)}, r"'face' of rdam takes rows \(C, H, W\).*\(2048,\).*res5"),
        ({"face": (6, 2, 3), "frame": (6, 2)}, "'frame' of rdam"),
    ],
)
def test_wrong_roles_are_named(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rdam.build(rdam.Params(), shapes, ("anger", "joy"))


def test_reported_gains_are_those_of_the_text() -> None:
    rows = [said for said in (*rdam.REFERENCE, *pooling.REFERENCE) if said.paper == "RDAM"]
    accuracy = {(said.table, said.data, said.name): said.accuracy for said in rows}
    assert len(accuracy) == len(rows) == 21
    gains = {  # section 4.2, in hundredths of a per cent
        ("Table 1", "MHED", "frame"): (257, 210, 327),
        ("Table 2", "MHED", "face"): (654, 607, 747),
        ("Table 3", "HEIV", "frame"): (247, 197, 346),  # the text says 347, the table 346
        ("Table 4", "HEIV", "face"): (444, 420, 518),
    }
    for (table, data, role), wanted in gains.items():
        start = accuracy[table, data, f"{role}, average"]
        for attention, gain in zip(("location", "relation", "dual"), wanted, strict=True):
            found = accuracy[table, data, f"{role}, {attention}"] - start
            assert round(found * 10_000) == gain


@pytest.mark.gpu
def test_a_gpu_gives_the_same_gradients_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(rdam, "_RELATION_NUMBERS", 5 * 14**4)
    torch.use_deterministic_algorithms(True)
    shapes = {"frame": (64, 14, 14)}
    features, mask = doubles(shapes)
    gradients = []
    for device in ("cuda", "cuda", "cpu"):
        built = network(shapes)[0].to(device)
        rows = {role: x.to(device) for role, x in features.items()}
        output = built(rows, {role: real.to(device) for role, real in mask.items()})
        loss = built.loss(output, torch.tensor([0, 1, 2, 1], device=device), "all")
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append([x.grad.cpu() for x in built.parameters() if x.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*gradients[:2], strict=True))
    torch.testing.assert_close(gradients[0], gradients[2])


def test_biases_beside_the_joined_convolution_start_as_torchs_own_do() -> None:
    torch.manual_seed(0)
    stream = rdam.Stream(rdam.Params(channels=4096), (25, 3, 3))
    theirs = torch.nn.Conv2d(25, 4096, 1)
    assert theirs.bias is not None
    for name in ("related", "located"):
        ours = stream.biases[name].detach()
        assert ours.std().item() == pytest.approx(theirs.bias.std().item(), rel=0.05)
        assert 0.99 < ours.abs().max().item() / 25**-0.5 <= 1
        assert abs(ours.mean().item()) < 0.01
    assert 0 < abs(stream.biases["query"].item()) <= 25**-0.5
