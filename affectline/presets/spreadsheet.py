"""The cells of an Excel file (.xlsx), which is not to be trusted.

Openpyxl reads it, from an archive of bounded size: formulas give the value that was saved with
them, and what could pull in something else (document types, links) is refused or not followed.
"""

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from xml.parsers import expat

if TYPE_CHECKING:
    from openpyxl.cell.read_only import EmptyCell, ReadOnlyCell
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

Cell = str | int | float | None

MAX_BYTES = 50 * 2**20
"""Archives that would unpack to more are refused."""

_MAX_PARTS = 1000
_MAX_CELLS = 2_000_000  # with the empty ones left of and above a cell that is far out


class SpreadsheetError(ValueError):
    """The file cannot be read as a spreadsheet; the message says why."""


def read_sheets(path: Path) -> list[list[list[Cell]]]:
    """Return the sheets in order, each a list of rows; an empty cell is None.

    Rows and columns that a sheet leaves out are there, so that positions are those of the sheet.

    Raises:
        SpreadsheetError: no archive, too large, or not of this format.
    """
    from openpyxl import load_workbook  # slow to import

    try:
        content = path.open("rb")
    except OSError as error:
        raise SpreadsheetError(f"{path}: cannot be read: {error.strerror or error}") from error
    with content, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about styles and extensions, which nobody reads
        try:
            _check_archive(path, content)
            book = load_workbook(content, read_only=True, data_only=True, keep_links=False)
            return [list(_rows(sheet)) for sheet in book.worksheets]
        except SpreadsheetError:
            raise
        except Exception as error:  # a damaged or hostile archive raises whatever it comes upon
            reason = " ".join(str(error.__cause__ or error).split())
            raise SpreadsheetError(
                f"{path}: expected an Excel file (.xlsx), found: {reason}"
            ) from error


def _check_archive(path: Path, content: BinaryIO) -> None:
    """Refuse an archive that is too large, or that has XML which could expand or pull in more.

    Raises:
        SpreadsheetError: it would unpack to too much.
        ValueError: a part has a document type.
    """
    with zipfile.ZipFile(content) as archive:
        parts = archive.infolist()
        size = sum(part.file_size for part in parts)  # never more is read than a part states
        if size > MAX_BYTES or len(parts) > _MAX_PARTS:
            raise SpreadsheetError(
                f"{path}: expected at most {MAX_BYTES >> 20} MiB in {_MAX_PARTS} parts, found "
                f"{size / 2**20:.0f} MiB in {len(parts)}: is it the file that you mean?"
            )
        for part in parts:
            _check_part(part.filename, archive.read(part))


def _check_part(name: str, content: bytes) -> None:
    """Refuse a part with a document type, in whatever encoding; what is no XML passes."""

    def refuse(*_doctype: object) -> None:
        raise ValueError(f"{name} has a document type")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError:
        pass  # a picture; where openpyxl takes it for XML, it comes no further than here


def _rows(sheet: "ReadOnlyWorksheet") -> Iterator[list[Cell]]:
    sheet.reset_dimensions()  # what a sheet says of its size need not be so
    cells = 0
    for row in sheet.rows:
        cells += 1 + len(row)
        if cells > _MAX_CELLS:
            raise ValueError(f"the sheet {sheet.title!r} has more than {_MAX_CELLS} cells")
        yield [_value(cell) for cell in row]


def _value(cell: "ReadOnlyCell | EmptyCell") -> Cell:
    value = cell.value
    if value is None or value == "" or cell.data_type == "e":  # an error: #N/A
        return None
    if isinstance(value, int | float):  # a yes or no is 1 or 0
        return int(value) if float(value).is_integer() else value
    return str(value)
