"""Items of a stage: looked up, else restored, else computed; then linked into the output.

An item is looked for in the store, then in the stage's previous output (dvc.lock names it, DVC's
cache or a remote holds it), and only then computed. Finished items are in the store at once, so a
crash costs the items in flight and nothing else. Processes that share a store share the work: what
one of them computes, the others wait for.
"""

import errno
import json
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import pebble
import pyarrow as pa

from features import claims, tables
from features.arrays import ArrayFileError, read, read_attributes
from features.cache import ItemStore, link_or_copy, store_root
from stages.console import StageRun, fail, print_table
from stages.params import Engine
from stages.previous import previous_files

Compute = Callable[[object, dict[str, Path]], Mapping[str, float]]
"""``compute(task, {key: path to write}) -> counts``; it raises with the reason if it cannot."""

MACHINE_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
)
"""Errors of the machine, not of the video: they end the stage."""

SOFTWARE = ("affectline", "av", "h5py", "librosa", "mediapipe", "numpy", "torch", "torchvision")
"""Distributions whose versions stand in every array file."""


@dataclass(frozen=True)
class Item:
    """What one stage makes of one video.

    Attributes:
        name: the video's id.
        files: key of each file that the item consists of, and its path in the output folder.
        task: what ``compute`` needs to make them (it must be picklable).
    """

    name: str
    files: dict[str, str]
    task: object


@dataclass(frozen=True)
class Workers:
    """How items are computed: in so many processes with a time limit each, or (0) in this one."""

    processes: int
    time_limit_s: float = 600.0


def workers(engine: Engine) -> Workers:
    """Return the pool that params.yaml asks for: one process a core unless it names a number."""
    return Workers(engine.workers or os.cpu_count() or 1, engine.time_limit_s)


def run_items(
    run: StageRun,
    items: Sequence[Item],
    compute: Compute,
    out: Path,
    pool: Workers,
    unit: str = "videos",
) -> dict[str, str | None]:
    """Bring every item into the folder ``out``; ``unit`` is what a person calls the items.

    Returns:
        For each item's name ``None``, or the reason why there is nothing of it.
    """
    store = ItemStore(store_root())
    wanted = {key: Path(path).suffix for item in items for key, path in item.files.items()}
    absent = {key: suffix for key, suffix in wanted.items() if not store.has(key, suffix)}
    if absent:
        _restore(run, store, absent)
    waiting: dict[tuple[str, ...], Item] = {}
    for item in items:
        keys = tuple(key for key in item.files if not store.has(key, wanted[key]))
        if keys:
            waiting.setdefault(keys, item)  # the same video twice is computed once
    reasons, computed = _compute_all(run, store, waiting, compute, pool, unit)
    outcome: dict[str, str | None] = {}
    for item in items:
        reason = next((reasons[key] for key in item.files if key in reasons), None)
        if reason is None:
            for key, path in item.files.items():
                link_or_copy(store.path(key, wanted[key]), out / path)
        outcome[item.name] = reason
    failed = sum(reason is not None for reason in outcome.values())
    run.count(
        items=len(items), computed=computed, reused=len(items) - computed - failed, failed=failed
    )
    return outcome


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
            return read(path)[1].get("key") == key
        return suffix != ".json" or isinstance(json.loads(path.read_bytes()), dict)
    except (ArrayFileError, ValueError):
        return False


Keys = tuple[str, ...]
Result = Mapping[str, float] | BaseException | None
"""Counts of what was computed, why it could not be, or None: another process has made it."""


def _compute_all(
    run: StageRun,
    store: ItemStore,
    waiting: Mapping[Keys, Item],
    compute: Compute,
    pool: Workers,
    unit: str,
) -> tuple[dict[str, str], int]:
    """Compute the waiting items.

    Returns:
        The reason for each key that could not be made, and how many items were computed here.
    """
    if not waiting:
        claims.sweep(store.root / "unfinished")
        return {}, 0
    reasons: dict[str, str] = {}
    computed = 0
    with claims.scratch(store.root / "unfinished") as folder:
        todo = Todo(store, waiting, folder, pool.time_limit_s, run.note)
        results = _in_pool if pool.processes else _in_process
        try:
            for job, result in run.track(
                results(todo, compute, pool),
                total=len(waiting),
                unit=unit,
                at_once=pool.processes or 1,
            ):
                if isinstance(result, BaseException):
                    reason = _reason(result, pool)
                    run.note(f"{job.item.name}: {reason}")
                    reasons.update(dict.fromkeys(job.paths, reason))
                elif result is not None:
                    run.count(**result)
                    for key, path in job.paths.items():
                        store.add(key, path)
                    computed += 1
                todo.finish(job)
        finally:
            todo.let_go()
    return reasons, computed


