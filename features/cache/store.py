"""Keys and the item store: what makes a cached number current, and where it lies.

An *item* is what one stage makes of one video. It is an immutable file named by its key; the
key is a hash of everything that went into the item (:func:`item_key`), the code included
(:func:`code_fingerprint`). Equal key, equal content: so an item is looked up, never compared.

The store is a folder beside the outputs. Files enter it under a temporary name and are renamed,
and leave it by hard link, so a stage that is killed leaves no half item behind.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from features.cache import claims

RUNTIMES = "runtimes"
"""Folder of the store with what was found of networks' runtimes (stages/engine/runtime.py)."""

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
    for length in range(len(parts) - len(EXPERIMENTS), 0, -1):
        if parts[length : length + len(EXPERIMENTS)] == EXPERIMENTS:
            return Path(*parts[:length])
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


@dataclass(frozen=True)
class Trial:
    """What is remembered of a network's runtimes, with a copy of its weights where one needs it.

    Attributes:
        folder: where it lies.
        bytes: all its files.
        used_s: when it was last made or used, Unix time.
    """

    folder: Path
    bytes: int
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
                    state = path.stat()
                except FileNotFoundError:
                    continue  # removed by another process meanwhile
                used_s = max(state.st_mtime, state.st_ctime)  # a link made or removed is a change
                yield Stored(path.stem, path, state.st_size, state.st_nlink, used_s)

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

    def trials(self) -> list[Trial]:
        """Return what is remembered of networks' runtimes on machines that use this store."""
        found = []
        for folder in sorted(self.root.glob(f"{RUNTIMES}/*")):
            states = [path.stat() for path in folder.iterdir() if path.is_file()]
            if states:
                size = sum(state.st_size for state in states)
                found.append(Trial(folder, size, max(state.st_mtime for state in states)))
        return found

    def forget(self, trial: Trial) -> None:
        """Remove what is remembered of a network: it is tried again when it is next needed."""
        shutil.rmtree(trial.folder, ignore_errors=True)

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
