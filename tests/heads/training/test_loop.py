import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import heads
from heads.layers.network import Network
from heads.training import loop
from heads.training.data import Features
from heads.training.held_out import held_out
from heads.training.loop import run_seed, train_run
from heads.training.run import Run, run_arrays
from heads.training.selection import Selection, select_videos
from heads.training.settings import Training, training_of
from heads.training.standardise import Standardised, build_network
from heads.training.targets import of_classes
from tests.heads.conftest import EMOTIONS, Folder, frames, make_folder

ROLES = {"face": "vggface/fc6", "context": "vgg16/fc6"}
SMALL = {"embedding": 8, "fusion": 16, "feature": 8, "score_hidden": [8, 4]}
QUICK = Training(epochs=3, batch_videos=6, learning_rate=3e-3)


def selected(folder: Folder, roles: dict[str, str] = ROLES) -> tuple[Selection, Features]:
    selection = select_videos(folder.index, folder.root, roles)
    return selection, Features(selection.videos, roles, heads.load("caan").ALIGNED)


def trained(
    folder: Folder, training: Training = QUICK, seed: int = 5, run: str = "split_00"
) -> Run:
    head = heads.load("caan")
    selection, data = selected(folder)
    split = selection.splits[run]
    params = heads.validate(head, SMALL)
    return train_run(
        head, params, training, data, split.train, split.test, of_classes(EMOTIONS), seed
    )


def test_a_planted_signal_is_learnt(tmp_path: Path) -> None:
    run = trained(make_folder(tmp_path, videos=54), replace(QUICK, epochs=15))
    assert np.mean(run.predicted == run.labels) >= 5 / 6
    assert run.curve[-1].measured == 1
    assert run.curve[-1].loss < run.curve[0].loss


