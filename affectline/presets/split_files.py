"""Split files of the papers' data sets, in the forms in which they are passed around.

- `VideoEmotionDataset-TrainTestSplits.xlsx`: a sheet of numbers and paths, and a sheet with a
  column of such numbers for each part of each split;
- `trainlist01.txt` with `testlist01.txt` beside it (a line `<class>/<name> [number of class]`);
  a folder of such pairs gives several runs;
- JSON `{"database": {name: {"subset": ..., "annotations": {"label": ...}}}}`;
- CSV with the columns `path`, `split` or `split_00` and so on, and where the path has no class in
  it, `label`.

A video is named `<class>/<name>`, never by its bare name, which repeats between classes.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from affectline.presets.spreadsheet import Cell, SpreadsheetError, read_sheets

MAX_BYTES = 50 * 2**20
"""Split files larger than this are refused; the largest known one has 200 KiB."""

LIST_NAME = re.compile(r"(train|test)list(\d*)\.txt")
PARTS = ("train", "test")

_SUBSETS = {"training": "train", "train": "train", "testing": "test", "test": "test"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Classes = Mapping[str, str]


class ProtocolError(ValueError):
    """A folder or split file cannot be used; the message says where and what was expected."""


class Entry(NamedTuple):
    """A video as a split file names it: its class, and its path below that."""

    label: str
    inside: str


class Remark(NamedTuple):
    """Something that does not fit: a row of the file beside the CSV."""

    what: str
    video: str
    detail: str = ""


@dataclass(frozen=True)
class Lists:
    """What a split file says: the part of each video in each run, None where it has none."""

    runs: int
    entries: Mapping[Entry, tuple[str | None, ...]]
    remarks: Sequence[Remark] = ()


def spellings(names: Iterable[str]) -> Classes:
    """Return a class name in plain letters -> as the data set spells it."""
    return {plain(name): name for name in names}


def plain(name: str) -> str:
    """Return a name without what file systems and archives change: case, composed letters."""
    return unicodedata.normalize("NFC", name).casefold()


class _Mark(NamedTuple):
    """One statement of a split file: this video has this part in this run."""

    entry: Entry
    run: int
    part: str | None


def read_lists(path: Path, classes: Classes) -> Lists:
    """Read a split file of any known form, or a folder of pairs of lists.

    Raises:
        ProtocolError: what is wrong, and where.
    """
    readers: dict[str, Callable[[Path, Classes], tuple[int, list[_Mark]]]] = {
        ".xlsx": _read_xlsx,
        ".json": _read_json,
        ".csv": _read_csv,
        ".txt": _read_pair,
    }
    try:
        if path.is_dir():
            runs, marks = _read_pairs(path, classes)
        elif path.suffix.lower() not in readers:
            known = ", ".join(readers)
            raise ProtocolError(f"{path}: expected a split file ({known}) or a folder of lists")
        elif (size := path.stat().st_size) > MAX_BYTES:
            raise ProtocolError(
                f"{path}: expected a split file of at most {MAX_BYTES >> 20} MiB, found {size} "
                "bytes"
            )
        else:
            runs, marks = readers[path.suffix.lower()](path, classes)
    except OSError as error:
        raise ProtocolError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{path}: expected text in UTF-8, found: {error}") from error
    except SpreadsheetError as error:
        raise ProtocolError(str(error)) from error
    if not marks:
        raise ProtocolError(f"{path}: expected a list of videos, found it empty")
    return _collect(path, runs, marks)


def _collect(path: Path, runs: int, marks: Iterable[_Mark]) -> Lists:
    """Put the statements together, a row a video.

    Raises:
        ProtocolError: a video trains and tests in one run.
    """
    parts_of: dict[Entry, list[str | None]] = {}
    marked: set[tuple[Entry, int]] = set()
    remarks = []
    for entry, run, part in marks:
        parts = parts_of.setdefault(entry, [None] * runs)
        if (entry, run) in marked:
            if parts[run] != part:
                raise ProtocolError(
                    f"{path}: expected each video once in a run, found {'/'.join(entry)} in "
                    f"{parts[run]} and in {part} of run {run + 1}"
                )
            remarks.append(Remark("listed twice", "/".join(entry), f"in run {run + 1}"))
        marked.add((entry, run))
        parts[run] = part
    return Lists(runs, {entry: tuple(parts) for entry, parts in parts_of.items()}, remarks)


def _entry(text: str, classes: Classes, where: str) -> Entry:
    """Return the video that a path means: its class, and what stands below that.

    Raises:
        ProtocolError: it leaves the folder, or no class is in it.
    """
    parts = text.split("/")
    if text.startswith("/") or ".." in parts or _CONTROL.search(text):
        raise ProtocolError(f"{where}: expected a path below the folder, found {text!r}")
    parts = [part for part in parts if part not in ("", ".")]
    for depth, part in enumerate(parts[:-1]):
        if plain(part) in classes:
            return Entry(classes[plain(part)], "/".join(parts[depth + 1 :]))
    raise ProtocolError(
        f"{where}: expected <class>/<name> with one of the classes {', '.join(classes.values())}, "
        f"found {text!r}"
    )


def _read_pairs(folder: Path, classes: Classes) -> tuple[int, list[_Mark]]:
    """Read all of `trainlist01.txt`, `testlist01.txt`, `trainlist02.txt`, ... of a folder."""
    lists = sorted(path for path in folder.iterdir() if LIST_NAME.fullmatch(path.name))
    if not lists:
        raise ProtocolError(f"{folder}: expected trainlist01.txt and testlist01.txt, found neither")
    numbers = sorted({_number(path) for path in lists})
    marks = [
        mark._replace(run=run)
        for run, number in enumerate(numbers)
        for mark in _read_pair(folder / f"trainlist{number}.txt", classes)[1]
    ]
    return len(numbers), marks


def _number(path: Path) -> str:
    match = LIST_NAME.fullmatch(path.name)
    if match is None:
        raise ProtocolError(f"{path}: expected a name like trainlist01.txt or testlist01.txt")
    return match[2]


def _read_pair(path: Path, classes: Classes) -> tuple[int, list[_Mark]]:
    """Read a train list and the test list beside it; `path` is either."""
    number = _number(path)
    marks = []
    for part in PARTS:
        file = path.with_name(f"{part}list{number}.txt")
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
        named = [(line_number, line) for line_number, line in enumerate(lines, start=1) if line]
        # The number of the class ends every line or none: a name may end in a number itself.
        numbered = all(re.search(r"\S \d+$", line) for _, line in named)
        for line_number, line in named:
            where = f"{file}, line {line_number}"
            name, _, stated = line.rpartition(" ") if numbered else (line, "", "")
            entry = _entry(name, classes, where)
            # A copy of the list for another set of classes would be all wrong without a sign.
            if stated and sorted(classes.values()).index(entry.label) + 1 != int(stated):
                raise ProtocolError(
                    f"{where}: expected the number of {entry.label} among the classes in order of "
                    f"the alphabet, from 1, found {stated}"
                )
            marks.append(_Mark(entry, 0, part))
    return 1, marks


def _read_json(path: Path, classes: Classes) -> tuple[int, list[_Mark]]:
    """Read the JSON form; a name that stands in it twice, for two classes, is two videos."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
        database = _pairs(dict(_pairs(content))["database"])
        videos = [(name, dict(_pairs(video))) for name, video in database]
        subsets = [
            (name, str(dict(_pairs(video["annotations"]))["label"]), str(video["subset"]))
            for name, video in videos
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(
            f'{path}: expected {{"database": {{name: {{"subset": ..., "annotations": {{"label": '
            f"...}}}}}}}}, found: {error!r}"
        ) from error
    # With two subsets, the one called validation is the test list.
    parts: dict[str, str | None] = dict(_SUBSETS)
    tested = any(_SUBSETS.get(subset) == "test" for _, _, subset in subsets)
    parts["validation"] = None if tested else "test"
    marks = []
    for name, label, subset in subsets:
        if subset not in parts:
            raise ProtocolError(
                f"{path}: expected the subset of {name!r} to be one of {', '.join(parts)}, found "
                f"{subset!r}"
            )
        marks.append(_Mark(_entry(f"{label}/{name}", classes, str(path)), 0, parts[subset]))
    return 1, marks


class _Pairs(list[tuple[str, object]]):
    """An object of JSON with all its pairs."""


def _pairs(value: object) -> _Pairs:
    if not isinstance(value, _Pairs):
        raise TypeError(f"{value!r:.60} where an object was expected")
    return value


def _read_csv(path: Path, classes: Classes) -> tuple[int, list[_Mark]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            runs = [name for name in columns if name not in ("path", "label")]
            numbered = [f"split_{number:02d}" for number in range(len(runs))]
            if "path" not in columns or not runs or runs not in (["split"], numbered):
                raise ProtocolError(
                    f"{path}: expected the columns path, label (or a path with it) and split, or "
                    f"split_00 and so on, found {','.join(columns)}"
                )
            return len(runs), list(_csv_marks(path, reader, runs, classes))
    except csv.Error as error:
        raise ProtocolError(f"{path}: expected a CSV, found: {error}") from error


def _csv_marks(
    path: Path, reader: "csv.DictReader[str]", runs: Sequence[str], classes: Classes
) -> Iterator[_Mark]:
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        file, label = row["path"] or "", row.get("label") or ""
        if label and plain(label) not in classes:
            known = ", ".join(classes.values())
            raise ProtocolError(f"{where}: expected a label of {known}, found {label!r}")
        if label and plain(label) not in (plain(part) for part in file.split("/")[:-1]):
            file = file if file.startswith("/") else f"{label}/{file}"
        entry = _entry(file, classes, where)
        for run, name in enumerate(runs):
            part = row[name] or None
            if part not in (None, *PARTS):
                raise ProtocolError(f"{where}: expected train, test or nothing, found {part!r}")
            yield _Mark(entry, run, part)


def _read_xlsx(path: Path, classes: Classes) -> tuple[int, list[_Mark]]:
    """Read VideoEmotion-8's split file: names in sheet 1, their numbers by split in sheet 2."""
    sheets = read_sheets(path)
    if len(sheets) < 2:
        raise ProtocolError(
            f"{path}: expected a sheet of names and one of splits, found {len(sheets)} sheets"
        )
    names = _read_names(path, sheets[0], classes)
    heads = [
        (row_number, {column: match[1] for column, match in matches.items()})
        for row_number, row in enumerate(sheets[1])
        if (matches := _found(row, r"\s*split\D*(\d+)\s*"))
    ]
    if len(heads) != 1:
        raise ProtocolError(
            f"{path}, sheet 2: expected one row with Split 1, Split 2, ..., found {len(heads)}"
        )
    ((row_number, columns),) = heads
    if sorted(map(int, columns.values())) != list(range(1, len(columns) + 1)):
        raise ProtocolError(
            f"{path}, sheet 2: expected Split 1, Split 2, ... once each, found "
            f"{', '.join(columns.values())}"
        )
    marks = []
    for column, run in columns.items():
        for offset, part in enumerate(PARTS):
            place = f"{path}, sheet 2, column {column + offset + 1}"
            cells = [
                row[column + offset] if column + offset < len(row) else None for row in sheets[1]
            ]
            title = str(cells[row_number + 1]) if row_number + 1 < len(cells) else ""
            if PARTS[1 - offset] in title.casefold():
                raise ProtocolError(f"{place}: expected {part} below Split {run}, found {title}")
            for number in cells[row_number + 2 :]:
                if number is None:
                    continue
                if not isinstance(number, int) or number not in names:
                    raise ProtocolError(f"{place}: expected a number of sheet 1, found {number!r}")
                marks.append(_Mark(names[number], int(run) - 1, part))
    return len(columns), marks


def _read_names(path: Path, sheet: Sequence[Sequence[Cell]], classes: Classes) -> dict[int, Entry]:
    """Return number -> video of the sheet whose column `Video Name and Directory` has the paths.

    The number stands to the left of the path.
    """
    title = r"\s*video name and directory\s*"
    heads = [
        (row_number, *matches)
        for row_number, row in enumerate(sheet)
        if (matches := _found(row, title))
    ]
    if len(heads) != 1 or len(heads[0]) != 2 or heads[0][1] == 0:
        raise ProtocolError(
            f"{path}, sheet 1: expected a column `Video Name and Directory` and the numbers on its "
            f"left, found {[list(row)[:4] for row in sheet[:2]]}"
        )
    ((start, column),) = heads
    names: dict[int, Entry] = {}
    for row_number, row in enumerate(sheet[start + 1 :], start=start + 2):
        where = f"{path}, sheet 1, row {row_number}"
        number, name = [*row, *[None] * (column + 1)][column - 1 : column + 1]
        if name is None:
            continue
        if isinstance(number, str) and number.isascii() and number.isdigit():
            number = int(number)
        if number is None and not names:  # a second line of the header
            continue
        if not isinstance(number, int) or number in names:
            raise ProtocolError(
                f"{where}: expected a number that no other video has, found {number!r}"
            )
        names[number] = _entry(str(name).strip(), classes, where)
    return names


def _found(row: Sequence[Cell], pattern: str) -> dict[int, re.Match[str]]:
    """Return column -> match of the cells whose text fits `pattern`, case aside."""
    matches = {
        column: re.fullmatch(pattern, cell, re.IGNORECASE)
        for column, cell in enumerate(row)
        if isinstance(cell, str)
    }
    return {column: match for column, match in matches.items() if match}
