import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from features import digests, tables
from stages import index
from stages.console import StageRun
from stages.index import DataSetError, add_splits, few, list_videos
from stages.params import Splits
from stages.work import Workers
from tests.conftest import write_clip

SPLITS = Splits(runs=4, test_share=0.34, seed=0)


def ids(root: Path) -> list[str]:
    return [video.video_id for video in list_videos(root)[0]]


def test_a_folder_gives_label_and_name(tmp_path: Path) -> None:
    for name in ("joy/a.mp4", 'joy/100% "it\'s" ü.MKV', "fear/a.avi", "joy/notes.txt", "top.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "joy/.hidden.mp4").touch()
    videos, ignored = list_videos(tmp_path)
    assert [v.video_id for v in videos] == ["fear/a", 'joy/100% "it\'s" ü', "joy/a"]
    assert [v.file for v in videos] == ["fear/a.avi", 'joy/100% "it\'s" ü.MKV', "joy/a.mp4"]
    assert [str(path) for path in ignored] == ["joy/notes.txt", "top.mp4"]


def test_two_files_of_one_name_in_one_class_both_stay(tmp_path: Path) -> None:
    (tmp_path / "joy").mkdir()
    for name in ("a.avi", "a.mp4", "a.mov"):
        (tmp_path / "joy" / name).touch()
    assert ids(tmp_path) == ["joy/a", "joy/a.mov", "joy/a.mp4"]


def test_a_name_that_is_not_utf8_is_a_row_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "joy").mkdir()
    with open(os.fsencode(tmp_path / "joy") + b"/\xff.mp4", "wb"):
        pass
    (video,) = list_videos(tmp_path)[0]
    assert video.problem == "its name is not UTF-8; rename it"
    video.video_id.encode()


def test_a_csv_names_videos_anywhere_and_their_split(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "far" / "a.mp4", frames=2)
    table = tmp_path / "lists" / "videos.csv"
    table.parent.mkdir()
    table.write_text(f"path,label,split\n../far/a.mp4,joy,train\n{clip},fear,test\nnone.mp4,joy,\n")
    videos, _ = list_videos(table)
    assert [(v.video_id, v.splits, v.problem) for v in videos] == [
        ("fear/a", ("test",), None),
        ("joy/a", ("train",), None),
        ("joy/none", (None,), "no such file"),
    ]
    assert videos[1].location.samefile(clip)


def test_a_csv_gives_the_splits_of_several_runs(in_folder: Path) -> None:
    lines = ["path,label,split_00,split_01"]
    splits = {"a": "train,test", "b": "test,train", "c": ",train", "broken": "test,train"}
    for name, cells in splits.items():
        lines.append(f"{name}.mp4,joy,{cells}")
        if name != "broken":
            write_clip(Path(f"{name}.mp4"), frames=2)
    Path("v.csv").write_text("\n".join(lines))
    videos, _ = list_videos(Path("v.csv"))
    rows = index.index(StageRun("index"), videos, Path("out"), Workers(0))
    assert add_splits(rows, videos, SPLITS) == ["split_00", "split_01"]
    found = {row["video_id"]: (row["split_00"], row["split_01"]) for row in rows}
    assert found == {
        "joy/a": ("train", "test"),
        "joy/b": ("test", "train"),
        "joy/c": (None, "train"),
        "joy/broken": (None, None),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label,split_01\na.mp4,joy,train\n", "or split_00 and so on"),
        ("path,label,split,split_00\na.mp4,joy,train,train\n", "or split_00 and so on"),
        ("path,label,split_00,split_01\na.mp4,joy,train,dev\n", "line 2: expected the split"),
        ("file,label\na.mp4,joy\n", "expected the columns path,label"),
        ("path,label\na.mp4,../joy\n", "line 2: expected a label that can name a folder"),
        ("path,label\na.mp4,..\n", "line 2: expected a label"),
        ("path,label\na.mp4,\n", "line 2: expected a label"),
        ("path,label,split\na.mp4,joy,dev\n", "line 2: expected the split train, test"),
        ("path,label\na.mp4,joy,more\n", "line 2: expected path,label"),
        ("path,label\n", "found none"),
        ("", "expected the columns path,label"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(DataSetError, match=words):
        list_videos(tmp_path / "v.csv")


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"set index\.root"):
        list_videos(tmp_path / "none")
    with pytest.raises(DataSetError, match="found none"):
        list_videos(tmp_path)


def rows_of(**counts: int) -> list[tables.Row]:
    return [
        {"video_id": f"{label}/{n}", "label": label, "status": "ok"}
        for label, count in counts.items()
        for n in range(count)
    ]


def test_each_run_tests_the_share_of_every_label() -> None:
    rows = rows_of(joy=6, fear=12, rare=2, single=1)
    names = add_splits(rows, [], SPLITS)
    assert names == ["split_00", "split_01", "split_02", "split_03"]
    for name in names:
        tested = [row["label"] for row in rows if row[name] == "test"]
        counts = [tested.count(label) for label in ("joy", "fear", "rare", "single")]
        assert counts == [2, 4, 1, 0]
    assert len({tuple(row[name] for row in rows) for name in names}) == 4
    assert few(rows) == ["single"]


def test_one_video_more_moves_at_most_one_other_in_its_class() -> None:
    before, after = rows_of(joy=30, fear=9), rows_of(joy=31, fear=9)
    add_splits(before, [], SPLITS)
    add_splits(after, [], SPLITS)
    now = {row["video_id"]: row for row in after}
    for name in ("split_00", "split_01"):
        moved = [row["video_id"] for row in before if row[name] != now[row["video_id"]][name]]
        assert len(moved) <= 1


def test_bad_videos_are_rows_and_have_no_split(in_folder: Path) -> None:
    write_clip(Path("raw/joy/a.mp4"), frames=2)
    write_clip(Path("raw/joy/b.mp4"), frames=3)
    Path("raw/joy/empty.mp4").touch()
    Path("raw/joy/text.mp4").write_text("hello")
    videos, _ = list_videos(Path("raw"))
    rows = index.index(StageRun("index"), videos, Path("out"), Workers(0))
    add_splits(rows, videos, SPLITS)
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
