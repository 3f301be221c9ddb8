"""Keys: what makes a cached number current."""

import ast
import hashlib
import json
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path

from features.cache.store import _source

PROJECT = Path(__file__).resolve().parents[2]

PACKAGES = ("features", "heads", "stages", "sample", "affectline")
"""Import packages whose source counts as ours: the rest is named by its version only."""

BOOKKEEPING = frozenset(
    {
        "features.cache.store",
        "features.cache.arrays",
        "features.weights.file",
        "features.sources.download",
    }
)
"""Modules that carry, check or name numbers but make none: no part of a code fingerprint."""


def canonical(value: object) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces, the same text for equal values.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: something in ``value`` is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def item_key(ingredients: Mapping[str, object]) -> str:
    """Return the key of the item made from ``ingredients``: 64 hexadecimal digits (sha256)."""
    return hashlib.sha256(canonical(ingredients).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_fingerprint(*modules: str) -> dict[str, str]:
    """Return a hash of the code of each of ``modules`` and of every project module they import.

    The syntax tree is hashed without comments, docstrings and layout: a comment costs nothing,
    a changed formula recomputes.

    Args:
        modules: dotted names, e.g. ``features.video.decode``.

    Returns:
        Dotted name -> 16 hexadecimal digits.
    """
    names = imported_modules(*modules, skip=BOOKKEEPING)
    return {name: _tree_hash(name)[:16] for name in sorted(names)}


def imported_modules(*modules: str, skip: Set[str] = frozenset()) -> set[str]:
    """Return ``modules`` and all project modules they import, directly or through others.

    Args:
        modules: dotted names, e.g. ``features.video.decode``.
        skip: modules to leave out, with what only they import.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in skip:
            found.add(name)
            waiting.extend(_imports(name))
    return found


def module_path(name: str) -> Path:
    """Return the source file of a project module.

    Raises:
        ModuleNotFoundError: no such file in the project.
    """
    stem = PROJECT.joinpath(*name.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"{name}: expected {stem}.py in the project, found none")


def _is_module(name: str) -> bool:
    """Tell whether a module is the project's; where that is installed, its packages alone are."""
    if name.split(".")[0] not in PACKAGES and not (PROJECT / "dvc.yaml").is_file():
        return False
    stem = PROJECT.joinpath(*name.split("."))
    return stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file()


@cache
def _parse(name: str) -> ast.Module:
    path = module_path(name)
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _imports(name: str) -> frozenset[str]:
    """Return the project modules that module ``name`` names in an import statement."""
    found: set[str] = set()
    for node in ast.walk(_parse(name)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = _source(name, node)
            names = [source, *(f"{source}.{alias.name}" for alias in node.names)]
        else:
            continue
        found.update(filter(_is_module, names))
    return frozenset(found)


@cache
def _tree_hash(name: str) -> str:
    tree = ast.parse(ast.unparse(_parse(name)))  # a copy: _parse's tree stays whole
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [statement for statement in body if not _is_text(statement)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    """Tell whether a statement is a bare string: a docstring, or one below a constant."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
