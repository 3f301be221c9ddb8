import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from features.cache import digests, tables
from features.cache.keys import PROJECT
from features.video.listing import list_videos
from stages import index
from stages.engine.params import Index
from stages.engine.progress import StageRun
from stages.engine.protocols import add_splits
from stages.engine.splits import Splits
from stages.engine.workers import Workers
from tests.conftest import write_clip

INDEX = Index(root="raw", splits=Splits(runs=4, test_share=0.34, seed=0))


@pytest.fixture
def project(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the project's params.yaml and dvc.yaml, in one process."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    monkeypatch.setattr(index, "workers", lambda _: Workers(0))
    return in_folder


def test_a_csv_gives_the_splits_of_several_runs(in_folder: Path) -> None:
    lines = ["path,label,split_00,split_01"]
    splits = {"a": "train,test", "b": "test,train", "c": ",train", "broken": "test,train"}
    for frames, (name, cells) in enumerate(splits.items(), start=2):
        lines.append(f"{name}.mp4,joy,{cells}")
        if name != "broken":
            write_clip(Path(f"{name}.mp4"), frames=frames)
    Path("v.csv").write_text("\n".join(lines))
    videos, _ = list_videos(Path("v.csv"))
    rows = index.index(StageRun("index"), videos, Path("out"), Workers(0))
    assert add_splits(rows, videos, INDEX) == ["split_00", "split_01"]
    found = {row["video_id"]: (row["split_00"], row["split_01"]) for row in rows}
    assert found == {
        "joy/a": ("train", "test"),
        "joy/b": ("test", "train"),
        "joy/c": (None, "train"),
        "joy/broken": (None, None),
    }


def test_a_file_in_two_classes_is_a_row_with_its_reason_in_both(in_folder: Path) -> None:
    for name, frames in (("joy/a", 2), ("joy/b", 3), ("joy/c", 4), ("fear/d", 5)):
        write_clip(Path(f"raw/{name}.mp4"), frames=frames)
    shutil.copy("raw/joy/a.mp4", "raw/joy/same.mp4")
    shutil.copy("raw/joy/b.mp4", "raw/fear/other name.mp4")
    for label in ("joy", "fear"):
        Path(f"raw/{label}/empty.mp4").touch()
    run = StageRun("index")
    rows = index.index(run, list_videos(Path("raw"))[0], Path("out"), Workers(0))
    assert {str(row["video_id"]): row["reason"] for row in rows if row["reason"]} == {
        "fear/empty": "empty file",
        "joy/empty": "empty file",
        "joy/b": "same file as fear/other name, of another class; keep the one that is right",
        "fear/other name": "same file as joy/b, of another class; keep the one that is right",
    }
    assert {row["status"] for row in rows if row["reason"]} == {"failed"}
    assert (run.counts["items"], run.counts["failed"]) == (8, 4)
    assert sorted(path.stem for path in Path("out").rglob("*.json")) == ["a", "c", "d", "same"]
    names = add_splits(rows, [], INDEX)
    by_id = {row["video_id"]: row for row in rows}
    assert all(by_id["joy/a"][name] == by_id["joy/same"][name] for name in names)


def test_the_same_content_in_train_and_test_of_a_run_is_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, frames in (("a", 2), ("b", 3), ("c", 4)):
        write_clip(Path(f"raw/{name}.mp4"), frames=frames)
    shutil.copy("raw/a.mp4", "raw/again.mp4")
    lines = ["path,label,split_00,split_01", "a.mp4,joy,train,test", "b.mp4,joy,test,train"]
    lines += ["again.mp4,joy,train,train", "c.mp4,joy,train,test"]
    table = Path("raw/v.csv")
    table.write_text("\n".join(lines))
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("root: data/sample", f"root: {table}"))
    with pytest.raises(SystemExit):
        index.main()
    said = " ".join(capsys.readouterr().err.split())
    assert "raw/v.csv: expected other files in test than in train" in said
    assert "joy/again trains and joy/a tests in split_01. Give copies the same split" in said
    assert "split_00" not in said and not Path("data/index.parquet").exists()
    table.write_text("\n".join(lines).replace("again.mp4,joy,train,train", "again.mp4,joy,train,"))
    index.main()
    said = " ".join(capsys.readouterr().err.split())
    assert "copies of another of their class: 1, e.g. joy/again of joy/a; each counts" in said
    rows = {str(row["video_id"]): row for row in tables.read(Path("data/index.parquet"))}
    assert (rows["joy/again"]["split_00"], rows["joy/again"]["split_01"]) == ("train", None)


def test_a_video_below_a_folder_of_its_class_is_a_row_that_says_where_to_put_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, frames in (("joy/a", 2), ("joy/b", 3), ("joy/day 1/a", 4), ("joy/day 1/x/c", 5)):
        write_clip(Path(f"raw/{name}.mp4"), frames=frames)
    write_clip(Path("raw/top.mp4"), frames=2)
    Path("raw/joy/day 1/notes.txt").touch()
    videos, _ = list_videos(Path("raw"))
    assert {video.video_id: video.problem for video in videos} == {
        "joy/a": None,
        "joy/b": None,
        "joy/day 1~a": "lies in a folder below joy; move it to joy/a.mp4, or list it in a CSV "
        "path,label and name that in index.root",
        "joy/day 1~x~c": "lies in a folder below joy; move it to joy/c.mp4, or list it in a CSV "
        "path,label and name that in index.root",
    }
    text = Path("params.yaml").read_text().replace("max_failed: 0.2", "max_failed: 0.5")
    Path("params.yaml").write_text(text.replace("root: data/sample", "root: raw"))
    index.main()
    said = " ".join(capsys.readouterr().err.split())
    assert "top.mp4 is in no class and left out: move it into the folder of its class" in said
    assert "files that are no videos and left out: 1, e.g. joy/day 1/notes.txt" in said
    rows = {str(row["video_id"]): row for row in tables.read(Path("data/index.parquet"))}
    assert rows["joy/day 1~a"]["status"] == "failed" and rows["joy/a"]["status"] == "ok"


