"""Keys: what makes a cached number current.

The key of an item is the hash of all that went into it (:func:`item_key`): the content of what it
was made from, the parameters that matter, and the code that made it (:func:`code_fingerprint`).

The code is taken definition by definition: from the function that makes an item, each function,
class and constant of the project that it reaches by name is hashed, and nothing else of the files
they lie in. So a licence, a mirror's address or a paper's printed accuracy beside a network is in
no key, a helper's changed constant is, and moving a definition to another file costs nothing.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from features.cache.syntax import (
    IMPORTERS,
    counting,
    defined_names,
    dump,
    global_names,
    imported_by_name,
    is_script,
    is_text,
    statements,
)

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "heads", "stages", "sample")
"""Import packages whose source counts as ours: the rest is named by its version only."""

BOOKKEEPING = (
    "features.backbones.load",
    "features.cache.arrays.COMPACT",
    "features.cache.arrays.FAST",
    "features.cache.arrays.Packing",
    "features.cache.arrays.PICTURES",
    "features.cache.arrays._parts",
    "features.cache.arrays.read",
    "features.cache.arrays.read_attributes",
    "features.cache.arrays.streamed",
    "features.cache.claims",
    "features.cache.digests",
    "features.cache.keys",
    "features.cache.pixels",
    "features.cache.store",
    "features.cache.syntax",
    "features.cache.summaries",
    "features.cache.tables",
    "features.detectors.load",
    "features.networks.runtimes",
    "features.networks.streams",
    "features.options",
    "features.sources.archives.LARGEST_BYTES",
    "features.sources.archives.sizes",
    "features.sources.readers.opened_apart",
    "features.weights.file.check_keys",
    "features.weights.file.metadata",
    "heads.load",
    "heads.training.memory",
    "stages.engine.items",
    "stages.engine.params",
    "stages.engine.progress",
    "stages.engine.readers",
    "stages.engine.runtime",
    "stages.engine.workers",
)
"""Modules and definitions that carry, check or name numbers but make none: in no fingerprint.

A filter packs numbers and gives them back to the bit: which one an array file has is in no key.

Runtimes make the numbers that torch makes, within what float16 rounds: PARITY.md shows it.

What options and params give is in the key by its value.
"""

Fingerprint = dict[str, str]
"""Dotted name of a definition -> 16 hexadecimal digits."""


def canonical(value: object) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces, the same text for equal values.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: something in ``value`` is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def item_key(ingredients: Mapping[str, object]) -> str:
    """Return the key of the item made from ``ingredients``: 64 hexadecimal digits (sha256).

    Of the fingerprint under ``code`` the hashes count and not the names.
    """
    code = ingredients.get("code")
    if isinstance(code, Mapping):
        ingredients = {**ingredients, "code": sorted({str(digest) for digest in code.values()})}
    return hashlib.sha256(canonical(ingredients).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------ fingerprint


def code_fingerprint(*entries: str) -> Fingerprint:
    """Return a hash of each definition of the project that ``entries`` reach, themselves as well.

    A definition is a function, class or constant at the top of a module. It is hashed without
    comments, docstrings, layout, imports, annotations of functions and the wording of errors. A
    module that is used as a whole (handed to a function) counts with all that it defines.

    What is reached by a name that only the run knows (a backbone that params.yaml names) has to
    be an entry.

    Args:
        entries: dotted names of definitions, e.g. ``features.faces.crop``, or of modules.

    Returns:
        In the order of their names. Python's version changes nothing.

    Raises:
        ModuleNotFoundError: an entry is not of the project.
        ValueError: a module that is reached imports ``*``, or is no Python.
    """
    return dict(_fingerprint(entries))


@cache  # a stage asks for each of its items
def _fingerprint(entries: tuple[str, ...]) -> Fingerprint:
    meant = {entry: _resolve(entry) for entry in entries}
    waiting = [definition for entry in entries for definition in meant[entry]]
    if missing := [entry for entry, definitions in meant.items() if not definitions]:
        raise ModuleNotFoundError(f"{', '.join(missing)}: expected a definition of the project")
    fingerprint: Fingerprint = {}
    while waiting:
        module, name = waiting.pop()
        dotted = f"{module}.{name}"
        if dotted not in fingerprint:
            digest, references = _definition(module, name)
            fingerprint[dotted] = digest
            waiting += [part for reference in references for part in _resolve(reference)]
    return dict(sorted(fingerprint.items()))


def defined(module: str, names: Sequence[str]) -> list[str]:
    """Return those of ``names`` that a module defines or imports, as dotted names."""
    try:
        known = _source(module).asked  # a stage asks for each of its items
    except ModuleNotFoundError:
        return []
    if (asked := tuple(names)) not in known:
        known[asked] = [dotted for name in names if _resolve(dotted := f"{module}.{name}")]
    return list(known[asked])


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


def imported_modules(*modules: str) -> set[str]:
    """Return ``modules`` and all project modules they import, directly or through others.

    Raises:
        ValueError: one of them is no Python.
    """
    known: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in known:
            known.add(name)
            waiting.extend(_source(name).modules)
    return known


def _is_module(name: str) -> bool:
    """Tell whether a module is the project's; where that is installed, its packages alone are."""
    if name.split(".")[0] not in PACKAGES and not (PROJECT / "dvc.yaml").is_file():
        return False
    stem = PROJECT.joinpath(*name.split("."))
    return stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file()


