"""Scenario: a Slurm of one node, started for the test, makes the items of `dvc repro`."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stages.engine.slurm import Journal
from tests.clones import Clone
from tests.conftest import HANGING_S
from tests.scenarios.test_kills import until as wait_until
from tests.scenarios.test_kills import untouched
from tests.scenarios.test_workers import FILES, made

DAEMONS = ("munged", "slurmctld", "slurmd")

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
KillWait=2
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=here Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""
"""A Slurm without accounts, control groups and a data base."""

ENGINE = {
    "engine__executor": "slurm",
    "engine__slurm": {"jobs": 2, "partition": "here", "time_min": 10},
}

needs_slurm = pytest.mark.skipif(
    os.geteuid() != 0 or not all(shutil.which(name) for name in (*DAEMONS, "sbatch")),
    reason="needs root and Debian's munge, slurmctld, slurmd and slurm-client",
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a Slurm of one node; its commands find it by SLURM_CONF."""
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ports=free_ports(2)))
    os.environ["SLURM_CONF"] = str(conf)
    files = {"key-file": key} | {
        f"{name}-file": folder / f"munged.{name}" for name in ("pid", "log", "seed")
    }
    options = [f"--{name}={path}" for name, path in files.items()]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *options]
    daemons = [subprocess.Popen(munged, stderr=subprocess.DEVNULL)]
    wait_until((folder / "munge.socket").exists)
    for command in (["slurmctld", "-D"], ["slurmd", "-D"]):
        daemons.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    wait_until(lambda: "idle" in said("sinfo"), every_s=0.2)
    yield folder
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait()
    del os.environ["SLURM_CONF"]


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def jobs(state: str = "RUNNING,PENDING,COMPLETING") -> list[str]:
    """Return the jobs in some states."""
    return said("squeue", "--noheader", "--array", "--format=%i", f"--states={state}").split()


def killed(clone: Clone) -> bool:
    """Kill a job's process at an item, as a machine without memory does; tell whether one was."""
    for path in clone.root.glob("logs/slurm/*/*.jsonl"):
        journal = Journal(path)
        starts = [value for kind, value in journal.news() if kind == "start"]
        process = int(starts[-1].rpartition("-")[2]) if starts else 0
        if journal.at and psutil.pid_exists(process):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                worker = psutil.Process(process)
                worker.kill()
                worker.wait()
            for _ in journal.news():
                pass
            return bool(journal.at)  # not done with it before it died
    return False


def requeued(clone: Clone) -> bool:
    """Have a job's place taken, and the job queued again; tell whether there was one."""
    running = jobs("RUNNING")
    if not running or subprocess.run(["scontrol", "requeue", running[0]]).returncode:
        return False
    wait_until(lambda: goes_on(running[0]), every_s=0.2)
    return True


def goes_on(job: str) -> bool:
    """Tell whether a requeued job may run again, for which Slurm would have it wait two minutes."""
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)
    lines = said("squeue", "--noheader", "--array", "--format=%i %T %r").splitlines()
    states = {name: (state, reason) for name, state, reason in map(str.split, lines)}
    state, reason = states.get(job, ("COMPLETED", "None"))
    return state != "COMPLETING" and reason != "BeginTime"


@needs_slurm
def test_jobs_of_slurm_fill_the_store_though_some_die_and_some_are_preempted(
    template: Clone, tmp_path: Path, slurm: Path
) -> None:
    clone = untouched(template, tmp_path / "clone")
    clone.params(**ENGINE)
    dvc = clone.start("dvc", "repro")
    for number, how in enumerate((killed, requeued) * 2):
        wait_until(
            lambda n=number, how=how: made(clone) >= 4 * n and how(clone) or dvc.poll() is not None,
            every_s=0.1,
        )
    assert dvc.wait(HANGING_S * 2) == 0, clone.root.with_suffix(".log").read_text()
    assert made(clone) == FILES and jobs() == []
    assert clone.outputs() == template.outputs()
    assert "it is sent again" in clone.root.with_suffix(".log").read_text()


@needs_slurm
def test_ctrl_c_cancels_the_jobs(template: Clone, tmp_path: Path, slurm: Path) -> None:
    clone = untouched(template, tmp_path / "clone")
    clone.params(**ENGINE)
    dvc = clone.start("dvc", "repro")
    wait_until(lambda: bool(jobs("RUNNING")), every_s=0.1)
    os.killpg(dvc.pid, signal.SIGINT)
    dvc.wait(HANGING_S)
    wait_until(lambda: not jobs(), every_s=0.2)
