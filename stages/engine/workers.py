"""Work on items: claimed one by one, done in this process or in children with a time limit.

In this process items may also be made as a stream: what one needs is read while another is worked
on (:func:`stages.engine.ahead.ahead`).

Claims are taken as work is begun: processes that share a store share the work too.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from features.cache import claims
from features.cache.store import ItemStore
from stages.engine.children import Child, children
from stages.engine.device import devices_of
from stages.engine.params import Engine, Ray, Slurm
from stages.engine.trouble import (
    HARDWARE,
    MachineError,
    PartlyFailed,
    Trouble,
    kind_of,
    reason_of,
    said,
)

Task = TypeVar("Task")
"""What `compute` needs to make one item: each stage has its own."""

Compute = Callable[[Task, dict[str, Path]], Mapping[str, float]]
"""``compute(task, {key: path to write}) -> counts``; it raises with the reason if it cannot, and
:class:`~stages.engine.trouble.PartlyFailed` if it can write some of them."""

LOOK_S = 2.0
"""Seconds between two looks at who else is at work."""


@dataclass(frozen=True, slots=True)  # there may be 100,000 of them
class Item(Generic[Task]):
    """What one stage makes of one video.

    Attributes:
        name: the video's id.
        files: key of each file that the item consists of, and its path in the output folder.
        task: what ``compute`` needs to make them (it must be picklable).
    """

    name: str
    files: dict[str, str]
    task: Task


@dataclass(frozen=True)
class Input:
    """What the stage before has made of one video.

    Attributes:
        video_id: the video's id.
        content: hash of what the file holds, by which keys know it.
        file: where it can be read.
    """

    video_id: str
    content: str
    file: Path


@dataclass(frozen=True)
class Workers:
    """Where and how items are computed.

    Attributes:
        processes: how many children of this one compute, with a time limit each; 0: none, items
            are computed in this process.
        time_limit_s: the limit.
        devices: GPUs, of which each has a process of its own that sees no other, as
            CUDA_VISIBLE_DEVICES names them; none: the work is this process's.
        ray: the cluster whose actors work in place of this process.
        slurm: the jobs that do.
    """

    processes: int
    time_limit_s: float = 600.0
    devices: tuple[str, ...] = ()
    ray: Ray | None = None
    slurm: Slurm | None = None


def elsewhere(engine: Engine, processes: int, time_limit_s: float) -> Workers | None:
    """Return workers that params.yaml has other machines start; None: the work is done here."""
    if engine.executor == "ray":
        return Workers(processes, time_limit_s, ray=engine.ray)
    if engine.executor == "slurm":
        return Workers(processes, time_limit_s, slurm=engine.slurm)
    return None


def workers(engine: Engine) -> Workers:
    """Return the pool that params.yaml asks for: one process a core unless it names a number."""
    cpus = engine.slurm.cpus if engine.executor == "slurm" else math.ceil(engine.ray.cpus)
    if there := elsewhere(engine, cpus, engine.time_limit_s):
        return there
    return Workers(engine.workers or os.cpu_count() or 1, engine.time_limit_s)


def networks(engine: Engine, device: str) -> Workers:
    """Return where params.yaml has networks run that take all that a process may use."""
    there = elsewhere(engine, 0, engine.time_limit_s)
    return there or Workers(0, engine.time_limit_s, devices_of(engine, device))


Keys = tuple[str, ...]
Part = dict[Keys, Item[Any]]
"""Missing keys of each of some items, and the item."""

Result = Mapping[str, float] | BaseException | None
"""Counts of what was computed, why it could not be, or None: another process has made it."""


@dataclass(frozen=True)
class Report:
    """What became of an item; what was made of it is in the store.

    Attributes:
        name: the item's.
        keys: those that were missing.
        reasons: key of each file that could not be made -> why.
        counts: of what was computed; None where nothing was, for it failed or another made it.
        worker: who has done so, ``<host>-<process>``.
        seconds: from its being taken to its end; of items in flight together each has all.
    """

    name: str
    keys: Keys
    reasons: dict[str, str]
    counts: Mapping[str, float] | None
    worker: str = field(default_factory=claims.me)
    seconds: float = 0.0


Reports = Generator[Report, None, None]
"""What became of items, as it is known."""


@dataclass(frozen=True)
class Job(Generic[Task]):
    """An item to compute here, and where to: none where another process has made it."""

    item: Item[Task]
    keys: Keys
    paths: dict[str, Path]


Results = Generator[tuple[Job[Task], Result], None, None]
"""What became of each job, as it is known."""

Note = Callable[[str], None]
"""Told in one line what a person should know."""

Stream = Callable[[Note, Generator[Job[Task] | None, None, None]], Results[Task]]
"""Makes items of jobs as they come, some at once; None comes while there is none to take."""


@dataclass(frozen=True)
class Work(Generic[Task]):
    """What a stage is to make, and how.

    Attributes:
        items: all of them.
        compute: makes one.
        pool: where ``compute`` works.
        stream: makes items in one process one after the other, where that is better than one by
            one; ``compute`` and ``pool`` are not used then.
        unit: what a person calls the items.
        prepare: called once, by the stage itself, before the first item is computed.
        weights: files of weights that ``compute`` reads.
    """

    items: Sequence[Item[Task]]
    compute: Compute[Task]
    pool: Workers
    stream: Stream[Task] | None = None
    unit: str = "videos"
    prepare: Callable[[], None] | None = None
    weights: tuple[Path, ...] = ()


class Crew:
    """All processes that work on the same items in one store, told as they come and go."""

    def __init__(self, folder: Path, work: str, note: Note, *, is_one: bool = True) -> None:
        """Begin.

        Args:
            folder: of the scratch folders of all.
            work: what they do, the stage's name.
            note: told who comes, ends or dies.
            is_one: this process works itself, and does not only have others work.
        """
        self._others = 0 if is_one else -1
        self.size = 1 + self._others
        self.work = work
        self._folder, self._note = folder, note
        self._me = claims.me()
        self._known: set[str] = {self._me}
        self._next_look = 0.0

    def look(self) -> None:
        """See who is there now, if the last look was a while ago."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        there = claims.workers(self._folder, self.work)
        alive = {name for name, is_alive in there.items() if is_alive}
        self.size = len(alive | {self._me}) + self._others
        for name in sorted(alive - self._known):
            self._note(f"worker {name} has come: {self.size} are at work")
        for name in sorted(self._known - alive - {self._me}):
            how = "has died, what it was at is taken over" if name in there else "has ended"
            self._note(f"worker {name} {how}: {self.size} are at work")
        self._known = alive | {self._me}


