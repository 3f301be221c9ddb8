"""The cells of an Excel file (.xlsx), which is not to be trusted.

Only text and numbers are read, from an archive of bounded size: formulas give the value that was
saved with them, and what could pull in something else (document types, links) is not followed.
The format is ECMA-376, part 1: a zip of XML parts, `workbook.xml` naming the sheets in order.
"""

import lzma
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Cell = str | int | float | None

MAX_BYTES = 50 * 2**20
"""Archives that would unpack to more are refused."""

_MAX_PARTS = 1000
_MAX_ROWS, _MAX_COLUMNS = 2**20, 2**14  # the format's own limits
_MAX_CELLS = 2_000_000  # with the empty ones left of and above a cell that is far out

_WORKBOOK = "xl/workbook.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_STRINGS = "xl/sharedStrings.xml"

# What reading a damaged or hostile archive raises: a password and an unknown compression are
# RuntimeErrors, a number that is none a ValueError, a part that is not there a KeyError.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    ElementTree.ParseError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class SpreadsheetError(ValueError):
    """The file cannot be read as a spreadsheet; the message says why."""


def read_sheets(path: Path) -> list[list[list[Cell]]]:
    """Return the sheets in order, each a list of rows; an empty cell is None.

    Rows and columns that a sheet leaves out are there, so that positions are those of the sheet.

    Raises:
        SpreadsheetError: no archive, too large, or not of this format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            size = sum(part.file_size for part in parts)
            if size > MAX_BYTES or len(parts) > _MAX_PARTS:
                raise SpreadsheetError(
                    f"{path}: expected at most {MAX_BYTES >> 20} MiB in {_MAX_PARTS} parts, found "
                    f"{size / 2**20:.0f} MiB in {len(parts)}: is it the file that you mean?"
                )
            names = {part.filename for part in parts}
            strings = _strings(archive) if _STRINGS in names else []
            return [list(_rows(archive, name, strings)) for name in _sheet_parts(archive)]
    except OSError as error:
        raise SpreadsheetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SpreadsheetError:
        raise
    except _DAMAGE as error:
        raise SpreadsheetError(f"{path}: expected an Excel file (.xlsx), found: {error}") from error


def _part(archive: zipfile.ZipFile, name: str) -> Element:
    """Return the root of an XML part, with names that have no namespace."""
    text = archive.read(name)  # never more than the size that its entry states
    if b"<!DOCTYPE" in text or b"\0" in text:  # entities; UTF-16 could hide them
        raise ValueError(f"{name} has a document type")
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = _plain(element.tag)
    return root


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _sheet_parts(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the parts that hold the sheets, in the order of the workbook."""
    targets = {
        relation.attrib["Id"]: relation.attrib["Target"]
        for relation in _part(archive, _RELATIONS).iter("Relationship")
        if relation.attrib["Type"].endswith("/worksheet")
    }
    parts = []
    for sheet in _part(archive, _WORKBOOK).iter("sheet"):
        (relation,) = (v for k, v in sheet.attrib.items() if k != "id" and _plain(k) == "id")
        if relation in targets:  # a chart has a sheet of another kind
            parts.append(posixpath.normpath(posixpath.join("/xl", targets[relation]))[1:])
    return parts


def _strings(archive: zipfile.ZipFile) -> list[str]:
    return [_text(item) for item in _part(archive, _STRINGS).iter("si")]


def _text(item: Element) -> str:
    """Return the text of a string, of all its runs but not of its reading aid (`rPh`)."""
    runs = [item, *item.iter("r")]
    return "".join(text.text or "" for run in runs for text in run.findall("t"))


def _rows(archive: zipfile.ZipFile, name: str, strings: list[str]) -> Iterator[list[Cell]]:
    above, cells = 0, 0
    for row in _part(archive, name).iter("row"):
        at = int(row.get("r", above + 1))
        found: list[Cell] = []
        for cell in row.iter("c"):
            column = _column(cell.get("r")) if "r" in cell.attrib else len(found)
            if column < len(found):
                raise ValueError(f"{name}: row {at} has cells out of order")
            found += [None] * (column - len(found))
            found.append(_value(cell, strings))
        cells += len(found) + (at - above)
        if not above < at <= _MAX_ROWS or cells > _MAX_CELLS:
            raise ValueError(f"{name}: row {at} is out of order or too far out")
        yield from ([] for _ in range(at - above - 1))
        yield found
        above = at


def _column(place: str | None) -> int:
    """Return 0 for `A7`, 27 for `AB7`."""
    letters = re.fullmatch(r"([A-Z]{1,3})\d+", place or "")
    if letters is None:
        raise ValueError(f"a cell has the place {place!r}")
    column = 0
    for letter in letters[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    if column > _MAX_COLUMNS:
        raise ValueError(f"a cell has the place {place!r}")
    return column - 1


def _value(cell: Element, strings: list[str]) -> Cell:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "".join(_text(text) for text in cell.iter("is")) or None
    text = cell.findtext("v")
    if not text or kind == "e":  # an error: #N/A
        return None
    if kind == "s":
        number = int(text)
        if number < 0:
            raise ValueError(f"a cell has the string {number}")
        return strings[number] or None
    if kind in ("n", "b"):
        value = float(text)
        return int(value) if value.is_integer() else value
    return text
