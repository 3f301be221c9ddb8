"""Executors: where a stage's items are worked on, as params.yaml says.

In this process, in one process a GPU, by actors of a Ray cluster or by jobs of Slurm.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from features.cache.store import ItemStore
from stages.engine.actors import on_ray
from stages.engine.children import children
from stages.engine.hands import Done, Hand, shared_out, work_on_part
from stages.engine.slurm import on_slurm
from stages.engine.trouble import ChildDied
from stages.engine.workers import Crew, Item, Keys, Note, Part, Reports, Task, Work, worked


def reports_of(
    store: ItemStore, waiting: Mapping[Keys, Item[Task]], work: Work[Task], crew: Crew, note: Note
) -> Reports:
    """Work on items where params.yaml says; arguments as of :func:`stages.engine.workers.worked`.

    Raises:
        MachineError: it is not the videos that are at fault, or Ray or submitit is not here.
    """
    pool = work.pool
    alone = replace(work, items=(), prepare=None, pool=replace(pool, devices=(), ray=None))
    if pool.slurm is not None:
        yield from on_slurm(store, waiting, work, crew, note)
    elif pool.ray is not None:
        with on_ray(store, alone, crew.work, pool.ray) as hands:
            yield from shared_out(hands, waiting, crew, note)
    elif pool.devices:
        task = partial(work_on_part, store.root.absolute(), alone, crew.work)
        with _on_devices(task, pool.devices) as hands:
            yield from shared_out(hands, waiting, crew, note)
    else:
        yield from worked(store, waiting, work, crew, note)


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
