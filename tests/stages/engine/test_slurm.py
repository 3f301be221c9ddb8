import importlib
import importlib.util
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.engine import slurm
from stages.engine.items import fill, outcome_of
from stages.engine.params import Slurm
from stages.engine.progress import StageRun
from stages.engine.slurm import Journal, Shift
from stages.engine.trouble import FEW, MachineError
from stages.engine.workers import Work, Workers
from tests.stages.engine.test_items import is_running, until
from tests.stages.engine.toys import compute, made, toy

JOBS = Workers(0, slurm=Slurm(cluster="local", jobs=2))

HAS_SUBMITIT = importlib.util.find_spec("submitit") is not None
if HAS_SUBMITIT:  # its import closes what others log to: here, before a fixture has put that aside
    importlib.import_module("submitit")

has_submitit = pytest.mark.skipif(not HAS_SUBMITIT, reason="submitit is an extra")


@has_submitit
@pytest.mark.slow
def test_jobs_share_the_work_and_what_dies_is_sent_again(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [*(toy(n) for n in range(9)), toy(9, "fallen"), toy(10, ValueError("bad"))]
    with StageRun("toy") as run:
        outcome = outcome_of(items, fill(run, Work(items, compute, JOBS)))
    assert {n: why for n, why in outcome.items() if why} == {"joy/v10": {"joy/v10.bin": "bad"}}
    assert max(Counter(name for name, _ in made()).values()) == 1
    assert len({process for _, process in made()}) == 3  # two jobs, one of them anew
    assert (run.counts["computed"], run.counts["frames_decoded"]) == (10, 20)
    assert "has died (finished); it is sent again" in capsys.readouterr().err
    assert not list((in_folder / ".store/unfinished").iterdir())
    assert len(list(Path("logs/slurm").glob("toy.*/*_log.out"))) == 3
    assert not list(Path("logs/slurm").rglob("*.pkl"))
    assert len(json.loads(Path("logs/toy.json").read_text())["workers"]) == 3


@has_submitit
@pytest.mark.slow
def test_who_interrupts_the_stage_cancels_its_jobs(in_folder: Path) -> None:
    os.mkfifo("pipe")
    threading.Thread(target=interrupt_when, args=(Path("begun"),), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        fill(StageRun("toy"), Work([toy(0, "pipe")], compute, JOBS))
    (folder,) = Path("logs/slurm").iterdir()
    events = (folder / "0.jsonl").read_text()
    assert '"begin"' in events and '"report"' not in events
    (pid,) = [
        int(json.loads(line)["start"].rpartition("-")[2])
        for line in events.split("\n")
        if "start" in line
    ]
    assert not is_running(pid)


def interrupt_when(file: Path) -> None:
    until(file.exists)
    os.kill(os.getpid(), signal.SIGINT)


# ------------------------------------------------------------- jobs that are calls in this process


class Calls:
    """A cluster whose jobs are calls; one that ends by SystemExit has died."""

    name, parts_each, poll_s = "calls", 1, 0.0

    def __init__(self, *_: object) -> None:
        self.sent: list[SimpleNamespace] = []
        Path("logs/slurm").mkdir(parents=True)

    def send(self, shifts: Sequence[Shift]) -> list[SimpleNamespace]:
        jobs = [Named(job_id=str(len(self.sent) + n), shift=s) for n, s in enumerate(shifts)]
        self.sent += jobs
        return jobs

    def ended(self, jobs: Iterable[Any]) -> list[Any]:
        for job in jobs:
            try:
                job.shift._path.parent.mkdir(exist_ok=True)
                job.result = job.shift()
            except SystemExit:
                job.result = None
        return list(jobs)

    def result(self, job: Any) -> object:
        return job.result

    def why(self, job: Any) -> str:
        return "OUT_OF_MEMORY"

    def last_line(self, job: Any) -> str:
        return "Killed"

    def cancel(self, jobs: object) -> None:
        pass


class Named(SimpleNamespace):
    """A job: as many as there are may be keys."""

    __hash__ = object.__hash__


def dies(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Make a toy; of -1 the whole job dies."""
    if task == -1:
        raise SystemExit
    return compute(task, outputs)  # type: ignore[arg-type]


def outcome(items: list[Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    monkeypatch.setattr(slurm, "_Cluster", Calls)
    pool = Workers(0, slurm=Slurm(jobs=1))
    reasons = outcome_of(items, fill(StageRun("toy"), Work(items, dies, pool)))
    return {name: why for name, why in reasons.items() if why}


def test_an_item_with_which_two_jobs_die_has_that_for_its_reason(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [toy(0), toy(1, -1), toy(2), toy(3, -1), toy(4)]
    assert outcome(items, monkeypatch) == {
        f"joy/v0{n}": {f"joy/v0{n}.bin": "2 jobs have died with it"} for n in (1, 3)
    }
    assert len(made()) == 3


def test_jobs_that_die_with_nothing_made_end_the_stage(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        MachineError, match=rf"{FEW} jobs in a row .*\(OUT_OF_MEMORY\) said: Killed"
    ):
        outcome([toy(n, -1) for n in range(9)], monkeypatch)


def test_what_a_job_refuses_ends_the_stage(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = slurm.kit(())
    monkeypatch.setattr(slurm, "kit", lambda weights: {**stages, "torch": "2.13.0"})
    with pytest.raises(MachineError, match=r"a worker has torch 2\.15.* the stage has 2\.13\.0"):
        outcome([toy(0)], monkeypatch)
    assert not Path("made").exists()


def shift(items: list[Any], limit_s: float = 600.0) -> Shift:
    part = {tuple(item.files): item for item in items}
    return Shift(Path(".store"), Work((), dies, Workers(0)), "toy", part, Path("0"), limit_s)


def key(item: Any) -> list[str]:
    return list(item.files)


def test_what_jobs_died_with_is_worked_on_by_itself_first(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [toy(n) for n in range(5)]
    journal, parts = Journal(Path("0")), []
    for kind, value in [
        *(("begin", key(items[n])) for n in (1, 3)),
        ("death", "FAILED"),
        *(("begin", key(items[n])) for n in (0, 3)),
        ("start", "preempted"),
    ]:
        journal.write(kind, value)
    with Path("0").open("a") as file:
        file.write('{"begin": ["')  # who wrote it has died
    monkeypatch.setattr(slurm, "worked", lambda store, part, *_: parts.append(list(part)) or [])
    shift(items)()
    one, three, *rest = (tuple(key(items[n])) for n in (1, 3, 0, 2, 4))
    assert parts == [[one], [three], rest]


@has_submitit
def test_an_item_that_takes_all_of_a_jobs_time_is_what_the_job_died_with(in_folder: Path) -> None:
    items = [toy(0), toy(1)]
    for limit_s, deaths in ((1e9, 0), (0.0, 1), (0.0, 2)):
        job, journal = shift(items, limit_s), Journal(Path("0"))
        journal.write("begin", key(items[0]))
        assert job.checkpoint().function is job
        list(journal.news())
        assert journal.deaths[tuple(key(items[0]))] == deaths
    job()
    list(journal.news())
    assert len(made()) == 1  # the other one
    job.checkpoint()
    assert not list(journal.news())  # it has got on: the limit is no item's doing


def test_a_job_whose_place_is_taken_ends_with_nothing_failed(in_folder: Path) -> None:
    def stopped(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("not reached")

    before = signal.getsignal(signal.SIGTERM)
    part = {tuple(each.files): each for each in [toy(0)]}
    job = Shift(Path(".store"), Work((), stopped, Workers(0)), "toy", part, Path("0"), 600.0)
    with pytest.raises(SystemExit):
        job()
    assert [kind for kind, _ in Journal(Path("0")).news()] == ["start", "begin"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list((in_folder / ".store/claims").iterdir())


def test_each_item_is_in_one_part(in_folder: Path) -> None:
    waiting = {(str(n),): toy(n) for n in range(11)}
    parts = list(slurm._parts(waiting, 4))
    assert [len(part) for part in parts] == [3, 3, 3, 2]
    assert sorted(keys for part in parts for keys in part) == sorted(waiting)


def test_without_submitit_the_extra_is_told(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"pip install 'affectline\[slurm\]'"):
        fill(StageRun("toy"), Work([toy(1)], compute, JOBS))
