"""The previous output of a stage, read from dvc.lock and DVC's cache.

DVC removes a stage's outputs before it runs the stage, so what was there is found by its hash:
dvc.lock has it, the cache holds the files, and a remote may have them when the cache does not.
"""

import logging
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.cache import tables
from stages.engine.dvc_lock import (
    DVC,
    FOLDER,
    LockError,
    Output,
    cache_folder,
    file_md5,
    listing,
    object_path,
    read_outputs,
)
from stages.engine.paths import LOCK, folder_of

Note = Callable[[str], None]


def previous_files(stage: str, keys: Set[str], note: Note) -> Iterator[tuple[str, Path]]:
    """Yield (key, path in DVC's cache) for those of ``keys`` that the stage last put out.

    A stage's index is a Parquet file with the columns ``key`` and ``path``; ``path`` is relative
    to the folder that it lists, :func:`stages.engine.paths.folder_of`.

    Args:
        stage: name as in dvc.yaml, with ``@<item>``.
        keys: the wanted keys.
        note: told in one line what a person should know (a remote out of reach).
    """
    files = _cached_files(stage, note)
    for index, index_path in files.items():
        if index.suffix != ".parquet" or not index_path.is_file():
            continue  # not fetched: a clone may know of outputs that it does not have
        try:
            if not {"key", "path"} <= set(pq.read_schema(index_path).names):
                continue
            rows = tables.read(index_path, ["key", "path"])
        except (OSError, pa.ArrowException, tables.TableError) as error:
            note(f"the previous {index} cannot be read ({error}); its items are computed anew")
            continue
        for row in rows:
            path = files.get(folder_of(index) / str(row["path"])) if row["path"] else None
            if row["key"] in keys and path and path.is_file() and _is_whole(path):
                yield str(row["key"]), path


def previous_file(stage: str, path: Path, note: Note) -> Path | None:
    """Return where DVC's cache has a file that the stage last put out, None where it has not.

    Args:
        stage: name as in dvc.yaml.
        path: the file's path in the project.
        note: as in :func:`previous_files`.
    """
    kept = _cached_files(stage, note).get(path)
    return kept if kept is not None and kept.is_file() and _is_whole(kept) else None


def changed_deps(stage: str) -> set[str]:
    """Return what DVC sees changed since a stage last ran: deps, sections of params.yaml, command.

    Args:
        stage: name as in dvc.yaml; dvc.lock has to know it.
    """
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    with Repo(".") as repo:
        (known,) = repo.stage.collect(stage)
        changed = {"command"} if known.cmd_changed else set()
        for dep in known.deps:  # the dvc that runs the stage has locked it: no `dvc status`
            for name, change in dep.status().items():
                changed |= set(change) if isinstance(change, dict) else {name}
    return changed


def _cached_files(stage: str, note: Note) -> dict[Path, Path]:
    """Return the files of a stage's last outputs: path in the project, path in the cache."""
    if not (LOCK.is_file() and DVC.is_dir()):
        return {}
    try:
        outputs = [output for output in read_outputs() if output.stage == stage]
    except LockError as error:
        note(f"the previous output is not known ({error}); computing it anew")
        return {}
    if not outputs:
        return {}
    cache = cache_folder()
    files, is_whole = _files_of(outputs, cache)
    if not is_whole:
        _fetch(stage, note)
        files, _is_whole = _files_of(outputs, cache)
    return files


def _files_of(outputs: Sequence[Output], cache: Path) -> tuple[dict[Path, Path], bool]:
    """Return path in the project -> path in the cache, and whether the cache has all of it."""
    files, is_whole = {}, True
    for output in outputs:
        listed = listing(cache, output)
        is_whole = is_whole and listed is not None
        for path, md5 in (listed or {}).items():
            files[path] = object_path(cache, md5)
    return files, is_whole and all(_is_there(path) for path in files.values())


def _is_there(path: Path) -> bool:
    """Tell whether the cache has an object; DVC makes read-only what it takes for whole."""
    return path.is_file() and (not path.stat().st_mode & 0o222 or _is_whole(path))


def _is_whole(path: Path) -> bool:
    """Tell whether an object has the md5 of its name: a broken download may leave a part of it."""
    return path.parent.name + path.name.removesuffix(FOLDER) == file_md5(path)


def _fetch(stage: str, note: Note) -> None:
    """Bring a stage's last outputs from DVC's remote into its cache, where there is a remote."""
    from dvc.repo import Repo  # dvc is slow to import, and seldom needed

    logging.getLogger("dvc").setLevel(logging.ERROR)
    with Repo(".") as repo:
        if repo.config["core"].get("remote"):
            try:
                repo.fetch(targets=[stage])
            except Exception as error:  # each kind of remote raises errors of its own library
                note(f"the previous output cannot be fetched ({_told(error)}); computing it anew")


def fetch_objects(md5s: Set[str]) -> str | None:
    """Bring objects from DVC's remote into its cache, as many as the remote has.

    Returns:
        What is wrong with the remote in one line; None where it answered.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    with Repo(".") as repo:
        if not repo.config["core"].get("remote"):
            return "no remote is set up: `dvc remote add --default`"
        try:
            repo.cloud.pull([HashInfo("md5", md5) for md5 in sorted(md5s)])
        except Exception as error:  # each kind of remote raises errors of its own library
            return _told(error)
    return None


def _told(error: Exception) -> str:
    """Return an error in one line, with what caused it."""
    texts = [" ".join(str(part).split()) or type(part).__name__ for part in _chain(error)]
    return ": ".join(dict.fromkeys(texts))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