class Todo(Generic[Task]):
    """The items still to compute, claimed one by one: another process has its hands on the rest.

    Claims are taken as work is begun, so that processes which share a store share the work too.
    One thread may take them and another finish them.
    """

    def __init__(
        self,
        store: ItemStore,
        waiting: Mapping[Keys, Item[Task]],
        folder: Path,
        patience_s: float,
        crew: Crew,
        note: Note,
        begin: Callable[[Keys], None] = lambda keys: None,
    ) -> None:
        """Begin with all of ``waiting``.

        Args:
            store: where finished items come from and go to.
            waiting: the missing keys of each item.
            folder: where unfinished files go.
            patience_s: after so long without any news an item is computed in spite of its claim.
            crew: who else is at work.
            note: told in one line what a person should know.
            begin: told of each item that is to be computed here, as it is taken.
        """
        self._crew = crew
        self._begin = begin
        self._taken_s: dict[Keys, float] = {}
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

    def take(self) -> Job[Task] | None:
        """Return the next item, claimed; None while other processes are at work on all the rest."""
        self._crew.look()
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

    def jobs(self) -> Generator[Job[Task] | None, None, None]:
        """Yield the items as they can be taken, and None while none can be."""
        while self:
            job = self.take()
            yield job
            if job is None:
                time.sleep(claims.POLL_S)

    def _claim(self, keys: Keys) -> list[claims.Claim] | None:
        return claims.take_all(self._store.root / "claims" / key for key in keys)

    def _absent(self, keys: Keys, item: Item[Task]) -> dict[str, Path]:
        names = {key: Path(key).with_suffix(Path(item.files[key]).suffix) for key in keys}
        return {
            key: self._folder / name
            for key, name in names.items()
            if not self._store.has(key, name.suffix)
        }

    def _job(self, keys: Keys, item: Item[Task], held: list[claims.Claim]) -> Job[Task]:
        self._held[keys] = held
        self._news = self._taken_s[keys] = time.monotonic()
        # looked at again: before it was claimed, another process may have finished it
        job = Job(item, keys, self._absent(keys, item))
        if job.paths:
            self._begin(keys)
        return job

    def finish(self, job: Job[Task]) -> float:
        """Let go of an item that was taken; return how many seconds ago it was."""
        for claim in self._held.pop(job.keys):
            claim.release()
        return time.monotonic() - self._taken_s.pop(job.keys)

    def let_go(self) -> None:
        """Let go of everything."""
        for held in self._held.values():
            for claim in held:
                claim.release()
        self._held.clear()