def _is_bookkeeping(dotted: str) -> bool:
    return any(dotted == name or dotted.startswith(f"{name}.") for name in BOOKKEEPING)


def _resolve(dotted: str) -> list[tuple[str, str]]:
    """Return the definitions (module, name) that a dotted name means; none if it is not ours."""
    parts = dotted.split(".")
    if _is_bookkeeping(dotted):
        return []
    length = next((n for n in range(len(parts), 0, -1) if _is_module(".".join(parts[:n]))), 0)
    if not length:
        return []
    module, rest = ".".join(parts[:length]), parts[length:]
    source = _source(module)
    if not rest:
        return [(module, name) for name in source.definitions]
    if rest[0] in source.definitions:
        return [(module, name) for name in (rest[0], *([EFFECTS] if source.effects else []))]
    if rest[0] in source.bindings:  # imported there and handed on
        return _resolve(".".join([source.bindings[rest[0]], *rest[1:]]))
    return []


# ----------------------------------------------------------------------------------- source

EFFECTS = "<module>"
"""Stands for the statements of a module that define nothing but run when it is imported."""


@dataclass
class _Source:
    """A module's source, taken apart.

    Attributes:
        definitions: name -> the statements that define it.
        effects: statements that define nothing.
        bindings: name that an import binds -> dotted name of what it means.
        modules: the project's modules that it imports, in functions too.
        asked: names -> those of them that it defines or imports, as dotted names.
    """

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)
    bindings: dict[str, str] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    asked: dict[tuple[str, ...], list[str]] = field(default_factory=dict)


@cache
def _source(module: str) -> _Source:
    path = module_path(module)
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno}: expected Python, found: {error.msg}") from None
    source = _Source()
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            source.bindings.update(_bindings(statement, module))
        elif not (is_text(statement) or is_script(statement)):
            names = defined_names(statement)
            for name in names:
                source.definitions.setdefault(name, []).append(statement)
            if not names:
                source.effects.append(statement)
    by_name = any(name in text for name in IMPORTERS)  # else statements alone tell, a tenth
    for node in ast.walk(tree) if by_name else statements(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for target in _bindings(node, module, whole=True).values():
                source.modules.update(_modules_of(target))
        elif isinstance(node, ast.Call) and (imported := imported_by_name(node)):
            source.modules.update(_modules_of(imported))
    if source.effects:
        source.definitions[EFFECTS] = source.effects
    return source


def _modules_of(dotted: str) -> list[str]:
    """Return the module that a dotted name is or lies in, if it is the project's."""
    while dotted and not _is_module(dotted):
        dotted = dotted.rpartition(".")[0]
    return [dotted] if dotted else []


def _bindings(
    node: ast.Import | ast.ImportFrom, module: str, *, whole: bool = False
) -> dict[str, str]:
    """Return name -> dotted name of what an import binds; ``whole`` keeps ``a.b`` of both."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or (alias.name if whole else alias.name.split(".")[0]): alias.name
            if alias.asname or whole
            else alias.name.split(".")[0]
            for alias in node.names
        }
    above = node.module or ""
    if node.level:
        is_package = module_path(module).name == "__init__.py"
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        above = ".".join([*parts, *([node.module] if node.module else [])])
    if any(alias.name == "*" for alias in node.names):
        if not _is_module(above.split(".")[0]):
            return {}
        raise ValueError(
            f"{module_path(module)}:{node.lineno}: expected imports by name, found *: what a "
            "number is made of cannot be told then"
        )
    return {alias.asname or alias.name: f"{above}.{alias.name}" for alias in node.names}


# ------------------------------------------------------------------------------------- hash


@cache
def _definition(module: str, name: str) -> tuple[str, frozenset[str]]:
    """Return the hash of a definition, and the dotted names that it refers to."""
    statements = _source(module).definitions[name]
    text = "\n".join(dump(statement) for statement in statements)
    references = {
        reference for statement in statements for reference in _references(statement, module)
    }
    return hashlib.sha256(text.encode()).hexdigest()[:16], frozenset(references)


def _references(statement: ast.stmt, module: str) -> Iterator[str]:
    """Yield the dotted names that a statement uses, as far as they may be the project's.

    Where a name is local in one of its functions and global in another, it counts as global: one
    too many is reached, never one too few.
    """
    source = _source(module)
    used = global_names(statement)
    bindings = dict(source.bindings)
    nodes = list(counting(statement))
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bindings.update(_bindings(node, module))
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Call) and (imported := imported_by_name(node)):
            yield imported
        if isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner:
            parts: list[str] = []
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                parts.insert(0, root.attr)
                root = root.value
            if isinstance(root, ast.Name) and root.id in used:
                if root.id in bindings:
                    yield ".".join([bindings[root.id], *parts])
                elif root.id in source.definitions:
                    yield f"{module}.{root.id}"
