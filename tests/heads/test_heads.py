"""What every head owes to its contract, over all heads and sets of roles.

A head's own properties are tested in its own file; the cases lie in `tests/heads/cases/`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import heads
from heads.layers.network import Network
from heads.training.targets import Target, of_classes
from tests.heads.cases import all_cases
from tests.heads.conftest import random_batch
from tests.modules import put

CLASSES = ("anger", "joy", "sadness")
CASES = all_cases()
VIDEOS, ROWS = 4, 5


class Built:
    """A case with its network."""

    def __init__(self, name: str) -> None:
        self.name, self.case = CASES[name]
        self.shapes = self.case.shapes
        self.head = heads.load(self.name)
        self.params = heads.validate(self.head, self.case.params)
        self.network = self.fresh(0)

    def fresh(self, seed: int) -> Network:
        torch.manual_seed(seed)
        return self.head.build(self.params, self.shapes, CLASSES)

    def batch(self, **options: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return random_batch(self.shapes, **options)

    def backward(self, output: dict[str, Tensor], labels: Tensor, phase: str) -> None:
        self.network.loss(output, labels, phase).backward()  # type: ignore[no-untyped-call]


@pytest.fixture(params=CASES)
def built(request: pytest.FixtureRequest) -> Built:
    return Built(request.param)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def modes(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the network as it is trained, then as it answers."""
    yield network.train()
    yield network.eval()


def test_every_head_of_the_folder_is_tested_here() -> None:
    assert heads.names() == sorted({head for head, _ in CASES.values()})


def test_an_unknown_head_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="'rnn'.*caan.*pooling"):
        heads.load("rnn")


def test_a_shared_module_is_no_head() -> None:
    with pytest.raises(ValueError, match="'losses'"):
        heads.load("losses")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"embeding": 3}, "head 'caan': unknown embeding, did you mean 'embedding'. .fields are "),
        ({"score_activation": "tanh"}, "score_activation:.*'sigmoid'.*found 'tanh'"),
        ({"score_layers": 4}, "score_layers must be 1, 2, 3 or null, found 4"),
        ({"embedding": "8"}, "embedding: .*found '8'"),
        ({"score_hidden": [512]}, "score_hidden"),
        ({"margin": math.nan}, "margin"),
        ({"video_weight": -1.0}, "at least 0"),
        (
            {"frame_weight": 0, "triplet_weight": 0, "video_weight": 0},
            "one of frame_weight.* above 0",
        ),
    ],
)
def test_wrong_hyper_parameters_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.validate(heads.load("caan"), overrides)


def test_hyper_parameters_come_as_yaml_has_them() -> None:
    params = heads.validate(heads.load("caan"), {"score_hidden": [4, 2], "margin": 1})
    assert (params.score_hidden, params.margin, params.embedding) == ((4, 2), 1.0, 1024)


def test_outputs_have_the_shapes_of_the_contract(built: Built) -> None:
    network = built.network.eval()
    output = network(*built.batch())
    assert output["logits"].shape == (VIDEOS, len(CLASSES))
    for name, of in network.attention.items():
        if isinstance(of, heads.Rows):
            assert of.role in built.shapes
            assert output[name].shape[:2] == (VIDEOS, ROWS), name
        else:
            assert set(of.roles) <= set(built.shapes)
            assert output[name].shape == (VIDEOS, len(of.roles)), name


def test_attention_is_zero_on_rows_that_are_not_used(built: Built) -> None:
    features, mask = built.batch()
    network = built.network.eval()
    output = network(features, mask)
    for name, of in network.attention.items():
        if isinstance(of, heads.Rows):
            anything = torch.stack(list(mask.values())).any(0)
            assert not output[name][~anything].any(), name


def test_normalised_attention_sums_to_one(built: Built) -> None:
    network = built.network.eval()
    output = network(*built.batch())
    assert set(built.case.normalised) <= set(network.attention)
    for name in built.case.normalised:
        close(output[name].flatten(1).sum(1), torch.ones(VIDEOS))


