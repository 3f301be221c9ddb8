"""Scenario: workers by themselves share the work, are killed, and `dvc repro` has nothing to do."""

import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path

from tests.clones import Clone, kill
from tests.conftest import HANGING_S
from tests.scenarios.test_kills import items, torn, until, untouched

KILLS = 10

MADE = {
    **{"decode": 6, "faces": 6, "extract@faces_toy": 6, "extract@frames_toy": 6},
    **{"train@average": 2, "train@caan": 2},
}
"""Items that workers make, stage by stage."""

FILES = 28
"""Array files that they leave in the store: of each video frames, faces and two features, and the
answers of each run."""


def ready(template: Clone, root: Path) -> Clone:
    """Return a clone in which only the index and the weights have been made."""
    clone = untouched(template, root)
    clone.run("dvc", "repro", "index", "detector", "weights")
    return clone


def computed(clone: Clone) -> Counter[str]:
    """Return stage -> items computed, by the logs of all workers."""
    found: Counter[str] = Counter()
    for log in (clone.root / "logs/work").glob("*.json"):
        found[log.name.partition(".")[0]] += json.loads(log.read_text())["computed"]
    return found


def made(clone: Clone) -> int:
    """Return how many array files lie in the store."""
    return sum(name.endswith(".h5") for name in items(clone))


def test_two_workers_make_each_item_once_and_dvc_links_them(
    template: Clone, tmp_path: Path
) -> None:
    whole = template.outputs()
    clone = ready(template, tmp_path / "clone")
    workers = [clone.start("affectline", "work", "--all") for _ in range(2)]
    assert [worker.wait(HANGING_S) for worker in workers] == [0, 0]
    assert computed(clone) == MADE and made(clone) == FILES
    clone.repro()
    assert {stage: n for stage, n in clone.computed().items() if n} == {}
    assert clone.outputs() == whole


def test_workers_that_are_killed_cost_what_they_were_at(template: Clone, tmp_path: Path) -> None:
    whole = template.outputs()
    clone = ready(template, tmp_path / "clone")
    draw = random.Random(0)
    finished = [items(clone)]
    for number in range(KILLS):
        workers = [clone.start("affectline", "work", "--all") for _ in range(2)]
        goal = number * FILES // KILLS
        until(lambda n=goal, w=workers[0]: made(clone) > n or w.poll() is not None)
        time.sleep(draw.uniform(0, 0.5))  # a random moment, not a wait for something
        for worker in workers:
            kill(worker)
        finished.append(items(clone))
    clone.run("affectline", "work", "--all")
    last = items(clone)
    for had in finished:  # nothing that was finished has been made again
        assert had.items() <= last.items()
    assert made(clone) == FILES
    assert not list((clone.store / "unfinished").iterdir())
    clone.repro()
    assert {stage: n for stage, n in clone.computed().items() if n} == {}
    assert clone.outputs() == whole and torn(clone, whole) == []


def test_a_worker_beside_dvc_shares_the_work(template: Clone, tmp_path: Path) -> None:
    clone = ready(template, tmp_path / "clone")
    shutil.rmtree(clone.root / "logs", ignore_errors=True)
    worker, dvc = clone.start("affectline", "work", "--all"), clone.start("dvc", "repro")
    assert (worker.wait(HANGING_S), dvc.wait(HANGING_S)) == (0, 0)
    both = computed(clone) + Counter(clone.computed())
    assert {stage: both[stage] for stage in MADE} == MADE
    assert clone.outputs() == template.outputs()
