"""Readers: processes that read and prepare ahead of a GPU what one process could not.

They are torch's own for data (:class:`torch.utils.data.DataLoader`): what they make comes back in
the order of the jobs, in shared memory, and so many jobs are claimed ahead.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from stages.engine.children import uninterrupted
from stages.engine.workers import Job, Task

Made = TypeVar("Made")

EACH = 2
"""Jobs that each reader has at once: one that it is at, one that is done or waits."""


def made_ahead(
    jobs: Generator[Job[Task] | None, None, None], read: Callable[[Task], Made], count: int
) -> Iterator[tuple[Job[Task] | None, Made | None]]:
    """Yield jobs in their order, each with what a process has read for it.

    Args:
        jobs: of which those without paths are not read, nor is None.
        read: makes it of a job's task; it can be picklable alone, as a function of a module is.
        count: of processes.
    """
    asked: deque[Job[Task] | None] = deque()

    def tasks() -> Iterator[Task | None]:
        for job in jobs:
            asked.append(job)
            yield job.item.task if job is not None and job.paths else None

    loader: DataLoader[Any] = DataLoader(
        _Reading(read),
        batch_size=None,
        sampler=tasks(),
        num_workers=count,
        prefetch_factor=EACH,
        collate_fn=_as_it_is,
        multiprocessing_context="spawn",  # CUDA does not survive a fork
    )
    with uninterrupted():
        reading = iter(loader)
    for made in reading:
        yield asked.popleft(), made


class _Reading(Dataset[Any]):
    """What is read, by task."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def __getitem__(self, task: Any) -> Any:
        return None if task is None else self._read(task)


def _as_it_is(made: Any) -> Any:
    return made
