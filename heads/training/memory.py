"""Samples in memory that the processes of one machine share: read and checked once for all.

They lie in a file that is nowhere but in memory and ends with the process that made it. Whoever
needs them first fills it, and the others wait for that; each maps it, and holds none of it itself.
"""

import fcntl
import json
import math
import os
import secrets
import stat
import sys
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from features.cache.arrays import Array
from heads.training.targets import Label

_TOKEN = slice(0, 16)
"""Bytes by which the file is known."""

_INDEX = slice(16, 32)
"""Bytes that say where its index begins and how long it is: 0 and 0 until the file is filled."""

_ALIGNMENT = 64
"""Bytes: as much as a processor reads at once."""


@dataclass(frozen=True)
class Sample:
    """One video in memory; the dicts go from role to array.

    Attributes:
        video_id: `<label>/<name>`.
        label: what is true of it.
        features: (T, ...) as stored, T may be 0.
        mask: bool (T,), false where the row means nothing.
        pts_s: float64 (T,), presentation time in seconds, NaN where padded.
    """

    video_id: str
    label: Label
    features: dict[str, Array]
    mask: dict[str, NDArray[np.bool_]]
    pts_s: dict[str, NDArray[np.float64]]

    @property
    def feature_bytes(self) -> int:
        """Return the size of its features."""
        return sum(array.nbytes for array in self.features.values())


class Memory:
    """Room for samples, which may be sent to other processes.

    On another machine it is not found, and holds nothing.
    """

    def __init__(self) -> None:
        """Make room; it takes no memory until it is filled."""
        self._token = secrets.token_bytes(16)
        if sys.platform == "linux":
            descriptor = os.memfd_create("features")
            self._path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        else:  # no file lies in memory alone: one that was just written does as well
            descriptor, name = tempfile.mkstemp(prefix="affectline-")
            self._path = Path(name)
            weakref.finalize(self, self._path.unlink)
        weakref.finalize(self, os.close, descriptor)
        os.write(descriptor, self._token.ljust(_INDEX.stop, b"\0"))

    def __getstate__(self) -> tuple[Path, bytes]:
        """Return what another process finds it by."""
        return self._path, self._token

    def __setstate__(self, state: tuple[Path, bytes]) -> None:
        """Be the same room in another process, which does not end with this one."""
        self._path, self._token = state

    def samples(self, read: Iterable[tuple[int, Sample]], room: float) -> "Samples | None":
        """Return the samples that it holds; None on another machine.

        Args:
            read: position and sample of each video, asked for when none are there yet.
            room: bytes of features that may be kept; a sample that does not fit is left out.
        """
        with suppress(FileNotFoundError, PermissionError):
            if stat.S_ISREG(self._path.stat().st_mode):
                with self._path.open("rb", buffering=0) as file:  # of which others write
                    if file.read(len(self._token)) == self._token:
                        return self._filled(file, read, room)
        return None

    def _filled(self, file: BinaryIO, read: Iterable[tuple[int, Sample]], room: float) -> "Samples":
        """Return the samples of the file, which is filled before if nobody has done it."""
        fcntl.flock(file, fcntl.LOCK_EX)  # who dies lets go of it
        try:
            file.seek(_INDEX.start)
            if not any(file.read(16)):
                with self._path.open("r+b") as empty:  # closed, and so all written, under the lock
                    empty.truncate(_INDEX.stop)  # who began it may have died
                    _fill(empty, read, room)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a map keeps its file open
        return Samples(mmap(file.fileno(), 0, access=ACCESS_READ))


class Samples:
    """Samples that are mapped, by position."""

    def __init__(self, content: mmap) -> None:
        """Read where they are; `content` is of a file that is filled."""
        self._content = content
        first, size = np.frombuffer(content[_INDEX], np.int64).tolist()
        self._index = {int(n): entry for n, entry in json.loads(content[first : first + size])}

    def get(self, position: int) -> Sample | None:
        """Return the sample of a position, its arrays not writable; None if it is not there."""
        if position not in self._index:
            return None
        video_id, label, *kinds = self._index[position]
        features, mask, pts_s = (
            {role: self._array(*place) for role, place in places.items()} for places in kinds
        )
        told = tuple(label) if isinstance(label, list) else label
        return Sample(video_id, told, features, mask, pts_s)

    def _array(self, offset: int, dtype: str, shape: list[int]) -> NDArray[Any]:
        values = np.frombuffer(self._content, dtype, math.prod(shape), offset)
        return values.reshape(shape)


def _fill(file: BinaryIO, read: Iterable[tuple[int, Sample]], room: float) -> None:
    """Write the samples that fit, their index, and last where it is."""
    index = []
    for position, sample in read:
        if sample.feature_bytes <= room:
            room -= sample.feature_bytes
            kinds = (sample.features, sample.mask, sample.pts_s)
            places = [{role: _write(file, a) for role, a in kind.items()} for kind in kinds]
            index.append((position, (sample.video_id, sample.label, *places)))
    text = json.dumps(index).encode()
    first = file.seek(0, os.SEEK_END)
    file.write(text)
    file.flush()
    file.seek(_INDEX.start)
    file.write(np.array([first, len(text)], np.int64).tobytes())
    file.flush()


def _write(file: BinaryIO, array: Array) -> tuple[int, str, tuple[int, ...]]:
    """Write an array to the end of a file; return where it lies, its dtype and shape."""
    end = file.seek(0, os.SEEK_END)
    first = file.seek(-(-end // _ALIGNMENT) * _ALIGNMENT)
    file.write(np.ascontiguousarray(array).tobytes())
    return first, array.dtype.str, array.shape
