"""Hands: processes that are given a part of a stage's items at a time.

Each works on its part as any worker does (claims the items, makes them, moves them into the store)
and returns what became of them, never arrays. Of a hand that dies the part is done anew, item by
item; an item with which a hand dies once more has that for its reason.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from features.cache.store import ItemStore
from stages.engine.trouble import FEW, ChildDied, MachineError, Trouble
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
        ready: when it is there, again after it has died; an error of the machine that is its
            result ends the stage.
        give: has it work on a part.
        deaths: errors by which one knows that it has died.
        room: how many items it can be given at once, when it is there.
    """

    name: str
    ready: Callable[[], "Future[Any]"]
    give: Callable[[Part], "Future[Any]"]
    deaths: tuple[type[BaseException], ...]
    room: Callable[[], int] = lambda: LARGEST_PART


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


def shared_out(
    hands: list[Hand], waiting: Mapping[Keys, Item[Task]], crew: Crew, note: Note
) -> Reports:
    """Give parts to the hands as these are free, and yield the reports as they come.

    Raises:
        MachineError: it is not the videos that are at fault.
    """
    parts, trouble, left = deque(_parts(waiting, len(hands))), Trouble(), len(waiting)
    suspects: set[Keys] = set()
    failed_starts = 0
    free: list[Hand] = []
    busy: dict[Future[Any], tuple[Hand, Part]] = {}
    coming = {hand.ready(): hand for hand in hands}
    while left:
        while free and parts:
            hand = free.pop()
            part, rest = _cut(parts.popleft(), hand.room())
            parts.extendleft([rest] if rest else [])
            busy[hand.give(part)] = (hand, part)
        ended, _ = wait([*busy, *coming], LOOK_S, FIRST_COMPLETED)
        crew.look()
        crew.size = max(crew.size, len(free) + len(busy))  # some may see another store
        for future in ended:
            error = future.exception()
            if future in coming:
                hand = coming.pop(future)
                failed_starts += error is not None
                if error is not None and (
                    not isinstance(error, hand.deaths) or failed_starts >= FEW
                ):
                    raise MachineError(f"worker {hand.name} does not start: {_line(error)}")
                if error is not None:
                    coming[hand.ready()] = hand
                elif isinstance(refusal := future.result(), OSError):
                    raise refusal
                else:
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


def _cut(part: Part, room: int) -> tuple[Part, Part]:
    """Return as much of a part as there is room for, and the rest."""
    items = iter(part.items())
    return dict(islice(items, room)), dict(items)


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
