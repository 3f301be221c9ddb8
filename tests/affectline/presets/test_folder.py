import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from affectline.presets.folder import (
    File,
    Row,
    by_subset,
    draw,
    join,
    read_folder,
    write_remarks,
    write_rows,
)
from affectline.presets.split_files import Entry, Lists, ProtocolError, Remark, spellings
from features.video.listing import list_videos

CLASSES = spellings(["Anger", "Joy"])


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def lists(*entries: tuple[str, str | None], runs: int = 1) -> Lists:
    listed = {Entry(*name.split("/", 1)): (part,) * runs for name, part in entries}
    return Lists(runs, listed)


def joined(root: Path, found: Lists) -> tuple[dict[str, str | None], list[Remark]]:
    """Return file name -> part, and the remarks."""
    rows, remarks = join(read_folder(root, CLASSES)[0], found, root)
    return {str(row.path.relative_to(root)): row.splits[0] for row in rows}, remarks


# ---------------------------------------------------------------------------------- folder


def test_a_folder_gives_classes_as_the_data_set_spells_them_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "anger/90%.FLV", "Joy/Serenity/a b.mp4", "Joy/a.mp4", "Joy/.hidden.mp4")
    files, remarks = read_folder(tmp_path, CLASSES)
    assert [file.key for file in files] == ["Joy/Serenity/a b.mp4", "Joy/a.mp4", "Anger/90%.FLV"]
    assert remarks == []


def test_what_is_no_video_of_a_class_is_a_remark(tmp_path: Path) -> None:
    touch(tmp_path, "Joy/a.mp4", "Joy/a.txt", "Rage/a.mp4", "top.mp4")
    with open(os.fsencode(tmp_path / "Joy") + b"/\xff.mp4", "wb"):
        pass
    files, remarks = read_folder(tmp_path, CLASSES)
    assert [file.key for file in files] == ["Joy/a.mp4"]
    assert sorted(remarks) == [
        Remark("name is not UTF-8", "Joy/\ufffd.mp4", "rename it"),
        Remark("not a video", "Joy/a.txt"),
        Remark("not in the folder of a class", "Rage/a.mp4"),
        Remark("not in the folder of a class", "top.mp4"),
    ]


def test_folders_above_the_classes_are_subsets(tmp_path: Path) -> None:
    touch(tmp_path, "Train/Joy/0001.avi", "test/anger/0001.avi", "test/0002.avi", "Joy/1.avi")
    files, remarks = read_folder(tmp_path, CLASSES, frozenset({"train", "test"}))
    assert [(file.key, file.subset) for file in files] == [
        ("Joy/1.avi", None),
        ("Joy/0001.avi", "train"),
        ("Anger/0001.avi", "test"),
    ]
    assert remarks == [Remark("not in the folder of a class", "test/0002.avi")]
    with pytest.raises(ProtocolError, match=r"below one of train, test, found 1 .*e\.g\. Joy/1"):
        by_subset(files, {"train": "train", "test": None})
    rows = by_subset(files[1:], {"train": "train", "test": None})
    assert [row.splits for row in rows] == [("train",), (None,)]


def test_a_folder_without_the_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="expected the folder of the data set, found none"):
        read_folder(tmp_path / "none", CLASSES)
    touch(tmp_path, "Rage/a.mp4")
    with pytest.raises(ProtocolError, match=r"folders Anger, Joy, found none; found e\.g\. Rage/a"):
        read_folder(tmp_path, CLASSES)


# -------------------------------------------------------------------------------- together


def test_the_same_name_in_two_classes_is_two_videos(tmp_path: Path) -> None:
    touch(tmp_path, "Joy/same.mp4", "Anger/same.flv")
    parts, remarks = joined(tmp_path, lists(("Joy/same", "train"), ("Anger/same", "test")))
    assert parts == {"Joy/same.mp4": "train", "Anger/same.flv": "test"}
    assert remarks == []


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("Joy/a.b", "Joy/a.b.mp4"),  # a dot is not an ending
        ("Joy/a.mp4", "Joy/a.mp4.flv"),  # nor is an ending, where there is another
        ("Joy/90% of [us] ^;=", "Joy/90% of [us] ^;=.mp4"),
        ("Joy/Serenity/a.mp4", "Joy/a.mp4"),
        ("Joy/a.mp4", "Joy/Serenity/a.mp4"),
        ("Joy/a", "Joy/Serenity/a.mp4"),
    ],
)
def test_a_listed_name_is_found_with_or_without_ending_and_folder(
    tmp_path: Path, listed: str, file: str
) -> None:
    touch(tmp_path, file, "Anger/x.mp4")
    parts, remarks = joined(tmp_path, lists((listed, "train"), ("Anger/x", "test")))
    assert parts == {file: "train", "Anger/x.mp4": "test"}
    assert remarks == []


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("Joy/a.flv", "Joy/a.mp4"),
        ("Joy/Party", "Joy/PARTY.mp4"),
        ("Joy/u\u0308", "Joy/\u00fc.mp4"),
    ],
)
def test_a_name_that_is_spelt_differently_is_found_and_told(
    tmp_path: Path, listed: str, file: str
) -> None:
    touch(tmp_path, file, "Anger/x.mp4")
    parts, remarks = joined(tmp_path, lists((listed, "train"), ("Anger/x", "test")))
    assert parts[file] == "train"
    assert remarks == [Remark("spelt differently", listed, f"took {file[4:]}")]


