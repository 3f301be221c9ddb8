import csv
import json
import math
import pickle
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import heads
from features.backbones import resnet18_mfcc
from features.cache import arrays
from features.cache.keys import PROJECT
from features.weights.file import metadata, write_pretrained, write_seeded
from heads.training import measures
from heads.training.data import Features, collate
from heads.training.metrics import over_runs
from heads.training.selection import select_videos
from heads.training.settings import Training
from heads.training.standardise import build_network
from heads.training.targets import Declared, Target, metadata_of, of_stated
from stages import train
from stages.engine.device import GIB
from stages.engine.params import Engine, load_params
from stages.engine.progress import StageRun
from tests.heads.conftest import EMOTIONS, Folder, frames, make_folder
from tests.modules import put

ROLES = {"face": "vggface/fc6", "context": "vgg16/fc6"}
RUNS = ("split_00", "split_01")
SMALL = {"embedding": 8, "fusion": 16, "feature": 8, "score_hidden": [8, 4]}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "caan": {"head": "caan", "roles": ROLES, "with": SMALL},
    "face": {"head": "pooling", "roles": {"face": "vggface/fc6"}, "with": {"hidden": 8}},
    "hamf": {
        "head": "hamf",
        "roles": {"face": "vggface/fc6", "image": "vgg16/fc6"},
        "with": {"frame_hidden": 7, "global_hidden": [6, 5], "hidden": 12},
    },
    "regions": {
        "head": "rdam",
        "roles": {"face": "vggface/res5"},
        "with": {"channels": 8, "feature": 7, "score_hidden": 5},
    },
}


