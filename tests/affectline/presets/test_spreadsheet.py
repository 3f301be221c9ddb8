from datetime import datetime
from pathlib import Path

import pytest
from openpyxl import Workbook
from openpyxl.chart import BarChart

from affectline.presets import spreadsheet
from affectline.presets.spreadsheet import SpreadsheetError, read_sheets
from tests.affectline.presets.xlsx import MAIN, parts, write_parts, write_xlsx

SHEETS = [
    [["number", "name"], [1, "Joy/a & b.mp4"], [], [2.5, None, " 100% <x>"]],
    [[None, 7]],
]


@pytest.mark.parametrize("shared", [True, False])
def test_the_sheets_come_in_the_order_of_the_workbook_with_empty_places(
    tmp_path: Path, shared: bool
) -> None:
    assert read_sheets(write_xlsx(tmp_path / "a.xlsx", SHEETS, shared)) == SHEETS


def sheet(cells: str) -> dict[str, str]:
    made = parts([[["x"]]])
    made["xl/worksheets/sheet1.xml"] = (
        f"<worksheet {MAIN}><sheetData>{cells}</sheetData></worksheet>"
    )
    return made


def test_a_formula_gives_the_value_that_was_saved_with_it(tmp_path: Path) -> None:
    made = sheet(
        '<row r="1"><c r="A1"><f>1+1</f><v>2</v></c><c r="B1" t="str"><f>x</f><v>text</v></c>'
        '<c r="C1"><f>NOW()</f></c><c r="D1" t="e"><v>#N/A</v></c>'
        '<c r="E1" t="b"><v>1</v></c></row>'
    )
    assert read_sheets(write_parts(tmp_path / "a.xlsx", made)) == [[[2, "text", None, None, 1]]]


def test_a_string_in_runs_is_one_and_its_reading_aid_is_left_out(tmp_path: Path) -> None:
    made = parts([[["x"]]])
    made["xl/sharedStrings.xml"] = (
        f"<sst {MAIN}><si><r><t>Jo</t></r><r><t>y</t></r>"
        '<rPh sb="0" eb="3"><t>no</t></rPh></si></sst>'
    )
    assert read_sheets(write_parts(tmp_path / "a.xlsx", made)) == [[["Joy"]]]


def test_cells_and_rows_without_a_place_follow_each_other(tmp_path: Path) -> None:
    made = sheet("<row><c><v>1</v></c><c><v>2</v></c></row><row><c><v>3</v></c></row>")
    assert read_sheets(write_parts(tmp_path / "a.xlsx", made)) == [[[1, 2], [3]]]


@pytest.mark.parametrize(
    "cells",
    [
        '<row r="1"><c r="ZZZZ1"><v>1</v></c></row>',
        '<row><c r="ZZZ1"><v>1</v></c></row>' * 120,
        '<row r="9999999"><c><v>1</v></c></row>',
        '<row r="1"><c t="s"><v>5</v></c></row>',
        '<row r="1"><c><v>one</v></c></row>',
        "<row",
    ],
)
def test_a_sheet_that_is_wrong_is_refused(tmp_path: Path, cells: str) -> None:
    with pytest.raises(SpreadsheetError, match=r"a\.xlsx: expected an Excel file"):
        read_sheets(write_parts(tmp_path / "a.xlsx", sheet(cells)))


def test_what_openpyxl_writes_is_read_with_dates_as_text_and_without_links(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(["name", datetime(2021, 3, 4), True, 3.0])
    book.active["B2"] = "far"
    book.create_chartsheet("picture", 0).add_chart(BarChart())
    book.create_sheet("last").append(["x"])
    book.save(tmp_path / "a.xlsx")
    assert read_sheets(tmp_path / "a.xlsx") == [
        [["name", "2021-03-04 00:00:00", 1, 3], [None, "far"]],
        [["x"]],
    ]


def test_a_sheet_is_as_large_as_its_cells_and_not_as_it_says(tmp_path: Path) -> None:
    made = sheet('<row r="1"><c r="A1"><v>1</v></c></row>')
    name = "xl/worksheets/sheet1.xml"
    made[name] = made[name].replace("<sheetData>", '<dimension ref="A1:XFD1048576"/><sheetData>')
    assert read_sheets(write_parts(tmp_path / "a.xlsx", made)) == [[[1]]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_expanded(tmp_path: Path, encoding: str) -> None:
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
        f'<worksheet {MAIN}><sheetData><row r="1"><c t="str"><v>&b;</v></c></row></sheetData>'
        "</worksheet>"
    )
    made: dict[str, str | bytes] = {**parts([[["x"]]])}
    made["xl/worksheets/sheet1.xml"] = bomb.encode(encoding)
    with pytest.raises(SpreadsheetError, match="has a document type"):
        read_sheets(write_parts(tmp_path / "a.xlsx", made))


def test_what_unpacks_to_too_much_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheet, "MAX_BYTES", 2**20)
    path = write_parts(tmp_path / "a.xlsx", {**parts([[["x"]]]), "filler": bytes(2**21)})
    assert path.stat().st_size < 2**14
    with pytest.raises(SpreadsheetError, match="expected at most 1 MiB in .*found 2 MiB"):
        read_sheets(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"name,split\n"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(SpreadsheetError, match=r"a\.xlsx: expected an Excel file"):
        read_sheets(tmp_path / "a.xlsx")


def test_another_archive_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpreadsheetError, match="expected an Excel file"):
        read_sheets(write_parts(tmp_path / "a.xlsx", {"a.txt": "hello"}))
    with pytest.raises(SpreadsheetError, match=r"none\.xlsx: cannot be read: No such file"):
        read_sheets(tmp_path / "none.xlsx")
