"""A search from params.yaml to what train leaves."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from rich.console import Console

from affectline.explain_runs import as_tree, explain_runs
from affectline.status import _count_runs
from features.cache import arrays
from features.cache.keys import PROJECT
from stages import train
from stages.engine.checks import check_modules
from stages.engine.params import ParamsError, load_params, read_yaml
from tests.heads.conftest import Folder, frames, make_folder
from tests.stages.test_train import EXPERIMENTS, write_params

SEARCH: dict[str, Any] = {
    "trials": 3,
    "seed": 1,
    "held_out": 0.5,
    "space": {
        "learning_rate": {"log_uniform": [1e-4, 1e-1]},
        "hidden": {"choice": [4, 8]},
    },
}


@pytest.fixture
def data(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """Work in a folder with an experiment that is searched, on 18 videos in two runs."""
    declare(monkeypatch, SEARCH)
    threads = torch.get_num_threads()
    (in_folder / "data").mkdir()
    yield make_folder(in_folder / "data")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def declare(monkeypatch: pytest.MonkeyPatch, search: dict[str, Any]) -> None:
    face = {"head": "pooling", "roles": {"face": "vggface/fc6"}, "with": {"hidden": 8}}
    monkeypatch.setitem(EXPERIMENTS, "face", {**face, "search": search})
    write_params()


def declare_fixed(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], **training: Any
) -> None:
    fixed = {
        "head": "pooling",
        "roles": {"face": "vggface/fc6"},
        "with": {"hidden": settings["hidden"]},
        "train": {"learning_rate": settings["learning_rate"]},
    }
    monkeypatch.setitem(EXPERIMENTS, "face", fixed)
    write_params(**training)


def run() -> dict[str, Any]:
    """Train and return the stage's log."""
    train.main("face")
    log: dict[str, Any] = json.loads(Path("logs/train@face.json").read_text())
    return log


def found() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path("results/face/runs/search.json").read_text())
    return record


