"""Each format is read back by the library that it is for, and not by code of ours."""

import csv
import gc
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import affectline
from affectline.cli import app
from affectline.export import export
from affectline.formats import FORMATS
from affectline.project import Project
from features.cache import arrays
from tests.affectline.test_project import FACE, write_project
from tests.heads.conftest import Folder

HOSTILE = "joy/v 01%"
"""An id of the fixture that no shell and not every file system takes."""


@pytest.fixture
def folder(in_folder: Path) -> Folder:
    folder = write_project(in_folder)
    folder.row("vggface", "sadness/v 02%").update(status="failed", reason="no `frames`\n# x")
    folder.save()
    return folder


@pytest.fixture
def project(folder: Folder) -> Project:
    return affectline.open()


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "videos.csv").open(encoding="utf-8", newline="") as file:
        return {row["video_id"]: row for row in csv.DictReader(file)}


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def add_maps(folder: Folder) -> None:
    for row in folder.rows["vgg16"]:
        path = folder.features / "vgg16" / str(row["path"])
        data, _ = arrays.read(path)
        path.unlink()
        maps = np.random.default_rng(0).normal(size=(6, 3, 2, 2)).astype(np.float16)
        folder.write("vgg16", str(row["video_id"]), {**data, "pool5": maps})


@pytest.mark.parametrize("kind", FORMATS)
def test_the_table_has_every_video_and_the_same_export_is_the_same_bytes(
    project: Project, kind: str
) -> None:
    out, count = export(project, FACE, kind)
    assert (out, count) == (Path(f"exports/vggface_fc6_{kind}"), 17)
    rows = table(out)
    assert list(rows) == sorted(project.index().index)
    assert (rows[HOSTILE]["label"], rows[HOSTILE]["rows"]) == ("joy", "6")
    valid = project.features(FACE).valid[HOSTILE]
    assert int(rows[HOSTILE]["rows_valid"]) == valid.sum() < 6
    assert {rows[HOSTILE]["split_00"], rows[HOSTILE]["split_01"]} == {"train", "test"}
    assert rows["sadness/v 02%"]["reason"] == "no `frames`\n# x"
    assert rows["sadness/v 02%"]["rows"] == ""
    again, _ = export(project, FACE, kind, Path("again"))
    assert contents(again) == contents(out)


def test_npy_is_a_file_a_video_and_the_table_says_whose(project: Project) -> None:
    out, _ = export(project, FACE, "npy")
    features, rows = project.features(FACE), table(out)
    for video_id in features:
        row = rows[video_id]
        np.testing.assert_array_equal(np.load(out / row["file"]), features[video_id])
        np.testing.assert_array_equal(np.load(out / row["valid"]), features.valid[video_id])
        np.testing.assert_array_equal(np.load(out / row["pts_s"]), features.pts_s[video_id])
        np.testing.assert_array_equal(np.load(out / row["index"]), features.index[video_id])
        assert np.load(out / row["file"]).dtype == np.float16
    assert rows[HOSTILE]["file"] == "features/000006-joy_v_01_.npy"


