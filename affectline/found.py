"""Arrays that somebody else has made, as they lie there: in which files, and what is in them.

A folder has a .npy or .h5 file a video, called `<label>/<name>` or `<name>` as the data set calls
it. A CSV has `video_id` and `file`, and if it likes `label`, `pts_s`, `valid` and `index`; other
columns are not read. What stands in it is not trusted: paths stay below its folder, no pickle is
opened, no array is larger than its file can hold.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from features.cache.arrays import LARGEST_BYTES, own_dataset

Array = NDArray[np.generic]

TABLE = "videos.csv"
"""In a folder: its CSV, as `affectline export` writes it."""

BESIDE = {"pts_s": ("pts_s",), "valid": ("valid", "mask"), "index": ("index",)}
"""Arrays of a row each, and what they may be called in an .h5 file."""

SUFFIXES = (".npy", ".h5", ".hdf5")

LARGEST_RATIO = 1 << 14
"""Most bytes of an array for one that an .h5 file stores."""


class ImportingError(ValueError):
    """Arrays cannot be imported; the message says which, what was expected and what was found."""


@dataclass(frozen=True)
class Found:
    """The arrays of one video.

    Attributes:
        video_id: as they are called there, `<label>/<name>` or `<name>`.
        label: as a CSV has it, else None.
        file: of the rows.
        beside: `pts_s`, `valid`, `index` -> file, as far as there is one.
        where: that names it, for messages.
    """

    video_id: str
    label: str | None
    file: Path
    beside: Mapping[str, Path]
    where: str


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        dataset: name of the rows in .h5 files; None where they have one candidate.
        mask_nan: rows with a number that is not finite mean nothing, and are no error.
    """

    dataset: str | None = None
    mask_nan: bool = False


def find(place: Path) -> list[Found]:
    """Return the arrays of a folder or a CSV, none of them read.

    Raises:
        ImportingError: there are none, or the CSV is not as it should be.
    """
    table = place / TABLE if place.is_dir() else place
    if table.is_file():
        found = list(_of_table(table))
    elif place.is_dir():
        files = [path for path in sorted(place.rglob("*")) if path.suffix.lower() in SUFFIXES]
        found = [_of_file(place, path) for path in files]
    else:
        raise ImportingError(f"{place}: expected a folder or a CSV of arrays, found nothing")
    if not found:
        raise ImportingError(f"{place}: expected files {', '.join(SUFFIXES)}, found none")
    return found


def _of_file(folder: Path, path: Path) -> Found:
    _check_inside(folder, path, str(path))
    video_id = path.relative_to(folder).with_suffix("").as_posix()
    return Found(video_id, None, path, {}, str(path))


def _of_table(table: Path) -> Iterator[Found]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if not {"video_id", "file"} <= set(columns):
                raise ImportingError(
                    f"{table}: expected the columns video_id and file, and if you like label, "
                    f"{', '.join(BESIDE)}, found {','.join(columns)}"
                )
            for row in reader:
                where = f"{table}, line {reader.line_num}"
                if not row["video_id"] or None in row:
                    raise ImportingError(f"{where}: expected a video_id and its columns")
                if row["file"]:  # a video without arrays has a line too
                    yield _of_row(table.parent, row, where)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImportingError(f"{table}: expected a CSV in UTF-8, found: {error}") from error


def _of_row(folder: Path, row: Mapping[str, str], where: str) -> Found:
    names = {array: row[array] for array in ("file", *BESIDE) if row.get(array)}
    for name in names.values():
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
            raise ImportingError(f"{where}: expected a path below {folder}, found {name!r}")
        _check_inside(folder, folder / name, where)
    files = {array: folder / name for array, name in names.items()}
    return Found(row["video_id"], row.get("label") or None, files.pop("file"), files, where)


