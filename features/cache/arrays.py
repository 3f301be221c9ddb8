"""Array files: named arrays and attributes of one item in HDF5, the same bytes every time.

No times, no order of insertion, no address of a machine goes into the file. It carries the sha256
of each array and of its attributes, and what is read is checked against them: a flipped bit, or a
number that somebody has changed by hand, is an error and not a number.

An array may be larger than memory: :class:`Blocks` are written, and read by :func:`streamed`, a
block at a time, with the same bytes and the same checks.

HDF5 can do more than that: point to other files, run filters that unpack without end, declare
arrays that no memory holds. What :func:`write` never does is refused before anything is read.
"""

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from features.cache import pixels
from features.cache.keys import canonical
from features.cache.store import replacing

Array = NDArray[np.generic]

CHUNK_BYTES = 1 << 20
"""Chunks hold whole rows of about this size: reading one frame does not unpack the clip."""

LARGEST_BYTES = 8 << 30
"""Most that the arrays read from one file may declare together."""

SHA256 = "sha256"
"""Attribute with the sha256 of each array by name, and of the other attributes under ``""``."""


@dataclass(frozen=True)
class Packing:
    """How the numbers of a file are packed.

    Attributes:
        note: what a reader has to know; it stands in the file's attribute ``packing``.
        options: of h5py's ``create_dataset``.
        filters: the HDF5 filters that they stand for, in order: twice the same unpacks to more.
        largest_ratio: most bytes of an array for one that is stored.
    """

    note: str
    options: Mapping[str, Any]
    filters: tuple[int, ...]
    largest_ratio: int


FAST = Packing(
    "Blosc, HDF5 filter 32001: in Python `import hdf5plugin` first, elsewhere install that filter. "
    "Pictures: Zstandard, 32015, of differences modulo 256 (red and blue less green, then each "
    "line less the one above)",
    hdf5plugin.Blosc(cname="zstd", clevel=3, shuffle=hdf5plugin.Blosc.SHUFFLE),
    (hdf5plugin.Blosc.filter_id,),
    1 << 14,  # black frames are packed about 4,000 to one
)
"""For views and faces. Arrays of pictures in such a file are packed as ``PICTURES``."""

PICTURES = Packing(
    FAST.note,
    hdf5plugin.Zstd(clevel=pixels.LEVEL),
    (hdf5plugin.Zstd.filter_id,),
    1 << 15,  # Zstandard's limit: four bytes for 128 KiB
)
"""A third less than ``FAST`` and as fast to unpack, see :mod:`features.cache.pixels`."""

COMPACT = Packing(
    "shuffle and Zstandard, HDF5 filter 32015: in Python `import hdf5plugin` first, elsewhere "
    "install that filter, or have `affectline export` write another format",
    {"shuffle": True, **hdf5plugin.Zstd(clevel=1)},
    (h5py.h5z.FILTER_SHUFFLE, hdf5plugin.Zstd.filter_id),
    1 << 15,  # Zstandard's limit: four bytes for 128 KiB
)
"""For features and sound: nearly as small as the entropy of their numbers, packed in a quarter of
gzip's time and unpacked in a third (benchmarks/storage.py): the processor is the network's."""

DEFLATED = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE)
"""Filters of feature files that were written before ``COMPACT``."""

LARGEST_RATIOS = {
    (): 1,
    DEFLATED: 1032,  # two bits for 258 bytes
    **{each.filters: each.largest_ratio for each in (FAST, PICTURES, COMPACT)},
}
"""Filters that a file may have, and the most bytes that they may unpack one stored byte to."""

CONTENT = ("axes", "sample_rate_hz", "start_s")
"""Attributes that say what the numbers are; the others say where they came from."""


class ArrayFileError(ValueError):
    """An array file is not what it says or not what was asked for."""


