import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from features import arrays, tables
from stages.checks import check_pipeline
from stages.cli import app
from stages.params import load_params

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(in_folder: Path) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    return in_folder


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_sync_changes_nothing_where_all_is_right(project: Path) -> None:
    assert run("sync")[0] == 0
    assert Path("dvc.yaml").read_text() == (PROJECT / "dvc.yaml").read_text()


def test_sync_makes_training_wait_for_a_new_backbone_and_for_no_old_one(project: Path) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["backbones"]["clip"] = raw["backbones"].pop("blazepose")
    Path("params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert run("sync")[0] == 0
    check_pipeline(load_params())
    before, after = (
        yaml.safe_load(path.read_text())["stages"]
        for path in (PROJECT / "dvc.yaml", Path("dvc.yaml"))
    )
    assert before.pop("train") != after.pop("train")
    assert before == after


def test_failures_are_told_once_with_the_stage_they_came_from(project: Path) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("video_id", "status", "reason")])
    bad = {"video_id": "joy/a", "status": "failed", "reason": "empty file"}
    late = {"video_id": "joy/b", "status": "failed", "reason": "too large for float16"}
    tables.write(Path("data/index.parquet"), [bad], schema)
    tables.write(Path("data/features/vgg16.parquet"), [bad, late], schema)
    code, said = run("failures", "--json")
    assert code == 0
    assert [(row["video_id"], row["first_failed_in"]) for row in yaml.safe_load(said)] == [
        ("joy/a", "index"),
        ("joy/b", "vgg16"),
    ]


def test_show_names_the_arrays_and_where_they_came_from(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = {"key": "abc", "axes": {"fc6": "T D"}, "ingredients": {"code": "f00"}}
    arrays.write(Path("a.h5"), {"fc6": np.zeros((2, 4096), np.float16)}, says)
    code, said = run("show", "a.h5")
    assert code == 0
    assert "(2, 4096)" in said and "f00" in said
    code, said = run("show", "none.h5")
    assert code == 1 and "none.h5: expected a whole array file" in said


def test_check_tells_what_is_wrong(project: Path) -> None:
    assert run("check")[0] == 0
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "colour: red\n")
    code, said = run("check")
    assert code == 1 and "colour: unknown key" in said


def test_weights_lists_every_network_with_what_is_to_do(project: Path) -> None:
    code, said = run("weights")
    assert code == 0
    for text in ("detector", "vgg16", "seed 2", "Apache-2.0", "to do: dvc repro weights@vgg16"):
        assert text in said
    code, said = run("weights", "--json")
    rows = {row["network"]: row for row in json.loads(said)}
    assert set(rows) == {
        "faces.detector",
        *(f"backbones.{name}" for name in load_params().backbones),
    }
    assert rows["backbones.vgg16"]["to_do"] == "dvc repro weights@vgg16"
    Path("weights.lock.json").write_text("spoilt")
    code, said = run("weights")
    assert code == 1 and "Restore it from git" in " ".join(said.split())
