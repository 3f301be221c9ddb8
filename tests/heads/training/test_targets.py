"""A head that tells labels, or dimensions, by features in which they are planted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

import heads
from features.cache import tables
from heads.layers.losses import concordance_loss, frame_loss, video_loss
from heads.training.answer import told
from heads.training.data import Features
from heads.training.loop import train_run
from heads.training.run import Run, run_arrays
from heads.training.scores import scores_of
from heads.training.selection import select_videos
from heads.training.settings import Training
from heads.training.standardise import build_network
from heads.training.targets import (
    Declared,
    Target,
    balanced,
    metadata_of,
    of_classes,
    of_stated,
    strata,
)
from tests.heads.cases import all_cases
from tests.heads.conftest import Folder, make_folder, random_batch

LABELS = Target("labels", ("joy", "fear", "calm"))
VALENCE = Target("dimensions", ("valence", "arousal"), (1.0, 9.0))
DECLARED = [
    Declared("feelings", "labels", ("feelings",), LABELS.names),
    Declared("affect", "dimensions", VALENCE.names, (), (1.0, 9.0)),
]
ROLES = {"context": "vgg16/fc6"}


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = [0] * 7 + [1] * 2 + [2]
    found = balanced(of_classes(("a", "b", "c")), labels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert found.weights == pytest.approx(expected)
    assert np.mean([found.weights[label] for label in labels]) == pytest.approx(1)
    assert found.stated() == of_classes(("a", "b", "c")).stated(), "no part of what files say"
    named = replace(found, name="feeling")
    assert of_stated(json.loads(json.dumps(named.stated()))) == replace(named, weights=())
    with pytest.raises(ValueError, match="class_weights: balanced is of classes, found the target"):
        balanced(LABELS, [(1.0, 0.0, 0.0)])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return features of 48 videos whose first dimensions tell labels, the next two numbers."""
    folder = make_folder(tmp_path_factory.mktemp("planted"), videos=48, rows=3, runs=1)
    draw = np.random.default_rng(0)
    for video in folder.videos:
        labels = draw.random(3) < 0.4
        numbers = draw.uniform(1, 9, 2)
        video["target_feelings"] = "|".join(np.array(LABELS.names)[labels])
        video |= {f"target_{n}": v for n, v in zip(VALENCE.names, numbers, strict=True)}
        rows = draw.normal(0, 1, (3, 10))
        rows[:, :3] += 4 * labels
        rows[:, 3:5] += numbers - 5
        found = {"fc6": rows.astype(np.float16), "index": np.arange(3), "pts_s": np.arange(3) / 2}
        found["valid"] = np.ones(3, bool)
        folder.write("vgg16", str(video["video_id"]), found)
    folder.save()
    table = pa.Table.from_pylist(folder.videos)
    tables.write_table(folder.index, table.replace_schema_metadata(metadata_of(DECLARED)))
    return folder


def trained(folder: Folder, wanted: str, name: str = "pooling", **params: object) -> Run:
    selection = select_videos(folder.index, folder.root, ROLES, wanted)
    head, split = heads.load(name), selection.splits["split_00"]
    data = Features(selection.videos, ROLES)
    training = Training(epochs=30, learning_rate=0.01)
    made = heads.validate(head, params)
    return train_run(head, made, training, data, split.train, split.test, selection.target, 1)


def test_labels_are_learnt(planted: Folder) -> None:
    run = trained(planted, "feelings", hidden=16)
    scores = scores_of(LABELS, run_arrays(run)[0])
    assert scores["mAP"] > 0.9 and scores["macro_f1"] > 0.8, scores
    assert run.curve[-1].measured > 0.95 and run.values.shape == (len(run.video_ids), 3)
    assert run_arrays(run)[0]["epoch_mAP"][-1] == run.curve[-1].measured


def test_dimensions_are_learnt_and_lie_in_their_range(planted: Folder) -> None:
    run = trained(planted, "affect", hidden=16)
    scores = scores_of(replace(VALENCE, name="affect"), run_arrays(run)[0])
    assert scores["valence/CCC"] > 0.8 and scores["arousal/CCC"] > 0.8, scores
    assert scores["RMSE"] < 1.5, "of values from 1 to 9"
    assert run.values.min() >= 1 and run.values.max() <= 9
    assert run.labels.dtype == np.float64 and run_arrays(run)[1]["estimates"] == "video dimension"


def test_the_first_target_is_the_default_and_others_are_named(planted: Folder) -> None:
    first = select_videos(planted.index, planted.root, ROLES).target
    assert (first.name, first.names) == ("feelings", LABELS.names)
    with pytest.raises(ValueError, match="no target 'effect', did you mean 'affect'.*'feelings'"):
        select_videos(planted.index, planted.root, ROLES, "effect")


def test_a_run_that_cannot_be_trained_or_tested_on_labels_is_refused(
    planted: Folder, tmp_path: Path
) -> None:
    table = tables.read(planted.index)
    for part, words in (("train", r"each label, found \{'joy': 0\}"), ("test", "video that has a")):
        rows = [dict(row) for row in table]
        for row in rows:
            if row["split_00"] == part:
                row["target_feelings"] = "fear|calm" if part == "train" else ""
        changed = pa.Table.from_pylist(rows).replace_schema_metadata(metadata_of(DECLARED))
        tables.write_table(tmp_path / "index.parquet", changed)
        with pytest.raises(ValueError, match=words):
            select_videos(tmp_path / "index.parquet", planted.root, ROLES)


# ------------------------------------------------------------------------------------ heads


