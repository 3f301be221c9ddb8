"""Excel files that the tests make, as Excel writes them (shared strings) or as libraries do."""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"

Cells = Sequence[Sequence[str | int | float | None]]


def letters(column: int) -> str:
    name = ""
    while column >= 0:
        name = chr(ord("A") + column % 26) + name
        column = column // 26 - 1
    return name


def parts(sheets: Sequence[Cells], shared: bool = True) -> dict[str, str]:
    """Return the XML parts of a workbook; sheet 1 lies in the part with the last number."""
    strings: list[str] = []
    written: dict[str, str] = {}
    for number, sheet in enumerate(sheets):
        rows = ""
        for row_number, row in enumerate(sheet, start=1):
            cells = ""
            for column, value in enumerate(row):
                place = f'r="{letters(column)}{row_number}"'
                if value is None:
                    continue
                if isinstance(value, int | float):
                    cells += f"<c {place}><v>{value}</v></c>"
                elif shared:
                    cells += f'<c {place} t="s"><v>{len(strings)}</v></c>'
                    strings.append(value)
                else:
                    cells += f'<c {place} t="inlineStr"><is><t>{escape(value)}</t></is></c>'
            if cells:
                rows += f'<row r="{row_number}">{cells}</row>'
        part = f"xl/worksheets/sheet{len(sheets) - number}.xml"
        written[part] = f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>"
    listed = "".join(
        f'<sheet name="s{n}" sheetId="{n + 7}" r:id="rId{n + 3}"/>' for n in range(len(sheets))
    )
    written["xl/workbook.xml"] = (
        f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets>{listed}</sheets></workbook>'
    )
    relations = "".join(
        f'<Relationship Id="rId{n + 3}" Type="{OFFICE}/worksheet" '
        f'Target="worksheets/sheet{len(sheets) - n}.xml"/>'
        for n in range(len(sheets))
    )
    written["xl/_rels/workbook.xml.rels"] = f"<Relationships {PACKAGE}>{relations}</Relationships>"
    if strings:
        items = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
        written["xl/sharedStrings.xml"] = f"<sst {MAIN}>{items}</sst>"
    written["[Content_Types].xml"] = content_types(written)
    return written


def content_types(names: Iterable[str]) -> str:
    """Return the part that says of each other part what it is."""
    kinds = {
        "xl/workbook.xml": "sheet.main",
        "xl/sharedStrings.xml": "sharedStrings",
    }
    overrides = "".join(
        f'<Override PartName="/{name}" ContentType="{TYPES}.{kinds.get(name, "worksheet")}+xml"/>'
        for name in names
        if not name.endswith(".rels")
    )
    space = "http://schemas.openxmlformats.org/package/2006/content-types"
    return (
        f'<Types xmlns="{space}"><Default Extension="rels" ContentType="'
        f'application/vnd.openxmlformats-package.relationships+xml"/>{overrides}</Types>'
    )


def write_parts(path: Path, content: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def write_xlsx(path: Path, sheets: Sequence[Cells], shared: bool = True) -> Path:
    return write_parts(path, parts(sheets, shared))
