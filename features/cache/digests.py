"""Hashes of files, remembered: a file that has not changed since is not read again.

A file counts as unchanged while its size, its times and its inode are the same. The time of the
last change of the inode cannot be set by hand: a file that was edited and given its old date is
read again. What is remembered belongs to a machine; to lose it costs time only.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from features.cache.claims import host
from features.cache.keys import file_sha256
from features.cache.store import replacing

SETTLED_NS = 2 * 10**9
"""A file is remembered when it has been left alone for so long: two writes within one tick of a
file system's clock cannot be told apart."""

Stamp = list[int]
"""Size, times of change of content and inode in ns, inode, device."""


class Digests:
    """Digests of files by path; several threads may ask at once."""

    def __init__(self, path: Path, digest: Callable[[Path], str] | None = None) -> None:
        """Read what is remembered in ``path``: nothing, where it is not whole.

        Args:
            path: of what is remembered.
            digest: makes a file's digest; its sha256, where it is not given.
        """
        self._path = path
        self._digest = digest or file_sha256
        self._known = _read(path)
        self._new: dict[str, tuple[Stamp, str]] = {}

    def sha256(self, file: Path) -> str:
        """Return the digest of a file, 64 hexadecimal digits.

        Raises:
            OSError: it cannot be read.
        """
        name, stamp = str(file.absolute()), _stamp(file)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = self._digest(file)
        if _stamp(file) == stamp and time.time_ns() - max(stamp[1:3]) > SETTLED_NS:
            self._new[name] = (stamp, digest)
        return digest

    def save(self) -> None:
        """Write what is new beside what is remembered by now; what is gone is forgotten."""
        if not self._new:
            return
        known = _read(self._path) | self._new
        there = {name: entry for name, entry in known.items() if Path(name).is_file()}
        with replacing(self._path) as partial:
            partial.write_text(json.dumps(there), encoding="utf-8")


@contextmanager
def digests(
    store: Path, kind: str = "", digest: Callable[[Path], str] | None = None
) -> Iterator[Digests]:
    """Yield the digests that this machine remembers in a store, and keep the new ones after.

    Args:
        store: the store's folder.
        kind: of digests, ``-<noun>``, where they are not of a file's bytes.
        digest: makes one of this kind.
    """
    known = Digests(store / "digests" / f"{host()}{kind}.json", digest)
    yield known
    with suppress(OSError):  # a store that is only read: the files are read again, no more
        known.save()


def _stamp(file: Path) -> Stamp:
    s = file.stat()
    return [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev]


def _read(path: Path) -> dict[str, tuple[Stamp, str]]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): (list(stamp), str(digest)) for name, (stamp, digest) in record.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