def _check_inside(folder: Path, path: Path, where: str) -> None:
    """Raise ImportingError where a path is a link that leads out of the folder."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ImportingError(f"{where}: expected a path below {folder}, found a link out of it")


# ------------------------------------------------------------------------------------ reading


def read(found: Found, reading: Reading) -> dict[str, Array]:
    """Return a video's arrays as an import keeps them: `features`, `index`, `pts_s`, `valid`.

    Raises:
        ImportingError: they are not numbers of a row each, rows that mean something are not
            finite, or a file cannot be read.
    """
    arrays = _load(found, reading)
    rows = arrays.pop("features")
    if rows.ndim < 2:
        raise ImportingError(
            f"{found.file}: expected (T, ...), a row each time, found the shape {rows.shape}; one "
            "vector a video is (1, D)"
        )
    for name, values in arrays.items():
        if values.shape != rows.shape[:1]:
            raise ImportingError(
                f"{found.file}: expected {name} of {rows.shape[:1]}, found {values.shape}"
            )
    valid = arrays.get("valid", np.ones(len(rows), bool))
    if not np.isin(valid, (0, 1)).all():
        raise ImportingError(f"{found.file}: expected valid of 0 and 1, found other numbers")
    is_valid: NDArray[np.bool_] = valid.astype(bool)
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        kept = rows if rows.dtype == np.float16 else rows.astype(np.float32)
    finite = np.isfinite(kept).all(axis=tuple(range(1, kept.ndim)))
    if reading.mask_nan:
        is_valid = is_valid & finite
    elif bad := np.flatnonzero(is_valid & ~finite)[:5].tolist():
        raise ImportingError(
            f"{found.file}: expected finite numbers (of float32), found others in the rows {bad}; "
            "give a mask, or --mask-nan leaves such rows out"
        )
    return {
        "features": kept,
        "index": arrays.get("index", np.arange(len(rows))).astype(np.int64),
        "pts_s": arrays.get("pts_s", np.full(len(rows), np.nan)).astype(np.float64),
        "valid": is_valid,
    }


def _load(found: Found, reading: Reading) -> dict[str, Array]:
    try:
        if found.file.suffix.lower() == ".npy":
            arrays = {"features": _npy(found.file)}
        else:
            arrays = _hdf5(found.file, reading)
        return arrays | {name: _npy(path) for name, path in found.beside.items()}
    except ImportingError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError) as error:
        text = " ".join(str(error).split())
        raise ImportingError(f"{found.file}: expected arrays, cannot be read: {text}") from error


def _npy(path: Path) -> Array:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # no larger than its file
    if not isinstance(mapped, np.ndarray):
        raise ValueError("expected one array, found an archive")
    _check_numbers(path.name, mapped.dtype, mapped.nbytes)
    return np.array(mapped)


def _hdf5(path: Path, reading: Reading) -> dict[str, Array]:
    with h5py.File(path, "r") as file:
        beside = {name: kind for kind, names in BESIDE.items() for name in names if name in file}
        names = [name for name in file if name not in beside]
        if reading.dataset is not None:
            names = [reading.dataset]
        if len(names) != 1:
            raise ImportingError(
                f"{path}: expected one data set of rows, found {names}; name it with --dataset"
            )
        wanted: dict[str, str] = {"features": names[0]}
        wanted |= {kind: name for name, kind in beside.items()}
        return {kind: _dataset(file, name) for kind, name in wanted.items()}


def _dataset(file: Any, name: str) -> Array:
    """Return a data set whose numbers lie in the file itself, as many as it can hold."""
    dataset = own_dataset(file, name)
    if dataset.nbytes > LARGEST_RATIO * dataset.id.get_storage_size():
        raise ValueError(f"{name} declares {dataset.nbytes:,} bytes and stores next to none")
    _check_numbers(name, dataset.dtype, dataset.nbytes)
    values: Array = dataset[()]
    return values


def _check_numbers(name: str, dtype: np.dtype[Any], size_bytes: int) -> None:
    if dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {dtype} and not numbers")
    if size_bytes > LARGEST_BYTES:
        raise ValueError(f"{name} has {size_bytes:,} bytes, allowed are {LARGEST_BYTES:,}")
