"""The item store for people: how large it is, whether it is sound, what of it may go.

affectline store size
affectline store verify
affectline store gc --older-than 30 --dry-run
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.progress import track
from safetensors import SafetensorError, safe_open

from features.cache.arrays import ArrayFileError, check
from features.cache.keys import file_sha256
from features.cache.store import ItemStore, Stored, store_root
from stages.engine import dvc_lock
from stages.engine.checks import in_project
from stages.engine.progress import console, fail, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="The item store: size, soundness, what may go.")

DAY_S = 86_400

AGES_DAYS = (1, 7, 30, 90, 365)
"""Where `size` cuts the items by the days since their last use."""

TABLES = ("data/*.parquet", "data/*/*.parquet", "results/*/runs.parquet")
"""Indices of outputs: what their column ``key`` names is needed."""

WEIGHTS = "data/weights/*"

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


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
            found = check(path).get("key")
        elif suffix == ".safetensors":
            with safe_open(path, "numpy") as file:  # refuses a file of another length
                said = (file.metadata() or {}).get("affectline", "{}")
            found = json.loads(said).get("key")
        else:
            json.loads(path.read_bytes())
            found = None
    except ArrayFileError as error:
        return str(error).removeprefix(f"{path}: ")
    except (OSError, ValueError, SafetensorError) as error:
        return f"expected a whole {suffix} file, found: {' '.join(str(error).split())}"
    if key is not None and found not in (None, key):
        return f"expected the item {key[:12]}, found the item {str(found)[:12]}"
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
    paths = {path for pattern in TABLES for path in Path().glob(pattern)}
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
    made = [path for path in Path().glob(WEIGHTS) if path.is_file()]
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


# -------------------------------------------------------------------------------- commands


@app.command()
def size(as_json: Json = False) -> None:
    """Say how much lies in the store, by the days since each item was last used."""
    with in_project():
        store = ItemStore(store_root())
        rows = by_age(list(store.items()))
        downloads = _folder_bytes(store.root / "sources")
        unfinished = _folder_bytes(store.root / "unfinished")
    if as_json:
        said = {
            "root": str(store.root),
            "items": sum(row["items"] for row in rows),
            "bytes": sum(row["bytes"] for row in rows),
            "downloads_bytes": downloads,
            "unfinished_bytes": unfinished,
            "by_age": rows,
        }
        print_json(said)
        return
    title = f"{store.root}: {sum(row['items'] for row in rows)} items"
    cells = (
        (_age(row["days"]), row["items"], human(row["bytes"]), human(row["bytes_alone"]))
        for row in rows
    )
    print_table(title, ["last used", "items", "size", "of it in no output or cache"], cells)
    say(f"downloads {human(downloads)}, unfinished {human(unfinished)}")


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


def _age(days: int) -> str:
    return f"within {days} days" if days else "longer ago"


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@app.command()
def verify(as_json: Json = False) -> None:
    """Read every item whole, and list those that are damaged or not what their name says."""
    with in_project():
        store = ItemStore(store_root())
        found = list(faults(store))
    if as_json:
        print_json([asdict(f) | {"path": str(f.path)} for f in found])
    else:
        for fault in found:
            say(f"{fault.path}: {fault.what}")
    if found:
        raise fail(f"{len(found)} damaged; `affectline doctor --repair` removes them")
    if not as_json:
        say(f"store verify: {sum(1 for _ in store.items())} items, all whole")


@app.command()
def gc(
    older_than: Annotated[float, typer.Option(min=0, help="days since the last use")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say it, remove nothing")] = False,
    as_json: Json = False,
) -> None:
    """Remove items that no current output of this workspace needs.

    What an earlier state of params.yaml or code was made of is computed again when it comes back,
    unless DVC's cache or a remote still has it. Other clones on a shared store are known by their
    use alone: choose --older-than so that they have used what they need.
    """
    with in_project():
        store = ItemStore(store_root())
        if command := dvc_lock.busy():
            raise fail(f"store gc: {command} is at work in this workspace; run it again after that")
        items = disposable(store, older_than)
        for item in items if not dry_run else ():
            store.remove(item)
    alone = sum(item.bytes for item in items if item.links == 1)
    shared = sum(item.bytes for item in items if item.links > 1)
    if as_json:
        said = {
            "removed": not dry_run,
            "items": [item.path.name for item in items],
            "bytes_freed": alone,
            "bytes_shared": shared,
        }
        print_json(said)
        return
    verb = "would remove" if dry_run else "removed"
    say(f"store gc: {verb} {len(items)} items, which frees {human(alone)}")
    if shared:
        say(
            f"{human(shared)} more lie in DVC's cache or another clone too, and are freed when "
            "they go there: `dvc gc --workspace`, before this"
        )


def human(size: float) -> str:
    """Return a size for a person, ``3.1 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
