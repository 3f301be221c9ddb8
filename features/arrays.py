"""Array files: named arrays and attributes of one item in HDF5, the same bytes every time.

No times, no order of insertion, no address of a machine goes into the file. It carries the sha256
of each array and of its attributes, and what is read is checked against them: a flipped bit, or a
number that somebody has changed by hand, is an error and not a number.

HDF5 can do more than that: point to other files, run filters that unpack without end, declare
arrays that no memory holds. What :func:`write` never does is refused before anything is read.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from features.cache import canonical, replacing

Array = NDArray[np.generic]

CHUNK_BYTES = 1 << 20
"""Chunks hold whole rows of about this size: reading one frame does not unpack the clip."""

COMPRESSION = hdf5plugin.Blosc(cname="zstd", clevel=3, shuffle=hdf5plugin.Blosc.SHUFFLE)

LARGEST_BYTES = 8 << 30
"""Most that the arrays read from one file may declare together."""

LARGEST_RATIO = 1 << 14
"""Most bytes of an array for one that is stored; Blosc packs black frames about 4,000 to one."""

SHA256 = "sha256"
"""Attribute with the sha256 of each array by name, and of the other attributes under ``""``."""


class ArrayFileError(ValueError):
    """An array file is not what it says or not what was asked for."""


def write(path: Path, arrays: Mapping[str, Array], attributes: Mapping[str, object]) -> None:
    """Write ``arrays`` (rows first) and ``attributes`` (JSON values) to a new file at ``path``.

    The file appears under its name only when it is whole.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    digests = {name: _array_sha256(array) for name, array in whole.items()}
    digests[""] = _attributes_sha256(attributes)
    with replacing(path) as partial:
        with h5py.File(partial, "w", libver=("v110", "v110")) as file:
            for name in sorted(whole):
                _write_array(file, name, whole[name])
            for name, value in sorted({**attributes, SHA256: digests}.items()):
                file.attrs[name] = json.dumps(value, sort_keys=True, allow_nan=False)


def _array_sha256(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _attributes_sha256(attributes: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(dict(attributes)).encode()).hexdigest()


def _write_array(file: h5py.File, name: str, array: Array) -> None:
    if array.size == 0 or array.ndim == 0:
        file.create_dataset(name, data=array)  # nothing to cut into chunks
        return
    row_bytes = max(1, array[0].nbytes)
    rows = int(min(len(array), max(1, CHUNK_BYTES // row_bytes)))
    file.create_dataset(
        name,
        data=array,
        chunks=(rows, *array.shape[1:]),
        **COMPRESSION,
    )


def read(
    path: Path, names: Sequence[str] | None = None
) -> tuple[dict[str, Array], dict[str, object]]:
    """Read arrays (all, or those in ``names``) and attributes of the file at ``path``.

    Raises:
        ArrayFileError: no such file, not HDF5, damaged, changed since it was written, or an array
            in ``names`` is not in it.
    """
    try:
        with h5py.File(path, "r") as file:
            missing = sorted(set(names or ()) - set(file))
            if missing:
                raise ArrayFileError(
                    f"{path}: expected the arrays {sorted(names or ())}, found {sorted(file)}"
                )
            datasets = _datasets(file, sorted(file) if names is None else names)
            arrays = {name: dataset[()] for name, dataset in datasets.items()}
            attributes = _attributes(file)
        changed = _changed(arrays, attributes, attributes.pop(SHA256, None))
    except ArrayFileError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # all are HDF5's
        raise ArrayFileError(
            f"{path}: expected a whole array file (HDF5), found: {error}. Remove it and run "
            "`dvc repro` again: it is recomputed or fetched"
        ) from error
    if changed:
        raise ArrayFileError(
            f"{path}: expected what was written, found {', '.join(sorted(changed))} changed since "
            "then. `affectline doctor` finds such files and `--repair` removes them"
        )
    return arrays, attributes


def _datasets(file: h5py.File, names: Sequence[str]) -> dict[str, h5py.Dataset]:
    """Return datasets that are such as :func:`write` makes them; nothing of them is read.

    Raises:
        ValueError: a link, a group, data in another file, a type or filter that is not ours, or
            more bytes than a file may declare.
    """
    found = {}
    for name in names:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link to elsewhere")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise ValueError(f"{name} is no array")
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{name} has its numbers in another file")
        if dataset.dtype.kind not in "biufS":
            raise ValueError(f"{name} holds {dataset.dtype} and not numbers")
        made = dataset.id.get_create_plist()
        filters = {made.get_filter(at)[0] for at in range(made.get_nfilters())}
        if filters - {COMPRESSION.filter_id}:
            raise ValueError(f"{name} is packed by the filters {sorted(filters)}")
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > LARGEST_RATIO * stored + CHUNK_BYTES:
            raise ValueError(f"{name} declares {dataset.nbytes:,} bytes and stores {stored:,}")
        found[name] = dataset
    declared = sum(dataset.nbytes for dataset in found.values())
    if declared > LARGEST_BYTES:
        raise ValueError(f"arrays of {declared:,} bytes, allowed are {LARGEST_BYTES:,}")
    return found


def _changed(
    arrays: Mapping[str, Array], attributes: Mapping[str, object], said: object
) -> list[str]:
    """Return what is not as it was written: names of arrays, and ``the attributes``."""
    known = said if isinstance(said, dict) else {}
    changed = [name for name, array in arrays.items() if known.get(name) != _array_sha256(array)]
    if known.get("") != _attributes_sha256(attributes):
        changed.append("the attributes")
    return changed


def read_attributes(path: Path) -> dict[str, object]:
    """Read only the attributes of the file at ``path``; errors as :func:`read`."""
    return read(path, ())[1]


def _attributes(file: h5py.File) -> dict[str, object]:
    """Return the attributes, read a level below `file.attrs`: it takes a third of the time."""
    names: list[bytes] = []
    h5py.h5a.iterate(file.id, names.append)
    found = {}
    for name in names:
        attribute, text = h5py.h5a.open(file.id, name), np.empty((), object)
        if attribute.shape != ():  # more than one would be written behind `text`
            raise ValueError(f"the attribute {name.decode()} is no text")
        attribute.read(text)
        found[name.decode()] = json.loads(text.item())
    return found
