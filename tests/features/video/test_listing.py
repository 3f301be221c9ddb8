import os
from pathlib import Path

import pytest

from features.video import columns
from features.video.listing import DataSetError, list_videos
from tests.conftest import write_clip


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
    assert videos[1].location is not None and videos[1].location.samefile(clip)


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


def test_a_csv_of_ids_lists_videos_of_which_there_are_features_alone(tmp_path: Path) -> None:
    table = tmp_path / "v.csv"
    table.write_text("video_id,label,split\ndia0_utt3,joy,train\nfear/a.b,fear,test\n..,joy,\n")
    videos, ignored = list_videos(table)
    assert [(v.video_id, v.label, v.file, v.location, v.splits) for v in videos] == [
        ("fear/a.b", "fear", "", None, ("test",)),
        ("joy/..", "joy", "", None, (None,)),
        ("joy/dia0_utt3", "joy", "", None, ("train",)),
    ]
    assert [v.problem for v in videos] == [None, "its name cannot name its items; rename it", None]
    assert ignored == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("fear/a,joy\n", "line 2: expected a video_id <name> or joy/<name>, found 'fear/a'"),
        ("joy/a/b,joy\n", "line 2: expected a video_id <name> or joy/<name>"),
        ("joy/,joy\n", "line 2: expected a video_id <name> or joy/<name>"),
        ("a,joy\njoy/a,joy\n", "expected each video_id once, found 'joy/a' twice"),
        (",joy\n", "line 2: expected video_id,label, found"),
    ],
)
def test_an_id_that_is_none_or_stands_twice_is_refused(
    tmp_path: Path, rows: str, words: str
) -> None:
    (tmp_path / "v.csv").write_text(f"video_id,label\n{rows}")
    with pytest.raises(DataSetError, match=words):
        list_videos(tmp_path / "v.csv")


COLUMNS = {
    "feelings": columns.labels(("joy", "fear", "calm")),
    "valence": columns.number(1, 9),
    "speaker": columns.name,
}


def test_a_csv_has_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    table = tmp_path / "v.csv"
    table.write_text(
        "path,valence,feelings,speaker,split\nb.mp4,9,,ann,test\na.mp4,1.5,calm| joy,bob,train\n"
    )
    videos, _ = list_videos(table, COLUMNS)
    assert [(v.video_id, v.label, v.splits, v.cells) for v in videos] == [
        ("all/a", "all", ("train",), (("joy", "calm"), 1.5, "bob")),
        ("all/b", "all", ("test",), ((), 9.0, "ann")),
    ], "labels in the order of the names; none of them is a label too"


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("joy,9.5,ann", r"line 3, column valence: expected a number from 1 to 9, found 9\.5"),
        ("joy,high,ann", "line 3, column valence: expected a number from 1 to 9, found 'high'"),
        ("joy,nan,ann", "line 3, column valence: expected a number from 1 to 9, found nan"),
        ("joy,,ann", "line 3, column valence: expected a number from 1 to 9, found ''"),
        ("joy|faer,5,ann", "line 3, column feelings: .* found 'faer', did you mean 'fear'"),
        ("joy|joy,5,ann", "line 3, column feelings: expected each label once, found 'joy|joy'"),
        ("joy|,5,ann", "line 3, column feelings: expected labels of joy, fear, calm, .* found ''"),
        ("joy,5,", "line 3, column speaker: expected a name"),
    ],
)
def test_a_cell_that_says_no_such_thing_is_refused_with_its_place(
    tmp_path: Path, cells: str, words: str
) -> None:
    table = tmp_path / "v.csv"
    table.write_text(f"path,label,feelings,valence,speaker\na.mp4,joy,,1,ann\nb.mp4,joy,{cells}\n")
    with pytest.raises(DataSetError, match=f"v.csv, {words}"):
        list_videos(table, COLUMNS)


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("path,label\na.mp4,joy\n")
    with pytest.raises(DataSetError, match="expected the column 'feelings', which params.yaml"):
        list_videos(tmp_path / "v.csv", COLUMNS)
    with pytest.raises(DataSetError, match="expected a CSV with the columns feelings.* a folder"):
        list_videos(tmp_path, COLUMNS)
