"""Tables of the page: one set of rows, shown in HTML and written as CSV, Markdown and LaTeX.

A column has a kind, which alone says how its values are written: `show` for people (in HTML,
Markdown and LaTeX the same words), `plain` for CSV (numbers whole, shares as shares). Names of
videos, classes and experiments come from outside and are escaped for each format; HTML is
escaped by the template engine.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "lines", "count", "number", "decimal", "share", "percent", "points",
               "spread", "interval", "difference", "p", "strip"]  # fmt: skip
"""What a column holds; every kind may hold None too, which is written as a dash.

`text`: a str. `lines`: several. `count`: an int. `number`: a float, with four digits. `decimal`:
one with three decimals. `share`: one in 0..1, with two decimals. `percent`: the same in per cent.
`points`: a difference of shares, with its sign.
`spread`: mean and standard deviation of a share, or the mean and None. `interval`: two shares, or
two None. `difference`: two differences of shares, with their signs. `p`: of a test. `strip`: a
`Strip`, drawn in HTML, left out of files.
"""

NONE = "–"

LONGEST_TABULAR = 45
"""Rows that fit a page of LaTeX; a longer table may break."""


@dataclass(frozen=True)
class Strip:
    """One line of a dot plot, in the units of `span`.

    Attributes:
        mean: where the upright bar is.
        low: end of the interval; None where there is none.
        high: the other end.
        dots: a value a run.
        line: where the dashed line is.
        span: values at the left and at the right end.
    """

    mean: float
    low: float | None
    high: float | None
    dots: tuple[float, ...]
    line: float
    span: tuple[float, float]

    def place(self, value: float) -> float:
        """Return where a value lies: 0 is the left end, 100 the right one."""
        share = (value - self.span[0]) / (self.span[1] - self.span[0])
        return round(100 * min(max(share, 0.0), 1.0), 1)


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: as its head has it.
        kind: of its values.
        best: whether the largest value stands out.
        heat: whether the page's cells are the deeper the larger their value; of shares.
    """

    name: str
    kind: Kind = "text"
    best: bool = False
    heat: bool = False

    @property
    def is_number(self) -> bool:
        """Whether its cells stand at the right."""
        return self.kind not in ("text", "lines", "strip")

    def show(self, value: Any) -> str:
        """Return a value as people read it; what it has of names is not escaped."""
        if value in (None, (), (None, None)):
            return NONE
        return _SHOWN[self.kind](value)

    def plain(self, value: Any) -> list[object]:
        """Return the CSV cells of a value, one for each of `heads`."""
        if self.kind == "strip":
            return []
        if self.kind in ("spread", "interval", "difference"):
            return ["" if part is None else part for part in value or (None, None)]
        if self.kind == "lines":
            return [_safe_cell("; ".join(value or ()))]
        return ["" if value is None else _safe_cell(value) if self.kind == "text" else value]

    @property
    def heads(self) -> list[str]:
        """Names of its columns in a CSV file."""
        name = re.sub(r", (%|points)$", "", self.name)
        if self.kind == "strip":
            return []
        if self.kind == "spread":
            return [name, f"{name}: standard deviation"]
        if self.kind in ("interval", "difference"):
            return [f"{name}: low", f"{name}: high"]
        return [name]

    def sort_key(self, value: Any) -> Any:
        """Return what a column is sorted by, a number or a str; None comes last."""
        if isinstance(value, Strip):
            return value.mean
        if self.kind == "lines":
            return "\n".join(value)
        return value[0] if isinstance(value, tuple) else value


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float, plus: str = "+") -> str:
    tenths = round(100 * share, 1) + 0.0  # which makes -0 a 0
    return f"{tenths:{plus}.1f}".replace("-", "−")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _spread(value: tuple[float, float | None]) -> str:
    mean, std = value
    return _percent(mean) if std is None else f"{_percent(mean)} ± {_percent(std)}"