def test_what_stands_in_masked_rows_does_not_matter(built: Built) -> None:
    features, mask = built.batch()
    for network in modes(built.network):
        state = {name: value.clone() for name, value in network.state_dict().items()}
        wanted = network(features, mask)
        hidden = {role: rows.clone() for role, rows in features.items()}
        for role, rows in hidden.items():
            rows[~mask[role]] = math.nan
        network.load_state_dict(state)
        found = network(hidden, mask)
        for name, value in wanted.items():
            assert torch.equal(found[name], value), name
        assert all(value.isfinite().all() for value in network.state_dict().values())


def test_nan_in_masked_rows_stays_out_of_the_gradient(built: Built) -> None:
    features, mask = built.batch()
    for role, rows in features.items():
        rows[~mask[role]] = math.nan
    for phase in built.network.phases():
        output = built.network(features, mask)
        built.backward(output, torch.tensor([0, 1, 0, 2]), phase)
    for name, weight in built.network.named_parameters():
        assert weight.grad is None or weight.grad.isfinite().all(), name


def test_padding_changes_nothing(built: Built) -> None:
    features, mask = built.batch()
    longer = {r: torch.cat([x, torch.full_like(x[:, :3], 7.0)], 1) for r, x in features.items()}
    padded = {r: nn.functional.pad(m, (0, 3), value=False) for r, m in mask.items()}
    for network in modes(built.network):
        wanted, found = network(features, mask), network(longer, padded)
        close(found["logits"], wanted["logits"])
        for name, of in built.network.attention.items():
            if isinstance(of, heads.Roles):
                close(found[name], wanted[name])
            else:
                close(found[name][:, :ROWS], wanted[name])
                assert not found[name][:, ROWS:].any()


def test_the_order_of_frames_matters_only_where_the_paper_says_so(built: Built) -> None:
    features, mask = built.batch()
    order = torch.tensor([3, 0, 4, 2, 1])
    network = built.network.eval()
    wanted = network(features, mask)
    found = network(
        {r: x[:, order] for r, x in features.items()}, {r: m[:, order] for r, m in mask.items()}
    )
    if built.case.ordered:
        assert not torch.allclose(found["logits"], wanted["logits"], atol=1e-6)
        return
    close(found["logits"], wanted["logits"])
    for name, of in network.attention.items():
        over_rows = isinstance(of, heads.Rows)
        close(found[name], wanted[name][:, order] if over_rows else wanted[name])


def test_videos_of_a_batch_do_not_touch_each_other(built: Built) -> None:
    features, mask = built.batch()
    network = built.network.eval()
    wanted = network(features, mask)["logits"]
    for at in range(VIDEOS):
        one = slice(at, at + 1)
        alone = network(
            {r: x[one] for r, x in features.items()}, {r: m[one] for r, m in mask.items()}
        )
        close(alone["logits"], wanted[one])


def test_any_number_of_frames_will_do(built: Built) -> None:
    for rows in built.case.rows:
        features = {r: torch.randn(2, rows, *shape) for r, shape in built.shapes.items()}
        mask = {r: torch.ones(2, rows, dtype=torch.bool) for r in built.shapes}
        for network in modes(built.network):
            assert network(features, mask)["logits"].isfinite().all()


def test_roles_may_have_their_own_numbers_of_rows(built: Built) -> None:
    # A map has the rows of its owner, aligned roles have those of each other.
    owners = {role: role.removesuffix("_map") for role in built.shapes}
    apart = sorted({owner for owner in owners.values() if owner not in built.head.ALIGNED})
    rows = {owner: 3 + at for at, owner in enumerate(apart)}
    features, mask = {}, {}
    for role, shape in built.shapes.items():
        count = rows.get(owners[role], 2)
        features[role] = torch.randn(3, count, *shape)
        mask[role] = torch.ones(3, count, dtype=torch.bool)
    for network in modes(built.network):
        output = network(features, mask)
        assert output["logits"].isfinite().all()
        for name, of in network.attention.items():
            if isinstance(of, heads.Rows):
                assert output[name].shape[:2] == features[of.role].shape[:2], name


def test_a_video_without_any_row_in_a_role_is_classified(built: Built) -> None:
    for role in built.shapes:
        features, mask = built.batch()
        mask[role][2] = False
        features[role][2] = math.nan
        for network in modes(built.network):
            assert network(features, mask)["logits"].isfinite().all()


