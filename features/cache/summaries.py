"""What an index says of each item, remembered: no item is opened again for its line.

A summary holds as long as the item's file has the same size, time of change and inode, and the code
that reads files is the same. Items never change in place, and a link more or less is no change of
the content. What is remembered belongs to a machine; to lose it costs time only.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from features.cache.arrays import content_sha256, read_attributes
from features.cache.claims import host
from features.cache.keys import code_fingerprint, item_key
from features.cache.store import ItemStore, replacing

SUFFIX = ".h5"

Summary = dict[str, object]
"""``content`` of :func:`features.cache.arrays.content_sha256`, and some of the attributes."""

Stamp = list[int]
"""Size, time of change in ns, inode, device."""


class Summaries:
    """Summaries of array files in a store by key."""

    def __init__(self, store: ItemStore, path: Path) -> None:
        """Read what is remembered in ``path``: nothing, where it is not whole or of other code."""
        code = code_fingerprint("features.cache.arrays.content_sha256")
        self._by = item_key({"code": code})
        self._store = store
        self._path = path
        self._known = self._read()
        self._new: dict[str, tuple[Stamp, Summary]] = {}

    def of(self, key: str, file: Path, names: Mapping[str, object]) -> Summary:
        """Return the content of an item and its attributes ``names``.

        Args:
            key: the item's.
            file: where it can be read; the same as in the store.
            names: of the attributes that are wanted.

        Raises:
            ArrayFileError: it is not what it says.
        """
        stamp = _stamp(self._store.path(key, SUFFIX))
        known = self._known.get(key)
        if known is not None and known[0] == stamp and known[1].keys() == {"content", *names}:
            return known[1]
        attributes = read_attributes(file)
        summary = {name: attributes[name] for name in names} | {"content": content_sha256(file)}
        if stamp:
            self._new[key] = (stamp, summary)
        return summary

    def save(self) -> None:
        """Write what is new beside what is remembered by now; what is gone is forgotten."""
        if not self._new:
            return
        items = {
            key: entry
            for key, entry in (self._read() | self._new).items()
            if self._store.has(key, SUFFIX)
        }
        with replacing(self._path) as partial:
            partial.write_text(json.dumps({"by": self._by, "items": items}), encoding="utf-8")

    def _read(self) -> dict[str, tuple[Stamp, Summary]]:
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            items = record["items"].items() if record["by"] == self._by else ()
            return {str(key): (list(stamp), dict(summary)) for key, (stamp, summary) in items}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}


@contextmanager
def summaries(root: Path, name: str) -> Iterator[Summaries]:
    """Yield what this machine remembers, in a store, of the index ``name``; keep the new after."""
    known = Summaries(ItemStore(root), root / "summaries" / host() / f"{name}.json")
    yield known
    with suppress(OSError):  # a store that is only read: the items are opened again, no more
        known.save()


def _stamp(file: Path) -> Stamp:
    """Return what changes with the file's content; nothing where there is none."""
    try:
        s = file.stat()
    except OSError:
        return []
    return [s.st_size, s.st_mtime_ns, s.st_ino, s.st_dev]
