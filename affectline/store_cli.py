"""The commands of the item store: how large it is, whether it is sound, what of it may go.

affectline store size
affectline store verify
affectline store gc --older-than 30 --dry-run
affectline store forget
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The item store: size, soundness, what may go.")

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def size(as_json: Json = False) -> None:
    """Say how much lies in the store, by the days since each item was last used."""
    from affectline.store import by_age, human
    from features.cache.store import ItemStore, store_root
    from stages.engine.checks import in_project
    from stages.engine.progress import print_json, print_table, say

    with in_project():
        store = ItemStore(store_root())
        rows = by_age(list(store.items()))
        downloads = _folder_bytes(store.root / "sources")
        unfinished = _folder_bytes(store.root / "unfinished")
        runtimes = sum(trial.bytes for trial in store.trials())
    if as_json:
        sizes = {
            "root": str(store.root),
            "items": sum(row["items"] for row in rows),
            "bytes": sum(row["bytes"] for row in rows),
            "downloads_bytes": downloads,
            "unfinished_bytes": unfinished,
            "runtimes_bytes": runtimes,
            "by_age": rows,
        }
        print_json(sizes)
        return
    title = f"{store.root}: {sum(row['items'] for row in rows)} items"
    cells = (
        (_age(row["days"]), row["items"], human(row["bytes"]), human(row["bytes_alone"]))
        for row in rows
    )
    print_table(title, ["last used", "items", "size", "of it in no output or cache"], cells)
    say(
        f"downloads {human(downloads)}, unfinished {human(unfinished)}, "
        f"networks for another runtime {human(runtimes)}"
    )


def _age(days: int) -> str:
    return f"within {days} days" if days else "longer ago"


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@app.command()
def verify(as_json: Json = False) -> None:
    """Read every item whole, and list those that are damaged or not what their name says."""
    from affectline.store import faults as faults_of
    from features.cache.store import ItemStore, store_root
    from stages.engine.checks import in_project
    from stages.engine.progress import fail, print_json, say

    with in_project():
        store = ItemStore(store_root())
        faults = list(faults_of(store))
    if as_json:
        print_json([asdict(fault) | {"path": str(fault.path)} for fault in faults])
    else:
        for fault in faults:
            say(f"{fault.path}: {fault.what}")
    if faults:
        raise fail(f"{len(faults)} damaged; `affectline doctor --repair` removes them")
    if not as_json:
        say(f"store verify: {sum(1 for _ in store.items())} items, all whole")


@app.command()
def gc(
    older_than: Annotated[float, typer.Option(min=0, help="days since the last use")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say it, remove nothing")] = False,
    as_json: Json = False,
) -> None:
    """Remove items that no current output of this workspace needs, and runtimes nobody uses.

    What an earlier state of params.yaml or code was made of is computed again when it comes back,
    unless DVC's cache or a remote still has it. Other clones on a shared store are known by their
    use alone: choose --older-than so that they have used what they need.
    """
    from affectline.store import disposable, disused, human
    from features.cache.store import ItemStore, store_root
    from stages.engine import dvc_lock
    from stages.engine.checks import in_project
    from stages.engine.progress import fail, print_json, say

    with in_project():
        store = ItemStore(store_root())
        if command := dvc_lock.busy():
            raise fail(f"store gc: {command} is at work in this workspace; run it again after that")
        items, trials = disposable(store, older_than), disused(store, older_than)
        for item in items if not dry_run else ():
            store.remove(item)
        for trial in trials if not dry_run else ():
            store.forget(trial)
    alone = sum(item.bytes for item in items if item.links == 1)
    remembered = sum(trial.bytes for trial in trials)
    shared = sum(item.bytes for item in items if item.links > 1)
    if as_json:
        freed = {
            "removed": not dry_run,
            "items": [item.path.name for item in items],
            "bytes_freed": alone,
            "bytes_shared": shared,
            "runtimes": [trial.folder.name for trial in trials],
            "runtimes_bytes_freed": remembered,
        }
        print_json(freed)
        return
    verb = "would remove" if dry_run else "removed"
    say(f"store gc: {verb} {len(items)} items, which frees {human(alone)}")
    if trials:
        say(f"and {len(trials)} networks for another runtime, which frees {human(remembered)}")
    if shared:
        say(
            f"{human(shared)} more lie in DVC's cache or another clone too, and are freed when "
            "they go there: `dvc gc --workspace`, before this"
        )


@app.command()
def forget(as_json: Json = False) -> None:
    """Forget which runtime was the fastest: each network is tried again when it is next needed.

    A machine that was busy with other work may have been misjudged (engine.runtime: auto).
    """
    from affectline.store import human
    from features.cache.store import ItemStore, store_root
    from stages.engine.checks import in_project
    from stages.engine.progress import print_json, say

    with in_project():
        store = ItemStore(store_root())
        trials = store.trials()
        for trial in trials:
            store.forget(trial)
    freed = sum(trial.bytes for trial in trials)
    if as_json:
        print_json({"runtimes": [trial.folder.name for trial in trials], "bytes_freed": freed})
    else:
        say(f"store forget: {len(trials)} networks will be tried again, which frees {human(freed)}")
