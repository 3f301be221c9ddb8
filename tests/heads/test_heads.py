"""What every head owes to its contract, over all heads and sets of roles."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import heads
from tests.heads.conftest import random_batch

CLASSES = 3
SMALL: Mapping[str, Mapping[str, object]] = {
    "caan": {
        "embedding": 8,
        "fusion": 12,
        "feature": 7,
        "score_hidden": [6, 5],
        "score_channels": 4,
    },
    "average": {"embedding": 8, "hidden": 8},
}
FACE, CONTEXT = {"face": (6,)}, {"context": (5,)}
CASES: Mapping[str, tuple[str, dict[str, tuple[int, ...]], dict[str, object]]] = {
    "caan": ("caan", FACE | CONTEXT, {}),
    "caan, all frames": ("caan", FACE | CONTEXT, {"frames": "all"}),
    "caan, score from r": ("caan", FACE | CONTEXT, {"score_input": "r", "fusion_layer": False}),
    "caan, face": ("caan", FACE, {}),
    "caan, context": ("caan", CONTEXT, {"score_layers": 2}),
    "caan, face and map": ("caan", FACE | {"face_map": (3, 4, 4)}, {"score_layers": 2}),
    "average, face": ("average", FACE, {}),
    "average, map": ("average", {"context_map": (3, 4, 4)}, {}),
    "average, three": ("average", FACE | CONTEXT | {"sound": (4,)}, {}),
    "average, features": ("average", FACE | CONTEXT, {"pool": "features"}),
}


class Case:
    """A head built small for one set of roles."""

    def __init__(self, name: str) -> None:
        head, self.shapes, overrides = CASES[name]
        self.head = heads.load(head)
        self.params = heads.validate(self.head, {**SMALL[head], **overrides})
        torch.manual_seed(0)
        self.network = self.head.build(self.params, self.shapes, CLASSES)

    def batch(self, **options: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return random_batch(self.shapes, **options)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_every_head_of_the_folder_is_tested_here() -> None:
    assert heads.names() == sorted(SMALL) == sorted({head for head, _, _ in CASES.values()})


def test_an_unknown_head_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="'rnn'.*average, caan"):
        heads.load("rnn")


def test_a_shared_module_is_no_head() -> None:
    with pytest.raises(ValueError, match="'losses'"):
        heads.load("losses")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"embeding": 3}, "head 'caan': embeding:.*found 3.*fields are embedding, "),
        ({"score_activation": "tanh"}, "score_activation:.*'sigmoid'.*found 'tanh'"),
        ({"score_layers": 4}, "score_layers must be 1, 2, 3 or null, found 4"),
        ({"embedding": "8"}, "embedding: .*found '8'"),
        ({"score_hidden": [512]}, "score_hidden"),
        ({"margin": math.nan}, "margin"),
        ({"video_weight": -1.0}, "at least 0"),
        ({"frame_weight": 0, "triplet_weight": 0, "video_weight": 0}, "one above it"),
    ],
)
def test_wrong_hyper_parameters_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("caan"), overrides)


def test_hyper_parameters_come_as_yaml_has_them() -> None:
    params = heads.validate(heads.load("caan"), {"score_hidden": [4, 2], "margin": 1})
    assert (params.score_hidden, params.margin, params.embedding) == ((4, 2), 1.0, 1024)


def test_outputs_have_the_shapes_of_the_contract(case: Case) -> None:
    output = case.network(*case.batch())
    assert output["logits"].shape == (4, CLASSES)
    for name in case.head.ATTENTION:
        assert output[name].shape == (4, 5)


def test_attention_sums_to_one_over_real_rows_and_is_zero_elsewhere(case: Case) -> None:
    features, mask = case.batch()
    output = case.network(features, mask)
    for name, roles in case.head.ATTENTION.items():
        present = torch.stack([mask[role] for role in roles if role in mask]).any(0)
        assert not output[name][~present].any()
        close(output[name].sum(1), torch.ones(4))


def test_what_stands_in_masked_rows_does_not_matter(case: Case) -> None:
    features, mask = case.batch()
    wanted = case.network(features, mask)
    for role, rows in features.items():
        rows[~mask[role]] = math.nan
    found = case.network(features, mask)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def test_nan_in_masked_rows_stays_out_of_the_gradient(case: Case) -> None:
    features, mask = case.batch()
    for role, rows in features.items():
        rows[~mask[role]] = math.nan
    output = case.network(features, mask)
    case.head.loss(output, torch.tensor([0, 1, 0, 2]), case.params).backward()  # type: ignore[no-untyped-call]
    for name, weight in case.network.named_parameters():
        assert weight.grad is None or weight.grad.isfinite().all(), name


def test_padding_changes_nothing(case: Case) -> None:
    features, mask = case.batch()
    wanted = case.network(features, mask)
    longer = {r: torch.cat([x, torch.full_like(x[:, :3], 7.0)], 1) for r, x in features.items()}
    padded = {r: nn.functional.pad(m, (0, 3), value=False) for r, m in mask.items()}
    found = case.network(longer, padded)
    close(found["logits"], wanted["logits"])
    for name in case.head.ATTENTION:
        close(found[name][:, :5], wanted[name])
        assert not found[name][:, 5:].any()


def test_the_order_of_frames_does_not_matter(case: Case) -> None:
    features, mask = case.batch()
    order = torch.tensor([3, 0, 4, 2, 1])
    wanted = case.network(features, mask)
    found = case.network(
        {r: x[:, order] for r, x in features.items()}, {r: m[:, order] for r, m in mask.items()}
    )
    close(found["logits"], wanted["logits"])
    for name in case.head.ATTENTION:
        close(found[name], wanted[name][:, order])


def test_videos_of_a_batch_do_not_touch_each_other(case: Case) -> None:
    features, mask = case.batch()
    wanted = case.network(features, mask)["logits"]
    for at in range(4):
        one = slice(at, at + 1)
        alone = case.network(
            {r: x[one] for r, x in features.items()}, {r: m[one] for r, m in mask.items()}
        )
        close(alone["logits"], wanted[one])


def test_any_number_of_frames_will_do(case: Case) -> None:
    for rows in (1, 2, 40):
        features = {r: torch.randn(2, rows, *shape) for r, shape in case.shapes.items()}
        mask = {r: torch.ones(2, rows, dtype=torch.bool) for r in case.shapes}
        assert case.network(features, mask)["logits"].isfinite().all()


def test_a_video_without_any_row_in_a_role_is_classified(case: Case) -> None:
    for role in case.shapes:
        features, mask = case.batch()
        mask[role][2] = False
        features[role][2] = math.nan
        assert case.network(features, mask)["logits"].isfinite().all()


def test_videos_without_any_row_in_all_roles_are_classified(case: Case) -> None:
    features = {r: torch.zeros(2, 0, *shape) for r, shape in case.shapes.items()}
    mask = {r: torch.zeros(2, 0, dtype=torch.bool) for r in case.shapes}
    output = case.network(features, mask)
    assert output["logits"].isfinite().all()
    case.head.loss(output, torch.tensor([0, 1]), case.params).backward()  # type: ignore[no-untyped-call]


def test_an_absent_row_is_not_the_same_as_a_row_of_zeros(case: Case) -> None:
    for role in case.shapes:
        features, mask = case.batch(rows=2)
        features[role][0, 0] = 0.0
        zeros = case.network(features, mask)["logits"][0]
        mask[role][0, 0] = False
        assert not torch.allclose(case.network(features, mask)["logits"][0], zeros)


def test_gradients_reach_every_parameter(case: Case) -> None:
    reached: set[str] = set()
    # Together these have rows that are real and videos in which each role is absent.
    for seed, absent in enumerate([None, *case.shapes, "everything"]):
        features, mask = case.batch(videos=6, seed=seed)
        for role in case.shapes:
            if absent in (role, "everything"):
                mask[role][2:4] = False
        output = case.network(features, mask)
        case.network.zero_grad()
        case.head.loss(output, torch.tensor([0, 1, 0, 2, 1, 2]), case.params).backward()  # type: ignore[no-untyped-call]
        for name, weight in case.network.named_parameters():
            if weight.grad is not None and weight.grad.any():
                reached.add(name)
    assert reached == {name for name, _ in case.network.named_parameters()}


def test_a_head_learns_a_batch_by_heart(case: Case) -> None:
    features, mask = case.batch(videos=16)
    labels = torch.arange(16) % CLASSES
    optimiser = torch.optim.Adam(case.network.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        output = case.network(features, mask)
        case.head.loss(output, labels, case.params).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert torch.equal(case.network(features, mask)["logits"].argmax(1), labels)