@pytest.mark.parametrize("case", all_cases())
@pytest.mark.parametrize("target", [LABELS, VALENCE], ids=["labels", "dimensions"])
def test_every_head_tells_every_target_by_its_last_layer(case: str, target: Target) -> None:
    name, each = all_cases()[case]
    head = heads.load(name)
    plain = {"vaanet": {"penalty": 0.0}, "hamf": {"video_weight": 1.0}}.get(name, {})
    params = heads.validate(head, {**each.params, **plain})
    axes = {role: " ".join("CHWL"[: len(shape)]) for role, shape in each.shapes.items()}
    network = build_network(head, params, each.shapes, axes, target, 0).network
    features, mask = random_batch(each.shapes)
    labels = torch.rand(4, target.width).round() if target is LABELS else 1 + 8 * torch.rand(4, 2)
    for phase, modules in network.phases().items():
        output = network(features, mask)
        assert output["logits"].shape == (4, target.width)
        network.zero_grad()
        network.loss(output, labels, phase).backward()  # type: ignore[no-untyped-call]
        weights = [weight for module in modules for weight in module.parameters()]
        slopes = [weight.grad for weight in weights if weight.grad is not None]
        assert slopes and all(torch.isfinite(slope).all() for slope in slopes)
        assert any(slope.any() for slope in slopes), phase
    values = told(target, output["logits"].detach())
    low, high = target.range or (0, 1)
    assert values.min() >= low and values.max() <= high


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        (
            "vaanet",
            {},
            r"head 'vaanet': its polarity-consistent loss .* kind dimensions: .*penalty",
        ),
        ("caan", {"frame_weight": 0.0, "video_weight": 0.0}, "head 'caan': its triplet loss needs"),
        ("quality_aware", {"frame_weight": 0.0, "video_weight": 0.0}, "'quality_aware': its tripl"),
        ("hamf", {"video_weight": 0.0}, "head 'hamf': its triplet loss .* set video_weight above"),
    ],
)
def test_a_head_that_needs_classes_says_why(
    name: str, params: dict[str, object], words: str
) -> None:
    head = heads.load(name)
    shapes: dict[str, tuple[int, ...]] = {"audio": (6,)} if name == "vaanet" else {"face": (6,)}
    axes = dict.fromkeys(shapes, "D")
    made = heads.validate(head, params)
    with pytest.raises(ValueError, match=words):
        build_network(head, made, shapes, axes, replace(VALENCE, name="affect"), 0)
    build_network(head, made, shapes, axes, of_classes(("joy", "fear")), 0)


# ------------------------------------------------------------------------------------ losses


def test_binary_cross_entropy_is_that_of_its_formula() -> None:
    draw = np.random.default_rng(0)
    logits, truth = draw.normal(0, 2, (5, 3)), (draw.random((5, 3)) < 0.5).astype(float)
    chances = 1 / (1 + np.exp(-logits))
    wanted = -(truth * np.log(chances) + (1 - truth) * np.log(1 - chances)).mean()
    loss = video_loss(LABELS, torch.from_numpy(logits), torch.from_numpy(truth))
    assert loss.item() == pytest.approx(wanted)


def test_the_loss_of_dimensions_is_1_minus_their_concordance_in_any_unit() -> None:
    draw = np.random.default_rng(1)
    truth, told_ = draw.uniform(1, 9, (7, 2)), draw.uniform(1, 9, (7, 2))
    each = []
    for x, y in zip(truth.T, told_.T, strict=True):
        moments = np.cov(x, y, bias=True)
        each.append(2 * moments[0, 1] / (np.trace(moments) + (x.mean() - y.mean()) ** 2))
    logits = torch.from_numpy((told_ - 5) / 4)
    loss = video_loss(VALENCE, logits, torch.from_numpy(truth))
    assert loss.item() == pytest.approx(1 - np.mean(each), rel=1e-6)


def test_a_batch_of_one_truth_pulls_the_answers_to_it() -> None:
    told_ = torch.tensor([[0.0], [1.0]], requires_grad=True)
    loss = concordance_loss(told_, torch.full((2, 1), 0.25))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx((0.25**2 + 0.75**2) / 2)
    assert told_.grad is not None and told_.grad.flatten().tolist() == [-0.25, 0.75]


def test_frames_are_held_to_what_is_true_of_their_video() -> None:
    logits = torch.tensor([[[3.0], [-3.0]], [[1.0], [9.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    one = Target("labels", ("joy",))
    loss = frame_loss(one, logits, torch.tensor([[1.0], [0.0]]), mask)
    wanted = np.mean([np.log1p(np.exp(-3)), np.log1p(np.exp(3)), np.log1p(np.exp(1))])
    assert loss.item() == pytest.approx(wanted)


# ------------------------------------------------------------------------------------ strata


def test_strata_are_classes_rarest_labels_and_parts_by_value() -> None:
    assert strata(of_classes("abc"), [2, 0, 1]) == [2, 0, 1]
    labels = [(1.0, 0.0, 1.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)]
    assert strata(LABELS, labels) == [2, 0, 1, 3], "fear is rarer than calm, calm than joy"
    one = Target("dimensions", ("valence",), (0.0, 99.0))
    values = strata(one, [(float(n),) for n in range(40)])
    assert [values.count(part) for part in range(4)] == [10, 10, 10, 10] and values[0] == 0
    both = strata(VALENCE, [(v, a) for v in (1.0, 2.0) for a in (8.0, 9.0)])
    assert both == [0, 1, 2, 3]


def test_what_files_say_of_a_target_is_read_back() -> None:
    for target in (LABELS, replace(VALENCE, name="affect"), of_classes("ab")):
        assert of_stated(json.loads(json.dumps(target.stated()))) == target
    assert of_classes("ab").stated() == {"classes": ("a", "b")}