@dataclass(frozen=True)
class Blocks:
    """An array that is never whole in memory.

    Attributes:
        shape: of the whole array, rows first.
        dtype: of its numbers.
        parts: its rows in order, in blocks (n, ...) of any length; they are gone through once.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    parts: Iterable[Array]


def write(
    path: Path,
    arrays: Mapping[str, Array | Blocks],
    attributes: Mapping[str, object],
    packing: Packing = FAST,
) -> None:
    """Write ``arrays`` (rows first) and ``attributes`` (JSON values) to a new file at ``path``.

    The file appears under its name only when it is whole. Blocks give the bytes that their whole
    array would give. The attribute ``packing`` says what is needed to read the arrays.

    Raises:
        ValueError: blocks are not of the shape and dtype that they were said to have.
    """
    attributes = {**attributes, "packing": packing.note}
    with replacing(path) as partial:
        with h5py.File(partial, "w", libver=("v110", "v110")) as file:
            digests = {
                name: _write_array(file, name, arrays[name], packing) for name in sorted(arrays)
            }
            digests[""] = _attributes_sha256(attributes)
            for name, value in sorted({**attributes, SHA256: digests}.items()):
                file.attrs[name] = json.dumps(value, sort_keys=True, allow_nan=False)


def _write_array(file: h5py.File, name: str, array: Array | Blocks, packing: Packing) -> str:
    """Write an array, a whole chunk at a time, and return its sha256."""
    if not isinstance(array, Blocks):
        whole = np.ascontiguousarray(array)
        array = Blocks(whole.shape, whole.dtype, [whole])
    shape, dtype = array.shape, array.dtype
    digest = _sha256(dtype, shape)
    if 0 in shape:  # nothing to cut into chunks
        file.create_dataset(name, data=np.zeros(shape, dtype))
        return digest.hexdigest()
    if packing is FAST and pixels.are_pixels(shape, dtype):
        packing = PICTURES
    rows = chunk_rows(shape, dtype)
    chunks = (rows, *shape[1:])
    dataset = file.create_dataset(name, shape, dtype, chunks=chunks, **packing.options)
    first = 0
    for block in _regrouped(array.parts, rows):
        last = first + len(block)
        if last > len(dataset) or block.shape[1:] != shape[1:] or block.dtype != dtype:
            raise ValueError(
                f"{name}: expected blocks of {shape} {dtype}, found {block.shape} {block.dtype} "
                f"after {first:,} rows"
            )
        if packing is PICTURES:
            pixels.store(dataset, first, block)
        else:
            dataset[first:last] = block
        digest.update(_bytes(block))
        first = last
    if first != len(dataset):
        raise ValueError(f"{name}: expected blocks of {shape}, found {first:,} rows in all")
    return digest.hexdigest()


def chunk_rows(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    """Return how many rows a chunk holds."""
    return int(min(shape[0], max(1, CHUNK_BYTES // (dtype.itemsize * math.prod(shape[1:])))))


def _regrouped(parts: Iterable[Array], rows: int) -> Iterator[Array]:
    """Yield the rows of all parts in blocks of ``rows``, the last one of what is left."""
    held: list[Array] = []
    count = 0
    for part in parts:
        rest = part
        while count + len(rest) >= rows:
            block, rest = rest[: rows - count], rest[rows - count :]
            yield np.concatenate([*held, block]) if held else block
            held, count = [], 0
        if len(rest):
            held.append(rest)
            count += len(rest)
    if held:
        yield np.concatenate(held)


def _sha256(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> "hashlib._Hash":
    """Return the sha256 of an array of which no number has been seen."""
    return hashlib.sha256(f"{dtype.str} {shape}".encode())


def _bytes(block: Array) -> memoryview:
    return np.ascontiguousarray(block).reshape(-1).view(np.uint8).data


def _attributes_sha256(attributes: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(dict(attributes)).encode()).hexdigest()


def read(
    path: Path, names: Sequence[str] | None = None
) -> tuple[dict[str, Array], dict[str, object]]:
    """Read arrays (all, or those in ``names``) and attributes of the file at ``path``.

    Raises:
        ArrayFileError: no such file, not HDF5, damaged, changed since it was written, or an array
            in ``names`` is not in it.
    """
    with _whole(path), h5py.File(path, "r") as file:
        datasets = _datasets(path, file, names)
        arrays = {name: _rows(dataset) for name, dataset in datasets.items()}
        attributes, expected = _attributes(file)
        digests = {"": _attributes_sha256(attributes)}
    for name, array in arrays.items():
        digest = _sha256(array.dtype, array.shape)
        digest.update(_bytes(array))
        digests[name] = digest.hexdigest()
    _compare(path, digests, expected)
    return arrays, attributes


@contextmanager
def streamed(
    path: Path, names: Sequence[str] | None = None
) -> Iterator[tuple[dict[str, Blocks], dict[str, object]]]:
    """Open arrays (all, or those in ``names``) of the file at ``path`` to read them by blocks.

    An array is checked while it is read, so that a change is known at its end: nothing that was
    made of it may be kept before the context is left. What was not read by then is read there.

    Yields:
        The arrays, in blocks of whole chunks, and the attributes.

    Raises:
        ArrayFileError: as :func:`read`, of an array while or after it is read.
    """
    with ExitStack() as stack:
        with _whole(path):
            file = stack.enter_context(h5py.File(path, "r"))
            datasets = _datasets(path, file, names)
            attributes, expected = _attributes(file)
            digests = {"": _attributes_sha256(attributes)}
        _compare(path, digests, expected)
        parts = {name: _parts(path, name, data, expected) for name, data in datasets.items()}
        blocks = {n: Blocks(data.shape, data.dtype, parts[n]) for n, data in datasets.items()}
        yield blocks, attributes
        for unread in parts.values():
            deque(unread, maxlen=0)


def _parts(
    path: Path, name: str, dataset: h5py.Dataset, expected: Mapping[str, object]
) -> Iterator[Array]:
    """Yield a dataset's rows, a chunk at a time, and compare their sha256 after the last."""
    shape, dtype = dataset.shape, dataset.dtype
    digest = _sha256(dtype, shape)
    rows = chunk_rows(shape, dtype) if dataset.size and shape else 1
    for first in range(0, len(dataset) if shape else 1, rows):
        with _whole(path):
            block = _rows(dataset, first, rows) if shape else dataset[()]
        digest.update(_bytes(block))
        yield block
    _compare(path, {name: digest.hexdigest()}, expected)


