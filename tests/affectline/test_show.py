import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from affectline.cli import app
from features.cache import arrays, tables
from features.weights.file import write_seeded
from tests.conftest import write_clip

ARRAYS = {"fc6": np.zeros((2, 4096), np.float16)}
SAYS = {"key": "abc", "axes": {"fc6": "T D"}, "ingredients": {"code": "f00"}}


def run(path: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["show", str(path)])
    return done.exit_code, done.output


def refused(path: str | Path) -> str:
    """Return the line that says why a path is not shown; no such line advises to remove it."""
    code, said = run(path)
    assert code == 1 and said.startswith(f"error: {path}: ") and len(said.splitlines()) == 1, said
    return said.removeprefix(f"error: {path}: ").strip()


def test_arrays_are_named_with_where_they_came_from(in_folder: Path) -> None:
    arrays.write(Path("a.h5"), ARRAYS, SAYS)
    code, said = run("a.h5")
    assert code == 0 and "T D" in said and "(2, 4096)" in said and "f00" in said


def test_what_is_needed_to_read_an_array_file_is_named(in_folder: Path) -> None:
    for name, packing, need in (
        ("view.h5", arrays.FAST, "import hdf5plugin"),
        ("features.h5", arrays.COMPACT, "`affectline export`"),
    ):
        arrays.write(Path(name), ARRAYS, SAYS, packing)
        assert need in " ".join(run(name)[1].split())


def test_a_table_is_its_columns_and_first_rows(in_folder: Path) -> None:
    schema = pa.schema([("video_id", pa.string()), ("rows", pa.int32())])
    rows = [{"video_id": f"joy/{n}" + "x" * 100 * (n == 1), "rows": None} for n in range(5)]
    tables.write(Path("t.parquet"), rows, schema)
    code, said = run("t.parquet")
    assert code == 0 and "t.parquet: 5 rows" in said
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    assert ["video_id", "string", "joy/0", f"joy/1{'x' * 55} …", "joy/2"] in lines
    assert ["rows", "int32", "null", "null", "null"] in lines
    tables.write(Path("none.parquet"), [], schema)
    code, said = run("none.parquet")
    assert code == 0 and "0 rows" in said and "video_id" in said


def test_weights_are_their_facts_and_tensors(in_folder: Path) -> None:
    write_seeded(Path("w.safetensors"), "vgg16", 7)
    code, said = run("w.safetensors")
    assert (
        code == 0 and "no tensors, they are drawn from the seed" in said and '"seed": "7"' in said
    )
    known = {"affectline": json.dumps({"head": "caan"}), "more": "{no json"}
    save_file({"layer": torch.zeros(3, 4)}, "c.safetensors", known)
    code, said = run("c.safetensors")
    assert code == 0 and "[3, 4]" in said and '"head": "caan"' in said and "{no json" in said


def test_json_and_folders_are_shown(in_folder: Path) -> None:
    Path("results").mkdir()
    Path("results/caan.json").write_text('{"accuracy": 0.5}')
    assert '"accuracy": 0.5' in run("results/caan.json")[1]
    tables.write(Path("results.parquet"), [], pa.schema([("a", pa.string())]))
    code, said = run("results")
    assert code == 0 and ".json" in said and "17 B" in said
    assert "its index: affectline show results.parquet" in said
    Path("empty").mkdir()
    assert run("empty") == (0, "empty: a folder without files\n")


def test_what_is_no_file_of_ours_is_named_and_left_alone(in_folder: Path) -> None:
    clip = write_clip(Path("raw/joy/a.mp4"), frames=2)
    assert refused(clip).startswith("a video, by its ending; `affectline explain joy/a <backbone>`")
    with zipfile.ZipFile("w.pth", "w") as file:
        file.writestr("data.pkl", b"")
    assert refused("w.pth").startswith("a zip archive, as weights files of PyTorch are; can be")
    with h5py.File("other.h5", "w") as other:
        other["x"] = 1
    assert refused("other.h5") == "HDF5 that affectline has not written, with x"
    Path("empty.mp4").touch()
    assert refused("empty.mp4") == "an empty file"
    for name, kind in (
        ("no.h5", "a whole array file"),
        ("no.parquet", "a Parquet table"),
        ("no.safetensors", "a safetensors file"),
        ("no.json", "JSON"),
    ):
        Path(name).write_text("nothing of the kind")
        said = refused(name)
        assert said.startswith(f"expected {kind}") and "remove" not in said.lower(), said
    Path("notes.txt").write_text("hello")
    assert refused("notes.txt").startswith("a file of another kind, perhaps text; can be shown")


LOCK = """
stages:
  extract@vgg16:
    outs: [{path: data/features/vgg16, md5: d41d8cd98f00b204e9800998ecf8427e.dir, size: 3}]
"""


def test_what_is_absent_is_said_with_what_brings_it(in_folder: Path) -> None:
    Path("data").mkdir()
    Path("data/index.parquet").touch()
    assert refused("data/indx.parquet") == ("no such file or folder, did you mean 'index.parquet'?")
    assert refused("data/featurs/a.h5") == f"{in_folder}/data has no 'featurs'"
    Path("dvc.yaml").write_text("stages: {extract: {foreach: '${backbones}'}}")
    Path("params.yaml").write_text("backbones: {vgg16: {}}")
    Path("dvc.lock").write_text(LOCK)
    assert refused("data/features/vgg16/joy/a.h5") == (
        f"{in_folder}/data has no 'features'; `dvc pull extract@vgg16` or `dvc repro "
        "extract@vgg16` makes data/features/vgg16"
    )


@pytest.mark.parametrize("place", ["data/features/vgg16/joy/a.h5", ".store/items/aa/a.h5"])
def test_a_damaged_file_that_a_stage_makes_again_is_said_so(place: str, in_folder: Path) -> None:
    Path("dvc.yaml").write_text("stages: {extract: {foreach: '${backbones}'}}")
    Path("params.yaml").write_text("backbones: {vgg16: {}}")
    Path("dvc.lock").write_text(LOCK)
    arrays.write(Path("a.h5"), ARRAYS, SAYS)
    damaged = Path("a.h5").read_bytes()[:1000]
    for path in (Path(place), Path("a.h5")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged)
        said = refused(path)
        assert ("doctor --repair" in said) == (path == Path(place)), said
