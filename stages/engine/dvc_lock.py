"""What dvc.lock names, and where it lies: outputs in the workspace, objects in DVC's cache.

Read without DVC, whose import takes longer than the whole of `affectline doctor --quick`.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.engine.paths import LOCK, PARAMS, PIPELINE

DVC = Path(".dvc")
RWLOCK = DVC / "tmp" / "rwlock"

FOLDER = ".dir"
"""Ending of the md5 of a folder: of its listing, which is an object too."""


class LockError(ValueError):
    """What DVC knows of this workspace cannot be read.

    Attributes:
        path: the file.
        what: is wrong with it.
    """

    def __init__(self, path: Path, what: str) -> None:
        """Say what is wrong with the file at ``path``."""
        super().__init__(f"{path}: {what}. Restore it from git")
        self.path, self.what = path, what


@dataclass(frozen=True)
class Output:
    """One output of a stage, as dvc.lock has it.

    Attributes:
        stage: name as in dvc.yaml, with ``@<item>``.
        path: in the project.
        md5: of the file, or of the folder's listing (ending in ``.dir``).
        size: bytes of the file, or of all files of the folder.
    """

    stage: str
    path: Path
    md5: str
    size: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder with a listing."""
        return self.md5.endswith(FOLDER)


def read_outputs() -> list[Output]:
    """Return the outputs that dvc.lock names, of the stages that dvc.yaml still has.

    Raises:
        LockError: a file of the pipeline is no YAML, or not what DVC writes.
    """
    if not LOCK.is_file():
        return []
    lock, names = _yaml(LOCK), _stages()
    try:
        return [
            Output(stage, Path(out["path"]), str(out["md5"]), int(out.get("size", 0)))
            for stage, block in lock.get("stages", {}).items()
            if stage in names
            for out in block.get("outs", ())
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LockError(LOCK, f"expected path and md5 of each output, found {error!r}") from error


def read_deps(stage: str) -> list[Path]:
    """Return the files and folders that a stage has read, as dvc.lock has them.

    Raises:
        LockError: it is no YAML, or not what DVC writes.
    """
    if not LOCK.is_file():
        return []
    try:
        deps = _yaml(LOCK).get("stages", {}).get(stage, {}).get("deps", ())
        return [Path(dep["path"]) for dep in deps]
    except (AttributeError, KeyError, TypeError) as error:
        raise LockError(LOCK, f"expected the path of each dependency, found {error!r}") from error


def read_params(stage: str) -> dict[str, Any]:
    """Return what params.yaml had when a stage last ran, as dvc.lock has it: entry -> value.

    Raises:
        LockError: it is no YAML, or not what DVC writes.
    """
    if not LOCK.is_file():
        return {}
    try:
        entry = _yaml(LOCK).get("stages", {}).get(stage, {})
        return dict(entry.get("params", {}).get(str(PARAMS), {}))
    except (AttributeError, TypeError, ValueError) as error:
        raise LockError(LOCK, f"expected the params of each stage, found {error!r}") from error


def _stages() -> set[str]:
    """Return the names of the stages of dvc.yaml, those of a ``foreach`` one by one."""
    params = _yaml(PARAMS)
    names: set[str] = set()
    for name, block in _yaml(PIPELINE).get("stages", {}).items():
        each = block.get("foreach")
        if each is None:
            names.add(name)
            continue
        if isinstance(each, str):
            place: Any = params
            for part in each.removeprefix("${").removesuffix("}").split("."):
                place = place.get(part, {})
            each = place
        names |= {f"{name}@{item}" for item in each}
    return names


def _yaml(path: Path) -> dict[str, Any]:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise LockError(path, f"expected YAML, found: {text}") from error
    if not isinstance(content, dict):
        raise LockError(path, f"expected keys and values, found {type(content).__name__}")
    return content


# ------------------------------------------------------------------------------ DVC's cache


def cache_folder() -> Path:
    """Return the folder with the objects of DVC's cache: ``<cache.dir>/files/md5``."""
    settings = _config().get("cache", {})
    return Path(settings.get("dir") or DVC / "cache") / "files" / "md5"


def remotes() -> dict[str, dict[str, Any]]:
    """Return the settings of each of DVC's remotes, by name."""
    settings: dict[str, dict[str, Any]] = _config().get("remote", {})
    return settings


def has_remote() -> bool:
    """Tell whether DVC has a remote that it uses where none is named."""
    return bool(_config().get("core", {}).get("remote"))


def needs_git() -> bool:
    """Tell whether DVC stops where there is no git repository (``dvc init --no-scm`` says not)."""
    return not _config().get("core", {}).get("no_scm", False)


def _config() -> Mapping[str, Any]:
    from dvc.config import Config  # a fifth of a second; its other parts take more

    settings: Mapping[str, Any] = Config(str(DVC))
    return settings


def file_md5(path: Path) -> str:
    """Return the md5 of a file's bytes, by which DVC names it: 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def object_path(cache: Path, md5: str) -> Path:
    """Return where an object lies or would lie."""
    return cache / md5[:2] / md5[2:]


def objects(cache: Path) -> Iterator[tuple[str, Path]]:
    """Yield (md5, path) of every object in the cache, named by dvc.lock or not."""
    for folder in sorted(cache.glob("[0-9a-f][0-9a-f]")):
        for path in sorted(folder.iterdir()):
            if not path.name.startswith("."):
                yield folder.name + path.name, path


def listing(cache: Path, output: Output) -> dict[Path, str] | None:
    """Return path in the project -> md5 of the files of an output; None where that is not known.

    A folder's listing is not known where it is not in the cache, or is damaged.
    """
    if not output.is_folder:
        return {output.path: output.md5}
    try:
        entries = json.loads(object_path(cache, output.md5).read_bytes())
        return {output.path / str(entry["relpath"]): str(entry["md5"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def busy() -> str | None:
    """Return the command and process of a DVC that is at work in this workspace, None if none."""
    locks = _held()
    if locks is None:
        return None
    writers, readers = locks.get("write", {}).values(), locks.get("read", {}).values()
    for held in (*writers, *(reader for several in readers for reader in several)):
        if _is_alive(int(held["pid"])):
            return f"{held['cmd']} (process {held['pid']})"
    return None


def is_spoilt() -> bool:
    """Tell whether a killed DVC has left half of the file that says what it holds."""
    if not RWLOCK.is_file() or _held() is not None:
        return False
    with RWLOCK.with_name("rwlock.lock").open("a") as guard:  # held by who writes the other
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks
        return _held() is None


def _held() -> dict[str, Any] | None:
    """Return what DVC says that it holds: ``write``, path -> who, and ``read``, path -> several."""
    try:
        locks = json.loads(RWLOCK.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return locks if isinstance(locks, dict) else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
