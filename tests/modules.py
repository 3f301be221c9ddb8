"""Modules that a test puts into a room: a backbone, a detector or a head, whole or broken."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


def put(
    monkeypatch: pytest.MonkeyPatch, folder: Path, room: ModuleType, name: str, text: str
) -> Path:
    """Put a file into a room for the time of a test, in place of the one of that name.

    Args:
        monkeypatch: takes it out again.
        folder: that the file is written to; it becomes a part of the room.
        room: a package, e.g. ``heads``.
        name: of the module.
        text: its source.

    Returns:
        The file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    if str(folder) not in room.__path__:
        monkeypatch.setattr(room, "__path__", [str(folder), *room.__path__])
    module = f"{room.__name__}.{name}"
    monkeypatch.setitem(sys.modules, module, room)  # so that what was there comes back
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(room, name, None, raising=False)
    importlib.invalidate_caches()
    return path