@pytest.mark.parametrize("source", [FACE, "vgg16/pool5"])
def test_parquet_has_a_row_a_row_and_tensors(folder: Folder, source: str) -> None:
    add_maps(folder)
    project = affectline.open()
    out, _ = export(project, source, "parquet")
    read = pq.read_table(out / "features.parquet")
    features = project.features(source)
    shape = features[HOSTILE].shape[1:]
    assert list(read.schema.field("features").type.shape) == list(shape)
    whole = np.concatenate([features[video_id] for video_id in features])
    column = read["features"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(column, whole)
    assert read["video_id"].to_pylist()[::6] == list(features)
    pts_s = np.concatenate([features.pts_s[video_id] for video_id in features])
    np.testing.assert_array_equal(read["pts_s"].to_numpy(), pts_s)


def test_csv_is_exact_and_has_no_place_for_maps(folder: Folder) -> None:
    add_maps(folder)
    project = affectline.open()
    out, _ = export(project, FACE, "csv")
    with (out / "features.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    features = project.features(FACE)
    mine = [line for line in lines if line["video_id"] == HOSTILE]
    numbers = [[line[f"features_{place}"] for place in range(12)] for line in mine]
    np.testing.assert_array_equal(np.array(numbers, np.float16), features[HOSTILE])
    assert [bool(int(line["valid"])) for line in mine] == list(features.valid[HOSTILE])
    with pytest.raises(ValueError, match=r"csv: expected rows that are vectors.*\(3, 2, 2\)"):
        export(project, "vgg16/pool5", "csv")
    assert not Path("exports/vgg16_pool5_csv").exists()
    assert sorted(path.name for path in Path("exports").iterdir()) == ["vggface_fc6_csv"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # that library leaves them so
def test_webdataset_reads_the_shards(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    monkeypatch.setattr("affectline.formats.SHARD_BYTES", 20_000)
    out, _ = export(project, FACE, "webdataset")
    shards = sorted(out.glob("*.tar"))
    assert len(shards) > 1
    features, rows = project.features(FACE), table(out)
    reader = webdataset.WebDataset([str(path) for path in shards], shardshuffle=False)
    samples = list(reader.decode())
    del reader
    gc.collect()
    assert [sample["json"]["video_id"] for sample in samples] == list(features)
    for sample in samples:
        video_id = sample["json"]["video_id"]
        assert sample["__key__"] == rows[video_id]["key"]
        assert sample["__url__"].endswith(rows[video_id]["shard"])
        assert sample["json"]["label"] == video_id.split("/")[0]
        np.testing.assert_array_equal(sample["features.npy"], features[video_id])
        np.testing.assert_array_equal(sample["valid.npy"], features.valid[video_id])


def test_headers_of_a_shard_say_nothing_of_this_machine(project: Project) -> None:
    out, _ = export(project, FACE, "webdataset")
    with tarfile.open(out / "shard-000000.tar") as shard:
        members = shard.getmembers()
        about = json.load(shard.extractfile(members[4]))  # type: ignore[arg-type]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
        (0, 0, 0, "", "", 0o644)
    }
    assert all(m.name.isascii() and "/" not in m.name and m.isfile() for m in members)
    assert about["video_id"] == "anger/v 00%" and about["split_00"] == "test"


@pytest.mark.parametrize("source", [FACE, "vgg16/pool5"])
def test_datasets_opens_the_folder(
    folder: Folder, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    add_maps(folder)
    project = affectline.open()
    out, count = export(project, source, "huggingface")
    dataset = datasets.load_from_disk(str(out))
    assert "Value('float16')" in repr(dataset.features["features"])  # as stored
    features = project.features(source)
    assert dataset.num_rows == count and dataset["video_id"][:] == list(features)
    rows = table(out)
    for row in dataset.with_format("numpy"):
        video_id = str(row["video_id"])
        np.testing.assert_array_equal(row["features"], features[video_id])
        np.testing.assert_array_equal(row["valid"], features.valid[video_id])
        np.testing.assert_array_equal(row["pts_s"], features.pts_s[video_id])
        assert dataset[int(rows[video_id]["row"])]["video_id"] == video_id
    one = dataset.filter(lambda row: row["label"] == "joy", keep_in_memory=True)
    assert set(one["split_00"]) == {"train", "test"}


def test_the_card_says_what_the_numbers_are(folder: Folder) -> None:
    for row in folder.rows["vggface"]:
        row["pretrained"] = False
    folder.save()
    out, _ = export(affectline.open(), FACE, "npy")
    text = (out / "README.md").read_text()
    assert text.startswith("# vggface/fc6\n")
    for words in (
        "axes `T D`, shape (T, 12), float16",
        "of 17 videos: 102 rows, ",
        "**Random**: the network was never trained",
        "source: made up",
        "from the view `segments`",
        "in no git repository",
        "module: vggface",
        "torch 2",
        "17 of 18 videos have the feature: anger 6, joy 6, sadness 5.",
        r"- sadness/v 02%: no `frames`\n# x",
    ):
        assert words in text, words
    assert "c0de" not in text


def test_nothing_is_written_over_and_nothing_half_stays(folder: Folder) -> None:
    project = affectline.open()
    Path("mine").mkdir()
    with pytest.raises(ValueError, match="mine: expected no such folder, found one: remove it"):
        export(project, FACE, "npy", Path("mine"))
    damaged = folder.features / "vggface" / "sadness/v 17%.h5"  # the last to be read
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"v 17%\.h5: expected a whole array file"):
        export(project, FACE, "npy", Path("new/one"))
    assert list(Path("new").iterdir()) == []


def test_what_cannot_be_exported_is_told(folder: Folder) -> None:
    project = affectline.open()
    with pytest.raises(ValueError, match="expected '<backbone>/<feature>'"):
        export(project, "vggface", "npy")
    with pytest.raises(ValueError, match="no features of backbone 'x'"):
        export(project, "x/fc6", "npy")
    with pytest.raises(ValueError, match=r"expected the arrays .*'fc7'"):
        export(project, "vggface/fc7", "npy")
    for row in folder.rows["vggface"]:
        row.update(status="failed", reason="no face")
    folder.save()
    with pytest.raises(ValueError, match=f"{FACE}: no video has it, the first says: no face"):
        export(affectline.open(), FACE, "npy")
    assert not any(Path("exports").glob("*"))


def test_one_video_is_in_memory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written of one is written before the next is read."""
    written: list[int] = []
    read = arrays.read

    def spy(path: Path, names: object = None) -> object:
        written.append(len(list(Path("exports").rglob("valid/*.npy"))))
        return read(path, names)  # type: ignore[arg-type]

    monkeypatch.setattr(arrays, "read", spy)
    export(project, FACE, "npy")
    assert written == list(range(17))


def test_the_command_says_where_it_is(folder: Folder) -> None:
    done = CliRunner().invoke(app, ["export", FACE, "--to", "csv", "--out", "there"])
    assert (done.exit_code, done.output) == (
        0,
        "export: 17 videos in there, README.md there says what they are\n",
    )
    again = CliRunner().invoke(app, ["export", FACE, "--to", "csv", "--out", "there"])
    assert again.exit_code == 1 and "error: there: expected no such folder" in again.output
