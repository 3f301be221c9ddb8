"""Keys and the item store: what makes a cached number current, and where it lies.

An *item* is what one stage makes of one video. It is an immutable file named by its key; the
key is a hash of everything that went into the item (:func:`item_key`), the code included
(:func:`code_fingerprint`). Equal key, equal content: so an item is looked up, never compared.

The store is a folder beside the outputs. Files enter it under a temporary name and are renamed,
and leave it by hard link, so a stage that is killed leaves no half item behind.
"""

import ast
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from features import claims

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("features", "heads", "stages", "sample")
"""Import packages whose source counts as ours: the rest is named by its version only."""

BOOKKEEPING = frozenset(
    {"features.cache", "features.arrays", "features.weights", "features.download"}
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


# ------------------------------------------------------------------------------------ code


def code_fingerprint(*modules: str) -> dict[str, str]:
    """Return a hash of the code of each of ``modules`` and of every project module they import.

    The syntax tree is hashed without comments, docstrings and layout: a comment costs nothing,
    a changed formula recomputes.

    Args:
        modules: dotted names, e.g. ``features.video``.

    Returns:
        Dotted name -> 16 hexadecimal digits.
    """
    names = imported_modules(*modules, skip=BOOKKEEPING)
    return {name: _tree_hash(name)[:16] for name in sorted(names)}


def imported_modules(*modules: str, skip: Set[str] = frozenset()) -> set[str]:
    """Return ``modules`` and all project modules they import, directly or through others.

    Args:
        modules: dotted names, e.g. ``features.video``.
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


def _source(name: str, node: ast.ImportFrom) -> str:
    """Return the module that ``from … import`` in module ``name`` names, its dots written out."""
    if not node.level:
        return node.module or ""
    inside = name.split(".") + ["__init__"] * (module_path(name).name == "__init__.py")
    return ".".join([*inside[: -node.level], *filter(None, [node.module])])


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


# ----------------------------------------------------------------------------------- store

EXPERIMENTS = (".dvc", "tmp", "exps")
"""Where DVC runs experiments, below the project."""


def store_root() -> Path:
    """Return the item store's folder: ``$AFFECTLINE_STORE``, else ``.store`` of the project.

    A relative path counts from the project, which is where we run. Experiments that DVC runs apart
    (``dvc exp run --temp`` or ``--queue``) work in a copy of the project below its
    ``.dvc/tmp/exps``: they share the store of the project itself.
    """
    return _home(Path.cwd()) / (os.environ.get("AFFECTLINE_STORE") or ".store")


def _home(folder: Path) -> Path:
    """Return the project that ``folder``, a project or a copy for an experiment, belongs to."""
    parts = folder.parts
    for at in range(len(parts) - len(EXPERIMENTS), 0, -1):
        if parts[at : at + len(EXPERIMENTS)] == EXPERIMENTS:
            return Path(*parts[:at])
    return folder


@dataclass(frozen=True)
class Stored:
    """An item as it lies in the store.

    Attributes:
        key: its key, as the file's name has it.
        path: the file.
        bytes: its size.
        links: names that the file has; more than one where an output or DVC's cache shares it.
        used_s: when it came, or was last linked into an output or removed from one, Unix time.
            A copy (across file systems) leaves no trace of its use.
    """

    key: str
    path: Path
    bytes: int
    links: int
    used_s: float


class ItemStore:
    """Immutable files by key, safe to share between processes, clones and machines."""

    def __init__(self, root: Path) -> None:
        """Open the store at ``root``; the folder is made when the first item comes."""
        self.root = root

    def path(self, key: str, suffix: str) -> Path:
        """Return where the item ``key`` lies or would lie; ``suffix`` is e.g. ``.h5``."""
        return self.root / "items" / key[:2] / f"{key}{suffix}"

    def has(self, key: str, suffix: str) -> bool:
        """Tell whether the item is in the store."""
        return self.path(key, suffix).is_file()

    def items(self) -> Iterator[Stored]:
        """Yield all items, in the order of their keys."""
        for folder in sorted(self.root.glob("items/??")):
            for path in sorted(folder.iterdir()):
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue  # removed by another process meanwhile
                used_s = max(found.st_mtime, found.st_ctime)  # a link made or removed is a change
                yield Stored(path.stem, path, found.st_size, found.st_nlink, used_s)

    def remove(self, item: Stored) -> None:
        """Remove an item; outputs that share the file keep it."""
        item.path.unlink(missing_ok=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a fresh folder inside the store for unfinished files; it is removed after."""
        with claims.scratch(self.root / "unfinished") as folder:
            yield folder

    def leftovers(self) -> list[Path]:
        """Return the folders of unfinished files whose processes are dead."""
        return claims.abandoned(self.root / "unfinished")

    def add(self, key: str, finished: Path) -> Path:
        """Move a finished file of this file system into the store as item ``key``.

        If another process has added the key meanwhile, its file is as good: it is replaced.
        """
        path = self.path(key, finished.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        finished.chmod(0o444)  # shared by hard link with the outputs and DVC's cache
        finished.replace(path)
        return path

    def add_copy(self, key: str, source: Path, suffix: str) -> Path:
        """Take a file that lies elsewhere (DVC's cache) into the store as item ``key``."""
        with self.staging() as folder:
            finished = folder / f"{key}{suffix}"
            link_or_copy(source, finished)
            return self.add(key, finished)


def link_or_copy(source: Path, target: Path) -> None:
    """Give ``source`` a second name: a hard link, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        with replacing(target) as partial:
            shutil.copyfile(source, partial)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success the file there becomes ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    short = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:12]
    partial = path.with_name(f".{short}.{os.getpid()}.tmp")  # long names stay within limits
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