def test_bad_videos_are_rows_and_have_no_split(in_folder: Path) -> None:
    write_clip(Path("raw/joy/a.mp4"), frames=2)
    write_clip(Path("raw/joy/b.mp4"), frames=3)
    Path("raw/joy/empty.mp4").touch()
    Path("raw/joy/text.mp4").write_text("hello")
    videos, _ = list_videos(Path("raw"))
    rows = index.index(StageRun("index"), videos, Path("out"), Workers(0))
    add_splits(rows, videos, INDEX)
    by_id = {row["video_id"]: row for row in rows}
    assert by_id["joy/empty"]["reason"] == "empty file"
    assert "cannot be opened" in str(by_id["joy/text"]["reason"])
    assert "split_00" not in by_id["joy/empty"]
    assert by_id["joy/a"]["frames_stated"] == 2
    assert {row["split_00"] for row in rows if row["status"] == "ok"} == {"train", "test"}


def test_a_file_that_may_not_be_read_is_a_row(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(Path("raw/joy/a.mp4"), frames=2)
    write_clip(Path("raw/joy/locked.mp4"), frames=2)
    plain = digests.file_sha256

    def refuse(path: Path) -> str:
        if path.stem == "locked":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(digests, "file_sha256", refuse)
    rows = index.index(StageRun("index"), list_videos(Path("raw"))[0], Path("out"), Workers(0))
    assert [row["reason"] for row in rows] == [None, "cannot be read: Permission denied"]


def test_a_video_that_is_not_here_keeps_what_is_known_of_it(in_folder: Path) -> None:
    for name in "ab":
        write_clip(Path(f"raw/{name}.mp4"), frames=2 + ord(name) % 2)
    Path("all.csv").write_text("path,label\nraw/a.mp4,joy\nraw/b.mp4,joy\nraw/c.mp4,joy\n")

    def rows(known: dict[str, tables.Row]) -> tuple[list[tables.Row], StageRun]:
        run = StageRun("index")
        videos = list_videos(Path("all.csv"))[0]
        shutil.rmtree("out", ignore_errors=True)
        return index.index(run, videos, Path("out"), Workers(0), known), run

    before, _run = rows({})
    assert [row["reason"] for row in before] == [None, None, "no such file"]
    Path("raw/a.mp4").unlink()
    after, run = rows({"raw/a.mp4": before[0]})
    assert after == before
    assert (run.counts["computed"], run.counts["reused"]) == (0, 2)
    assert rows({})[0][0]["reason"] == "no such file"
    here = Path("raw/b.mp4").stat().st_size
    known = {"raw/b.mp4": before[1] | {"sha256": "0" * 64, "bytes": 1}}
    assert rows(known)[0][1]["bytes"] == here, "a file that is here speaks for itself"


def test_a_column_says_that_a_video_is_interlaced(in_folder: Path) -> None:
    write_clip(Path("raw/joy/fields.mp4"), options={"flags": "+ildct+ilme"})
    write_clip(Path("raw/joy/whole.mp4"))
    write_clip(Path("raw/joy/unsaid.avi"), codec="mpeg4", clock_hz=10)
    rows = index.index(StageRun("index"), list_videos(Path("raw"))[0], Path("out"), Workers(0))
    schema = pa.schema(index.COLUMNS.items())
    tables.write(Path("index.parquet"), rows, schema)
    stated = {r["video_id"]: r["interlaced"] for r in tables.read(Path("index.parquet"))}
    assert stated == {"joy/fields": True, "joy/unsaid": None, "joy/whole": False}


def test_a_moved_video_is_not_probed_again(in_folder: Path) -> None:
    clip = write_clip(Path("raw/joy/a.mp4"), frames=2)
    index.index(StageRun("index"), list_videos(Path("raw"))[0], Path("one"), Workers(0))
    Path("raw/fear").mkdir()
    clip.rename("raw/fear/other name.mp4")
    run = StageRun("index")
    rows = index.index(run, list_videos(Path("raw"))[0], Path("two"), Workers(0))
    assert rows[0]["video_id"] == "fear/other name"
    assert (run.counts["computed"], run.counts["reused"]) == (0, 1)


def test_features_alone_are_rows_without_a_file_that_the_runs_divide(project: Path) -> None:
    lines = [f"v{number},{label}" for number in range(3) for label in ("joy", "fear")]
    Path("v.csv").write_text("\n".join(["video_id,label", *lines]) + "\n")
    raw = Path("params.yaml").read_text().replace("root: data/sample", "root: v.csv")
    Path("params.yaml").write_text(raw)
    index.main()
    rows = tables.read(Path("data/index.parquet"))
    assert len(rows) == 6 and {row["status"] for row in rows} == {"ok"}
    assert {(row["file"], row["bytes"], row["width"]) for row in rows} == {(None, None, None)}
    assert len({row["sha256"] for row in rows}) == 6, "no two are copies of each other"
    for label in ("joy", "fear"):
        parts = [row["split_00"] for row in rows if row["label"] == label]
        assert sorted(map(str, parts)) == ["test", "train", "train"]
