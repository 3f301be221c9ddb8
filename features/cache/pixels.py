"""Pictures in array files: a lossless packing that takes a third less than packing them as bytes.

Of each pixel red and blue are stored as their difference from green, and each line as its
difference from the line above, modulo 256; what is left is small numbers, which Zstandard packs.
Lines, not columns: whole lines are added at once, so that unpacking is as fast as of bytes.

A chunk is a frame of Zstandard, as HDF5's filter 32015 makes them. It is unpacked here and not by
that filter, which would believe a frame that claims to hold gigabytes.
"""

import math

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LEVEL = 1
"""Of Zstandard: 2 and 3 take up to twice the time and save nothing on differences."""

Pixels = NDArray[np.uint8]


def are_pixels(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bool:
    """Tell whether an array is pictures (..., H, W, 3) in rows, and not empty."""
    return dtype == np.uint8 and len(shape) >= 4 and shape[-1] == 3 and 0 not in shape


def store(dataset: h5py.Dataset, first: int, pictures: NDArray[np.generic]) -> None:
    """Write the rows of a chunk, or what is left of them at the end, from row ``first`` on."""
    chunk = np.empty(dataset.chunks, np.uint8)
    chunk[: len(pictures)] = pictures
    chunk[len(pictures) :] = 0
    lines = _lines(chunk)
    green = _green(lines)
    lines[..., :-1] -= green[..., 1:]
    lines[..., 1:] -= green[..., :-1]
    lines[:, 1:] -= lines[:, :-1].copy()
    packed = pa.Codec("zstd", LEVEL).compress(chunk.reshape(-1), asbytes=True)
    dataset.id.write_direct_chunk((first,) + (0,) * (dataset.ndim - 1), packed)


def load(dataset: h5py.Dataset, first: int, count: int) -> Pixels:
    """Read ``count`` rows from row ``first`` on, where a chunk of whole rows begins.

    Raises:
        OSError: a chunk is not what :func:`store` writes.
        KeyError, ValueError: likewise.
    """
    pictures = np.empty((count, *dataset.shape[1:]), np.uint8)
    rows = dataset.chunks[0]
    codec, size = pa.Codec("zstd"), math.prod(dataset.chunks)
    for place in range(0, count, rows):
        offset = (first + place,) + (0,) * (dataset.ndim - 1)
        _left_out, packed = dataset.id.read_direct_chunk(offset)
        chunk = codec.decompress(packed, decompressed_size=size)
        part = pictures[place : place + rows]
        part[:] = np.frombuffer(chunk, np.uint8).reshape(dataset.chunks)[: len(part)]
    lines = _lines(pictures)
    for line in range(1, lines.shape[1]):  # far faster than np.add.accumulate
        lines[:, line] += lines[:, line - 1]
    for picture in lines:  # one at a time stays in the processor's cache
        green = _green(picture)
        picture[..., :-1] += green[..., 1:]
        picture[..., 1:] += green[..., :-1]
    return pictures


def _lines(pictures: Pixels) -> Pixels:
    """View pictures (..., H, W, 3) as (N, H, 3W)."""
    return pictures.reshape(-1, pictures.shape[-3], 3 * pictures.shape[-2])


def _green(lines: Pixels) -> Pixels:
    """Return lines (..., 3W) with 0 for red and blue: their neighbour is their pixel's green."""
    keep = np.tile(np.array([0, 255, 0], np.uint8), lines.shape[-1] // 3)
    return lines & keep
