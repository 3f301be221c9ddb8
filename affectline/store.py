"""The item store: how large it is, whether it is sound, what of it may go."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track
from safetensors import SafetensorError, safe_open

from features.cache.arrays import ArrayFileError, check
from features.cache.keys import file_sha256
from features.cache.store import ItemStore, Stored, Trial
from stages.engine import dvc_lock
from stages.engine.paths import RESULTS, WEIGHTS, indices
from stages.engine.progress import console

DAY_S = 86_400

AGES_DAYS = (1, 7, 30, 90, 365)
"""Where `size` cuts the items by the days since their last use."""


# ------------------------------------------------------------------------------- soundness


@dataclass(frozen=True)
class Fault:
    """A file that is not the item that it should be."""

    path: Path
    what: str


def fault_of(path: Path, suffix: str, key: str | None = None) -> str | None:
    """Return what is wrong with an item's file, None if it is whole.

    Args:
        path: the file, under any name.
        suffix: what kind of file it is, ``.h5``, ``.safetensors`` or ``.json``.
        key: that it must carry, where it carries one.
    """
    try:
        if suffix == ".h5":
            key_inside = check(path).get("key")
        elif suffix == ".safetensors":
            with safe_open(path, "numpy") as file:  # refuses a file of another length
                record = (file.metadata() or {}).get("affectline", "{}")
            key_inside = json.loads(record).get("key")
        else:
            json.loads(path.read_bytes())
            key_inside = None
    except ArrayFileError as error:
        return str(error).removeprefix(f"{path}: ")
    except (OSError, ValueError, SafetensorError) as error:
        return f"expected a whole {suffix} file, found: {' '.join(str(error).split())}"
    if key is not None and key_inside not in (None, key):
        return f"expected the item {key[:12]}, found the item {str(key_inside)[:12]}"
    return None


def faults(store: ItemStore) -> Iterator[Fault]:
    """Yield what is wrong with the items of the store; each is read whole."""
    items = list(store.items())
    for item in track(
        items,
        "store",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        if what := fault_of(item.path, item.path.suffix, item.key):
            yield Fault(item.path, what)


# ----------------------------------------------------------------------------- what may go


class UnknownNeeds(ValueError):
    """What the outputs need cannot be told."""


def needed_keys(store: ItemStore) -> set[str]:
    """Return the keys of the items that the current outputs of this workspace are made of.

    Outputs that DVC's cache holds and the workspace does not count too.

    Raises:
        UnknownNeeds: an index cannot be read.
    """
    paths = {*indices(), *RESULTS.glob("*/runs.parquet")}
    cache = dvc_lock.cache_folder()
    for output in dvc_lock.read_outputs():
        for path, md5 in (dvc_lock.listing(cache, output) or {}).items():
            if path.suffix == ".parquet" and not path.exists():
                paths.add(dvc_lock.object_path(cache, md5))
    keys: set[str] = set()
    for path in sorted(path for path in paths if path.is_file()):
        keys |= _keys_in(path)
    return keys | _weights_keys(store)


def _keys_in(path: Path) -> set[str]:
    try:
        if "key" not in pq.read_schema(path).names:
            return set()
        column = pq.read_table(path, columns=["key"])["key"]
    except (OSError, pa.ArrowException) as error:
        raise UnknownNeeds(
            f"{path}: expected an index of items, found: {error}. Without it nobody knows what "
            "is needed; `affectline doctor --repair`, then `dvc repro`"
        ) from error
    return {str(key) for key in column.to_pylist() if key}


def _weights_keys(store: ItemStore) -> set[str]:
    """Return the keys of the items that lie as weights files in the outputs."""
    made = [path for path in WEIGHTS.glob("*") if path.is_file()]
    sizes = {path.stat().st_size for path in made}
    digests = {file_sha256(path) for path in made}
    return {
        item.key
        for item in store.items()
        if item.path.suffix == ".safetensors"
        and item.bytes in sizes
        and file_sha256(item.path) in digests
    }


def disposable(store: ItemStore, older_than_days: float) -> list[Stored]:
    """Return the items that no current output needs and that nobody has used for so long.

    Raises:
        UnknownNeeds: an index of the outputs cannot be read.
    """
    needed = needed_keys(store)
    before_s = time.time() - older_than_days * DAY_S
    return [item for item in store.items() if item.key not in needed and item.used_s < before_s]


def disused(store: ItemStore, older_than_days: float) -> list[Trial]:
    """Return what is remembered of runtimes and that nobody has used for so long."""
    before_s = time.time() - older_than_days * DAY_S
    return [trial for trial in store.trials() if trial.used_s < before_s]


# ------------------------------------------------------------------------------------ sizes


def by_age(items: Sequence[Stored]) -> list[dict[str, int]]:
    """Return items and bytes for each age: ``days`` is its upper end, 0 stands for no end."""
    rows = []
    low = 0
    now = time.time()
    for days in (*AGES_DAYS, 0):
        high = days or float("inf")
        some = [item for item in items if low <= max(0, now - item.used_s) / DAY_S < high]
        rows.append(
            {
                "days": days,
                "items": len(some),
                "bytes": sum(item.bytes for item in some),
                "bytes_alone": sum(item.bytes for item in some if item.links == 1),
            }
        )
        low = days
    return rows


def human(size: float) -> str:
    """Return a size for a person, ``3.1 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
