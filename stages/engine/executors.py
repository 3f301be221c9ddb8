"""Executors: several processes that work on a stage's items, one a GPU or on a Ray cluster.

Each is a hand that is given a part of the items at a time, works on them as any worker does (claims
them, makes them, moves them into the store) and returns what became of them, never arrays. Of a
hand that dies the part is done anew, item by item; an item with which a hand dies once more has
that for its reason.
"""

import importlib
import importlib.util
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from features.cache.keys import PROJECT
from features.cache.store import ItemStore
from stages.engine.children import children
from stages.engine.params import ParamsError, Ray
from stages.engine.paths import PARAMS
from stages.engine.slurm import on_slurm
from stages.engine.trouble import ChildDied, MachineError, Trouble
from stages.engine.workers import (
    LOOK_S,
    Crew,
    Item,
    Keys,
    Note,
    Part,
    Report,
    Reports,
    Task,
    Work,
    worked,
)

LARGEST_PART = 64
"""Items that a hand is given at once at most: their reports come together."""

PARTS_EACH = 4
"""Parts for each hand at least, where there are items enough: none is idle for long at the end."""


@dataclass(frozen=True)
class Done:
    """What a hand returns of a part.

    Attributes:
        reports: of its items, until the error.
        notes: lines that a person should know.
        error: of the machine, which ends the stage.
    """

    reports: tuple[Report, ...]
    notes: tuple[str, ...]
    error: OSError | None


@dataclass(frozen=True)
class Hand:
    """A process that works on parts.

    Attributes:
        name: of it, for a person.
        ready: when it is there, again after it has died.
        give: has it work on a part.
        deaths: errors by which one knows that it has died.
    """

    name: str
    ready: Callable[[], "Future[Any]"]
    give: Callable[[Part], "Future[Any]"]
    deaths: tuple[type[BaseException], ...]


def reports_of(
    store: ItemStore, waiting: Mapping[Keys, Item[Task]], work: Work[Task], crew: Crew, note: Note
) -> Reports:
    """Work on items where params.yaml says; arguments as of :func:`stages.engine.workers.worked`.

    Raises:
        MachineError: it is not the videos that are at fault, or Ray or submitit is not here.
    """
    if work.pool.slurm is not None:
        yield from on_slurm(store, waiting, work, crew, note)
        return
    alone = replace(work, items=(), prepare=None, pool=replace(work.pool, devices=(), ray=None))
    task = partial(work_on_part, store.root.absolute(), alone, crew.work)
    hands: AbstractContextManager[list[Hand]]
    if work.pool.ray is not None:
        hands = _on_ray(task, work.pool.ray)
    elif work.pool.devices:
        hands = _on_devices(task, work.pool.devices)
    else:
        yield from worked(store, waiting, work, crew, note)
        return
    with hands as ready:
        yield from _shared_out(ready, waiting, crew, note)


def work_on_part(root: Path, work: Work[Any], name: str, part: Part) -> Done:
    """Work on a part of a stage's items, in a process of an executor's.

    Args:
        root: of the store.
        work: how items are made.
        name: of the stage.
        part: the items.
    """
    reports: list[Report] = []
    notes: list[str] = []
    crew = Crew(root / "unfinished", name, lambda line: None)  # who comes and goes, the stage tells
    try:
        reports.extend(worked(ItemStore(root), part, work, crew, notes.append))
    except OSError as error:
        return Done(tuple(reports), tuple(notes), error)
    return Done(tuple(reports), tuple(notes), None)


def _shared_out(
    hands: list[Hand], waiting: Mapping[Keys, Item[Task]], crew: Crew, note: Note
) -> Reports:
    """Give parts to the hands as these are free, and yield the reports as they come."""
    parts, trouble, left = deque(_parts(waiting, len(hands))), Trouble(), len(waiting)
    suspects: set[Keys] = set()
    free: list[Hand] = []
    busy: dict[Future[Any], tuple[Hand, Part]] = {}
    coming = {hand.ready(): hand for hand in hands}
    while left:
        while free and parts:
            hand, part = free.pop(), parts.popleft()
            busy[hand.give(part)] = (hand, part)
        ended, _ = wait([*busy, *coming], LOOK_S, FIRST_COMPLETED)
        crew.look()
        for future in ended:
            error = future.exception()
            if future in coming:
                hand = coming.pop(future)
                if error is not None:
                    raise MachineError(f"worker {hand.name} does not start: {error}")
                free.append(hand)
                continue
            hand, part = busy.pop(future)
            if isinstance(error, hand.deaths):
                note(f"worker {hand.name} has died ({_line(error)}); its items are done anew")
                coming[hand.ready()] = hand
                reports = []
                if part.keys() <= suspects:
                    trouble.count(error)
                    reports = [_died_with(part, error)]
                else:
                    parts.extend({keys: item} for keys, item in part.items())
                    suspects |= part.keys()
            else:
                free.append(hand)
                reports = _taken(future.result(), note)
            left -= len(reports)
            yield from reports


