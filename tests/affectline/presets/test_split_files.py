import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from affectline.presets import split_files
from affectline.presets.split_files import (
    Entry,
    ProtocolError,
    Remark,
    plain,
    read_lists,
    spellings,
)
from tests.affectline.presets.xlsx import Cells, write_xlsx

CLASSES = spellings(["Anger", "Fear", "Joy"])

Found = dict[str, tuple[str | None, ...]]


def read(path: Path) -> Found:
    return {"/".join(entry): splits for entry, splits in read_lists(path, CLASSES).entries.items()}


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------ xlsx

NAMES: Cells = [
    ["No.", "Video Name and Directory", "Link"],
    [None, "(class/search word/file)", None],
    [1, "Anger/RoadRage/1 road.mp4", "x"],
    [2, "Anger/Annoyance/90%.flv", None],
    [3, "Joy/Serenity/a.b.mp4", None],
    [4, "Fear/Terror/same.mp4", None],
    [5, "Joy/Serenity/same.mp4", None],
]
SPLITS: Cells = [
    ["Split 1", None, "Split 2", None],
    ["Train", "Test", "Train", "Test"],
    [1, 2, 2, 1],
    [3, 4, 4, 3],
    [None, None, 5, None],
]


def test_the_excel_file_has_a_pair_of_columns_a_run(tmp_path: Path) -> None:
    expected = {
        "Anger/RoadRage/1 road.mp4": ("train", "test"),
        "Anger/Annoyance/90%.flv": ("test", "train"),
        "Joy/Serenity/a.b.mp4": ("train", "test"),
        "Fear/Terror/same.mp4": ("test", "train"),
        "Joy/Serenity/same.mp4": (None, "train"),
    }
    assert read(write_xlsx(tmp_path / "a.xlsx", [NAMES, SPLITS])) == expected


def changed(cells: Cells, row: int, column: int, value: str | int | None) -> Cells:
    rows = [list(cells_of_row) for cells_of_row in cells]
    rows[row][column] = value
    return rows


HOSTILE: Sequence[tuple[Cells, Cells, str]] = [
    (changed(NAMES, 3, 1, "Anger/../../../etc/passwd"), SPLITS, "row 4: expected a path below"),
    (changed(NAMES, 3, 1, "/Anger/a.mp4"), SPLITS, "row 4: expected a path below the folder"),
    (changed(NAMES, 3, 1, "Rage/a.mp4"), SPLITS, r"row 4: expected <class>/<name> .*Anger, Fear"),
    (changed(NAMES, 3, 0, 1), SPLITS, "row 4: expected a number that no other video has, found 1"),
    (changed(NAMES, 3, 0, "two"), SPLITS, "row 4: expected a number"),
    (changed(NAMES, 3, 0, None), SPLITS, "row 4: expected a number"),
    (changed(NAMES, 0, 1, "Name"), SPLITS, "sheet 1: expected a column `Video Name and Dir"),
    (NAMES, changed(SPLITS, 3, 1, 9), "column 2: expected a number of sheet 1, found 9"),
    (NAMES, changed(SPLITS, 3, 1, "4; DROP"), "column 2: expected a number of sheet 1, found '4"),
    (NAMES, changed(SPLITS, 3, 1, 3), "found Joy/Serenity/a.b.mp4 in train and in test of run 1"),
    (NAMES, changed(SPLITS, 0, 2, "Split 1"), "expected Split 1, Split 2, ... once each"),
    (NAMES, changed(SPLITS, 1, 0, "Testing"), "column 1: expected train below Split 1"),
    (NAMES, [["a", "b"], [1, 2]], "expected one row with Split 1, Split 2"),
    (NAMES, [*SPLITS, ["Split 3"]], "expected one row with Split 1"),
]


@pytest.mark.parametrize(("names", "splits", "words"), HOSTILE)
def test_an_excel_file_with_other_columns_or_numbers_is_refused(
    tmp_path: Path, names: Cells, splits: Cells, words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        read(write_xlsx(tmp_path / "a.xlsx", [names, splits]))


def test_an_excel_file_needs_two_sheets(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="found 1 sheets"):
        read(write_xlsx(tmp_path / "a.xlsx", [NAMES]))
    (tmp_path / "b.xlsx").write_text("no")
    with pytest.raises(ProtocolError, match="expected an Excel file"):
        read(tmp_path / "b.xlsx")


# ----------------------------------------------------------------------------------- lists


def test_a_train_list_comes_with_the_test_list_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "trainlist01.txt", "Joy/a 1.avi 3", "anger/1000 1", "")
    write(tmp_path / "testlist01.txt", "Joy/take 2", "Fear/90% [HD] ^;=")
    expected = {
        "Joy/a 1.avi": ("train",),
        "Anger/1000": ("train",),
        "Joy/take 2": ("test",),
        "Fear/90% [HD] ^;=": ("test",),
    }
    assert read(tmp_path / "trainlist01.txt") == expected
    assert read(tmp_path / "testlist01.txt") == expected


def test_a_folder_of_lists_has_a_run_a_pair(tmp_path: Path) -> None:
    for number, (train, test) in {"01": "ab", "02": "ba"}.items():
        write(tmp_path / f"trainlist{number}.txt", f"Joy/{train}")
        write(tmp_path / f"testlist{number}.txt", f"Joy/{test}")
    write(tmp_path / "classInd.txt", "1 Anger")
    assert read(tmp_path) == {"Joy/a": ("train", "test"), "Joy/b": ("test", "train")}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Joy/../../x 3", r"trainlist01\.txt, line 2: expected a path below the folder"),
        ("Joy/a\x1b[2J 3", "line 2: expected a path below the folder"),
        ("Rage/a 3", "line 2: expected <class>/<name>"),
        ("Joy 3", "line 2: expected <class>/<name>"),
        ("Joy/b 1", "line 2: expected the number of Joy among the classes"),
        ("Fear/t 2", "found Fear/t in train and in test of run 1"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, line: str, words: str
) -> None:
    write(tmp_path / "trainlist01.txt", "Joy/a 3", line)
    write(tmp_path / "testlist01.txt", "Fear/t")
    with pytest.raises(ProtocolError, match=words):
        read(tmp_path / "trainlist01.txt")


