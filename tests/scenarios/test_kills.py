"""Scenario 4: `kill -9` at random moments costs what was not finished, and no output is torn."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from stages.engine.paths import index_of
from tests.clones import Clone, copy_clone, kill
from tests.conftest import HANGING_S

CHAINS = 4
"""Fresh clones, each run to its end through several kills."""

KILLS = 5
"""In each chain: 20 moments in all."""

VICTIMS = ("stage", "dvc", "both")

ITEMS = 39
"""Files that a whole run leaves in the store."""

BEFORE = 6
"""Moments before the first item, as many as items: the seconds in which DVC and sample start."""

Items = dict[str, tuple[int, int]]


def untouched(template: Clone, root: Path) -> Clone:
    """Return a copy of a clone as before its first run; only what it had to download is there."""
    clone = copy_clone(template, root)
    for name in (".store/items", ".dvc/cache", ".dvc/tmp", "data/views", "logs", "results"):
        shutil.rmtree(root / name, ignore_errors=True)
    for path in [*(root / "data").iterdir(), root / "report", root / "dvc.lock"]:
        if path.name != "raw":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return clone


def items(clone: Clone) -> Items:
    """Return what lies in the store: name -> inode and time, so that a file made anew shows."""
    files = (clone.store / "items").glob("*/*")
    return {file.name: (s.st_ino, s.st_mtime_ns) for file in files for s in [file.stat()]}


def until(is_so: Callable[[], bool], limit_s: float = HANGING_S, every_s: float = 0.005) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(every_s)


def members(session: int) -> list[psutil.Process]:
    """Return the living processes of a session."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == session and process.info["status"] != "zombie":
                found.append(process)
        except ProcessLookupError:
            pass
    return found


def stage_of(dvc: subprocess.Popen[bytes]) -> int | None:
    """Return the process of the stage that a dvc runs, None between two stages."""
    try:
        children = psutil.Process(dvc.pid).children()
        return next((c.pid for c in children if "stages." in " ".join(c.cmdline())), None)
    except psutil.NoSuchProcess:
        return None


def strike(dvc: subprocess.Popen[bytes], victim: str) -> None:
    """End the stage, its dvc, or the whole group, with `kill -9`."""
    if victim == "both":
        kill(dvc)
    elif victim == "dvc":
        dvc.kill()
        dvc.wait()
    else:
        until(lambda: stage_of(dvc) is not None or dvc.poll() is not None)
        stage = stage_of(dvc)
        assert stage is not None, "dvc has ended before it was killed"
        os.kill(stage, signal.SIGKILL)
        assert dvc.wait(HANGING_S) != 0


def mend(clone: Clone) -> int:
    """Remove the files of DVC's own that a kill has cut off, as a person does; return how many.

    DVC writes dvc.lock and its rwlock in place: killed at that moment, it leaves half of them. Half
    a dvc.lock may still be YAML: what then lacks in it, DVC says.
    """
    removed = 0
    for name, check in (("dvc.lock", check_lock), (".dvc/tmp/rwlock", json.loads)):
        path = clone.root / name
        try:
            if path.exists():
                check(path.read_text())
        except (yaml.YAMLError, Invalid, json.JSONDecodeError):
            path.unlink()
            removed += 1
    return removed


def check_lock(text: str) -> None:
    """Raise an error where DVC would not take the text for a dvc.lock."""
    COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))


def missing(clone: Clone, had: Items) -> dict[str, int]:
    """Return stage -> items of the finished clone of which something was not in the store."""
    names = {"index": "data/index", "decode": "data/views/segments", "faces": "data/views/faces"}
    for folder, stage in (("data/features", "extract"), ("results", "train")):
        for path in (clone.root / folder).iterdir():
            if path.is_dir():
                names[f"{stage}@{path.name}"] = f"{folder}/{path.name}"
    counts = {}
    for stage, name in names.items():
        table = Path(name, "runs.parquet") if "train" in stage else index_of(Path(name))
        rows = pq.read_table(clone.root / table).to_pylist()
        known = {key.partition(".")[0] for key in had}
        lacking = {row.get("run", row.get("video_id")) for row in rows if row["key"] not in known}
        counts[stage] = len(lacking)
    return counts


def torn(clone: Clone, whole: dict[str, bytes]) -> list[str]:
    """Return the files under final names that are not those of an undisturbed run."""
    return [
        name
        for name, content in clone.outputs().items()
        if not any(part.startswith(".") for part in name.split("/")) and whole.get(name) != content
    ]


def moments(chain: int) -> list[tuple[int, float, str]]:
    """Return the chain's kills: after so many items and so many seconds more, and of whom."""
    draw = random.Random(chain)
    step = (ITEMS + BEFORE) / KILLS
    places = [int((number + draw.random()) * step) - BEFORE for number in range(KILLS)]
    return [
        (place, draw.uniform(0, 6) if place < 0 else max(0, draw.uniform(-0.6, 0.6)), victim)
        for number, place in enumerate(places, start=chain * KILLS)
        for victim in [VICTIMS[number % 3]]
    ]


@pytest.mark.parametrize("chain", range(CHAINS))
def test_a_killed_run_goes_on_where_it_was_and_tears_nothing(
    template: Clone, tmp_path: Path, chain: int
) -> None:
    whole = template.outputs()
    clone = untouched(template, tmp_path / "clone")
    sessions: list[int] = []
    finished: list[Items] = []
    mended = 0
    for place, delay_s, victim in moments(chain):
        mended += mend(clone)
        dvc = clone.start("dvc", "repro")
        sessions.append(dvc.pid)
        until(lambda n=place, d=dvc: len(items(clone)) >= n or d.poll() is not None)
        time.sleep(delay_s)  # a random moment, not a wait for something
        assert dvc.poll() is None, clone.root.with_suffix(".log").read_text()[-2000:]
        strike(dvc, victim)
        finished.append(items(clone))
        if victim == "both":
            assert torn(clone, whole) == []
        print(f"{victim} killed: {len(finished[-1])} of {ITEMS} items in the store")
    until(lambda: not any(members(session) for session in sessions), 60)  # no orphan goes on
    finished.append(items(clone))
    assert torn(clone, whole) == []
    mended += mend(clone)

    clone.repro()
    last = items(clone)
    for had in finished:  # nothing that was finished has been made again
        assert had.items() <= last.items()
    assert len(last) == ITEMS
    computed = clone.computed()
    for stage, count in missing(clone, finished[-1]).items():
        assert computed.get(stage, 0) == count, stage
    assert clone.outputs() == whole
    assert not list((clone.store / "unfinished").glob("*"))
    assert clone.repro() == []
    print(f"computed after the last kill: {computed}; DVC's own files mended: {mended}")


@pytest.mark.parametrize("last", ["", "deps:", "params:", "- path: "])
def test_a_lock_file_that_dvc_has_half_written_costs_nothing(clone: Clone, last: str) -> None:
    whole = clone.outputs()
    lock = clone.root / "dvc.lock"
    text = lock.read_text()
    lock.write_text(text[: text.index(last, len(text) // 2) + len(last)] if last else "")
    (clone.root / ".dvc/tmp/rwlock").write_text("")
    said = clone.run("dvc", "repro", ok=False)
    assert "dvc.lock" in said or "rwlock" in said  # it says which file, and does nothing
    assert mend(clone) == 2
    clone.repro()
    assert sum(clone.computed().values()) == 0
    assert clone.outputs() == whole
