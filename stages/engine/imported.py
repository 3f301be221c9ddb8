"""Backbones that are no networks: what the stages do with arrays that were made elsewhere.

`affectline import` has packed them into one file; weights keeps that, and extract takes each
video's rows out of it. A video whose arrays are as they were costs nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from features import backbones
from features.cache import arrays, tables
from features.cache.keys import file_sha256, item_key
from features.cache.store import ItemStore, link_or_copy, replacing, store_root
from features.weights.file import metadata
from features.weights.imported import Imported
from features.weights.record import WeightsError
from stages.engine.ingredients import of_imported, of_imported_file
from stages.engine.items import describe, items_of
from stages.engine.params import Params
from stages.engine.paths import weights_file
from stages.engine.previous import previous_file
from stages.engine.progress import StageRun
from stages.engine.workers import Input, Work, Workers

DIGITS = 16
"""Of the sha256 in the name of a file of imported arrays."""

SUFFIX = ".safetensors"

NOTHING = "nothing was imported of it"
"""Why a video has no features."""


def keep(name: str, file: Path, out: Path, run: StageRun) -> None:
    """Bring a file of imported arrays to ``out``: from the store, the last output, or ``file``.

    The name of ``file`` ends with the first digits of its sha256, so that params.yaml changes with
    it: a clone that has the output needs no more.

    Raises:
        WeightsError: it is not here, or not the one that was imported.
    """
    store, digits = ItemStore(store_root()), file.stem.rpartition("-")[2]
    key = item_key(of_imported_file(digits))
    if not (there := store.has(key, SUFFIX)):
        kept = (previous_file(f"weights@{name}", out, run.note), file)
        source = next((path for path in kept if path and _begins(path, digits)), None)
        if source is None:
            state = "another" if file.is_file() else "none"
            raise WeightsError(
                f"{file}: expected the arrays that `affectline import {name}` has written, whose "
                f"sha256 begins with {digits}, found {state}: import them again, or "
                f"`dvc pull weights@{name}`"
            )
        Imported(source)
        store.add_copy(key, source, SUFFIX)
    with replacing(out) as partial:
        link_or_copy(store.path(key, SUFFIX), partial)
    run.note("arrays that were imported: what made them is not known here")
    run.count(items=1, computed=int(not there), reused=int(there))


def _begins(file: Path, digits: str) -> bool:
    return file.is_file() and len(digits) == DIGITS and file_sha256(file).startswith(digits)


@dataclass(frozen=True)
class Task:
    """One video's imported arrays.

    Attributes:
        file: of all imported arrays.
        shape: of a row.
        axes: of a row.
        dtype: that the rows are stored in.
        ingredients: what the item is made of; ``input`` is the sha256 of the arrays.
    """

    file: Path
    shape: tuple[int, ...]
    axes: str
    dtype: str
    ingredients: dict[str, object]


def inputs(videos: Iterable[tables.Row], file: Path) -> tuple[list[tables.Row], list[Input]]:
    """Return the videos, those without imported arrays with that reason, and what the others have.

    Args:
        videos: rows of the index of the view ``none``.
        file: of the imported arrays.
    """
    contents = _imported(file).videos
    rows, found = [], []
    for row in videos:
        video_id = str(row["video_id"])
        if row["status"] == "ok" and video_id not in contents:
            row = row | {"status": "failed", "reason": NOTHING}
        elif row["status"] == "ok":
            found.append(Input(video_id, contents[video_id], file))
        rows.append(row)
    return rows, found


def ingredients(params: Params, backbone: str, content: str) -> dict[str, object]:
    """Return what a video's features of an imported backbone are made of.

    Args:
        params: params.yaml.
        backbone: a name in it; its file lies where the weights stage leaves it.
        content: sha256 of what was imported of the video.
    """
    block = params.backbones[backbone]
    chosen, dtypes = block.choices(f"backbones.{backbone}", backbones.load(block.module))
    return of_imported(asdict(chosen), dtypes, metadata(weights_file(backbone)), content)


def work(params: Params, backbone: str, videos: Iterable[Input]) -> Work[Task]:
    """Return what there is to take out of a file of imported arrays.

    Args:
        params: params.yaml.
        backbone: a name in it.
        videos: what each has in the file.
    """
    block = params.backbones[backbone]
    chosen, dtypes = block.choices(f"backbones.{backbone}", backbones.load(block.module))
    facts = metadata(weights_file(backbone))
    items = items_of(
        videos,
        lambda content: of_imported(asdict(chosen), dtypes, facts, content),
        lambda file, made_of: Task(file, chosen.shape, chosen.axes, dtypes["features"], made_of),
    )
    return Work(items, copy, Workers(0))  # processes would take longer to start than it takes


def _imported(file: Path) -> Imported:
    """Return an open file; its header, which is as long as there are videos, is read once."""
    state = file.stat()
    return _opened(file, state.st_ino, state.st_mtime_ns)


@lru_cache(maxsize=1)
def _opened(file: Path, inode: int, changed_ns: int) -> Imported:
    return Imported(file)


def copy(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write one video's imported rows as its features; those that mean nothing become zeros.

    Raises:
        ValueError: they are not of the shape that params.yaml has, or not finite in their dtype.
    """
    bundle, content = _imported(task.file), str(task.ingredients["input"])
    data = bundle.read(content)
    rows, valid = data["features"], data["valid"].astype(bool)
    if rows.shape[1:] != task.shape:
        raise ValueError(
            f"expected rows of {task.shape}, as params.yaml has it, found {rows.shape[1:]}"
        )
    kept = np.zeros(rows.shape, task.dtype)
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        kept[valid] = rows[valid]
    if not np.isfinite(kept).all():
        raise ValueError(f"expected numbers that {task.dtype} holds, found others")
    more = {
        # But for the checksum of the whole import: of another video in it this file knows nothing.
        "weights": {name: bundle.facts[name] for name in sorted({*bundle.facts} - {"sha256"})},
        "pretrained": True,
        "rows": len(valid),
        "rows_valid": int(np.count_nonzero(valid)),
    }
    ((key, path),) = outputs.items()
    axes = {name: "T" for name in data} | {"features": f"T {task.axes}"}
    about = describe(key, task.ingredients, axes, **more)
    arrays.write(path, {**data, "features": kept, "valid": valid}, about, arrays.COMPACT)
    return {}