def ingredients(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = arrays.read_attributes(path)["ingredients"]  # type: ignore[assignment]
    return made


def every_byte() -> dict[str, bytes]:
    files = (path for path in Path("results").rglob("*") if path.is_file())
    return {path.as_posix(): path.read_bytes() for path in files}


def test_each_run_is_trained_with_what_its_own_trials_have_chosen(data: Folder) -> None:
    log = run()
    assert log["items"] == log["computed"] == 2 * 3 + 2, "trials and runs are items"
    record = found()
    assert record["tried"] == len(record["settings"]) == 3
    about = json.loads(Path("results/face/about.json").read_text())
    assert about["search"]["tried"] == 3 and about["search"]["held_out"] == 0.5
    rows = pq.read_table("results/face/runs.parquet").to_pylist()
    for name, of_run in record["runs"].items():
        trials = sorted(Path(f"results/face/runs/trials/{name}").iterdir())
        accuracies = []
        for path in trials:
            answers, _ = arrays.read(path)
            assert not any(":" in array for array in answers), "no attention"
            accuracies.append(np.mean(answers["label"] == answers["predicted"]))
            assert of_run["held_out"] == len(answers["label"]) == 6
        told = [trial["score"] for trial in of_run["trials"]]
        assert told == pytest.approx(accuracies)
        chosen = record["settings"][of_run["chosen"]]
        assert told[of_run["chosen"]] == max(told) and of_run["settings"] == chosen
        made = ingredients(Path(f"results/face/runs/{name}.h5"))
        assert made["training"]["learning_rate"] == chosen["learning_rate"]
        assert made["params"]["hidden"] == chosen["hidden"]
        stated = train_checkpoint(name)
        assert stated["params"] == made["params"] and stated["training"] == made["training"]
        paths = [row["path"] for row in rows if row["run"].startswith(name)]
        assert sorted(paths) == sorted(
            [f"{name}.h5", f"{name}.safetensors", *(f"trials/{name}/00{n}.h5" for n in range(3))]
        )


def train_checkpoint(name: str) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(f"results/face/runs/{name}.safetensors", "np") as file:
        stated: dict[str, Any] = json.loads(file.metadata()["affectline"])
    return stated


def test_test_videos_have_no_part_in_what_is_chosen(data: Folder) -> None:
    run()
    before, record = every_byte(), found()
    for name in ("split_00", "split_01"):
        made = ingredients(Path(f"results/face/runs/{name}.h5"))["videos"]
        test = {video[0] for video in made["test"]}
        for path in Path(f"results/face/runs/trials/{name}").iterdir():
            tried = ingredients(path)["videos"]
            seen = [video[0] for part in tried.values() for video in part]
            assert sorted(seen) == sorted(video[0] for video in made["train"])
            assert not test & set(seen)
    # Other test videos of the first run: its trials are those of the store, byte by byte.
    draw = np.random.default_rng(0)
    for video in data.videos:
        if video["split_00"] == "test":
            row = data.row("vggface", str(video["video_id"]))
            row["content"] = f"other{row['content']}"[:64]
            data.write(
                "vggface",
                str(video["video_id"]),
                frames(draw.normal(0, 50, (6, 12)), np.ones(6, bool)),
            )
    data.save()
    run()
    assert found()["runs"]["split_00"] == record["runs"]["split_00"]
    trials = {path: data for path, data in before.items() if "trials/split_00" in path}
    assert len(trials) == 3
    assert all(every_byte()[path] == content for path, content in trials.items())


def test_a_search_goes_on_where_it_was_and_gives_the_same_bytes(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = every_byte()
    assert run()["reused"] == 8 and every_byte() == before
    chosen = found()["runs"]["split_00"]["settings"]
    plan = train.plan_runs(load_params(), "face")
    lost = plan.trials()[0]
    for key in lost.files:
        next(Path(".store").rglob(f"{key}*")).unlink()
    assert run()["computed"] == 1 and every_byte() == before
    # What is set by hand to what was chosen is the same item.
    declare_fixed(monkeypatch, chosen)
    run()
    same = "results/face/runs/split_00.safetensors"
    assert Path(same).read_bytes() == before[same]
    assert not Path("results/face/runs/search.json").exists()
    assert json.loads(Path("results/face/about.json").read_text())["search"] is None


def test_settings_that_diverge_are_not_chosen_and_said(
    data: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"learning_rate": {"choice": [1e-3, 1e30]}}
    declare(monkeypatch, {**SEARCH, "trials": 20, "space": rates})
    run()
    said = " ".join(capsys.readouterr().err.split())
    assert "the space has 2 points, fewer than 20 trials: each is tried once" in said
    assert "2 of 4 trials could not be trained: the training loss must be a number" in said
    for of_run in found()["runs"].values():
        assert of_run["settings"] == {"learning_rate": 1e-3}
        assert ["failed" in trial for trial in of_run["trials"]].count(True) == 1
    assert run()["reused"] == 6, "and a trial that failed is not tried again"


def test_too_few_videos_end_the_stage_with_the_class(
    data: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(monkeypatch, {**SEARCH, "held_out": 0.01})
    with pytest.raises(SystemExit):
        train.main("face")
    said = " ".join(capsys.readouterr().err.split())
    assert "train@face: search: split_00 has 4 training videos of class 'anger', of which" in said


def test_the_whole_search_is_checked_before_any_stage_works(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, {**SEARCH, "space": {"hiden": {"choice": [8]}}})
    with pytest.raises(ParamsError, match=r"face\.search\.space: hiden: unknown setting, did you"):
        check_modules(load_params())
    declare(monkeypatch, {**SEARCH, "trails": 3})
    with pytest.raises(ParamsError, match=r"search\.trails: unknown key, did you mean 'trials'"):
        load_params()
    declare(monkeypatch, SEARCH)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("held_out: 0.5", "held_out: 5e-1"))
    assert yaml.safe_load("5e-1") == "5e-1", "which YAML 1.1 takes for a word"
    search = load_params().experiments["face"].search
    assert search and search.held_out == 0.5, "and DVC for a number"


def test_status_counts_trials_and_runs_before_and_after(data: Folder) -> None:
    plan = train.plan_runs(load_params(), "face")
    folder = Path("results/face/runs")
    assert len(plan.trials()) == 6 and train.known_found(plan, plan.trials(), folder) is None
    run()
    found_now = train.known_found(plan, plan.trials(), folder)
    assert found_now is not None and found_now.found["split_00"].chosen in range(3)
    for path in Path(".store").rglob("*.h5"):  # as in a clone that has pulled the results
        path.unlink()
    assert train.known_found(plan, plan.trials(), folder) == found_now
    stage = _count_runs(load_params(), "face", {Path("data/features/vggface")}, 2)
    assert (stage.items, stage.current, stage.to_compute, stage.stale) == (8, 8, 0, 0)
    shutil.rmtree("results/face/runs/trials")
    stage = _count_runs(load_params(), "face", {Path("data/features/vggface")}, 2)
    assert (stage.items, stage.to_compute) == (8, 2), "runs follow from trials that are not here"


def test_explain_says_what_each_run_has_chosen_and_what_changed(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    said = explain_runs(load_params(), "face")
    assert said.tried == 3 and [each.state for each in said.runs] == ["current", "current"]
    for each in said.runs:
        chosen = found()["runs"][each.name]["settings"]
        assert each.search["settings"] == chosen
        assert each.ingredients["training"]["learning_rate"] == chosen["learning_rate"]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(as_tree(said))
    text = console.export_text()
    assert "face settings the best of 3" in text and "on 6 held-out training videos" in text
    declare(monkeypatch, {**SEARCH, "seed": 5})
    assert "not all trials of its search are here" in explain_runs(load_params(), "face").unknown
    write_params(epochs=4)
    declare_fixed(monkeypatch, found()["runs"]["split_00"]["settings"], epochs=4)
    first = explain_runs(load_params(), "face").runs[0]
    assert first.state == "stale" and first.changed == [("training.epochs", 3, 4)]
    with pytest.raises(ValueError, match="no experiment 'fase', did you mean 'face'"):
        explain_runs(load_params(), "fase")


def test_the_example_of_the_docs_is_a_search_that_runs(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (PROJECT / "docs/protocols.md").read_text()
    (text,) = re.findall(r"```yaml\n(experiments:\n.*?)```", page, re.S)
    Path("example.yaml").write_text(text)
    block = read_yaml(Path("example.yaml"))["experiments"]["face_searched"]
    block["roles"] = {"face": "vggface/fc6"}
    monkeypatch.setitem(EXPERIMENTS, "face", block)
    monkeypatch.delitem(EXPERIMENTS, "regions")  # of a feature that is made up
    write_params()
    check_modules(load_params())
    plan = train.plan_runs(load_params(), "face")
    assert len(plan.trials()) == 2 * 20
    rates = [float(each["learning_rate"]) for each in plan.drawn()]
    assert 1e-5 <= min(rates) < 1e-4 and 1e-3 < max(rates) <= 1e-2
    block["search"]["trials"] = 2
    block["search"]["space"]["epochs"] = {"integer": [2, 3]}
    write_params()
    run()
    assert all(set(each) == set(block["search"]["space"]) for each in found()["settings"])