def test_videos_without_any_row_in_all_roles_are_classified(built: Built) -> None:
    features = {r: torch.zeros(2, 0, *shape) for r, shape in built.shapes.items()}
    mask = {r: torch.zeros(2, 0, dtype=torch.bool) for r in built.shapes}
    for phase in built.network.phases():
        output = built.network(features, mask)
        assert output["logits"].isfinite().all()
        built.backward(output, torch.tensor([0, 1]), phase)


def test_an_absent_row_is_not_the_same_as_a_row_of_zeros(built: Built) -> None:
    if not built.case.absent:
        pytest.skip("this head has no way to tell")
    for role in built.shapes:
        features, mask = built.batch(rows=2)
        features[role][0, 0] = 0.0
        network = built.network.eval()
        zeros = network(features, mask)["logits"][0]
        mask[role][0, 0] = False
        assert not torch.allclose(network(features, mask)["logits"][0], zeros)


def test_gradients_reach_every_parameter_in_some_phase(built: Built) -> None:
    trained = {
        id(weight)
        for modules in built.network.phases().values()
        for module in modules
        for weight in module.parameters()
    }
    names = {name for name, weight in built.network.named_parameters()}
    assert trained == {id(weight) for weight in built.network.parameters()}
    reached: set[str] = set()
    # Together these have rows that are real and videos in which each role is absent.
    for seed, absent in enumerate([None, *built.shapes, "everything"]):
        for phase in built.network.phases():
            features, mask = built.batch(videos=6, seed=seed)
            for role in built.shapes:
                if absent in (role, "everything"):
                    mask[role][2:4] = False
            built.network.zero_grad()
            output = built.network(features, mask)
            built.backward(output, torch.tensor([0, 1, 0, 2, 1, 2]), phase)
            for name, weight in built.network.named_parameters():
                if weight.grad is not None and weight.grad.any():
                    reached.add(name)
    assert reached == names


def test_weights_of_classes_reach_the_loss_of_every_head(built: Built) -> None:
    features, mask = built.batch(videos=6)
    network, differ = built.network.eval(), []
    alike, weighed = of_classes(CLASSES), replace(of_classes(CLASSES), weights=(5.0, 1.0, 1.0))
    for phase in network.phases():
        output = network(features, mask)

        def loss(target: Target, labels: list[int], of: str = phase) -> float:
            network.aim(target)
            return network.loss(output, torch.tensor(labels), of).item()  # noqa: B023

        mixed = [0, 1, 2, 1, 2, 1]
        differ.append(loss(alike, mixed) != pytest.approx(loss(weighed, mixed), rel=1e-4))
        one = [0] * 6
        assert loss(alike, one) == pytest.approx(loss(weighed, one)), "of one class it is a mean"
    assert any(differ)


def test_a_head_whose_loss_is_its_own_refuses_weights() -> None:
    class Own(Network):
        def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
            return output["logits"].sum()

    Own().aim(of_classes(CLASSES))
    with pytest.raises(ValueError, match="its loss is its own, which train.class_weights does not"):
        Own().aim(replace(of_classes(CLASSES), weights=(1.0, 2.0, 3.0)))


def test_a_head_learns_a_batch_by_heart(built: Built) -> None:
    features, mask = built.batch(videos=16)
    labels = torch.arange(16) % len(CLASSES)

    def is_learnt() -> bool:
        with torch.inference_mode():
            answers = built.network.eval()(features, mask)["logits"].argmax(1)
        built.network.train()
        return torch.equal(answers, labels)

    for phase, modules in built.network.phases().items():
        built.network.requires_grad_(False)
        for module in modules:
            module.requires_grad_(True)
        weights = [weight for weight in built.network.parameters() if weight.requires_grad]
        optimiser = torch.optim.Adam(weights, lr=built.case.learning_rate)
        for step in range(1, built.case.steps + 1):
            optimiser.zero_grad()
            built.backward(built.network(features, mask), labels, phase)
            optimiser.step()
            if step % 10 == 0 and is_learnt():
                break
    assert is_learnt()