def write_params(workers: int = 1, **train_settings: object) -> None:
    """Write params.yaml: the project's own with small experiments, trained one run at a time."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["backbones"] = {
        "vggface": {"module": "vggface", "view": "faces", "source": "seeded", "seed": 1},
        "vgg16": {"module": "vgg16", "view": "segments", "source": "seeded", "seed": 2},
    }
    params["experiments"] = EXPERIMENTS
    params["engine"]["workers"] = workers
    params["train"] |= {"epochs": 3, "threads": 1, **train_settings}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture
def data(in_folder: Path) -> Iterator[Folder]:
    """Work in a folder with params.yaml and features of 18 videos, with two runs."""
    write_params()
    threads = torch.get_num_threads()
    (in_folder / "data").mkdir()
    yield make_folder(in_folder / "data")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def run(data: Folder, experiment: str = "caan") -> dict[str, Any]:
    """Run the stage and return its log."""
    train.main(experiment)
    found: dict[str, Any] = json.loads(Path(f"logs/train@{experiment}.json").read_text())
    return found


def test_a_broken_head_stops_its_own_experiments_alone(
    data: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(monkeypatch, tmp_path / "room", heads, "rdam", "def build(:\n")
    assert run(data, "caan")["computed"] > 0
    with pytest.raises(SystemExit):
        train.main("regions")
    assert "head 'rdam': heads/rdam.py cannot be imported: Syn" in " ".join(
        capsys.readouterr().err.split()
    )


def about(experiment: str = "caan") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"results/{experiment}/about.json").read_text())
    return found


def metrics(experiment: str = "caan") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"results/{experiment}/scores.json").read_text())
    return found


def table(name: str, experiment: str = "caan") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"results/{experiment}/{name}.parquet").to_pylist()
    return rows


def every_byte(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_an_experiment_leaves_metrics_tables_and_a_file_of_each_run(data: Folder) -> None:
    run(data)
    assert sorted(every_byte(Path("results"))) == [
        "caan.json",
        "caan/about.json",
        "caan/attention.parquet",
        "caan/confusion.csv",
        "caan/curves.csv",
        "caan/per_class.csv",
        "caan/predictions.parquet",
        "caan/runs.parquet",
        "caan/runs/split_00.h5",
        "caan/runs/split_00.safetensors",
        "caan/runs/split_01.h5",
        "caan/runs/split_01.safetensors",
        "caan/scores.json",
    ]


def test_the_metrics_are_those_of_the_predictions(data: Folder) -> None:
    run(data)
    rows, found = table("predictions"), metrics()
    by_run = [[row for row in rows if row["run"] == name] for name in ("split_00", "split_01")]
    accuracies = [np.mean([row["label"] == row["predicted"] for row in part]) for part in by_run]
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-6)
    assert found["accuracy"]["std"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-6)
    assert found["accuracy"]["runs"] == 2
    for row in rows:
        assert row["video_id"].startswith(row["label"])
        chances = [row[f"p_{name}"] for name in EMOTIONS]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == EMOTIONS[int(np.argmax(chances))]
    pairs = list(csv.DictReader(Path("results/caan/confusion.csv").read_text().splitlines()))
    assert pairs == [{"actual": r["label"], "predicted": r["predicted"]} for r in rows]


def test_dvc_gives_a_column_to_the_numbers_that_one_compares(data: Folder) -> None:
    run(data)
    accuracy, f1 = metrics()["accuracy"], metrics()["macro_f1"]
    balanced = metrics()["balanced_accuracy"]
    assert json.loads(Path("results/caan.json").read_text()) == {
        "accuracy": accuracy["mean"],
        "accuracy_low": accuracy["ci95_corrected_low"],
        "accuracy_high": accuracy["ci95_corrected_high"],
        "balanced_accuracy": balanced["mean"],
        "macro_f1": f1["mean"],
        "settings_tried": 1,
    }


def test_the_intervals_are_corrected_by_the_videos_that_train_and_test(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = []

    def recorded(values: Sequence[float], test_per_train: float) -> object:
        ratios.append(test_per_train)
        return over_runs(values, test_per_train)

    monkeypatch.setattr(measures, "over_runs", recorded)
    run(data)
    shares = [split["test"] / split["train"] for split in about()["splits"].values()]
    assert ratios == [pytest.approx(np.mean(shares))] * 4 and 0 < shares[0] < 1


def test_the_metrics_say_what_they_stand_on(data: Folder) -> None:
    run(data)
    found, said = metrics(), about()
    assert found["chance"] == found["commonest_class"] == pytest.approx(1 / 3, abs=1e-6)
    assert (found["videos"], found["videos_missing"], found["pretrained"]) == (18, 0, True)
    assert (said["head"], said["roles"], said["missing"]) == ("caan", ROLES, {})
    assert said["selection"] == "last epoch"
    assert said["splits"]["split_01"] == {"train": 12, "test": 6}
    rows = {(row["table"], row["data"]): row["accuracy"] for row in said["paper"]}
    assert rows["Table 3", "HEIV"] == 0.5185
    assert sorted(said["features"]) == ["vgg16", "vggface"]
    origin = said["features"]["vgg16"]
    assert (origin["module"], origin["options"], origin["view"]) == (
        "vgg16",
        {"size": 1},
        "segments",
    )
    classes = csv.DictReader(Path("results/caan/per_class.csv").read_text().splitlines())
    assert [row["class"] for row in classes] == list(EMOTIONS)


def test_a_single_role_is_compared_with_the_papers_single_role(data: Folder) -> None:
    run(data, "face")
    rows = {(row["paper"], row["table"], row["data"]): row for row in about("face")["paper"]}
    assert rows["CAAN", "Table 3", "HEIV"]["accuracy"] == 0.4346
    assert rows["CAAN", "Table 3", "HEIV"]["name"] == "face, average"
    assert all(row["roles"] == ["face"] for row in rows.values())
    assert table("attention", "face") == []


def test_a_paper_s_row_that_varies_a_setting_is_found_by_it(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS["caan"], "with", SMALL | {"score_layers": 2})
    write_params()
    run(data)
    found = {row["name"] for row in about()["paper"] if row["table"] == "Table 2"}
    assert found == {"fusion, 2FC"}


def test_attention_has_a_row_for_each_frame_of_each_test_video(data: Folder) -> None:
    run(data)
    rows = table("attention")
    assert len(rows) == 2 * 6 * 6
    one = [r for r in rows if (r["run"], r["video_id"]) == ("split_00", "joy/v 01%")]
    assert [r["row"] for r in one] == list(range(6))
    assert [r["pts_s"] for r in one] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert sum(r["value"] for r in one) == pytest.approx(1, abs=1e-5)
    assert {(r["name"], r["role"]) for r in rows} == {("frame_scores", "face")}
    assert all(r["map"] is None and r["shape"] is None for r in rows)


def test_attention_over_roles_has_a_row_for_each_role_of_each_test_video(data: Folder) -> None:
    run(data, "hamf")
    rows = table("attention", "hamf")
    assert {r["name"] for r in rows} == {"face_scores", "image_scores", "modality_scores"}
    roles = [r for r in rows if r["name"] == "modality_scores"]
    assert len(roles) == 2 * 6 * 2
    assert all(r["row"] is None and r["pts_s"] is None and r["map"] is None for r in roles)
    one = {r["role"]: r["value"] for r in roles if r["video_id"] == "joy/v 01%"}
    assert sorted(one) == ["face", "image"]
    assert sum(one.values()) == pytest.approx(1, abs=1e-5)
    # The first video has no face.
    (absent,) = (r for r in roles if (r["video_id"], r["role"]) == ("anger/v 00%", "face"))
    assert absent["value"] == 0


def test_attention_over_regions_has_a_map_for_each_frame(data: Folder) -> None:
    draw = np.random.default_rng(0)
    for row in data.rows["vggface"]:
        path = data.features / "vggface" / str(row["path"])
        found, _ = arrays.read(path)
        maps = draw.normal(size=(6, 4, 2, 3)).astype(np.float16)
        data.write("vggface", str(row["video_id"]), {**found, "res5": maps})
    run(data, "regions")
    rows = [r for r in table("attention", "regions") if r["name"] == "face_location"]
    assert len(rows) == 2 * 6 * 6
    for r in rows:
        assert (r["role"], r["value"], r["shape"], len(r["map"])) == ("face", None, [2, 3], 6)
    one = [r for r in rows if r["video_id"] == "joy/v 01%"]
    assert [r["row"] for r in one] == list(range(6))
    with_face = [r["video_id"] != "anger/v 00%" for r in rows]
    sums = [sum(r["map"]) for r in rows]
    assert {round(total, 4) for total, face in zip(sums, with_face, strict=True) if face} <= {0, 1}
    assert not any(total for total, face in zip(sums, with_face, strict=True) if not face)


def curves(experiment: str = "caan") -> list[dict[str, str]]:
    path = Path(f"results/{experiment}/curves.csv")
    return list(csv.DictReader(path.read_text().splitlines()))


def test_curves_have_a_row_for_each_epoch(data: Folder) -> None:
    run(data)
    assert [(row["run"], row["epoch"], row["phase"]) for row in curves()] == [
        (name, str(epoch), "all") for name in ("split_00", "split_01") for epoch in (1, 2, 3)
    ]
    assert all(row["validation"] == "" and float(row["loss"]) > 0 for row in curves())


def test_a_head_with_phases_takes_the_epochs_in_each(data: Folder) -> None:
    run(data, "hamf")
    assert [(row["run"], row["epoch"], row["phase"]) for row in curves("hamf")][:7] == [
        *(("split_00", str(epoch), "local") for epoch in (1, 2, 3)),
        *(("split_00", str(epoch), "global") for epoch in (4, 5, 6)),
        ("split_01", "1", "local"),
    ]


def test_a_part_of_the_training_videos_tells_which_epoch_answers(data: Folder) -> None:
    write_params(validation_share=0.25)
    run(data)
    assert about()["selection"] == (
        "epoch with the best accuracy on 25% of the training videos, which are not trained on"
    )
    for name in ("split_00", "split_01"):
        told = [float(row["validation"]) for row in curves() if row["run"] == name]
        assert len(told) == 3 and all(0 <= value <= 1 for value in told)
        found, _ = arrays.read(Path(f"results/caan/runs/{name}.h5"))
        assert found["kept"].tolist() == [1 + told.index(max(told))]
    assert len(table("predictions")) == 2 * 6


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_the_engine_says_how_much_stays_in_memory(data: Folder, cache_gib: float) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["engine"]["cache_gib"] = cache_gib
    Path("params.yaml").write_text(yaml.safe_dump(params))
    plan = train.plan_runs(load_params(), "caan")
    task, other = (item.task for item in plan.items())
    assert isinstance(task, train.Task)
    dataset = task.dataset()
    assert dataset.shapes == {"face": (12,), "context": (10,)}
    assert isinstance(other, train.Task)
    for path in data.features.rglob("*/v 04%.h5"):
        path.unlink()
    at = [video.video_id for video in task.videos].index("joy/v 04%")
    for each in (dataset, other.dataset()):
        with nullcontext() if cache_gib else pytest.raises(ValueError, match="expected a whole"):
            assert len(each[at].mask["face"]) == 6


def start_from(data: Folder, facts: str) -> train.Plan:
    """Plan an experiment of MFCC whose head starts from a weights file, seeded or pretrained."""
    data.rows["mfcc18"] = [
        row | {"key": f"mfcc{at:02d}".ljust(64, "0")} for at, row in enumerate(data.rows["vgg16"])
    ]
    for row in data.rows["mfcc18"]:
        rows = frames(np.random.default_rng(0).normal(size=(3, 8, 32)), np.ones(3, bool))
        rows["mfcc"] = rows.pop("fc6")
        data.write("mfcc18", str(row["video_id"]), rows, mfcc="T L D")
    data.save()
    path = Path("data/weights/mfcc18.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    if facts == "seeded":
        write_seeded(path, "mfcc18", 3)
    else:
        tensors = resnet18_mfcc.build().state_dict()
        write_pretrained(path, "mfcc18", resnet18_mfcc.WEIGHTS, tensors, facts, "0" * 64)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["backbones"]["mfcc18"] = {
        "module": "resnet18_mfcc",
        "view": "sound",
        "source": "pretrained",
    }
    params["experiments"]["sound"] = {
        "head": "vaanet",
        "roles": {"audio": "mfcc18/mfcc"},
        "weights": {"audio": "mfcc18"},
        "with": {"audio_segments": 3},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return train.plan_runs(load_params(), "sound")


def test_weights_that_a_head_starts_from_stand_in_key_and_about(data: Folder) -> None:
    keys: list[set[str]] = []
    for facts in ("seeded", "imagenet.pth", "imagenet.pth"):  # the last drawn anew
        plan = start_from(data, facts)
        about = plan.about()["weights"]
        assert isinstance(about, dict)
        assert about["audio"] == metadata(Path("data/weights/mfcc18.safetensors"))
        assert plan.selection.pretrained == (facts != "seeded")
        (item, _) = plan.items()
        assert isinstance(item.task, train.Task)
        assert item.task.pretrained == plan.selection.pretrained
        keys.append(set(item.files))
    assert len(set.union(*keys)) == 6


def test_a_head_starts_from_the_weights_of_the_experiment(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def stop(*arguments: Any) -> None:
        seen.append(arguments[-1])
        raise ValueError("far enough")

    plan = start_from(data, "seeded")
    monkeypatch.setattr(train, "train_run", stop)
    (item, _) = plan.items()
    with pytest.raises(ValueError, match="far enough"):
        train.compute(item.task, {})
    assert seen == [{"audio": Path("data/weights/mfcc18.safetensors")}]


def test_a_weights_file_that_is_not_there_names_the_stage(data: Folder) -> None:
    start_from(data, "seeded")
    Path("data/weights/mfcc18.safetensors").unlink()
    with pytest.raises(ValueError, match=r"mfcc18\.safetensors: .*Run the weights stage"):
        train.plan_runs(load_params(), "sound")


def test_an_experiment_may_differ_in_how_it_is_trained(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS["caan"], "train", {"epochs": 2, "validation_share": 0.25})
    write_params()
    run(data)
    run(data, "face")
    assert [len(curves(name)) for name in ("caan", "face")] == [2 * 2, 2 * 3]
    assert (about()["training"]["epochs"], about("face")["training"]["epochs"]) == (2, 3)
    assert about("face")["selection"] == "last epoch"
    monkeypatch.setitem(EXPERIMENTS["caan"], "train", {"epoch": 2})
    write_params()
    with pytest.raises(SystemExit):
        run(data)


def test_a_checkpoint_alone_gives_the_same_answers(data: Folder) -> None:
    run(data)
    path = "results/caan/runs/split_01.safetensors"
    with safe_open(path, "pt") as file:
        known = json.loads(file.metadata()["affectline"])
    head = heads.load(known["head"])
    params = heads.validate(head, known["params"])
    shapes = {role: tuple(shape) for role, shape in known["shapes"].items()}
    network = build_network(head, params, shapes, known["axes"], of_stated(known), seed=0)
    network.load_state_dict(load_file(path))
    selection = select_videos(data.index, data.root, known["roles"])
    videos = Features(selection.videos, known["roles"])
    batch = collate([videos[at] for at in selection.splits["split_01"].test]).to(
        torch.device("cpu")
    )
    found = torch.softmax(network.eval()(batch.features, batch.mask)["logits"], 1)
    rows = [row for row in table("predictions") if row["run"] == "split_01"]
    wanted = [[row[f"p_{name}"] for name in known["classes"]] for row in rows]
    np.testing.assert_allclose(found.detach(), wanted, atol=1e-6)


def test_a_second_run_of_the_stage_computes_nothing_and_leaves_the_same_bytes(
    data: Folder,
) -> None:
    first = run(data)
    wanted = every_byte(Path("results"))
    second = run(data)
    assert (first["computed"], second["computed"], second["reused"]) == (2, 0, 2)
    assert every_byte(Path("results")) == wanted


def test_a_network_that_is_written_in_two_ways_trains_once(data: Folder) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["experiments"]["three"] = {"head": "caan", "roles": ROLES, "with": {**SMALL}}
    params["experiments"]["three"]["with"]["score_layers"] = 3  # what null stands for
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert run(data)["computed"] == 2
    again = run(data, "three")
    assert (again["computed"], again["reused"]) == (0, 2)
    assert metrics("three") == metrics()


def test_an_empty_store_gives_the_same_bytes(data: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run(data)
    wanted = every_byte(Path("results"))
    monkeypatch.setenv("AFFECTLINE_STORE", "elsewhere")
    assert run(data)["computed"] == 2
    assert every_byte(Path("results")) == wanted


def test_feature_files_are_asked_for_where_a_run_is_trained_and_else_one_of_each_backbone(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone that has pulled the tables alone: files come from the last output, by key."""
    wanted = run(data) and every_byte(Path("results"))
    data.features.rename("elsewhere")
    asked: list[tuple[str, set[str]]] = []

    def previous(stage: str, keys: set[str], note: object) -> list[tuple[str, Path]]:
        asked.append((stage, set(keys)))
        rows = data.rows[stage.partition("@")[2]]
        files = {str(row["key"]): str(row["path"]) for row in rows}
        return [(key, Path("elsewhere", stage.partition("@")[2], files[key])) for key in keys]

    monkeypatch.setattr(train, "previous_files", previous)
    assert run(data)["computed"] == 0
    first = {name: str(data.rows[name][0]["key"]) for name in ("vgg16", "vggface")}
    assert asked == [(f"extract@{name}", {key}) for name, key in first.items()]
    assert every_byte(Path("results")) == wanted
    write_params(seed=8)
    asked.clear()
    assert run(data)["computed"] == 2
    rest = {name: {str(row["key"]) for row in data.rows[name]} - {first[name]} for name in first}
    assert asked == [(f"extract@{name}", keys) for name, keys in rest.items()]