@dataclass(frozen=True)
class Job:
    """An item to compute here, and where to: none where another process has made it."""

    item: Item
    keys: Keys
    paths: dict[str, Path]


class Todo:
    """The items still to compute, claimed one by one: another process has its hands on the rest.

    Claims are taken as work is begun, so that processes which share a store share the work too.
    """

    def __init__(
        self,
        store: ItemStore,
        waiting: Mapping[Keys, Item],
        folder: Path,
        patience_s: float,
        note: Callable[[str], None],
    ) -> None:
        """Begin with all of ``waiting``.

        Args:
            store: where finished items come from and go to.
            waiting: the missing keys of each item.
            folder: where unfinished files go.
            patience_s: after so long without any news an item is computed in spite of its claim.
            note: told in one line what a person should know.
        """
        self._store = store
        self._rest = deque(waiting.items())
        self._folder = folder
        self._patience_s = patience_s
        self._note = note
        self._held: dict[Keys, list[claims.Claim]] = {}
        self._news = time.monotonic()
        self._told = False

    def __len__(self) -> int:
        """Return how many are left to take."""
        return len(self._rest)

    def take(self) -> Job | None:
        """Return the next item, claimed; None while other processes are at work on all the rest."""
        for _ in range(len(self._rest)):
            keys, item = self._rest[0]
            held = self._claim(keys) if self._absent(keys, item) else []
            if held is None:
                self._rest.rotate(-1)
                continue
            self._rest.popleft()
            return self._job(keys, item, held)
        if self._held:
            self._news = time.monotonic()
        elif self._rest and time.monotonic() - self._news > self._patience_s:
            keys, item = self._rest.popleft()
            self._note(f"{item.name}: another process is stuck with it; computing it here")
            return self._job(keys, item, [])
        elif self._rest and not self._told:
            self._told = True
            self._note(f"waiting for another process that computes {len(self._rest)} of the items")
        return None

    def _claim(self, keys: Keys) -> list[claims.Claim] | None:
        return claims.take_all(self._store.root / "claims" / key for key in keys)

    def _absent(self, keys: Keys, item: Item) -> dict[str, Path]:
        names = {key: Path(key).with_suffix(Path(item.files[key]).suffix) for key in keys}
        return {
            key: self._folder / name
            for key, name in names.items()
            if not self._store.has(key, name.suffix)
        }

    def _job(self, keys: Keys, item: Item, held: list[claims.Claim]) -> Job:
        self._held[keys] = held
        self._news = time.monotonic()
        # looked at again: before it was claimed, another process may have finished it
        return Job(item, keys, self._absent(keys, item))

    def finish(self, job: Job) -> None:
        """Let go of an item that was taken."""
        for claim in self._held.pop(job.keys):
            claim.release()

    def let_go(self) -> None:
        """Let go of everything."""
        for held in self._held.values():
            for claim in held:
                claim.release()
        self._held.clear()


def _in_process(todo: Todo, compute: Compute, pool: Workers) -> Iterator[tuple[Job, Result]]:
    while todo:
        job = todo.take()
        if job is None:
            time.sleep(claims.POLL_S)
        elif not job.paths:
            yield job, None
        else:
            try:
                result: Result = compute(job.item.task, job.paths)
            except Exception as error:  # one video's failure is its row's reason
                result = error
            yield job, result


def _in_pool(todo: Todo, compute: Compute, pool: Workers) -> Iterator[tuple[Job, Result]]:
    """Compute in child processes: a hanging or crashing decoder costs its video only."""
    count = min(pool.processes, len(todo))
    futures: dict[Future[Mapping[str, float]], Job] = {}
    with pebble.ProcessPool(
        max_workers=count, initializer=_end_with_parent, context=get_context("spawn")
    ) as processes:
        try:
            while todo or futures:
                while len(futures) < count and (job := todo.take()) is not None:
                    if not job.paths:
                        yield job, None
                        continue
                    arguments = [job.item.task, job.paths]
                    begun = processes.schedule(compute, arguments, timeout=pool.time_limit_s)
                    futures[begun] = job
                if not futures:
                    time.sleep(claims.POLL_S if todo else 0)
                    continue
                spare = todo and len(futures) < count
                done, _ = wait(futures, claims.POLL_S if spare else None, FIRST_COMPLETED)
                for future in done:
                    error = future.exception()
                    yield futures.pop(future), future.result() if error is None else error
        except BaseException:
            processes.stop()  # type: ignore[no-untyped-call]
            raise