def check(path: Path) -> dict[str, object]:
    """Read the file at ``path`` to its end, a block at a time, and return its attributes.

    Raises:
        ArrayFileError: as :func:`read`.
    """
    with streamed(path) as (_arrays, attributes):
        return attributes


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Let what HDF5 says of a file be an error that names it."""
    try:
        yield
    except ArrayFileError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # all are HDF5's
        raise ArrayFileError(
            f"{path}: expected a whole array file (HDF5), found: {error}"
        ) from error


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a data set whose numbers lie in the file itself; nothing of them is read.

    Raises:
        ValueError: a link, a group, or data in another file.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is none, or a link to elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{name} is no array")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} has its numbers in another file")
    return dataset


def _datasets(path: Path, file: h5py.File, names: Sequence[str] | None) -> dict[str, h5py.Dataset]:
    """Return datasets that are such as :func:`write` makes them; nothing of them is read.

    Raises:
        ArrayFileError: one of ``names`` is not in the file.
        ValueError: a link, a group, data in another file, a type or filter that is not ours, or
            more bytes than a file may declare.
    """
    if set(names or ()) - set(file):
        raise ArrayFileError(
            f"{path}: expected the arrays {sorted(names or ())}, found {sorted(file)}"
        )
    datasets = {}
    for name in sorted(file) if names is None else names:
        dataset = own_dataset(file, name)
        if dataset.dtype.kind not in "biufS":
            raise ValueError(f"{name} holds {dataset.dtype} and not numbers")
        filters = _filters(dataset)
        is_known = filters in LARGEST_RATIOS
        if not is_known or (filters == PICTURES.filters and not _are_pictures(dataset)):
            raise ValueError(f"{name} is packed by the filters {list(filters)}")
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > LARGEST_RATIOS[filters] * stored + CHUNK_BYTES:
            raise ValueError(f"{name} declares {dataset.nbytes:,} bytes and stores {stored:,}")
        datasets[name] = dataset
    declared = sum(dataset.nbytes for dataset in datasets.values())
    if declared > LARGEST_BYTES:
        raise ValueError(f"arrays of {declared:,} bytes, allowed are {LARGEST_BYTES:,}")
    return datasets


def _filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return the HDF5 filters that a dataset went through, in order."""
    made = dataset.id.get_create_plist()
    return tuple(made.get_filter(place)[0] for place in range(made.get_nfilters()))


def _are_pictures(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset has the shape of pictures, cut into whole ones."""
    return (
        pixels.are_pixels(dataset.shape, dataset.dtype)
        and dataset.chunks is not None
        and dataset.chunks[1:] == dataset.shape[1:]
    )


def _rows(dataset: h5py.Dataset, first: int = 0, count: int | None = None) -> Array:
    """Read ``count`` rows from row ``first`` on, where a chunk begins; all if nothing is said."""
    if _filters(dataset) != PICTURES.filters:
        rows: Array = dataset[first : first + count] if count else dataset[()]
        return rows
    left = len(dataset) - first
    return pixels.load(dataset, first, min(left, count) if count else left)


def _compare(path: Path, digests: Mapping[str, str], expected: Mapping[str, object]) -> None:
    """Compare what is in a file, sha256 by name, with what was written.

    Raises:
        ArrayFileError: something has been changed.
    """
    changed = sorted(n or "the attributes" for n in digests if digests[n] != expected.get(n))
    if changed:
        raise ArrayFileError(
            f"{path}: expected what was written, found {', '.join(changed)} changed since"
        )


def read_attributes(path: Path) -> dict[str, object]:
    """Read only the attributes of the file at ``path``; errors as :func:`read`."""
    return read(path, ())[1]


def content_sha256(path: Path) -> str:
    """Return the hash of what the file at ``path`` holds, however it was made: 64 hex digits.

    Arrays count by the sha256 that the file carries, attributes if they are in ``CONTENT``.

    Raises:
        ArrayFileError: as :func:`read`; the arrays are not read.
    """
    with _whole(path), h5py.File(path, "r") as file:
        attributes, digests = _attributes(file)
    _compare(path, {"": _attributes_sha256(attributes)}, digests)
    content: dict[str, object] = {name: attributes[name] for name in CONTENT if name in attributes}
    content["arrays"] = {name: digest for name, digest in digests.items() if name}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _attributes(file: h5py.File) -> tuple[dict[str, object], dict[str, object]]:
    """Return the attributes and the sha256 of what is in the file.

    They are read a level below `file.attrs`: it takes a third of the time.
    """
    names: list[bytes] = []
    h5py.h5a.iterate(file.id, names.append)
    attributes = {}
    for name in names:
        attribute, text = h5py.h5a.open(file.id, name), np.empty((), object)
        if attribute.shape != ():  # more than one would be written behind `text`
            raise ValueError(f"the attribute {name.decode()} is no text")
        attribute.read(text)
        attributes[name.decode()] = json.loads(text.item())
    digests = attributes.pop(SHA256, None)
    return attributes, digests if isinstance(digests, dict) else {}
