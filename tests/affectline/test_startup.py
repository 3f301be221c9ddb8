"""What a command imports before it answers, each in a Python of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from features.cache import tables

PROJECT = Path(__file__).parents[2]

CALL = """
import json, runpy, sys
sys.argv = ["affectline", *sys.argv[1:]]
try:
    runpy.run_module("affectline", run_name="__main__")
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""


def called(*arguments: str) -> tuple[int, str, set[str]]:
    """Return a command's exit code, what it prints, and the packages that it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, *arguments], capture_output=True, text=True, check=True
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
