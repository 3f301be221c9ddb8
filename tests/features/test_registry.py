"""The folders of backbones, detectors and heads are their registries: one broken file is one."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

import heads
from features import backbones, detectors
from features.options import module_names
from tests.modules import put

ROOMS = [("backbone", backbones), ("detector", detectors), ("head", heads)]
each = pytest.mark.parametrize(("kind", "room"), ROOMS)


@each
def test_names_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, room: ModuleType
) -> None:
    put(monkeypatch, tmp_path / "room", room, "toy", "raise SystemExit('imported')")
    assert "toy" in room.names() and len(room.names()) > 2
    assert f"{room.__name__}.toy" not in sys.modules


def test_what_heads_share_is_no_head() -> None:
    assert set(heads.names()) == {
        path.stem for path in Path(heads.__file__).parent.glob("*.py") if path.stem != "__init__"
    }


@each
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def build(:", "SyntaxError: .*toy.py, line 1"),
        ("import no_such_library", r"toy\.py:1: ModuleNotFoundError: .*no_such_library"),
        ("SIZE = 3\nSIZE.build()", r"toy\.py:2: AttributeError"),
    ],
)
def test_a_broken_module_breaks_itself_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    room: ModuleType,
    text: str,
    words: str,
) -> None:
    others = room.names()
    put(monkeypatch, tmp_path / "room", room, "toy", text)
    path = f"{room.__name__.replace('.', '/')}/toy.py"
    with pytest.raises(ValueError, match=rf"^{kind} 'toy': {path} cannot be imported: .*{words}"):
        room.load("toy")
    assert room.load(others[0]).__name__ == f"{room.__name__}.{others[0]}"
    assert room.names() == sorted([*others, "toy"])


@each
def test_a_module_without_a_name_of_the_contract_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, room: ModuleType
) -> None:
    text = "".join(f"{name} = None\n" for name in room.CONTRACT if name != "build")
    path = put(monkeypatch, tmp_path / "room", room, "toy", text)
    with pytest.raises(ValueError, match=rf"{kind} 'toy': .*toy\.py lacks build; .*__init__\.py"):
        room.load("toy")
    path.unlink()
    put(monkeypatch, tmp_path / "room", room, "toy", text + "build = None\n")
    assert room.load("toy").build is None


@each
def test_an_unknown_name_lists_the_known_ones_the_likeliest_last(
    kind: str, room: ModuleType
) -> None:
    (name, *_), modules = room.names(), module_names(room.__path__)
    with pytest.raises(ValueError) as told:
        room.load(f"{name}s")
    assert str(told.value) == (
        f"{kind} '{name}s': expected one of {', '.join(modules)}, did you mean '{name}'?"
    )
    assert set(modules) - set(room.names()) <= {backbones.IMPORTED}, "which is no network"


@pytest.mark.parametrize("name", backbones.names())
def test_a_backbone_says_what_it_is_what_it_reads_and_what_it_gives(name: str) -> None:
    said = backbones.describe(name)
    assert said.title.endswith(".") and said.reads and said.gives
    assert not any(mark in text for text in vars(said).values() for mark in ("``", ":class:"))
    module = backbones.load(name)
    assert said.title.split(",")[0] in " ".join(str(module.__doc__).split())


def test_to_be_described_a_module_is_read_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        '"""A toy.\n\nIn: ``frames``, as\n:mod:`features.video` has them.\nOut: ``a`` (3,).\n"""\n'
    )
    path = put(monkeypatch, tmp_path / "room", backbones, "toy", f"{text}raise SystemExit(1)")
    said = backbones.describe("toy")
    assert vars(said) == {
        "title": "A toy.",
        "reads": "frames, as features.video has them.",
        "gives": "a (3,).",
    }
    path.write_text('"""In one line.')
    assert not any(vars(backbones.describe("toy")).values())
    path.write_text('"""In one line."""')
    assert vars(backbones.describe("toy")) == {"title": "In one line.", "reads": "", "gives": ""}
    path.unlink()
    assert not any(vars(backbones.describe("toy")).values())
