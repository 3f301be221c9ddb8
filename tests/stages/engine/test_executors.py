import importlib.util
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.cache import arrays
from features.cache.keys import item_key
from stages.engine.items import fill, outcome_of, run_items
from stages.engine.params import Ray
from stages.engine.progress import StageRun
from stages.engine.trouble import FEW, MachineError
from stages.engine.workers import Item, Work, Workers
from tests.stages.engine import toys
from tests.stages.engine.test_items import numbers, until
from tests.stages.engine.toys import Copied

PAIR = Workers(0, devices=("0", "1"))
"""Two GPUs, which nothing of the tests looks for."""

has_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra")


def item(number: int, task: object = None) -> Item[Any]:
    path = f"joy/v{number:02}.h5"
    return Item(f"joy/v{number:02}", {item_key({"n": number}): path}, task or number)


def compute(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write the task's number, and beside it who has done so; what is no number is a trouble."""
    if isinstance(task, Exception):
        raise task
    if isinstance(task, str):  # the first who comes here dies
        try:
            Path(task).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    if task == -1:
        os._exit(9)
    me = f"{os.environ.get('CUDA_VISIBLE_DEVICES', '-')} {os.getpid()}"
    with Path("made").open("a") as made:
        made.write(f"{task} {me}\n")
    Path(f"here {me}").touch()
    if task == 0:  # it is there together with another: none does all of the work
        until(lambda: len(list(Path().glob("here *"))) > 1)
    for key, path in outputs.items():
        arrays.write(path, {"n": np.array([7])}, {"key": key})
    return {"frames_decoded": 2}


def made() -> list[list[str]]:
    """Return the task, the device and the process of everything made."""
    return [line.split() for line in Path("made").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.h5")}


def test_each_of_two_devices_has_a_process_and_each_item_is_made_once(in_folder: Path) -> None:
    items = [item(n) for n in range(1, 12)]
    run = StageRun("toy")
    run_items(run, Work([item(0, 0), *items], compute, PAIR), Path("out"))
    lines = made()
    assert sorted(int(task) for task, *_ in lines) == list(range(12))
    processes = {(device, process) for _, device, process in lines}
    assert {device for device, _ in processes} == {"0", "1"} and len(processes) == 2
    assert str(os.getpid()) not in {process for _, process in processes}
    assert (run.counts["computed"], run.counts["frames_decoded"]) == (12, 24)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not list((in_folder / ".store/claims").iterdir())
    assert not list((in_folder / ".store/unfinished").iterdir())


def test_one_process_and_several_give_the_same_bytes(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, pool in (("one", Workers(0)), ("two", PAIR)):
        monkeypatch.setenv("AFFECTLINE_STORE", f"store {name}")
        run_items(StageRun("toy"), Work([item(n) for n in range(1, 5)], compute, pool), Path(name))
        found.append(contents(Path(name)))
    assert found[0] == found[1] and len(found[0]) == 4


def test_a_worker_that_dies_costs_nothing_but_its_items_once_more(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [item(n) for n in range(1, 8)]
    work = Work([item(0, "fallen"), *items], compute, PAIR)
    assert not any(run_items(StageRun("toy"), work, Path("out")).values())
    assert len(numbers(Path("out"))) == 8
    times = Counter(task for task, *_ in made())
    assert max(times.values()) == 1  # what it had finished is not made again
    assert "has died (exit status -9)" in capsys.readouterr().err


def test_an_item_that_kills_every_worker_has_that_for_its_reason(in_folder: Path) -> None:
    items = [item(0, -1), *(item(n) for n in range(1, 6))]
    outcome = run_items(StageRun("toy"), Work(items, compute, PAIR), Path("out"))
    assert outcome.pop("joy/v00") == {"joy/v00.h5": "its worker died (exit status 9)"}
    assert not any(outcome.values()) and len(numbers(Path("out"))) == 5


def test_a_trouble_of_the_machine_in_a_worker_ends_the_stage(in_folder: Path) -> None:
    error = RuntimeError("CUDA error: no kernel image is available")
    work = Work([item(n, error) for n in range(10 * FEW)], compute, PAIR)
    with pytest.raises(MachineError, match="CUDA error: no kernel image"):
        fill(StageRun("toy"), work)
    assert not list((in_folder / ".store/unfinished").iterdir())


def test_reasons_of_videos_come_back(in_folder: Path) -> None:
    work = Work([item(0, ValueError("no video stream")), item(1)], compute, PAIR)
    run = StageRun("toy")
    outcome = outcome_of(work.items, fill(run, work))
    assert outcome == {"joy/v00": {"joy/v00.h5": "no video stream"}, "joy/v01": {}}
    assert (run.counts["computed"], run.counts["failed"]) == (1, 1)


# ---------------------------------------------------------------------------------- Ray


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Ray cluster of three nodes with a core each; the last has a GPU and a store of its own."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    apart = {"AFFECTLINE_STORE": str(tmp_path_factory.mktemp("elsewhere"))}
    nodes.add_node(num_cpus=1, num_gpus=1, env_vars=apart)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@has_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_nodes_of_a_cluster_share_the_work(in_folder: Path, cluster: Any) -> None:
    pool = Workers(0, ray=Ray(address=cluster.address))
    items = [item(0, 0), *(item(n) for n in range(1, 12))]
    run = StageRun("toy")
    run_items(run, Work(items, compute, pool), Path("out"))
    assert sorted(int(task) for task, *_ in made()) == list(range(12))
    assert len({process for *_, process in made()}) >= 2  # the first waits for a second
    assert run.counts["computed"] == 12
    alone = run_items(StageRun("toy"), Work(items, compute, Workers(0)), Path("again"))
    assert not any(alone.values()) and contents(Path("out")) == contents(Path("again"))


@has_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_actor_that_is_killed_costs_nothing_but_its_items_once_more(
    in_folder: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = Workers(0, ray=Ray(address=cluster.address))
    items = [item(0, "fallen"), *(item(n) for n in range(1, 8))]
    assert not any(run_items(StageRun("toy"), Work(items, compute, pool), Path("out")).values())
    assert len(numbers(Path("out"))) == 8
    assert "has died" in capsys.readouterr().err


@has_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_errors_are_caught_in_the_actor_and_a_machines_ends_the_stage(
    in_folder: Path, cluster: Any
) -> None:
    pool = Workers(0, ray=Ray(address=cluster.address))
    work = Work([item(0, ValueError("no video stream")), item(1)], compute, pool)
    outcome = outcome_of(work.items, fill(StageRun("toy"), work))
    assert outcome == {"joy/v00": {"joy/v00.h5": "no video stream"}, "joy/v01": {}}
    error = RuntimeError("CUDA error: no kernel image is available")
    work = Work([item(n, error) for n in range(100, 200)], compute, pool)
    with pytest.raises(MachineError, match="CUDA error: no kernel image"):
        fill(StageRun("toy"), work)


@has_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_without_the_store_is_sent_what_it_reads_and_sends_what_it_makes(
    in_folder: Path, cluster: Any
) -> None:
    for name in ("weights", *(f"v{n}" for n in range(6))):
        (in_folder / name).write_text(f"{name} ")
    weights = in_folder / "weights"
    items = [Item(f"joy/v{n}", {f"{n:064}": f"joy/v{n}.bin"}, n) for n in range(6)]
    items = [replace(each, task=Copied(in_folder / f"v{each.task}", weights)) for each in items]
    pool = Workers(0, ray=Ray(address=cluster.address, actors=1, gpus=1))
    run = StageRun("toy")
    work = Work(items, toys.copy, pool, weights=(weights,))
    assert not any(run_items(run, work, Path("out")).values())
    assert [Path(f"out/joy/v{n}.bin").read_text() for n in range(6)] == [
        f"v{n} weights " for n in range(6)
    ]
    (where,) = (name for name in run.counts if name.startswith("made in"))
    assert "elsewhere" in where and run.counts[where] == 6


@has_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_without_room_for_an_actor_is_told(in_folder: Path, cluster: Any) -> None:
    pool = Workers(0, ray=Ray(address=cluster.address, gpus=2))
    with pytest.raises(MachineError, match="no node of the cluster has 1 CPUs and 2 GPUs"):
        fill(StageRun("toy"), Work([item(1)], compute, pool))


def test_without_ray_the_extra_is_told(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"pip install 'affectline\[ray\]'"):
        fill(StageRun("toy"), Work([item(1)], compute, Workers(0, ray=Ray())))
