"""Items of a stage: looked up, else restored, else computed; then linked into the output.

An item is looked for in the store, then in the stage's previous output (dvc.lock names it, DVC's
cache or a remote holds it), and only then computed. Finished items are in the store at once, so a
crash costs the items in flight and nothing else. Processes that share a store share the work: what
one of them computes, the others wait for.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from features.cache import claims, tables
from features.cache.arrays import ArrayFileError, check
from features.cache.keys import item_key
from features.cache.store import ItemStore, link_or_copy, store_root
from stages.engine.executors import reports_of
from stages.engine.kit import versions
from stages.engine.ledger import Ledger
from stages.engine.previous import previous_files
from stages.engine.progress import StageRun
from stages.engine.workers import (
    Crew,
    Input,
    Item,
    Keys,
    Task,
    Work,
)

FFMPEGS = ("libav", "libsw")
"""How the names of FFmpeg's libraries begin: decode alone uses them."""

TORCHS = ("torch ",)
"""How the names of torch's settings begin: decode alone does not use it.

What a stage does not use is not named, though a worker that goes through several has it loaded.
"""

Outcome = dict[str, dict[str, str]]
"""Item's name -> path of each file of it that there is none of -> why; ``{}`` if all is well."""

Reasons = dict[str, str]
"""Key of each file that could not be made -> why."""


def run_items(run: StageRun, work: Work[Task], out: Path) -> Outcome:
    """Bring every item of a stage into the store, and from there into the folder ``out``."""
    outcome = outcome_of(work.items, fill(run, work))
    link(work.items, outcome, out)
    return outcome


def fill(run: StageRun, work: Work[Task]) -> Reasons:
    """Bring every item into the store: what is missing is restored, or computed here or elsewhere.

    Args:
        run: told what is done.
        work: what there is to do.
    """
    store = ItemStore(store_root())
    waiting = _waiting(run, store, work.items)
    there = len(work.items) - len(waiting)
    run.count(items=len(work.items), reused=there)  # now: whoever interrupts is told what is done
    if waiting and work.prepare is not None:
        work.prepare()
    reasons, computed = _compute_all(run, store, waiting, work)
    failed = sum(not reasons.keys().isdisjoint(item.files) for item in work.items)
    run.count(reused=len(work.items) - computed - failed - there, failed=failed)
    return reasons


def _waiting(
    run: StageRun, store: ItemStore, items: Sequence[Item[Task]]
) -> dict[Keys, Item[Task]]:
    """Return the items of which something is missing, when what can be restored has been."""
    absent = {
        key: suffix
        for item in items
        for key, path in item.files.items()
        if not store.has(key, suffix := Path(path).suffix)
    }
    if absent:
        _restore(run, store, absent)
    waiting: dict[Keys, Item[Task]] = {}
    for item in items:
        missing = (key for key in item.files if key in absent)
        if keys := tuple(key for key in missing if not store.has(key, absent[key])):
            waiting.setdefault(keys, item)  # the same video twice is computed once
    return waiting


def outcome_of(items: Iterable[Item[Task]], reasons: Reasons) -> Outcome:
    """Return of each item which of its files there are none of, and why."""
    return {
        item.name: {path: reasons[key] for key, path in item.files.items() if key in reasons}
        for item in items
    }


def link(items: Iterable[Item[Task]], outcome: Outcome, out: Path) -> None:
    """Link the items' files, but for those that could not be made, from the store into ``out``."""
    store = ItemStore(store_root())
    for item in items:
        for key, path in item.files.items():
            if path not in outcome[item.name]:
                link_or_copy(store.path(key, Path(path).suffix), out / path)


def _restore(run: StageRun, store: ItemStore, absent: Mapping[str, str]) -> None:
    """Take what the stage's previous output still has into the store."""
    for key, path in previous_files(run.name, absent.keys(), note=run.note):
        if not _is_item(path, key, absent[key]):
            run.note(f"{path}: expected the item {key[:12]}, found another or damage; not used")
            continue
        store.add_copy(key, path, absent[key])


def _is_item(path: Path, key: str, suffix: str) -> bool:
    """Tell whether a file is the item, whole: what is damaged is computed anew."""
    try:
        if suffix == ".h5":
            return check(path).get("key") == key
        return suffix != ".json" or isinstance(json.loads(path.read_bytes()), dict)
    except (ArrayFileError, ValueError):
        return False