def test_feature_files_that_are_nowhere_end_the_stage_in_a_line(
    data: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    data.features.rename("elsewhere")
    with pytest.raises(SystemExit):
        run(data)
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("18 feature files of vgg16 are neither in the output nor in the store") == 1
    assert "`dvc pull extract@vgg16`, or compute them with `dvc repro extract@vgg16`" in told
    assert not Path("results/caan").exists()


def test_a_new_feature_of_a_video_trains_the_runs_that_it_is_in(data: Folder) -> None:
    data.videos[4]["split_01"] = None
    data.save()
    run(data)
    row = data.row("vgg16", str(data.videos[4]["video_id"]))
    row |= {"key": "e" * 64, "content": "e" * 64}
    data.save()
    path = data.features / "vgg16" / str(row["path"])
    found, _ = arrays.read(path)
    data.write("vgg16", str(row["video_id"]), found)
    assert run(data)["computed"] == 1


def test_other_settings_train_anew_and_the_old_ones_are_still_there(data: Folder) -> None:
    run(data)
    write_params(seed=8)
    assert run(data)["computed"] == 2
    write_params()
    assert run(data)["computed"] == 0


def test_videos_without_a_feature_are_left_out_and_listed(
    data: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    data.rows["vgg16"][4] |= {"status": "failed", "reason": "cannot be decoded"}
    data.save()
    run(data)
    found = metrics()
    assert (found["videos"], found["videos_missing"]) == (17, 1)
    assert about()["missing"] == {"joy/v 04%": "vgg16: cannot be decoded"}
    assert "left out for lack of a feature: 1 of 18 videos" in capsys.readouterr().err


def test_seeded_features_are_called_meaningless(
    data: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in data.rows["vgg16"]:
        row["pretrained"] = False
    data.save()
    run(data)
    assert metrics()["pretrained"] is False
    assert "are seeded (random): nothing about emotion" in capsys.readouterr().err


def test_a_bad_feature_file_ends_the_stage_and_leaves_the_last_results(
    data: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data)
    wanted = every_byte(Path("results"))
    row = data.row("vgg16", "joy/v 04%")
    row |= {"key": "e" * 64, "content": "e" * 64}
    data.save()
    with pytest.raises(SystemExit) as caught:
        run(data)
    assert caught.value.code == 1
    assert "v 04%.h5" in " ".join(capsys.readouterr().err.split())
    assert every_byte(Path("results")) == wanted


def test_runs_side_by_side_leave_the_same_bytes_and_a_failing_one_fails_alone(
    data: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data.videos[4]["split_01"] = None
    data.save()
    run(data)
    wanted = every_byte(Path("results"))
    answers = {name: arrays.read(Path(f"results/caan/runs/{name}.h5"))[0] for name in RUNS}
    monkeypatch.setenv("AFFECTLINE_STORE", "elsewhere")
    write_params(workers=2)
    monkeypatch.setattr(train, "LONG_BYTES", 1)
    path = data.features / "vgg16" / "joy/v 04%.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(SystemExit):
        run(data)
    told = " ".join(capsys.readouterr().err.split())
    assert "train@caan: split_00: " in told and "v 04%.h5: expected a whole" in told
    assert "train@caan: split_01" not in told
    path.write_bytes(whole)
    write_params()
    found = run(data)
    assert (found["computed"], found["reused"]) == (1, 1)
    files = every_byte(Path("results"))
    for name, expected in answers.items():  # these say which libraries their process has loaded
        known, _ = arrays.read(Path(f"results/caan/runs/{name}.h5"))
        assert all(known[array].tobytes() == rows.tobytes() for array, rows in expected.items())
        assert files.pop(f"caan/runs/{name}.h5") and wanted.pop(f"caan/runs/{name}.h5")
    assert files == wanted


@pytest.mark.parametrize(
    ("device", "workers", "threads", "free_gib", "least", "processes"),
    [
        ("cpu", 0, 1, 99, 1, 8),  # a core each
        ("cpu", 0, 3, 99, 1, 2),  # three cores each
        ("cpu", 0, 16, 99, 1, 0),  # in the stage's own process
        ("cpu", 3, 1, 99, 1, 3),
        ("cpu", 1, 1, 99, 1, 0),
        ("cpu", 12, 1, 99, 1, 10),  # no more than there are runs
        ("cpu", 0, 1, 10 + 4 * 1.5, 1, 4),  # features take 10 GiB
        ("cpu", 0, 1, 5, 1, 0),
        ("cpu", 0, 1, 99, 1 << 40, 0),  # short runs
        ("cuda", 0, 1, 99, 1, ("0", "1")),  # one a GPU
        ("cuda", 0, 1, 99, 1 << 40, 0),
    ],
)
def test_so_many_runs_are_trained_at_once_as_cores_and_memory_allow(
    data: Folder,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    workers: int,
    threads: int,
    free_gib: float,
    least: int,
    processes: int | tuple[str, ...],
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(train, "free_bytes", lambda: int(free_gib * GIB))
    monkeypatch.setattr(train, "device_of", lambda engine: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(train, "LONG_BYTES", least)
    selection = select_videos(data.index, data.root, ROLES)
    runs = dict.fromkeys(map(str, range(10)), selection.splits["split_00"])
    ten = replace(selection, splits=runs)
    training = Training(threads=threads)
    pool = train._pool(Engine(workers=workers), training, ten, 10 * GIB, len(ten.splits))
    assert (pool.devices or pool.processes, pool.time_limit_s) == (processes, math.inf)


def test_a_run_may_be_sent_to_another_process(data: Folder) -> None:
    made = train.work(StageRun("train", "caan"), train.plan_runs(load_params(), "caan"))
    alone, item = pickle.loads(pickle.dumps((replace(made, items=(), prepare=None), made.items[1])))
    outputs = {key: Path(path) for key, path in item.files.items()}
    assert alone.compute(item.task, outputs)["train_seconds"] > 0
    assert sorted(path.name for path in Path().glob("split_01.*")) == sorted(item.files.values())


def test_an_unknown_experiment_lists_those_that_there_are(
    data: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(data, "mmf")
    assert (
        "'mmf': expected one of experiments in params.yaml: caan, face, hamf, regions"
        in capsys.readouterr().err
    )


def test_a_wrong_hyper_parameter_ends_the_stage_before_any_work(
    data: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS["caan"], "with", {"margn": 1})
    write_params()
    with pytest.raises(SystemExit):
        run(data)
    assert "margn" in capsys.readouterr().err


def test_a_run_has_its_group_s_name_and_validates_on_other_groups(data: Folder) -> None:
    for number, row in enumerate(data.videos):  # each speaker in every class
        row["group"] = f"speaker {number // 3 % 4}"
        row["split_Zoe-2"] = row.pop("split_01")
    data.save()
    keys = {key for item in train.plan_runs(load_params(), "face").items() for key in item.files}
    for row in data.videos:
        row["group"] = "one alone"
    data.save()
    others = {key for item in train.plan_runs(load_params(), "face").items() for key in item.files}
    assert others == keys, "where nothing is held out, groups make no number"
    write_params(validation_share=0.3)
    alone = train.plan_runs(load_params(), "face").items()
    for number, row in enumerate(data.videos):
        row["group"] = f"speaker {number // 3 % 4}"
    data.save()
    apart = train.plan_runs(load_params(), "face").items()
    assert {*alone[0].files}.isdisjoint(apart[0].files)
    run(data, "face")
    assert list(about("face")["splits"]) == ["split_00", "split_Zoe-2"]
    assert Path("results/face/runs/split_Zoe-2.safetensors").is_file()
    assert {row["run"] for row in table("predictions", "face")} == {"split_00", "split_Zoe-2"}


def test_a_data_set_of_two_targets_trains_both_and_says_which(
    data: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, video in enumerate(data.videos):
        video["target_feelings"] = ("joy", "joy|fear", "fear")[number % 3]
        video["target_valence"] = 1 + number / 3
    data.save()
    told = [
        Declared("affect", "dimensions", ("valence",), (), (1.0, 9.0)),
        Declared("feelings", "labels", ("feelings",), ("fear", "joy")),
    ]
    index = pq.read_table(data.index).replace_schema_metadata(metadata_of(told))
    pq.write_table(index, data.index)
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["index"]["targets"] = {
        "affect": {"kind": "dimensions", "columns": ["valence"], "range": [1, 9]},
        "feelings": {"kind": "labels", "columns": ["feelings"], "names": ["fear", "joy"]},
    }
    raw["experiments"]["caan"]["target"] = "feelings"
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    for experiment in ("face", "caan"):
        run(data, experiment)
    said = " ".join(capsys.readouterr().err.split())
    assert "train@face: CCC " in said and "train@caan: mAP " in said
    assert about("face")["target"]["name"] == "affect", "the first, as none is named"
    assert about("caan")["target"] == {
        "kind": "labels", "names": ["fear", "joy"], "range": None, "name": "feelings"
    }  # fmt: skip
    rows = table("predictions", "face")
    wanted = {video["video_id"]: video["target_valence"] for video in data.videos}
    assert all(row["true_valence"] == wanted[row["video_id"]] for row in rows)
    assert {row["label"] for row in table("predictions")} <= {"joy", "fear", "fear|joy"}
    path = "results/face/runs/split_00.safetensors"
    with safe_open(path, "pt") as file:
        stated = json.loads(file.metadata()["affectline"])
    assert of_stated(stated) == Target("dimensions", ("valence",), (1.0, 9.0), "affect")
    assert run(data, "face")["computed"] == 0, "the same again"
    data.videos[3]["target_valence"] = 8.5
    data.save()
    changed = pq.read_table(data.index).replace_schema_metadata(metadata_of(told))
    pq.write_table(changed, data.index)
    assert run(data, "face")["computed"] == 2, "another rating is another run"
    assert run(data, "caan")["computed"] == 0