def test_the_seed_alone_draws_the_weights(built: Built) -> None:
    once, again, other = built.fresh(3), built.fresh(3), built.fresh(4)
    for name, value in once.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert any(
        not torch.equal(value, other.state_dict()[name])
        for name, value in once.state_dict().items()
    )


def test_a_checkpoint_brings_the_same_answers_back(built: Built, tmp_path: Path) -> None:
    batch = built.batch()
    built.network.train()(*batch)  # moves running statistics, where there are any
    save_file(built.network.state_dict(), tmp_path / "weights.safetensors")
    restored = built.head.build(
        heads.validate(built.head, asdict(built.params)), built.shapes, CLASSES
    )
    restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    wanted, found = built.network.eval()(*batch), restored.eval()(*batch)
    assert torch.equal(found["logits"], wanted["logits"])


def test_what_the_papers_report_of_a_head_fits_the_head(built: Built) -> None:
    for said in built.head.REFERENCE:
        assert 0 < said.accuracy < 1
        heads.validate(built.head, said.params)
        if built.head.ROLES is not None:
            assert set(said.roles) <= built.head.ROLES


def test_a_row_of_a_papers_table_stands_in_one_head_once() -> None:
    names, cells = {}, {}
    for head in heads.names():
        for said in heads.load(head).REFERENCE:
            table = (said.paper, said.table, said.data)
            assert names.setdefault((*table, said.name), said) is said, (head, said)
            # Another name of the same row would be in another head.
            cell = (*table, frozenset(said.roles), said.accuracy)
            assert cells.setdefault(cell, head) == head, (head, said)


@pytest.mark.parametrize("name", heads.names())
def test_a_head_says_its_paper_its_roles_and_where_it_differs(name: str) -> None:
    said = heads.load(name).__doc__ or ""
    places = [said.find(f"\n{start}") for start in ("Paper", "Roles", "Differs from the paper")]
    assert -1 not in places and places == sorted(places)
    assert re.search(r"standardise", said[places[-1] :])


# ---------------------------------------------------- what papers report, read without torch


def test_each_table_is_the_one_that_the_head_itself_has() -> None:
    references, broken = heads.references()
    assert not broken
    assert references == {name: heads.load(name).REFERENCE for name in heads.names()}
    assert sum(len(rows) for rows in references.values()) > 100


def test_a_row_is_known_by_its_head_and_its_place_in_the_papers() -> None:
    references, _ = heads.references()
    places = [
        (head, row.paper, row.table, row.data, row.name)
        for head, rows in references.items()
        for row in rows
    ]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("REFERENCE = (", "heads/rdam.py cannot be read: SyntaxError"),
        ("Params = 1", "heads/rdam.py defines no REFERENCE"),
        ("from math import pi\nREFERENCE = (pi,)", "NameError: name 'pi' is not defined"),
        ("REFERENCE = (Reported('P', 'Table 1'),)", "REFERENCE is read by itself, .*TypeError"),
    ],
)
def test_a_head_of_which_none_can_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    put(monkeypatch, tmp_path / "room", heads, "rdam", text)
    references, broken = heads.references()
    assert list(references) == [name for name in heads.names() if name != "rdam"]
    (line,) = broken
    with pytest.raises(ValueError, match=rf"^head 'rdam': .*{complaint}"):
        raise ValueError(line)


def test_a_table_uses_what_its_file_defines_and_nothing_else_of_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
import nothing_of_that_name
from heads import Reported
raise ValueError("run")
DATA: tuple[Emotion, ...] = ("HEIV",)
SHARES = {"a": 0.5}
SHARES |= {"b": nothing_of_that_name.pi} if not DATA else {"b": 0.25}
def share(name: Emotion) -> float:
    return SHARES[name] / scale
scale, other = 2, 3
REFERENCE: Sequence[Reported] = tuple(
    Reported("P", "Table 1", DATA[0], name, ("face",), share(name)) for name in ("a", "b")
)
"""
    put(monkeypatch, tmp_path / "room", heads, "rdam", text)
    references, broken = heads.references()
    assert not broken
    assert [(row.name, row.accuracy) for row in references["rdam"]] == [("a", 0.25), ("b", 0.125)]