def test_a_list_without_its_other_half_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "trainlist01.txt", "Joy/a 3")
    with pytest.raises(ProtocolError, match=r"testlist01\.txt: cannot be read: No such file"):
        read(path)
    with pytest.raises(ProtocolError, match="expected a name like trainlist01"):
        read(write(tmp_path / "videos.txt", "Joy/a"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ProtocolError, match=r"expected trainlist01\.txt and testlist01\.txt"):
        read(tmp_path / "none")


def test_a_line_that_comes_again_is_told(tmp_path: Path) -> None:
    write(tmp_path / "trainlist01.txt", "Joy/a 3", "Joy/a 3")
    write(tmp_path / "testlist01.txt", "Joy/b")
    lists = read_lists(tmp_path / "trainlist01.txt", CLASSES)
    assert lists.entries == {Entry("Joy", "a"): ("train",), Entry("Joy", "b"): ("test",)}
    assert lists.remarks == [Remark("listed twice", "Joy/a", "in run 1")]


# ------------------------------------------------------------------------------------ json


def pair(name: str, subset: str, label: str) -> str:
    content = {"subset": subset, "annotations": {"label": label}}
    return f"{json.dumps(name)}: {json.dumps(content)}"


def write_json(path: Path, *pairs: str) -> Path:
    return write(path, f'{{"labels": ["Anger"], "database": {{{", ".join(pairs)}}}}}')


def test_in_json_validation_is_the_test_list_and_a_name_may_be_two_videos(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "a.json",
        pair("same", "training", "Joy"),
        pair("same", "validation", "Fear"),
        pair("90%", "training", "anger"),
    )
    assert read(path) == {
        "Joy/same": ("train",),
        "Fear/same": ("test",),
        "Anger/90%": ("train",),
    }


def test_in_json_with_three_subsets_validation_is_neither(tmp_path: Path) -> None:
    subsets = {"a": "training", "b": "validation", "c": "testing"}
    path = write_json(tmp_path / "a.json", *(pair(n, s, "Joy") for n, s in subsets.items()))
    assert read(path) == {"Joy/a": ("train",), "Joy/b": (None,), "Joy/c": ("test",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "expected {"),
        ("{", "expected {"),
        ('{"database": []}', "expected {"),
        ('{"database": {"a": 3}}', "expected {"),
        ('{"database": {"a": {"subset": "training"}}}', "found: KeyError"),
        ("[" * 200_000, "expected {"),
        ('{"database": {}}', "found it empty"),
        (f'{{"database": {{{pair("a", "dev", "Joy")}}}}}', "the subset of 'a' .*found 'dev'"),
        (f'{{"database": {{{pair("../a", "training", "Joy")}}}}}', "expected a path below"),
        (f'{{"database": {{{pair("a", "training", "Rage")}}}}}', "expected <class>/<name>"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        read(write(tmp_path / "a.json", text))


# ------------------------------------------------------------------------------------- csv


def test_a_csv_has_its_class_in_the_path_or_in_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "path,label,split", "joy/a.mp4,,train", '"b, 1.mp4",Fear,test')
    assert read(path) == {"Joy/a.mp4": ("train",), "Fear/b, 1.mp4": ("test",)}
    path = write(
        tmp_path / "b.csv", "path,split_00,split_01", "Joy/a.mp4,train,", "Joy/b,test,train"
    )
    assert read(path) == {"Joy/a.mp4": ("train", None), "Joy/b": ("test", "train")}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["path,label", "a,Joy"], "expected the columns path"),
        (["name,split", "Joy/a,train"], "expected the columns path"),
        (["path,split_01", "Joy/a,train"], "expected the columns path"),
        (["path,split", "Joy/a,dev"], "line 2: expected train, test or nothing, found 'dev'"),
        (["path,label,split", "a,Rage,train"], "line 2: expected a label of Anger, Fear, Joy"),
        (["path,label,split", "../a,Joy,train"], "line 2: expected a path below the folder"),
        (["path,label,split", "/data/a,Joy,train"], "line 2: expected a path below the folder"),
        (["path,split", "Joy/a,train", "Joy/a,test"], "found Joy/a in train and in test"),
        (["path,split"], "found it empty"),
        (["path,split", '"Joy/a'], "expected a CSV"),
    ],
)
def test_a_csv_that_is_wrong_is_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        read(write(tmp_path / "a.csv", *lines))


# ------------------------------------------------------------------------------------- all


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProtocolError, match=r"expected a split file \(\.xlsx, \.json"):
        read(write(tmp_path / "a.pkl", "x"))
    with pytest.raises(ProtocolError, match=r"none\.csv: cannot be read"):
        read(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("path,split\nJoy/ü,train\n".encode("latin-1"))
    with pytest.raises(ProtocolError, match="expected text in UTF-8"):
        read(tmp_path / "latin.csv")
    monkeypatch.setattr(split_files, "MAX_BYTES", 2)
    with pytest.raises(ProtocolError, match="of at most 0 MiB"):
        read(tmp_path / "latin.csv")


def test_plain_letters_have_no_case_and_are_composed() -> None:
    assert plain("Überraschung") == plain("U\u0308BERRASCHUNG")
