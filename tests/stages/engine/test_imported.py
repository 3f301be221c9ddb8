import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from affectline.cli import app
from features.cache import arrays, tables
from features.weights.file import metadata
from stages import extract, weights
from stages.engine.outputs import INDEX

PROJECT = Path(__file__).parents[3]


def add(name: str, values: np.ndarray) -> None:
    path = Path("made") / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def list_videos(names: Sequence[str]) -> None:
    rows = [{"video_id": f"joy/{name}", "label": "joy", "status": "ok"} for name in names]
    rows.append({"video_id": "joy/bad", "label": "joy", "status": "failed", "reason": "broken"})
    tables.write(Path("data/views/none.parquet"), rows, pa.schema(list(INDEX.items())))
    lines = [f"{name},joy" for name in names]
    Path("data/list.csv").write_text("\n".join(["video_id,label", *lines]) + "\n")


@pytest.fixture
def project(in_folder: Path) -> Path:
    """Three videos, of two of which there are arrays."""
    shutil.copy(PROJECT / "params.yaml", in_folder)
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        add(name, draw.normal(size=(5, 4)).astype(np.float32))
    list_videos(["a", "b", "c"])
    change(max_failed=0.9, index={"root": "data/list.csv"})
    return in_folder


def change(**sections: object) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    for name, value in sections.items():
        raw[name] = raw[name] | value if isinstance(value, dict) else value
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def bring(*options: str) -> None:
    done = CliRunner().invoke(app, ["import", "mine", "made", *options])
    assert done.exit_code == 0, done.output


def run() -> dict[str, int]:
    weights.main("mine")
    extract.main("mine")
    log: dict[str, int] = json.loads(Path("logs/extract@mine.json").read_text())
    return log


def test_rows_are_what_was_imported_and_the_rest_have_a_reason(project: Path) -> None:
    bring("--origin", "CLIP, by Ana", "--licence", "CC0")
    assert run()["computed"] == 2
    rows = {row["video_id"]: row for row in tables.read(Path("data/tables/mine.parquet"))}
    assert rows["joy/c"]["reason"] == "nothing was imported of it"
    assert (rows["joy/bad"]["status"], rows["joy/bad"]["reason"]) == ("failed", "broken")
    found, said = arrays.read(Path("data/features/mine/joy/a.h5"))
    np.testing.assert_array_equal(found["features"], np.load("made/a.npy"))
    assert found["features"].dtype == np.float32 and found["valid"].all()
    assert np.isnan(found["pts_s"]).all() and list(found["index"]) == list(range(5))
    assert said["axes"] == {"features": "T D", "index": "T", "pts_s": "T", "valid": "T"}
    facts = said["weights"]
    assert isinstance(facts, dict)
    assert (facts["source"], facts["origin"], facts["licence"]) == (
        "imported",
        "CLIP, by Ana",
        "CC0",
    )
    assert "not known here" in str(facts["notice"])


def test_one_video_more_and_one_that_changed_cost_these_two(project: Path) -> None:
    bring()
    run()
    before = Path("data/features/mine/joy/a.h5").read_bytes()
    add("b", np.ones((2, 4), np.float32))
    add("c", np.ones((3, 4), np.float32))
    bring()
    log = run()
    assert (log["computed"], log["reused"]) == (2, 1)
    assert Path("data/features/mine/joy/a.h5").read_bytes() == before
    assert len(list(Path("data/imports").iterdir())) == 1, "the older file is gone"
    bring("--licence", "CC0")
    assert run()["computed"] == 3, "what is said of them is in the files"


def test_a_row_that_means_nothing_is_no_number(project: Path) -> None:
    values = np.ones((3, 4), np.float32)
    values[1, 2] = np.nan
    add("a", values)
    bring("--mask-nan")
    run()
    found = arrays.read(Path("data/features/mine/joy/a.h5"))[0]
    assert list(found["valid"]) == [True, False, True]
    assert list(found["features"][1]) == [0, 0, 0, 0] and found["features"][0].all()


def test_what_float16_does_not_hold_is_its_rows_reason(project: Path) -> None:
    add("a", np.full((2, 4), 1e6, np.float32))
    bring()
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["backbones"]["mine"]["dtypes"] = {"features": "float16"}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    assert run()["failed"] == 1
    rows = {row["video_id"]: row for row in tables.read(Path("data/tables/mine.parquet"))}
    assert "expected numbers that float16 holds" in str(rows["joy/a"]["reason"])
    assert arrays.read(Path("data/features/mine/joy/b.h5"))[0]["features"].dtype == np.float16


def test_without_the_file_the_store_has_it_and_without_that_it_is_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring()
    run()
    (file,) = Path("data/imports").iterdir()
    whole = file.read_bytes()
    shutil.rmtree("data/imports")
    shutil.rmtree("data/weights")
    run()
    assert metadata(Path("data/weights/mine.safetensors"))["source"] == "imported"
    shutil.rmtree(".store/items")
    with pytest.raises(SystemExit):
        run()
    assert "found none: import them again, or `dvc pull weights@mine`" in capsys.readouterr().err
    file.parent.mkdir()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(SystemExit):
        run()
    assert "found another: import them again" in capsys.readouterr().err