def worked(
    store: ItemStore,
    waiting: Mapping[Keys, Item[Task]],
    work: Work[Task],
    crew: Crew,
    note: Note,
    begin: Callable[[Keys], None] = lambda keys: None,
) -> Reports:
    """Work on items here, beside other processes, until each is in the store or has failed here.

    Args:
        store: where they go.
        waiting: the missing keys of each item.
        work: how they are made.
        crew: who else is at work.
        note: told in one line what a person should know.
        begin: told of each item that is to be computed here, as it is taken.

    Raises:
        MachineError: it is not the videos that are at fault.
    """
    trouble = Trouble()
    with claims.scratch(store.root / "unfinished", crew.work) as folder:
        todo = Todo(store, waiting, folder, work.pool.time_limit_s, crew, note, begin)
        if work.stream is not None:
            results = work.stream(note, todo.jobs())
        else:
            compute_all = in_pool if work.pool.processes else in_process
            results = compute_all(todo, work.compute, work.pool)
        try:
            for job, result in results:
                trouble.count(result)
                reasons, counts = _became(job, result, work.pool)
                for key, path in job.paths.items():
                    if key not in reasons:
                        store.add(key, path)
                seconds = todo.finish(job)
                yield Report(job.item.name, job.keys, reasons, counts, seconds=seconds)
        except Exception as error:  # of a network that many items go through
            if kind_of(error) in HARDWARE:
                raise MachineError(said(error)) from error
            raise
        finally:
            results.close()  # its threads end before what they have claimed is let go
            todo.let_go()


def _became(
    job: Job[Task], result: Result, pool: Workers
) -> tuple[dict[str, str], Mapping[str, float] | None]:
    """Return why which files of a job could not be made, and the counts if all were."""
    if isinstance(result, BaseException):
        return reasons_of(result, job, pool), None
    return {}, result


def in_process(todo: Todo[Task], compute: Compute[Task], pool: Workers) -> Results[Task]:
    """Compute in this process, one item after the other."""
    for job in todo.jobs():
        if job is None:
            continue
        if not job.paths:
            yield job, None
        else:
            try:
                result: Result = compute(job.item.task, job.paths)
            except Exception as error:  # one video's failure is its row's reason
                result = error
            yield job, result


def in_pool(todo: Todo[Task], compute: Compute[Task], pool: Workers) -> Results[Task]:
    """Compute in child processes: a hanging or crashing decoder costs its video only."""
    with children([None] * min(pool.processes, len(todo))) as free:
        busy: dict[Future[Mapping[str, float]], tuple[Child, Job[Task]]] = {}
        while todo or busy:
            while free and (job := todo.take()) is not None:
                if not job.paths:
                    yield job, None
                    continue
                child = free.pop()
                arguments = (compute, job.item.task, job.paths)
                busy[child.call(*arguments, time_limit_s=pool.time_limit_s)] = (child, job)
            if not busy:
                time.sleep(claims.POLL_S if todo else 0)
                continue
            done, _ = wait(busy, claims.POLL_S if todo and free else None, FIRST_COMPLETED)
            for future in done:
                child, job = busy.pop(future)
                free.append(child)
                error = future.exception()
                yield job, future.result() if error is None else error


def reasons_of(error: BaseException, job: Job[Task], pool: Workers) -> dict[str, str]:
    """Return key -> why, of each file of a job that there is none of."""
    if isinstance(error, PartlyFailed):
        return dict(error.reasons)
    return dict.fromkeys(job.paths, reason_of(error, pool.time_limit_s))
