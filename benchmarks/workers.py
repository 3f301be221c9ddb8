"""What several workers gain over one, and what an item costs besides being made.

Toy items through what every worker does (claim, make, rename into the store, let go), each measure
in processes of its own with a store of its own:

- together: one worker and two, in turns, on items that take a while in one thread and no processor
  (they wait), so that what else the machine does counts little. Two could be twice as fast.
- keys: many items that take nothing, through each executor: seconds and, of the process that
  would be the stage, memory.

    python benchmarks/workers.py
    python benchmarks/workers.py --keys 10000 --keys 100000 --executor local --json
"""

import importlib
import importlib.util
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from features.cache.keys import PROJECT, item_key
from stages.engine.items import fill
from stages.engine.params import Ray, Slurm
from stages.engine.progress import StageRun, console, print_table
from stages.engine.workers import Item, Work, Workers

POOLS = {
    "local": Workers(0),
    "two processes": Workers(0, devices=("0", "1")),
    "ray": Workers(0, ray=Ray(actors=2)),
    "slurm": Workers(0, slurm=Slurm(cluster="local", jobs=2)),
}
"""Executors; two processes as on a machine with two GPUs, of which nothing is asked; of Slurm what
submitit does where there is none."""

NEEDS = {"ray": "ray", "slurm": "submitit"}


@dataclass(frozen=True)
class Together:
    """Workers on the same items.

    Attributes:
        workers: how many.
        seconds: on the clock from the first's start of work to the last's end.
        made: items made, all workers together.
    """

    workers: int
    seconds: float
    made: int


@dataclass(frozen=True)
class Keys:
    """Items that take nothing.

    Attributes:
        executor: what they went through.
        keys: how many.
        ms: milliseconds on the clock for each.
        cpu_ms: of the processors, this process and its children (not those of Ray).
        peak_mib: memory of the process that would be the stage.
    """

    executor: str
    keys: int
    ms: float
    cpu_ms: float
    peak_mib: float


def main(
    items: Annotated[int, typer.Option(help="for workers together")] = 80,
    seconds: Annotated[float, typer.Option(help="that each of them takes")] = 0.25,
    turns: Annotated[int, typer.Option(help="of one worker and two")] = 3,
    keys: Annotated[list[int] | None, typer.Option(help="how many; several times")] = None,
    executor: Annotated[list[str] | None, typer.Option(help=", ".join(POOLS))] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure and tell."""
    both = [together(count, items, seconds) for _ in range(turns) for count in (1, 2)]
    gains = [one.seconds / two.seconds for one, two in zip(both[::2], both[1::2], strict=True)]
    gain = statistics.median(gains) if gains else None
    rows = []
    for name in executor or POOLS:
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            console.print(f"{NEEDS[name]} is not installed and left out")
            continue
        rows += [many(name, number) for number in keys or (1_000, 10_000)]
    if as_json:
        found = {"together": [asdict(row) for row in both], "keys": [asdict(row) for row in rows]}
        print(json.dumps({**machine(), "gain": gain, **found}, indent=1))
        return
    told = [(each.workers, f"{each.seconds:.2f}", each.made) for each in both]
    if gain is not None:
        print_table(f"{items} items of {seconds} s", ["workers", "seconds", "made"], told)
        console.print(f"two workers are {gain:.2f} times as fast as one")
    cells = [
        (row.executor, row.keys, f"{row.ms:.2f}", f"{row.cpu_ms:.2f}", f"{row.peak_mib:.0f}")
        for row in rows
    ]
    print_table("items that take nothing", ["executor", "keys", "ms", "cpu ms", "MiB"], cells)


def machine() -> dict[str, Any]:
    """Return where and of what the measures are."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PROJECT, capture_output=True, text=True
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
    }


# -------------------------------------------------------------------------------- together


def together(workers: int, items: int, seconds: float) -> Together:
    """Have workers make the same items, each in a process of its own that begins with the others.

    Args:
        workers: how many.
        items: of them.
        seconds: that each takes.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        begin = context.Barrier(workers)
        results = context.SimpleQueue()
        children = [
            context.Process(target=_worker, args=(folder, begin, results, items, seconds))
            for _ in range(workers)
        ]
        for child in children:
            child.start()
        told = [results.get() for _ in children]
        for child in children:
            child.join()
    begun, ended, made = zip(*told, strict=True)
    return Together(workers, max(ended) - min(begun), sum(made))


def _worker(folder: str, begin: Any, results: Any, items: int, seconds: float) -> None:
    os.chdir(folder)
    run = StageRun("toy")
    work = Work(_items(items, seconds), compute, Workers(0))
    begin.wait()
    begun = time.monotonic()
    fill(run, work)
    results.put((begun, time.monotonic(), int(run.counts["computed"])))


def _items(number: int, seconds: float) -> list[Item[float]]:
    return [Item(f"joy/{n}", {item_key({"n": n}): f"joy/{n}.bin"}, seconds) for n in range(number)]


def compute(seconds: float, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Take a while, and write next to nothing."""
    time.sleep(seconds)
    for path in outputs.values():
        path.write_bytes(b"made")
    return {}


# ------------------------------------------------------------------------------------ keys


def many(executor: str, number: int) -> Keys:
    """Send many items that take nothing through an executor.

    Args:
        executor: a name of POOLS.
        number: of items.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = context.SimpleQueue()
        stage = context.Process(target=_stage, args=(folder, results, executor, number))
        stage.start()
        seconds, cpu_s, peak_kib = results.get()
        stage.join()
    ms = 1000 / number
    return Keys(executor, number, seconds * ms, cpu_s * ms, peak_kib / 1024)


def _stage(folder: str, results: Any, executor: str, number: int) -> None:
    os.chdir(folder)
    named = importlib.import_module("benchmarks.workers").compute  # as Ray's processes find it
    work = Work(_items(number, 0.0), named, POOLS[executor])
    begun = time.monotonic()
    fill(StageRun("toy"), work)
    seconds = time.monotonic() - begun
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(each.ru_utime + each.ru_stime for each in used)
    results.put((seconds, cpu_s, used[0].ru_maxrss))


if __name__ == "__main__":
    typer.run(main)
