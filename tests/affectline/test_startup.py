"""What a command or a stage imports before it answers, each in a Python of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from features.cache import tables
from heads import Rows
from stages.tables import COLUMNS
from tests.stages.results.made_results import FACE_AND_CONTEXT, write_result

PROJECT = Path(__file__).parents[2]

CALL = """
import json, runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__")
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""


def called(*arguments: str, module: str = "affectline") -> tuple[int, str, set[str]]:
    """Return a command's exit code, what it prints, and the packages that it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, module, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    said, _, last = done.stdout.rstrip().rpartition("\n")
    code, packages = json.loads(last)
    return code or 0, said, set(packages)


@pytest.mark.parametrize("arguments", [["--help"], ["store", "--help"]])
def test_help_imports_nothing_that_computes_or_reads(arguments: list[str]) -> None:
    code, said, packages = called(*arguments)
    assert code == 0 and "Usage: affectline" in said
    assert not packages & {"h5py", "numpy", "pyarrow", "safetensors", "torch", "yaml"}


@pytest.fixture
def project(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    for folder in (".dvc", ".git"):
        Path(folder).mkdir()
    monkeypatch.setenv("AFFECTLINE_STORE", str(in_folder / "store"))
    row = {"video_id": "joy/a", "status": "failed", "reason": "empty file"}
    schema = pa.schema([(name, pa.string()) for name in row])
    tables.write(Path("data/index.parquet"), [row], schema)
    return in_folder


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("failures", "empty file"),
        ("store size", "downloads 0 B"),
        ("store gc --older-than 1", "removed 0 items"),
        ("show data/index.parquet", "video_id"),
        ("doctor --quick", "doctor: all is well"),
    ],
)
def test_a_command_that_reads_no_tensor_starts_without_torch(
    command: str, answer: str, project: Path
) -> None:
    code, said, packages = called(*command.split())
    assert code == 0 and answer in said
    assert not packages & {"torch", "torchvision", "cv2", "av", "librosa", "mediapipe", "scipy"}


@pytest.fixture
def trained(project: Path) -> Path:
    """The project with two experiments and their results."""
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["backbones"] = {
        "vggface": {"module": "vggface", "view": "faces", "source": "seeded", "seed": 1},
        "vgg16": {"module": "vgg16", "view": "segments", "source": "seeded", "seed": 2},
    }
    params["experiments"] = {
        "caan": {"head": "caan", "roles": FACE_AND_CONTEXT},
        "face": {"head": "pooling", "roles": {"face": "vggface/fc6"}},
    }
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    weighed = {"frame_scores": (Rows("face"), ())}
    write_result(Path("results"), "caan", params={"score_layers": 1}, attention=weighed)
    write_result(Path("results"), "face", head="pooling", roles={"face": "vggface/fc6"}, seed=1)
    row = {"video_id": "joy/a", "label": "joy", "status": "ok", "reason": None}
    schema = pa.schema([(name, pa.string()) for name in row])
    tables.write(Path("data/index.parquet"), [row], schema)
    return project


WITH_TORCH = {"torch", "torchvision", "cv2", "av", "librosa", "mediapipe"}


def test_experiments_are_compared_without_torch(trained: Path) -> None:
    code, said, packages = called("compare", "caan", "face")
    assert code == 0 and "corrected resampled t-test" in said
    assert not packages & WITH_TORCH


def test_videos_of_ones_own_are_not_made_to_wait_for_what_draws_the_sample(project: Path) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["index"]["root"] = "data/raw"
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    code, _, packages = called(module="stages.sample")
    assert code == 0 and not packages & {*WITH_TORCH, "scipy", "skimage"}
    assert json.loads(Path("data/sample_truth.json").read_text()) == {"clips": {}}


def test_the_table_of_all_features_is_written_without_torch(project: Path) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    schema = pa.schema([(name, kind) for name, kind in COLUMNS.items() if name != "backbone"])
    row = {"video_id": "joy/a", "status": "failed", "reason": "empty file"}
    for name in params["backbones"]:
        tables.write(Path(f"data/tables/{name}.parquet"), [row], schema)
    code, _, packages = called(module="stages.tables")
    assert code == 0 and not packages & WITH_TORCH
    assert len(tables.read(Path("data/tables.parquet"))) == len(params["backbones"])


def test_the_report_is_written_without_torch(trained: Path) -> None:
    code, _, packages = called(module="stages.report")
    assert code == 0 and not packages & (WITH_TORCH - {"av"})  # which makes its sound
    page = Path("report/index.html").read_text(encoding="utf-8")
    assert "CAAN, Table 2" in page and "frame_scores" in page


def test_the_plan_of_a_first_run_waits_for_no_torch(project: Path) -> None:
    Path("data/index.parquet").unlink()
    code, said, packages = called("plan")
    assert code == 0 and "plan: to compute: " in said
    assert not packages & {"torch", "torchvision", "librosa", "mediapipe", "scipy"}
