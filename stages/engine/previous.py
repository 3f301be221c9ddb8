"""The previous output of a stage, read from dvc.lock and DVC's cache.

DVC removes a stage's outputs before it runs the stage, so what was there is found by its hash:
dvc.lock has it, the cache holds the files, and a remote may have them when the cache does not: of
that is fetched what is asked for, and nothing else.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING

from features.cache import tables
from stages.engine.dvc_lock import (
    DVC,
    FOLDER,
    LockError,
    Output,
    cache_folder,
    file_md5,
    has_remote,
    listing,
    object_path,
    read_outputs,
)
from stages.engine.paths import LOCK, folder_of

if TYPE_CHECKING:
    from dvc.data_cloud import DataCloud

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
    source, outputs = _Source(note), _outputs(stage, note)
    folders = [output for output in outputs if output.is_folder]
    source.bring(output.md5 for output in folders)
    files: dict[Path, str] = {}
    for folder in folders:
        files |= listing(source.cache, folder) or {}
    listed = {folder.path for folder in folders}
    indices = {o.path: o.md5 for o in outputs if o not in folders and folder_of(o.path) in listed}
    source.bring(indices.values())
    wanted = {}
    for index, md5 in indices.items():
        for key, path in _keys_of(index, object_path(source.cache, md5), note):
            if key in keys and (file := files.get(folder_of(index) / path)):
                wanted[key] = file
    source.bring(wanted.values())
    for key, md5 in wanted.items():
        kept = object_path(source.cache, md5)
        if kept.is_file() and _is_whole(kept):
            yield key, kept


def previous_file(stage: str, path: Path, note: Note) -> Path | None:
    """Return where DVC's cache has a file that the stage last put out, None where it has not.

    Args:
        stage: name as in dvc.yaml.
        path: in the project, an output that is a file.
        note: as in :func:`previous_files`.
    """
    for output in _outputs(stage, note):
        if output.path == path:
            source = _Source(note)
            source.bring([output.md5])
            kept = object_path(source.cache, output.md5)
            return kept if kept.is_file() and _is_whole(kept) else None
    return None


def _keys_of(index: Path, file: Path, note: Note) -> list[tuple[str, str]]:
    """Return (key, path of the item) of an index that lies in the cache as ``file``."""
    if not file.is_file():
        return []  # not fetched: a clone may know of outputs that it does not have
    try:
        rows = tables.read(file, ["key", "path"])
    except tables.TableError as error:
        note(f"the previous {index} cannot be read ({error}); its items are computed anew")
        return []
    return [(str(row["key"]), str(row["path"])) for row in rows if row["path"]]


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


def _outputs(stage: str, note: Note) -> list[Output]:
    """Return a stage's last outputs."""
    if not (LOCK.is_file() and DVC.is_dir()):
        return []
    try:
        return [output for output in read_outputs() if output.stage == stage]
    except LockError as error:
        note(f"the previous output is not known ({error}); computing it anew")
        return []


class _Source:
    """DVC's cache, and behind it the remote, as long as that answers.

    Attributes:
        cache: folder of the cache's objects.
        note: told once that the remote is out of reach.
    """

    def __init__(self, note: Note) -> None:
        self.cache = cache_folder()
        self.note = note
        self._answers = True

    def bring(self, md5s: Iterable[str]) -> None:
        """Have objects in the cache, as far as the remote has them."""
        absent = {md5 for md5 in md5s if not _is_there(object_path(self.cache, md5))}
        if not (absent and self._answers and has_remote()):
            return
        if refusal := fetch_objects(absent):
            self._answers = False
            self.note(f"the previous output cannot be fetched ({refusal}); computing it anew")


def _is_there(path: Path) -> bool:
    """Tell whether the cache has an object; DVC makes read-only what it takes for whole."""
    return path.is_file() and (not path.stat().st_mode & 0o222 or _is_whole(path))


def _is_whole(path: Path) -> bool:
    """Tell whether an object has the md5 of its name: a broken download may leave a part of it."""
    return path.parent.name + path.name.removesuffix(FOLDER) == file_md5(path)


def fetch_objects(md5s: Set[str]) -> str | None:
    """Bring objects from DVC's remote into its cache, as many as the remote has.

    Returns:
        What is wrong with the remote in one line; None where it answered.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    cache = cache_folder()
    with Repo(".") as repo:
        if not repo.config["core"].get("remote"):
            return "no remote is set up: `dvc remote add --default`"
        try:
            repo.cloud.pull([HashInfo("md5", md5) for md5 in sorted(md5s)])
            absent = (md5 for md5 in sorted(md5s) if not _is_there(object_path(cache, md5)))
            _ask_for(repo.cloud, absent)
        except Exception as error:  # each kind of remote raises errors of its own library
            return _told(error)
    return None


def _ask_for(cloud: "DataCloud", absent: Iterator[str]) -> None:
    """Ask the remote for the first of some objects, and raise an error where nobody answers.

    To DVC a server of HTTP or WebDAV that is gone is one that has nothing.
    """
    for md5 in absent:
        remote = cloud.get_remote_odb()
        try:
            remote.fs.info(remote.oid_to_path(md5))
        except FileNotFoundError as error:
            if isinstance(error.__cause__, OSError):  # HTTP: not found, as it cannot be reached
                raise error.__cause__ from None
        return


def _told(error: Exception) -> str:
    """Return an error in one line, with what caused it."""
    texts = [" ".join(str(part).split()) or type(part).__name__ for part in _chain(error)]
    return ": ".join(dict.fromkeys(texts))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