_SHOWN: dict[str, Callable[[Any], str]] = {
    "text": str,
    "lines": "; ".join,
    "count": lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
    "number": lambda value: f"{value:.4g}".replace("-", "−"),
    "decimal": lambda value: f"{value:.3f}".replace("-", "−"),
    "share": lambda value: f"{value:.2f}",
    "percent": _percent,
    "points": _signed,
    "spread": _spread,
    "interval": lambda value: f"{_signed(value[0], '')} to {_signed(value[1], '')}",
    "difference": lambda value: f"{_signed(value[0])} to {_signed(value[1])}",
    "p": _p,
    "strip": lambda value: "",
}


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Attributes:
        columns: of every row.
        rows: a value for each column.
        caption: what the table is, without its title's full stop.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]
    caption: str

    @property
    def bests(self) -> list[Any]:
        """The value of each column that stands out; None where none does."""
        bests: list[Any] = []
        for column, values in zip(self.columns, zip(*self.rows, strict=True), strict=True):
            keys = [column.sort_key(value) for value in values if column.best and value is not None]
            bests.append(max(keys) if len(keys) > 1 else None)
        return bests

    def _cells(self, escape: Callable[[str], str], strong: str) -> list[list[str]]:
        """Return the cells of all rows as people read them, strips left out."""
        rows = []
        bests = self.bests
        for row in self.rows:
            cells = []
            for column, best, value in zip(self.columns, bests, row, strict=True):
                if column.kind == "strip":
                    continue
                text = escape(column.show(value))
                is_best = best is not None and column.sort_key(value) == best
                cells.append(strong.format(text) if is_best else text)
            rows.append(cells)
        return rows

    def csv(self) -> str:
        """Return the table as CSV: whole numbers, shares in 0..1."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([_safe_cell(head) for column in self.columns for head in column.heads])
        for row in self.rows:
            cells = zip(self.columns, row, strict=True)
            writer.writerow([cell for column, value in cells for cell in column.plain(value)])
        return buffer.getvalue()

    def markdown(self) -> str:
        """Return the table as Markdown, with its caption above."""
        shown = [column for column in self.columns if column.kind != "strip"]
        lines = [
            [_markdown(column.name) for column in shown],
            ["--:" if column.is_number else ":--" for column in shown],
            *self._cells(_markdown, "**{}**"),
        ]
        body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"{_markdown(self.caption)}\n\n{body}\n"

    def latex(self, name: str) -> str:
        """Return the table as LaTeX, for the package booktabs (and longtable, where it is long).

        Args:
            name: what its label is made of.
        """
        shown = [column for column in self.columns if column.kind != "strip"]
        form = "".join("r" if column.is_number else "l" for column in shown)
        head = " & ".join(_latex(column.name) for column in shown) + r" \\"
        body = [" & ".join(cells) + r" \\" for cells in self._cells(_latex, r"\textbf{{{}}}")]
        title = rf"\caption{{{_latex(self.caption)}}}\label{{tab:{name}}}"
        if len(self.rows) > LONGEST_TABULAR:
            start = [rf"\begin{{longtable}}{{{form}}}", rf"{title} \\", r"\toprule", head]
            lines = [*start, r"\midrule", r"\endhead", *body, r"\bottomrule", r"\end{longtable}"]
        else:
            start = [r"\begin{table}", r"\centering", title, rf"\begin{{tabular}}{{{form}}}"]
            end = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
            lines = [*start, r"\toprule", head, r"\midrule", *body, *end]
        return "\n".join(["% needs booktabs, longtable", *lines]) + "\n"


def parted(table: Table, names: Collection[str]) -> tuple[Table, dict[str, Any]]:
    """Return a table without those of some columns that are alike in all rows, and what they have.

    Args:
        table: with at least one row.
        names: of the columns that may go.
    """
    alike = {
        column.name: values[0]
        for column, values in zip(table.columns, zip(*table.rows, strict=True), strict=True)
        if column.name in names and all(value == values[0] for value in values)
    }
    kept = [n for n, column in enumerate(table.columns) if column.name not in alike]
    columns = tuple(table.columns[n] for n in kept)
    rows = [[row[n] for n in kept] for row in table.rows]
    return Table(columns, rows, table.caption), alike


# -------------------------------------------------------------------------------- escaping


def one_line(text: str) -> str:
    """Return text in one line: control characters, which no format takes, become spaces."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join("".join(kept).split())


def _safe_cell(value: object) -> str:
    """Return a text cell of CSV; a spreadsheet runs what begins with one of these as a formula."""
    text = one_line(str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~$&!])", r"\\\1", one_line(text))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # which after a line's end would be its length, as * its star
    "*": "{*}",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _latex(text: str) -> str:
    """Return text that LaTeX sets as it is; letters beyond Latin need XeLaTeX or LuaLaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in one_line(text))
