"""What a file or folder is, told by its content, and what the project's own kinds hold.

Array files, tables, weights and JSON are shown. Of anything else is said what it is. A file is to
be removed where it is damaged and a stage makes it again, and never elsewhere.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from affectline.store import human
from features.cache.arrays import SHA256, ArrayFileError, streamed
from features.cache.store import store_root
from features.options import near
from features.video.listing import EXTENSIONS
from stages.engine import dvc_lock
from stages.engine.paths import index_of
from stages.engine.progress import MEND, print_json, print_table, say

HDF5, PARQUET, ZIP = b"\x89HDF\r\n\x1a\n", b"PAR1", b"PK\x03\x04"
"""What files of these formats begin with."""

FIRST_ROWS = 3
"""Rows of a table that are shown."""

LONGEST_CELL = 60
"""Characters of a table's value that are shown."""

LARGEST_JSON = 16 << 20
"""Bytes of a JSON file that is shown."""


class ShowError(ValueError):
    """There is nothing to show; the message says what lies there, and what to do."""


def show(path: Path) -> None:
    """Print what lies at ``path``.

    Raises:
        ShowError: nothing, something of no kind that the project makes, or damaged.
        OSError: it cannot be read.
    """
    if path.is_dir():
        return _show_folder(path)
    if not path.exists():
        raise ShowError(_absent(path))
    if not path.is_file():
        raise ShowError(f"{path}: expected a file or a folder, found neither")
    with path.open("rb") as file:
        head = file.read(9)
    suffix = path.suffix.lower()
    if head.startswith(HDF5) or suffix == ".h5":
        _show_arrays(path)
    elif head.startswith(PARQUET) or suffix == ".parquet":
        _show_table(path)
    elif suffix == ".safetensors":
        _show_weights(path)
    elif suffix == ".json":
        _show_json(path)
    else:
        raise ShowError(_other(path, head))


def _show_folder(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        return say(f"{folder}: a folder without files")
    counts = Counter(path.suffix.lower() or "no ending" for path in files)
    sizes: Counter[str] = Counter()
    for path in files:
        sizes[path.suffix.lower() or "no ending"] += path.stat().st_size
    rows = ((kind, count, human(sizes[kind])) for kind, count in sorted(counts.items()))
    print_table(f"{folder}: a folder", ["ending", "files", "size"], rows)
    index = index_of(folder)
    if index.is_file():
        say(f"its index: affectline show {index}")


def _show_arrays(path: Path) -> None:
    foreign = _foreign_arrays(path)
    if foreign is not None:
        raise ShowError(
            f"{path}: HDF5 that affectline has not written, with {', '.join(foreign) or 'nothing'}"
        )
    try:
        with streamed(path) as (data, attributes):
            pass  # checked to its end
    except ArrayFileError as error:
        raise ShowError(f"{error}{_to_do(path)}") from error
    axes = attributes.pop("axes", {})
    assert isinstance(axes, dict)
    rows = [(name, axes.get(name, ""), array.shape, array.dtype) for name, array in data.items()]
    print_table(str(path), ["array", "axes", "shape", "dtype"], rows)
    print_json(attributes)


def _foreign_arrays(path: Path) -> list[str] | None:
    """Return what an HDF5 file has that is not ours; None if it is, or no whole HDF5."""
    try:
        with h5py.File(path, "r") as file:
            return None if SHA256 in file.attrs else sorted(file)
    except (OSError, RuntimeError):
        return None


def _show_table(path: Path) -> None:
    try:
        with pq.ParquetFile(path) as file:
            count, schema = file.metadata.num_rows, file.schema_arrow
            first = next(file.iter_batches(FIRST_ROWS), None)
    except (OSError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        raise ShowError(f"{path}: expected a Parquet table, found: {text}{_to_do(path)}") from error
    values = [] if first is None else first.to_pylist()
    columns = ["column", "type", *(f"row {number}" for number in range(1, len(values) + 1))]
    rows = (
        (field.name, field.type, *(_cell(row[field.name]) for row in values)) for field in schema
    )
    print_table(f"{path}: {count} rows", columns, rows)


def _cell(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]} …"


def _show_weights(path: Path) -> None:
    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            rows = [(name, part.get_shape(), part.get_dtype()) for name, part in slices.items()]
    except (OSError, SafetensorError) as error:
        told = f"{path}: expected a safetensors file, found: {error}{_to_do(path)}"
        raise ShowError(told) from error
    if rows:
        print_table(f"{path}: {len(rows)} tensors", ["tensor", "shape", "dtype"], rows)
    else:
        say(f"{path}: no tensors, they are drawn from the seed")
    print_json({name: _parsed(text) for name, text in facts.items()})


def _parsed(text: str) -> object:
    """Return what a fact of a weights file says: structures are JSON there, the rest is text."""
    try:
        return json.loads(text) if text.startswith("{") else text
    except ValueError:
        return text


def _show_json(path: Path) -> None:
    if path.stat().st_size > LARGEST_JSON:
        raise ShowError(f"{path}: a JSON file of {human(path.stat().st_size)}, too long to show")
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ShowError(f"{path}: expected JSON, found: {error}{_to_do(path)}") from error
    print_json(value)


# --------------------------------------------------------------------- what cannot be shown


def _other(path: Path, head: bytes) -> str:
    if not head:
        return f"{path}: an empty file"
    if path.suffix.lower() in EXTENSIONS:
        video = f"{path.absolute().parent.name}/{path.stem}"
        return (
            f"{path}: a video, by its ending; `affectline explain {video} <backbone>` says what "
            f"was made of it, and data/features/<backbone>/{video}.h5 can be shown"
        )
    if head.startswith(ZIP):
        what = "a zip archive, as weights files of PyTorch are"
    elif b"\0" in head:
        what = "bytes of another format"
    else:
        what = "a file of another kind, perhaps text"
    return (
        f"{path}: {what}; can be shown: array files (.h5), tables (.parquet), weights "
        "(.safetensors), .json and folders"
    )


def _absent(path: Path) -> str:
    """Say that nothing lies there, and what may be meant, or brings it."""
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    missing = path.absolute().relative_to(there).parts[0]
    hint = near(missing, (other.name for other in there.iterdir()))
    for output in _outputs():
        if output.path.absolute() in (path.absolute(), *path.absolute().parents):
            hint = f"; `dvc pull {output.stage}` or `dvc repro {output.stage}` makes {output.path}"
    where = f"{there} has no {missing!r}" if missing != path.name else "no such file or folder"
    return f"{path}: {where}{hint}"


def _to_do(path: Path) -> str:
    """Return what to do about a damaged file: nothing is known of what no stage makes again."""
    place = path.resolve()
    ours = [store_root(), *(output.path for output in _outputs())]
    is_ours = any(place.is_relative_to(folder.resolve()) for folder in ours)
    return f". {MEND}" if is_ours else ""


def _outputs() -> Iterator[dvc_lock.Output]:
    try:
        yield from dvc_lock.read_outputs()
    except dvc_lock.LockError:  # told by `affectline doctor`
        return