@pytest.mark.parametrize("sampling", ["balanced", "shuffled"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("standardise", ["none", "scale", "dimension"])
def test_every_setting_trains(
    folder: Folder, sampling: Any, optimiser: Any, standardise: Any
) -> None:
    training = replace(
        QUICK, epochs=25, sampling=sampling, optimiser=optimiser, standardise=standardise
    )
    run = trained(folder, training)
    assert len(run.curve) == 25
    assert run.curve[-1].loss < run.curve[0].loss


def test_a_seed_gives_the_same_numbers_bit_for_bit(folder: Folder) -> None:
    torch.manual_seed(1)
    one = trained(folder)
    torch.manual_seed(2)
    two = trained(folder)
    assert np.array_equal(one.values, two.values)
    assert one.curve == two.curve
    assert all(torch.equal(value, two.state[name]) for name, value in one.state.items())


def test_another_seed_gives_other_numbers(folder: Folder) -> None:
    assert not np.array_equal(trained(folder).values, trained(folder, seed=6).values)


def test_training_leaves_the_global_generator_alone(folder: Folder) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    trained(folder)
    assert torch.equal(torch.rand(1), wanted)


def test_a_run_reports_the_test_videos_and_nothing_of_them_goes_into_training(
    folder: Folder,
) -> None:
    wanted = trained(folder)
    tested = [row for row in folder.videos if row["split_00"] == "test"]
    assert list(wanted.video_ids) == sorted(str(row["video_id"]) for row in tested)
    assert np.allclose(wanted.values.sum(1), 1, atol=1e-6)
    draw = np.random.default_rng(0)
    for row in tested:
        found = frames(draw.normal(0, 50, (9, 10)), np.ones(9, bool))
        folder.write("vgg16", str(row["video_id"]), found)
        faces = frames(draw.normal(0, 50, (9, 12)), np.ones(9, bool))
        folder.write("vggface", str(row["video_id"]), faces)
    changed = trained(folder)
    assert all(torch.equal(value, changed.state[name]) for name, value in wanted.state.items())


def test_attention_has_a_weight_and_a_time_for_each_row_of_each_video(folder: Folder) -> None:
    longer = frames(np.ones((9, 10)), np.ones(9, bool))
    tested = str(next(r["video_id"] for r in folder.videos if r["split_00"] == "test"))
    folder.write("vgg16", tested, longer)
    folder.write("vggface", tested, frames(np.ones((9, 12)), np.arange(9) < 4))
    run = trained(folder)
    at = run.video_ids.index(tested)
    assert [len(weights) for weights in run.attention["frame_scores"]] == [
        9 if name == tested else 6 for name in run.video_ids
    ]
    assert run.attention["frame_scores"][at][:4].sum() == pytest.approx(1)
    assert not run.attention["frame_scores"][at][4:].any()
    assert run.pts_s["face"][at].tolist() == longer["pts_s"].tolist()


def test_the_state_gives_the_same_answers_when_loaded(folder: Folder) -> None:
    run = trained(folder)
    head = heads.load("caan")
    selection, data = selected(folder)
    network = build_network(
        head, heads.validate(head, SMALL), data.shapes, data.axes, of_classes(EMOTIONS), seed=99
    )
    network.load_state_dict(run.state)
    for at, video_id in enumerate(run.video_ids):
        sample = next(s for s in (data[i] for i in range(len(data))) if s.video_id == video_id)
        features = {r: torch.from_numpy(x)[None].float() for r, x in sample.features.items()}
        mask = {r: torch.from_numpy(m)[None] for r, m in sample.mask.items()}
        found = torch.softmax(network.eval()(features, mask)["logits"], 1)[0]
        np.testing.assert_allclose(found.detach(), run.values[at], atol=1e-6)


def test_arrays_of_a_run_hold_it_whole(folder: Folder) -> None:
    run = trained(folder)
    found, axes = run_arrays(run)
    assert set(found) == set(axes)
    assert [name.decode() for name in found["video_id"]] == list(run.video_ids)
    assert found["epoch_loss"].tolist() == [epoch.loss for epoch in run.curve]
    assert found["role:frame_scores"].tolist() == [b"face"]
    ends = np.cumsum(found["rows:face"])
    parts = np.split(found["attention:frame_scores"], ends[:-1])
    assert len(found["pts_s:face"]) == ends[-1]
    for part, weights in zip(parts, run.attention["frame_scores"], strict=True):
        assert np.array_equal(part, weights)


class TwoPhases(Network):
    """Learns small hidden numbers in one phase and to classify in the next."""

    def __init__(self, features: Any, classes: int) -> None:
        super().__init__()
        self.attention = {"roles": heads.Roles(("context", "face"))}
        self.first = torch.nn.Linear(features["face"][0], 4)
        self.drop = torch.nn.Dropout(0.5)
        self.last = torch.nn.Linear(4, classes)
        self.seen: list[tuple[str, bool]] = []

    def forward(self, features: Any, mask: Any) -> Any:
        rows = torch.where(mask["face"][..., None], features["face"], 0.0).mean(1)
        hidden = self.drop(self.first(rows))
        weights = torch.tensor([[0.25, 0.75]]).expand(len(rows), 2)
        return {"logits": self.last(hidden), "hidden": hidden, "roles": weights}

    def phases(self) -> Any:
        return {"first": [self.first], "last": [self.last, self.drop]}

    def loss(self, output: Any, labels: Any, phase: str) -> Any:
        if self.training or self.first.training or self.last.training:
            self.seen.append((phase, self.drop.training))
        if phase == "first":
            return output["hidden"].square().mean()
        return super().loss(output, labels, phase)


def test_phases_train_one_after_the_other_and_the_rest_stays_as_it_is(folder: Folder) -> None:
    selection, data = selected(folder)
    split = selection.splits["split_00"]
    built: list[TwoPhases] = []

    def build(params: Any, features: Any, classes: Any) -> Network:
        built.append(TwoPhases(features, len(classes)))
        return built[-1]

    head: Any = SimpleNamespace(__name__="heads.two_phases", ROLES=None, build=build)
    fresh = build_network(head, None, data.shapes, data.axes, of_classes(EMOTIONS), 5).state_dict()
    run = train_run(head, None, QUICK, data, split.train, split.test, of_classes(EMOTIONS), 5)
    assert [epoch.phase for epoch in run.curve] == ["first"] * QUICK.epochs + [
        "last"
    ] * QUICK.epochs
    assert set(built[-1].seen) == {("first", False), ("last", True)}
    assert not torch.equal(run.state["network.first.weight"], fresh["network.first.weight"])
    only_first = replace(QUICK, epochs=1)
    once = train_run(head, None, only_first, data, split.train, split.test, of_classes(EMOTIONS), 5)
    assert once.kept == 2 and run.kept == 2 * QUICK.epochs
    found, axes = run_arrays(run)
    assert found["roles:roles"].tolist() == [b"context", b"face"]
    assert found["attention:roles"].shape == (len(split.test), 2) and set(found) == set(axes)


def test_validation_videos_are_not_trained_on_and_choose_the_epoch(folder: Folder) -> None:
    selection, data = selected(folder)
    split = selection.splits["split_00"]
    training = replace(QUICK, validation_share=0.3, epochs=6)
    _, validation = held_out(selection.target, data.videos, split.train, 0.3, 5)
    run = trained(folder, training)
    told = [epoch.validation for epoch in run.curve]
    assert run.kept == 1 + int(np.argmax(told))
    draw = np.random.default_rng(0)
    for at in validation:  # other validation videos: the same weights after the same epochs
        found = frames(draw.normal(0, 50, (6, 10)), np.ones(6, bool))
        folder.write("vgg16", data.videos[at].video_id, found)
    changed = trained(folder, training)
    assert [epoch.loss for epoch in changed.curve] == [epoch.loss for epoch in run.curve]
    assert "30% of the training videos" in training.selected_by("accuracy")


def test_classes_are_weighed_by_the_videos_that_are_trained_on(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, data = selected(folder)
    split, target = selection.splits["split_00"], of_classes(EMOTIONS)
    first = [at for at in split.train if data.videos[at].label == 0]
    few = [at for at in split.train if at not in first[1:]]  # one video of the first class
    counts = Counter(data.videos[at].label for at in few)
    weights = tuple(len(few) / (3 * counts[label]) for label in range(3))
    head, aimed = heads.load("caan"), []

    def recorded(*arguments: Any) -> Standardised:
        aimed.append(arguments[4].weights)
        return build_network(*arguments)

    monkeypatch.setattr(loop, "build_network", recorded)
    shuffled = replace(QUICK, sampling="shuffled")
    runs = [
        train_run(head, heads.validate(head, SMALL), training, data, few, split.test, target, 5)
        for training in (shuffled, replace(shuffled, class_weights="balanced"))
    ]
    assert aimed == [(), pytest.approx(weights)] and weights[0] > weights[1]
    plain, weighed = (run.curve[0].loss for run in runs)
    assert plain != weighed


def test_too_small_a_share_to_validate_on_is_an_error(folder: Folder) -> None:
    with pytest.raises(ValueError, match="validation_share 0.01 of 12 training videos leaves no"):
        trained(folder, replace(QUICK, validation_share=0.01))


def test_the_rate_falls_to_a_tenth_after_so_many_batches(folder: Folder) -> None:
    steady = trained(folder, replace(QUICK, epochs=4))
    falling = trained(folder, replace(QUICK, epochs=4, decay_every=1))
    assert falling.curve[0].loss != steady.curve[0].loss or falling.curve[1] != steady.curve[1]
    moved = abs(falling.curve[-1].loss - falling.curve[-2].loss)
    assert moved < abs(steady.curve[-1].loss - steady.curve[-2].loss)


def test_a_loss_that_is_no_number_is_an_error(folder: Folder) -> None:
    with pytest.raises(ValueError, match=r"must be a number, found .* lower train.learning_rate"):
        trained(folder, replace(QUICK, optimiser="sgd", learning_rate=1e30, epochs=9))


def test_runs_have_seeds_of_their_own() -> None:
    assert run_seed(0, "split_00") == run_seed(0, "split_00")
    assert len({run_seed(seed, f"split_{run:02d}") for seed in range(3) for run in range(10)}) == 30


def test_settings_become_training_with_defaults_for_the_rest() -> None:
    assert training_of({"epochs": 4, "seed": 2}) == Training(epochs=4, seed=2)
    assert training_of([("epochs", 4)]) == Training(epochs=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "training: unknown epoch, did you mean 'epochs'. .fields are epochs"),
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"epochs": 1.5}, "epochs: .*found 1.5"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"optimiser": "lion"}, "'adam' or 'sgd'"),
        ({"batch_videos": 3}, "at least twice videos_per_class"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training_of(settings)
