import pickle
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from features.cache import arrays, claims
from features.cache.keys import item_key
from features.cache.store import ItemStore
from stages.engine import workers
from stages.engine.trouble import FEW, MachineError
from stages.engine.workers import Crew, Item, Job, Results, Work, Workers, worked
from tests.stages.engine.test_children import be_killed

# ------------------------------------------------------------------ the machine or the video


def compute(task: BaseException | int, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Fail with the task, or write it."""
    if isinstance(task, BaseException):
        raise task
    for key, path in outputs.items():
        arrays.write(path, {"n": np.array([task])}, {"key": key})
    return {}


def work_on(tasks: list[Any]) -> Work[Any]:
    items = [
        Item(f"joy/{n}", {item_key({"n": n}): f"joy/{n}.h5"}, task) for n, task in enumerate(tasks)
    ]
    return Work(items, compute, Workers(0))


def names(folder: Path, work: Work[Any]) -> list[str]:
    """Work on all items and return the names of those that could not be made."""
    waiting = {tuple(item.files): item for item in work.items}
    crew = Crew(folder / "unfinished", "toy", print)
    reports = worked(ItemStore(folder), waiting, work, crew, print)
    return [report.name for report in reports if report.reasons]


MACHINES = [
    RuntimeError("CUDA error: device-side assert triggered"),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    ImportError("libcudart.so.13: cannot open shared object file"),
    KeyError("a mistake of ours"),
]


@pytest.mark.parametrize("error", MACHINES, ids=lambda error: type(error).__name__)
def test_what_fails_every_item_alike_ends_the_stage_after_a_few(
    tmp_path: Path, error: Exception
) -> None:
    tried: list[object] = []

    def failing(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
        tried.append(task)
        raise error

    work = Work(work_on(list(range(100))).items, failing, Workers(0))
    with pytest.raises(MachineError, match=f"no video's fault: {type(error).__name__}"):
        names(tmp_path, work)
    assert len(tried) == FEW
    assert not list((tmp_path / "claims").iterdir())


def test_texts_that_differ_in_numbers_alone_are_one_trouble_of_memory(tmp_path: Path) -> None:
    sizes = [torch.cuda.OutOfMemoryError(f"Tried to allocate {n} MiB") for n in range(FEW)]
    with pytest.raises(MachineError, match="OutOfMemoryError"):
        names(tmp_path, work_on([1, *sizes]))


def test_children_that_the_system_kills_for_want_of_memory_end_the_stage(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="in a row"):
        names(tmp_path, Work(work_on([0] * 2 * FEW).items, be_killed, Workers(1)))


@pytest.mark.parametrize(
    "tasks",
    [
        [ValueError("no video stream")] * 2 * FEW,  # videos of one fault
        [OSError("cannot be read")] * 2 * FEW,
        [MemoryError(), 1] * FEW,  # large ones between others
        [KeyError(n) for n in range(2 * FEW)],
    ],
)
def test_what_videos_do_ends_no_stage(tmp_path: Path, tasks: list[Any]) -> None:
    failed = [f"joy/{n}" for n, task in enumerate(tasks) if isinstance(task, BaseException)]
    assert names(tmp_path, work_on(tasks)) == failed


def test_what_fails_a_network_that_many_items_share_is_the_machines(tmp_path: Path) -> None:
    def stream(note: object, jobs: Generator[Job[Any] | None, None, None]) -> Results[Any]:
        next(jobs)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        yield

    work = Work(work_on([1, 2]).items, compute, Workers(0), stream)
    with pytest.raises(MachineError, match="OutOfMemoryError: CUDA out of memory"):
        names(tmp_path, work)


def test_an_error_of_the_machine_comes_through_a_pipe() -> None:
    error = pickle.loads(pickle.dumps(MachineError("no CUDA")))
    assert isinstance(error, MachineError) and str(error) == "no CUDA"


# --------------------------------------------------------------------------- who is at work


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """Who else is there: name -> whether alive."""
    there: dict[str, bool] = {}
    monkeypatch.setattr(claims, "workers", lambda folder, work: there)
    monkeypatch.setattr(workers, "LOOK_S", 0.0)
    yield there


def test_who_comes_ends_or_dies_is_told_once(tmp_path: Path, others: dict[str, bool]) -> None:
    told: list[str] = []
    crew = Crew(tmp_path, "decode", told.append)
    crew.look()
    others |= {"a-1": True, "b-2": True}
    crew.look()
    crew.look()
    assert crew.size == 3
    others["a-1"] = False
    del others["b-2"]
    crew.look()
    crew.look()
    assert told == [
        "worker a-1 has come: 3 are at work",
        "worker b-2 has come: 3 are at work",
        "worker a-1 has died, what it was at is taken over: 1 are at work",
        "worker b-2 has ended: 1 are at work",
    ]
