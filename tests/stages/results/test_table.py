import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from stages.results.table import Column, Strip, Table, one_line

HOSTILE = "<b>|a_b & 50% $x$ \\input{x} `c` \x07\n\u2028=1"
TABLE = Table(
    (
        Column("name"),
        Column("runs", "strip"),
        Column("accuracy, %", "spread", best=True),
        Column("interval", "interval"),
        Column("difference, points", "difference"),
        Column("p", "p"),
        Column("read", "lines"),
    ),
    [
        ("one", Strip(0.5, None, None, (0.5,), 0.2, (0, 1)), (0.5, None), (None, None), None,
         None, ("face: a", "sound: b")),
        (HOSTILE, Strip(0.6, 0.5, 0.7, (0.6,), 0.2, (0, 1)), (0.6123, 0.1), (0.5, 0.7),
         (-0.0001, 0.25), 0.00009, ()),
    ],
    "A caption & more",
)  # fmt: skip


def test_csv_has_whole_numbers_in_columns_of_their_own() -> None:
    head, one, other = list(csv.reader(io.StringIO(TABLE.csv())))
    assert head == [
        "name", "accuracy", "accuracy: standard deviation", "interval: low", "interval: high",
        "difference: low", "difference: high", "p", "read",
    ]  # fmt: skip
    assert one == ["one", "0.5", "", "", "", "", "", "", "face: a; sound: b"]
    assert other[1:] == ["0.6123", "0.1", "0.5", "0.7", "-0.0001", "0.25", "9e-05", ""]


def test_a_spreadsheet_runs_no_cell() -> None:
    names = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "a=1"]
    cells = Table((Column("name"),), [(name,) for name in names], "c").csv().splitlines()[1:]
    assert cells == ["'=1+1", "'+1", "'-1", "'@SUM(1)", "'=1", "a=1"]


def test_markdown_has_a_line_a_row_and_the_best_in_bold() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[0] == r"A caption \& more"
    assert lines[2] == "| name | accuracy, % | interval | difference, points | p | read |"
    assert lines[3] == "| :-- | --: | --: | --: | --: | :-- |"
    assert lines[4] == "| one | 50.0 | – | – | – | face: a; sound: b |"
    assert lines[5].endswith(r"| **61.2 ± 10.0** | 50.0 to 70.0 | +0.0 to +25.0 | \< 0.001 | – |")
    assert len(lines) == 6 and r"\<b\>\|a\_b" in lines[5]


def test_latex_is_a_booktabs_table_without_a_name_that_is_a_command() -> None:
    text = TABLE.latex("accuracy")
    assert r"\caption{A caption \& more}\label{tab:accuracy}" in text
    assert r"\begin{tabular}{lrrrrl}" in text and r"\toprule" in text and r"\bottomrule" in text
    assert r"$<$b$>$\textbar{}a\_b \& 50\% \$x\$ \textbackslash{}input\{x\}" in text
    assert r"\textbf{61.2 $\pm$ 10.0}" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and {row.replace(r"\&", "").count("&") for row in rows} == {5}


def test_a_name_at_the_start_of_a_line_is_no_argument_of_the_line_before() -> None:
    text = Table((Column("name"),), [("one",), ("[3cm]",), ("*",)], "c").latex("c")
    assert "one \\\\\n{[}3cm] \\\\\n{*} \\\\\n" in text


def test_a_long_table_may_break_over_pages() -> None:
    rows = [(f"e{n}",) for n in range(60)]
    assert r"\begin{longtable}{l}" in Table((Column("name"),), rows, "c").latex("c")


@given(st.text(max_size=30))
def test_any_name_stays_in_its_cell(name: str) -> None:
    table = Table((Column("name"), Column("n", "count")), [(name, 3)], "c")
    ((cell, count),) = list(csv.reader(io.StringIO(table.csv())))[1:]
    assert cell.removeprefix("'") == one_line(name).removeprefix("'") and count == "3"
    assert len(table.markdown().splitlines()) == 5
    assert len(table.latex("c").splitlines()) == 12
    (row,) = [line for line in table.latex("c").splitlines() if line.endswith(r" & 3 \\")]
    unescaped = row.replace(r"\\", "").replace(r"\{", "").replace(r"\}", "")
    assert unescaped.count("{") == unescaped.count("}")


def test_zero_has_no_sign_of_less() -> None:
    assert Column("d", "points").show(-0.0004) == "+0.0"
    assert Column("d", "points").show(-0.0006) == "−0.1"


def test_a_place_is_within_its_strip() -> None:
    line = Strip(0.5, -0.4, 2.0, (), 0, (-0.5, 0.5))
    assert [line.place(value) for value in (-0.5, 0, 0.5, 2)] == [0, 50, 100, 100]
