"""Arrays that were made elsewhere, of many videos, as one safetensors file.

It stands where a network's weights stand: `affectline import` writes it, the weights stage checks
and keeps it, extract takes each video's rows out of it. Tensors are named by the sha256 of what one
video has, and `videos` (JSON) says whose that is; so a video's rows are found, and checked, by
their content. It is written and read a video at a time.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.cache.keys import canonical
from features.cache.store import replacing
from features.weights.record import WeightsError

Array = NDArray[np.generic]

ARRAYS = ("features", "index", "pts_s", "valid")
"""What a video has: rows (T, ...) float16 or float32; their numbers (T,) int64, times in seconds
(T,) float64, NaN where they are not known, and whether they mean anything (T,) bool."""

DTYPES = {
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I64": np.int64,
    "BOOL": np.bool_,
}
"""Types of numbers as the format names them."""

NAMES = {np.dtype(kind): name for name, kind in DTYPES.items()}

VIDEOS = "videos"
"""The tensor of bytes that says whose arrays are where."""

LARGEST_HEADER = 100_000_000
"""Bytes, the format's own limit: some 200,000 videos."""


@dataclass(frozen=True)
class Member:
    """One video's arrays, not read yet.

    Attributes:
        video_id: `<label>/<name>`.
        sha256: of its arrays, :func:`digest`.
        shapes: array -> dtype and shape.
    """

    video_id: str
    sha256: str
    shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]


def member(video_id: str, arrays: Mapping[str, Array]) -> Member:
    """Return what the file has to know of a video's arrays before it is written."""
    shapes = {name: (arrays[name].dtype, arrays[name].shape) for name in ARRAYS}
    return Member(video_id, digest(arrays), shapes)


def digest(arrays: Mapping[str, Array]) -> str:
    """Return the sha256 of a video's arrays, types and shapes included: 64 hex digits."""
    whole = hashlib.sha256()
    for name in ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        whole.update(array.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def write(
    path: Path,
    members: Iterable[Member],
    read: Mapping[str, Any],
    facts: Mapping[str, str],
) -> None:
    """Write the file; the same arrays and facts give the same bytes.

    Args:
        path: the file.
        members: what is in it, each video once.
        read: video_id -> function that returns its arrays; each is called when its turn comes.
        facts: what the file says of itself, see :func:`features.weights.file.metadata`.

    Raises:
        WeightsError: arrays are others than their member says, or there are too many videos.
    """
    ordered = sorted(members, key=lambda each: each.sha256)
    whose = {each.video_id: each.sha256 for each in ordered}
    unique = {each.sha256: each for each in ordered}
    listed = canonical(whose).encode()
    header: dict[str, object] = {"__metadata__": dict(facts)}
    end = len(listed)
    header[VIDEOS] = {"dtype": "U8", "shape": [end], "data_offsets": [0, end]}
    for each in unique.values():
        for name, (dtype, shape) in each.shapes.items():
            first, end = end, end + dtype.itemsize * math.prod(shape)
            header[f"{each.sha256}.{name}"] = {
                "dtype": NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [first, end],
            }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise WeightsError(f"{path}: {len(whose)} videos are more than one import can hold")
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + listed)
        for each in unique.values():
            arrays = read[each.video_id]()
            if digest(arrays) != each.sha256:
                raise WeightsError(f"{each.video_id}: its arrays have changed while they were read")
            for name in each.shapes:
                file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)


class Imported:
    """An open file of imported arrays; its header is read once.

    Attributes:
        facts: what it says of itself.
        videos: video_id -> sha256 of its arrays.
    """

    def __init__(self, path: Path) -> None:
        """Read what is in the file at ``path``.

        Raises:
            WeightsError: it is none of imported arrays.
        """
        self._path = path
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > LARGEST_HEADER:
                    raise ValueError(f"a header of {length} bytes")
                self._header = json.loads(file.read(length))
            self._start = 8 + length
            self.facts: dict[str, str] = dict(self._header["__metadata__"])
            if self.facts.get("source") != "imported":
                raise ValueError("a file of weights")
            whose = json.loads(self._tensor(VIDEOS, np.uint8).tobytes())
            self.videos = {str(name): str(sha256) for name, sha256 in whose.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"{path}: expected arrays that `affectline import` has written, found: {error}"
            ) from error

    def read(self, sha256: str) -> dict[str, Array]:
        """Return a video's arrays by the sha256 that `videos` has.

        Raises:
            WeightsError: there are none, or they are damaged.
        """
        try:
            arrays = {name: self._tensor(f"{sha256}.{name}") for name in ARRAYS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{self._path}: {sha256[:12]} cannot be read: {error}") from error
        if digest(arrays) != sha256:
            raise WeightsError(
                f"{self._path}: expected what was imported, found arrays changed since: import "
                "them again"
            )
        return arrays

    def _tensor(self, name: str, dtype: type[np.generic] | None = None) -> Array:
        entry = self._header[name]
        first, end = entry["data_offsets"]
        kind = np.dtype(dtype or DTYPES[entry["dtype"]])
        shape = tuple(entry["shape"])
        count = math.prod(shape)
        if min((first, *shape), default=0) < 0 or end - first != count * kind.itemsize:
            raise ValueError(f"{name}: its place and its shape are not of one size")
        if end + self._start > self._path.stat().st_size:
            raise ValueError(f"{name}: the file ends before it")
        whole = np.fromfile(self._path, kind, count, offset=self._start + first)
        return whole.reshape(shape)
