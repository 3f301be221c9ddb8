"""Scenario 8: at once in one clone, in two clones with one store, and in experiments."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clones import Clone, kill
from tests.conftest import HANGING_S
from tests.scenarios.test_kills import ITEMS, items, stage_of, torn, until, untouched

ONCE = {
    "index": 6,
    "decode": 6,
    "faces": 6,
    "extract@faces_toy": 6,
    "extract@frames_toy": 6,
    "train@average": 2,
    "train@caan": 2,
}
"""Items of a whole run, stage by stage."""


def counted(said: str) -> Counter[str]:
    """Return stage -> items computed, from the closing lines of stages."""
    found: Counter[str] = Counter()
    for stage, number in re.findall(r"(?m)^([\w@]+): done, \d+ items \((\d+) computed", said):
        found[stage] += int(number)
    return found


def test_of_two_runs_in_one_clone_one_goes_through_and_the_other_says_why_not(
    template: Clone, tmp_path: Path
) -> None:
    whole = template.outputs()
    clone = untouched(template, tmp_path / "clone")
    first = clone.start("dvc", "repro")
    until(lambda: first.poll() is not None or (bool(items(clone)) and stage_of(first) is not None))
    second = clone.run("dvc", "repro", ok=None)
    first.wait(HANGING_S)
    had = items(clone)
    refusal = re.compile(r"is busy, it is being blocked by|Unable to acquire lock")
    said = clone.root.with_suffix(".log").read_text()
    assert refusal.search(second) or refusal.search(said)
    assert torn(clone, whole) == []
    clone.repro()
    assert had.items() <= items(clone).items()
    assert len(items(clone)) == ITEMS
    assert clone.outputs() == whole


def test_two_clones_that_share_a_store_compute_each_item_once(
    template: Clone, tmp_path: Path
) -> None:
    whole = template.outputs()
    store = tmp_path / "store"
    shutil.copytree(template.store / "sources", store / "sources")
    both = [Clone(untouched(template, tmp_path / name).root, store) for name in ("one", "two")]
    runs = [clone.start("dvc", "repro") for clone in both]
    assert [run.wait(HANGING_S) for run in runs] == [0, 0]
    computed = [clone.computed() for clone in both]
    print("computed in each clone:", *computed)
    assert {stage: sum(counts[stage] for counts in computed) for stage in ONCE} == ONCE
    assert [clone.outputs() == whole for clone in both] == [True, True]
    assert len(items(both[0])) == ITEMS
    assert not list((store / "claims").iterdir())


def test_what_a_killed_clone_was_at_is_taken_over_by_the_other(
    template: Clone, tmp_path: Path
) -> None:
    whole = template.outputs()
    store = tmp_path / "store"
    shutil.copytree(template.store / "sources", store / "sources")
    both = [Clone(untouched(template, tmp_path / name).root, store) for name in ("one", "two")]
    one, two = (clone.start("dvc", "repro", "decode") for clone in both)
    until(lambda: len(list((store / "items").glob("*/*.h5"))) >= 1 or one.poll() is not None)
    kill(one)
    had = items(both[0])
    assert two.wait(HANGING_S) == 0
    assert had.items() <= items(both[0]).items()
    assert both[1].table("data/views/segments") == template.table("data/views/segments")
    assert torn(both[1], whole) == []


class Bare(Clone):
    """A clone whose user has not set where the store lies."""

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        known = super().environment()
        del known["AFFECTLINE_STORE"]
        return known


@pytest.fixture
def bare(clone: Clone) -> Iterator[Clone]:
    """A clone that has run once, its videos in DVC, as experiments in copies of it need them."""
    bare = Bare(clone.root)
    bare.run("dvc", "add", "data/raw")
    bare.commit("videos")
    yield bare
    for process in psutil.process_iter():  # workers of the queue wait a while for more to do
        try:
            if Path(process.cwd()).is_relative_to(bare.root):
                process.kill()
        except (psutil.Error, FileNotFoundError):
            pass


def test_an_experiment_in_a_copy_of_the_project_uses_its_store(bare: Clone) -> None:
    before = items(bare)
    whole = bare.outputs()
    there = counted(bare.run("dvc", "exp", "run", "--temp", "-n", "there", "-S", SCORE + "0.6"))
    assert there["faces"] == there["extract@faces_toy"] == 6
    assert there["decode"] == there["extract@frames_toy"] == 0
    after = items(bare)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 6 + 6 + 2 * (2 + 2)  # a run of a head is two files
    assert bare.outputs() == whole
    here = counted(bare.run("dvc", "exp", "run", "-n", "here", "-S", SCORE + "0.6"))
    assert {stage: n for stage, n in here.items() if n and stage != "report"} == {}
    assert items(bare) == after


def test_two_workers_of_the_queue_compute_each_item_once(bare: Clone) -> None:
    before = items(bare)
    for name, epochs in (("three", 3), ("four", 4)):
        changes = ("-S", SCORE + "0.6", "-S", f"train.epochs={epochs}")
        bare.run("dvc", "exp", "run", "--queue", "-n", name, *changes)
    bare.run("dvc", "queue", "start", "-j", "2")
    waiting = re.compile("Queued|Running")
    until(lambda: not waiting.search(bare.run("dvc", "queue", "status")), 600, 1.0)
    both = [counted(bare.run("dvc", "queue", "logs", name)) for name in ("three", "four")]
    print("computed in each experiment:", *both)
    computed = both[0] + both[1]
    assert computed["faces"] == computed["extract@faces_toy"] == 6
    assert computed["decode"] == computed["extract@frames_toy"] == 0
    assert computed["train@average"] == computed["train@caan"] == 4  # other epochs, other runs
    assert before.items() <= items(bare).items()
    assert len(items(bare)) == len(before) + 6 + 6 + 2 * (4 + 4)


SCORE = "faces.min_score="
