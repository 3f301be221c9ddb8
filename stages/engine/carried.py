"""Files that a value names, and the value as it is where they lie elsewhere.

What makes an item names its files wherever it likes: in a dataclass, in a dataclass of that, in
what a function has been given beforehand.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any


def files_of(value: Any) -> set[Path]:
    """Return the files that a value names: those of its paths where there is one."""
    if isinstance(value, Path):
        return {value} if value.is_file() else set()
    return set().union(*(files_of(part) for part in _parts(value)))


def moved(value: Any, places: Mapping[Path, Path]) -> Any:
    """Return a value with the files that it names elsewhere; what names none is the same object.

    Args:
        value: it is left as it is.
        places: path of a file -> where it lies.
    """
    if isinstance(value, Path):
        return places.get(value, value)
    before = _parts(value)
    parts = [moved(part, places) for part in before]
    if all(new is old for new, old in zip(parts, before, strict=True)):
        return value
    if isinstance(value, partial):
        return partial(value.func, *parts[0], **parts[1])
    if isinstance(value, Mapping):
        return dict(zip(value, parts, strict=True))
    if isinstance(value, (tuple, list)):
        return type(value)(parts)
    names = [field.name for field in fields(value)]
    return replace(value, **dict(zip(names, parts, strict=True)))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, partial):
        return [value.args, value.keywords]
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (tuple, list)):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return []