def _end_with_parent() -> None:
    """Let this child process end as soon as the stage that started it is dead."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _reason(error: BaseException, pool: Workers) -> str:
    """Say in one line why a video failed; an error of the machine is raised on."""
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        raise error
    if isinstance(error, BrokenExecutor):  # no process can be started: of no video's making
        raise error
    if isinstance(error, TimeoutError):
        return f"given up after {pool.time_limit_s:g} s (engine.time_limit_s)"
    if isinstance(error, pebble.ProcessExpired):
        return f"the process that worked on it died (exit status {error.exitcode})"
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


# ------------------------------------------------------------------------ folders and rows


def item_path(video_id: str, suffix: str = ".h5") -> str:
    """Return where a video's item lies below an output folder: ``<label>/<name><suffix>``.

    Raises:
        ValueError: the id would lead out of the folder.
    """
    parts = video_id.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"video_id {video_id!r}: expected <label>/<name>")
    return f"{video_id}{suffix}"


@cache
def software() -> dict[str, str]:
    """Return the versions of what may change a number: distribution -> version."""
    return {name: version(name) for name in SOFTWARE}


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
    return {
        "key": key,
        "ingredients": dict(ingredients),
        "axes": dict(axes),
        "software": software(),
        **more,
    }


@contextmanager
def fresh_outputs(parent: Path, run: StageRun) -> Iterator[Path]:
    """Yield an empty folder; when all went well, what lies in it moves to ``parent``.

    Each file or folder takes the place of the one with its name; nothing else there is touched.
    One process at a time does this; another waits for it, one that its dvc has left behind too.
    """
    partial = parent / f".{run.name}.tmp"
    _end_with_dvc()
    with claims.held(
        parent / f".{run.name}.busy.tmp",
        on_wait=lambda: run.note("waiting for another process that writes the same outputs"),
    ):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for made in sorted(partial.iterdir()):
                target = parent / made.name
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                made.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _end_with_dvc() -> None:
    """Let this process end with the dvc that started it: nobody waits for its outputs then."""
    if "DVC_STAGE" not in os.environ:
        return
    dvc = os.getppid()

    def watch() -> None:
        while os.getppid() == dvc:
            time.sleep(claims.POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def merge_reasons(
    rows: Sequence[tables.Row], outcome: Mapping[str, str | None]
) -> list[tables.Row]:
    """Return the rows of the stage before with this stage's outcome: a failed video stays so."""
    merged = []
    for row in rows:
        reason = row["reason"] or outcome.get(str(row["video_id"]))
        merged.append(row | {"status": "failed" if reason else "ok", "reason": reason})
    return merged


INDEX = {
    "video_id": pa.string(),
    "label": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "key": pa.string(),
    "path": pa.string(),
}
"""Columns of every index of items: one row a video, ``path`` below the folder of that name."""


def files_below(items: Sequence[Item], folder: str = "") -> dict[str, tuple[str, str]]:
    """Return video id -> key and path of each item's file below ``folder`` (``""`` or ``x/``)."""
    return {
        item.name: (key, path.removeprefix(folder))
        for item in items
        for key, path in item.files.items()
        if path.startswith(folder)
    }


def write_index(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, object]],
    files: Mapping[str, tuple[str, str]],
    more: Mapping[str, pa.DataType],
) -> None:
    """Write ``<name>.parquet`` beside the folder ``name`` of array files, both in ``folder``.

    Args:
        folder: where both lie.
        name: of the folder.
        rows: rows with ``video_id``, ``label``, ``status``, ``reason``.
        files: video id -> key and path of its item.
        more: further columns; an item's values are the attributes of that name in its file.
    """
    filled = []
    for row in rows:
        entry = {column: row[column] for column in ("video_id", "label", "status", "reason")}
        if entry["status"] == "ok":
            entry["key"], path = files[str(row["video_id"])]
            said = read_attributes(folder / name / path)
            entry |= {"path": path, **{column: said[column] for column in more}}
        filled.append(entry)
    schema = pa.schema([*INDEX.items(), *more.items()])
    tables.write(folder / f"{name}.parquet", filled, schema)


def check_failures(run: StageRun, rows: Sequence[Mapping[str, object]], max_failed: float) -> None:
    """End the stage if more than the share ``max_failed`` of the rows have failed.

    Args:
        run: the stage's run.
        rows: rows with ``video_id``, ``status`` and ``reason``.
        max_failed: the largest share that is put up with.
    """
    failed = [row for row in rows if row["status"] == "failed"]
    if not rows:
        raise fail(f"{run.name}: there are no videos")
    if len(failed) > max_failed * len(rows):
        print_table(
            f"{run.name}: {len(failed)} of {len(rows)} videos failed",
            ["video", "reason"],
            [(row["video_id"], row["reason"]) for row in failed],
        )
        raise fail(
            f"{run.name}: {len(failed)} of {len(rows)} videos failed, allowed are "
            f"{max_failed:.0%} (max_failed in params.yaml). Mend or remove them, or raise "
            "max_failed, and run again: what was computed is kept"
        )
    if run.counts["failed"]:  # what failed in a stage before has been told
        run.note(f"{len(failed)} of {len(rows)} videos have failed (affectline failures)")
