"""What the papers report, read from the heads' files without running them: torch stays out."""

from pathlib import Path

import pytest

import heads
from tests.modules import put


def test_each_table_is_the_one_that_the_head_itself_has() -> None:
    references, broken = heads.references()
    assert not broken
    assert references == {name: heads.load(name).REFERENCE for name in heads.names()}
    assert sum(len(rows) for rows in references.values()) > 100


def test_a_row_is_known_by_its_head_and_its_place_in_the_papers() -> None:
    references, _ = heads.references()
    places = [
        (head, row.paper, row.table, row.data, row.name)
        for head, rows in references.items()
        for row in rows
    ]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("REFERENCE = (", "heads/rdam.py cannot be read: SyntaxError"),
        ("Params = 1", "heads/rdam.py defines no REFERENCE"),
        ("from math import pi\nREFERENCE = (pi,)", "NameError: name 'pi' is not defined"),
        ("REFERENCE = (Reported('P', 'Table 1'),)", "REFERENCE is read by itself, .*TypeError"),
    ],
)
def test_a_head_of_which_none_can_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    put(monkeypatch, tmp_path / "room", heads, "rdam", text)
    references, broken = heads.references()
    assert list(references) == [name for name in heads.names() if name != "rdam"]
    (line,) = broken
    with pytest.raises(ValueError, match=rf"^head 'rdam': .*{complaint}"):
        raise ValueError(line)


def test_a_table_uses_what_its_file_defines_and_nothing_else_of_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
import nothing_of_that_name
from heads import Reported
raise ValueError("run")
DATA: tuple[Emotion, ...] = ("HEIV",)
SHARES = {"a": 0.5}
SHARES |= {"b": nothing_of_that_name.pi} if not DATA else {"b": 0.25}
def share(name: Emotion) -> float:
    return SHARES[name] / scale
scale, other = 2, 3
REFERENCE: Sequence[Reported] = tuple(
    Reported("P", "Table 1", DATA[0], name, ("face",), share(name)) for name in ("a", "b")
)
"""
    put(monkeypatch, tmp_path / "room", heads, "rdam", text)
    references, broken = heads.references()
    assert not broken
    assert [(row.name, row.accuracy) for row in references["rdam"]] == [("a", 0.25), ("b", 0.125)]
