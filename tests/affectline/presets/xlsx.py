"""Excel files that the tests make, as Excel writes them (shared strings) or as libraries do."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'

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
    found: dict[str, str] = {}
    for number, sheet in enumerate(sheets):
        rows = ""
        for at, row in enumerate(sheet, start=1):
            cells = ""
            for column, value in enumerate(row):
                place = f'r="{letters(column)}{at}"'
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
                rows += f'<row r="{at}">{cells}</row>'
        part = f"xl/worksheets/sheet{len(sheets) - number}.xml"
        found[part] = f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>"
    listed = "".join(
        f'<sheet name="s{n}" sheetId="{n + 7}" r:id="rId{n + 3}"/>' for n in range(len(sheets))
    )
    found["xl/workbook.xml"] = (
        f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets>{listed}</sheets></workbook>'
    )
    relations = "".join(
        f'<Relationship Id="rId{n + 3}" Type="{OFFICE}/worksheet" '
        f'Target="worksheets/sheet{len(sheets) - n}.xml"/>'
        for n in range(len(sheets))
    )
    found["xl/_rels/workbook.xml.rels"] = f"<Relationships {PACKAGE}>{relations}</Relationships>"
    if strings:
        items = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
        found["xl/sharedStrings.xml"] = f"<sst {MAIN}>{items}</sst>"
    return found


def write_parts(path: Path, content: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def write_xlsx(path: Path, sheets: Sequence[Cells], shared: bool = True) -> Path:
    return write_parts(path, parts(sheets, shared))