def _compute_all(
    run: StageRun,
    store: ItemStore,
    waiting: Mapping[Keys, Item[Task]],
    work: Work[Task],
) -> tuple[Reasons, int]:
    """Compute the waiting items.

    Returns:
        The reason for each key that could not be made, and how many items were computed here.
    """
    unfinished = store.root / "unfinished"
    if not waiting:
        claims.sweep(unfinished)
        return {}, 0
    reasons: Reasons = {}
    computed = 0
    pool = work.pool
    is_one = not (pool.devices or pool.ray or pool.slurm)
    crew = Crew(unfinished, run.name, run.note, is_one=is_one)
    ledger = Ledger(run.log.with_suffix(".csv"))
    run.workers = ledger.workers
    with closing(reports_of(store, waiting, work, crew, run.note)) as reports, ledger:
        for report in run.track(
            reports,
            total=len(waiting),
            unit=work.unit,
            at_once=work.pool.processes or len(work.pool.devices) or 1,
            crew=lambda: crew.size,
        ):
            ledger.take(report)
            for reason in dict.fromkeys(report.reasons.values()):
                run.note(f"{report.name}: {reason}")
            reasons |= report.reasons
            if report.counts is not None:
                run.count(**report.counts)
                run.count(computed=1)
                computed += 1
    return reasons, computed


# ------------------------------------------------------------------------ paths and rows


def item_path(video_id: str, suffix: str = ".h5") -> str:
    """Return where a video's item lies below an output folder: ``<label>/<name><suffix>``.

    Raises:
        ValueError: the id would lead out of the folder.
    """
    parts = video_id.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"video_id {video_id!r}: expected <label>/<name>")
    return f"{video_id}{suffix}"


def inputs_of(rows: Iterable[tables.Row], folder: Path) -> list[Input]:
    """Return what the stage before has made of each usable video.

    Args:
        rows: of its index: ``video_id``, ``status``, ``content`` and ``path``.
        folder: of its files.
    """
    return [
        Input(str(row["video_id"]), str(row["content"]), folder / str(row["path"]))
        for row in rows
        if row["status"] == "ok"
    ]


def items_of(
    videos: Iterable[Input],
    ingredients: Callable[[str], dict[str, object]],
    task: Callable[[Path, dict[str, object]], Task],
) -> list[Item[Task]]:
    """Return an item of one file for each video that the stage before has made something of.

    Args:
        videos: that.
        ingredients: content of it -> what is made of it is made of.
        task: its file, those ingredients -> what makes it.
    """
    items = []
    for video in videos:
        made_of = ingredients(video.content)
        files = {item_key(made_of): item_path(video.video_id)}
        items.append(Item(video.video_id, files, task(video.file, made_of)))
    return items


def files_below(items: Sequence[Item[Task]], folder: str = "") -> dict[str, tuple[str, str]]:
    """Return video id -> key and path of each item's file below ``folder`` (``""`` or ``x/``)."""
    return {
        item.name: (key, path.removeprefix(folder))
        for item in items
        for key, path in item.files.items()
        if path.startswith(folder)
    }


def merge_reasons(
    rows: Sequence[tables.Row], outcome: Outcome, folder: str = ""
) -> list[tables.Row]:
    """Return the rows of the stage before with this stage's outcome: a failed video stays so.

    Of an item's files those below ``folder`` count (``""`` or ``x/``).
    """
    merged = []
    for row in rows:
        missing = outcome.get(str(row["video_id"]), {})
        reason = row["reason"] or next(
            (why for path, why in missing.items() if path.startswith(folder)), None
        )
        merged.append(row | {"status": "failed" if reason else "ok", "reason": reason})
    return merged


def software() -> dict[str, str]:
    """Return what may change a number here and is in no key, name -> version or setting.

    The versions of the SOFTWARE; of FFmpeg's libraries, ``libavcodec`` and so on, in a process that
    has PyAV; and in one that has torch ``torch cpu``, the processor's instructions that it uses
    (``DEFAULT``, ``AVX2``, ``AVX512``), and ``torch threads``. Neither is imported for it.
    """
    named = dict(versions())
    if av := sys.modules.get("av"):
        libraries = sorted(av.library_versions.items())
        named |= {name: ".".join(map(str, parts)) for name, parts in libraries}
    if torch := sys.modules.get("torch"):
        named["torch cpu"] = torch.backends.cpu.get_cpu_capability()
        named["torch threads"] = str(torch.get_num_threads())
    return named


def describe(
    key: str, ingredients: Mapping[str, object], axes: Mapping[str, str], **more: object
) -> dict[str, object]:
    """Return the attributes that every array file carries: where its numbers came from.

    Args:
        key: the item's key.
        ingredients: what the key is the hash of.
        axes: for each array the names of its axes, e.g. ``T H W C``.
        more: what else the stage has to say.
    """
    named = more.pop("software", None) or software()
    assert isinstance(named, dict)
    elsewhere = TORCHS if ingredients.get("stage") == "decode" else FFMPEGS
    return {
        "key": key,
        "ingredients": dict(ingredients),
        "axes": dict(axes),
        "software": {n: value for n, value in named.items() if not n.startswith(elsewhere)},
        **more,
    }