def test_the_exact_name_goes_first(tmp_path: Path) -> None:
    touch(tmp_path, "Joy/a.mp4", "Joy/A.mp4", "Joy/b.mp4", "Joy/b-1.mp4", "Anger/x.mp4")
    parts, remarks = joined(
        tmp_path,
        lists(("Joy/A", "train"), ("Joy/a", "test"), ("Joy/b-1", "train"), ("Joy/b", "test")),
    )
    assert (parts["Joy/A.mp4"], parts["Joy/a.mp4"]) == ("train", "test")
    assert (parts["Joy/b-1.mp4"], parts["Joy/b.mp4"]) == ("train", "test")
    assert remarks == [Remark("in the folder, not in the split file", "Anger/x.mp4")]


def test_one_file_stands_for_one_listed_name(tmp_path: Path) -> None:
    touch(tmp_path, "Joy/a.mp4", "Anger/x.mp4")
    parts, remarks = joined(
        tmp_path, lists(("Joy/a.flv", "test"), ("Joy/a.mp4", "train"), ("Anger/x", "test"))
    )
    assert parts == {"Joy/a.mp4": "train", "Anger/x.mp4": "test", "Joy/a.flv": "test"}
    assert remarks == [Remark("in the split file, not in the folder", "Joy/a.flv")]


def test_of_several_files_of_a_name_one_is_taken_and_the_others_told(tmp_path: Path) -> None:
    touch(tmp_path, "Joy/a.avi", "Joy/a.mp4", "Anger/x.mp4")
    parts, remarks = joined(tmp_path, lists(("Joy/a", "train"), ("Anger/x", "test")))
    assert parts == {"Joy/a.avi": "train", "Joy/a.mp4": None, "Anger/x.mp4": "test"}
    assert remarks == [
        Remark("several files of this name", "Joy/a", "took a.avi, not a.mp4"),
        Remark("in the folder, not in the split file", "Joy/a.mp4"),
    ]


def test_what_only_one_of_both_has_is_a_row_and_a_remark(tmp_path: Path) -> None:
    touch(tmp_path, "Joy/a.mp4", "Joy/new.mp4", "Anger/x.mp4")
    parts, remarks = joined(
        tmp_path, lists(("Joy/a", "train"), ("Anger/x", "test"), ("Anger/gone 90%", "test"))
    )
    assert parts["Joy/new.mp4"] is None and parts["Anger/gone 90%"] == "test"
    assert remarks == [
        Remark("in the folder, not in the split file", "Joy/new.mp4"),
        Remark("in the split file, not in the folder", "Anger/gone 90%"),
    ]


def test_the_split_file_of_another_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "Joy/a.mp4", "Anger/x.mp4")
    with pytest.raises(ProtocolError, match="in run 1, found 1 and 0: is it the folder"):
        joined(tmp_path, lists(("Joy/a", "train"), ("Anger/y", "test")))


# ----------------------------------------------------------------------------------- drawn


def files(**counts: int) -> list[File]:
    return [
        File(label, f"{n}.mp4", Path(label) / f"{n}.mp4")
        for label, count in counts.items()
        for n in range(count)
    ]


def test_a_drawn_split_has_the_published_size_and_the_same_share_of_every_class() -> None:
    mhed = {"anger": 145, "disgust": 157, "fear": 137, "joy": 220, "sadness": 226, "surprise": 181}
    rows = draw(files(**mhed), 428, 0)
    assert Counter(row.splits for row in rows) == {("train",): 638, ("test",): 428}
    for label, count in mhed.items():
        tested = sum(row.label == label and row.splits == ("test",) for row in rows)
        assert abs(tested - count * 428 / 1066) < 1


def test_a_drawn_split_depends_on_the_seed_and_not_on_the_order() -> None:
    some = files(joy=30, fear=10)
    again = draw(some[::-1], 16, 0)
    assert sorted(draw(some, 16, 0)) == sorted(again)
    assert sorted(draw(some, 16, 1)) != sorted(again)


def test_copies_are_on_one_side_of_a_drawn_split(tmp_path: Path) -> None:
    some = [
        File(label, f"{n}.mp4", tmp_path / label / f"{n}.mp4")
        for label in ("fear", "joy")
        for n in range(12)
    ]
    for place, file in enumerate(some):
        file.path.parent.mkdir(exist_ok=True)
        file.path.write_bytes(b"" if place == 23 else f"{place // 3:02d}".encode())  # three alike
    for seed in range(20):
        rows = draw(some, 8, seed)
        sides = {place // 3: set[object]() for place in range(23)}
        for place, row in enumerate(rows[:23]):
            sides[place // 3].add(row.splits)
        assert all(len(side) == 1 for side in sides.values()), seed
        assert 6 <= sum(row.splits == ("test",) for row in rows) <= 8
        assert sorted(draw(some[::-1], 8, seed)) == sorted(rows)


# --------------------------------------------------------------------------------- written


def test_index_reads_what_is_written(tmp_path: Path) -> None:
    names = ["Joy/a, b.mp4", 'Joy/"90%" [HD].mp4', "Joy/two\nlines.mp4"]
    touch(tmp_path, *names)
    rows = [Row(tmp_path / name, "Joy", ("train", None)) for name in names]
    write_rows(tmp_path / "lists" / "a.csv", rows, str)
    videos, _ = list_videos(tmp_path / "lists" / "a.csv")
    assert {(v.location, v.splits, v.problem) for v in videos} == {
        (row.path, ("train", None), None) for row in rows
    }


def test_remarks_are_a_table(tmp_path: Path) -> None:
    write_remarks(tmp_path / "a.csv", [Remark("not a video", "Joy/a, b.txt")])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"what": "not a video", "video": "Joy/a, b.txt", "detail": ""}
        ]