def _parts(waiting: Mapping[Keys, Item[Task]], hands: int) -> Iterator[Part]:
    size = min(LARGEST_PART, math.ceil(len(waiting) / (PARTS_EACH * hands)))
    keys = list(waiting)
    for first in range(0, len(keys), size):
        yield {each: waiting[each] for each in keys[first : first + size]}


def _taken(done: Done, note: Note) -> list[Report]:
    """Return the reports of a part, and tell the notes; an error of the machine is raised."""
    for line in done.notes:
        note(line)
    if done.error is not None:
        raise done.error
    return list(done.reports)


def _died_with(part: Part, error: BaseException) -> Report:
    ((keys, item),) = part.items()
    return Report(item.name, keys, dict.fromkeys(keys, f"its worker died ({_line(error)})"), None)


def _line(error: BaseException) -> str:
    if isinstance(error, ChildDied):
        return str(error)
    return " ".join(str(error).split()).partition(". ")[0]


# ----------------------------------------------------------------------------- one a GPU


@contextmanager
def _on_devices(task: Callable[[Part], Done], devices: tuple[str, ...]) -> Iterator[list[Hand]]:
    """Start a process a GPU, which sees no other."""
    with children([partial(_see_only, device) for device in devices]) as crew:
        yield [
            Hand(f"of GPU {device}", child.ready, partial(child.call, task), (ChildDied,))
            for device, child in zip(devices, crew, strict=True)
        ]


def _see_only(device: str) -> None:
    """Let this process see one GPU, before it loads what looks for them."""
    os.environ["CUDA_VISIBLE_DEVICES"] = device


# -------------------------------------------------------------------------- on Ray's cluster


@contextmanager
def _on_ray(task: Callable[[Part], Done], settings: Ray) -> Iterator[list[Hand]]:
    """Join a Ray cluster, or start one on this machine, and have an actor for each of its places.

    An actor is a process that keeps the network that it has loaded. Store and project lie where
    they lie here: on a folder that all nodes share.

    Raises:
        ParamsError: Ray is not installed, or the cluster has no place of this size.
    """
    if importlib.util.find_spec("ray") is None:
        raise ParamsError(f"{PARAMS}: engine.executor: ray: `pip install 'affectline[ray]'`")
    ray: Any = importlib.import_module("ray")

    started = not ray.is_initialized()
    if started:
        ray.init(settings.address, include_dashboard=False, log_to_driver=False)
    try:
        count = settings.actors or _places(ray.nodes(), settings)
        if not count:
            raise ParamsError(
                f"{PARAMS}: engine.ray: no node of the cluster has {settings.cpus:g} CPUs and "
                f"{settings.gpus:g} GPUs"
            )
        environment = {"env_vars": {"PYTHONPATH": str(PROJECT)}}
        actor = ray.remote(_Actor).options(
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            max_restarts=-1,
            scheduling_strategy="SPREAD",
            runtime_env=environment,
        )
        actors = [actor.remote(os.getcwd(), task) for _ in range(count)]
        yield [
            Hand(
                f"{number} of Ray",
                lambda each=each: each.ready.remote().future(),  # type: ignore[misc]
                lambda part, each=each: each.work_on.remote(part).future(),  # type: ignore[misc]
                (ray.exceptions.RayActorError,),
            )
            for number, each in enumerate(actors)
        ]
        for each in actors:
            ray.kill(each)
    finally:
        if started:
            ray.shutdown()


def _places(nodes: list[dict[str, Any]], settings: Ray) -> int:
    """Return how many actors of a size the nodes of a cluster have room for."""
    wanted = {"CPU": settings.cpus, "GPU": settings.gpus}
    return sum(
        min(
            int(node["Resources"].get(kind, 0) // size) for kind, size in wanted.items() if size > 0
        )
        for node in nodes
        if node["Alive"]
    )


class _Actor:
    """What works on parts in a Ray cluster."""

    def __init__(self, project: str, task: Callable[[Part], Done]) -> None:
        os.chdir(project)
        self._task = task

    def ready(self) -> int:
        """Return who it is, when it has started."""
        return os.getpid()

    def work_on(self, part: Part) -> Done:
        """Work on a part of the items."""
        return self._task(part)
