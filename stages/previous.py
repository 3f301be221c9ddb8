"""The previous output of a stage, read from dvc.lock and DVC's cache.

DVC removes a stage's outputs before it runs the stage, so what was there is found by its hash:
dvc.lock has it, the cache holds the files, and a remote may have them when the cache does not.
"""

import logging
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import pyarrow.parquet as pq

Note = Callable[[str], None]


def previous_files(stage: str, keys: Set[str], note: Note) -> Iterator[tuple[str, Path]]:
    """Yield (key, path in DVC's cache) for those of ``keys`` that the stage last put out.

    A stage's index is a Parquet file with the columns ``key`` and ``path``; ``path`` is relative
    to the folder that has the index's name without ``.parquet``.

    Args:
        stage: name as in dvc.yaml, with ``@<item>``.
        keys: the wanted keys.
        note: told in one line what a person should know (a remote out of reach).
    """
    if not (Path("dvc.lock").is_file() and Path(".dvc").is_dir()):
        return
    files = _cached_files(stage, note)
    for index, index_path in files.items():
        if index.suffix != ".parquet" or not index_path.is_file():
            continue  # not fetched: a clone may know of outputs that it does not have
        schema = pq.read_schema(index_path)
        if not {"key", "path"} <= set(schema.names):
            continue
        table = pq.read_table(index_path, columns=["key", "path"])
        for row in table.to_pylist():
            path = files.get(index.with_suffix("") / str(row["path"])) if row["path"] else None
            if row["key"] in keys and path is not None and path.is_file():
                yield row["key"], path


def _cached_files(stage: str, note: Note) -> dict[Path, Path]:
    """Return the files of a stage's last outputs: path in the project, path in the cache."""
    from dvc.exceptions import DvcException  # dvc is slow to import, and seldom needed
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageFileDoesNotExistError, StageNotFound

    logging.getLogger("dvc").setLevel(logging.ERROR)
    with Repo(".") as repo:
        try:
            outs = repo.stage.load_one("dvc.yaml", stage).outs
        except (StageFileDoesNotExistError, StageNotFound):
            return {}
        outs = [out for out in outs if out.hash_info]
        if not all(_is_cached(out) for out in outs) and repo.config["core"].get("remote"):
            try:
                repo.fetch(targets=[stage])
            except DvcException as error:
                note(f"the previous output cannot be fetched ({error}); computing it anew")
        files: dict[Path, Path] = {}
        for out in outs:
            files.update(_files_of(out, repo))
        return files


def _is_cached(out: object) -> bool:
    return not out.changed_cache()  # type: ignore[attr-defined]


def _files_of(out: object, repo: object) -> dict[Path, Path]:
    local = repo.cache.local  # type: ignore[attr-defined]
    name = Path(out.def_path)  # type: ignore[attr-defined]
    info = out.hash_info  # type: ignore[attr-defined]
    if not info.isdir:
        return {name: Path(local.oid_to_path(info.value))}
    tree = out.get_obj()  # type: ignore[attr-defined]
    if tree is None:
        return {}
    return {
        name.joinpath(*parts): Path(local.oid_to_path(entry.value)) for parts, _meta, entry in tree
    }
