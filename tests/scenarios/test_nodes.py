"""Scenario: nodes of Ray make the items of `dvc repro`; actors, nodes and the driver are killed."""

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.clones import Clone, kill
from tests.conftest import HANGING_S
from tests.scenarios.test_kills import items, torn, until, untouched
from tests.scenarios.test_workers import made

KILLS = 10

BY_RAY = 24
"""Array files that actors make; runs as short as these are trained where the stage is."""

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


def actor_dies(nodes: Any) -> None:
    """Kill an actor at work, if there is one."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if (process.cmdline() or [""])[0].startswith("ray::Actor"):
                process.kill()
                return


def node_dies(nodes: Any) -> None:
    """Take a node away with all that works there, and have another come."""
    nodes.remove_node(max(nodes.worker_nodes, key=id), allow_graceful=False)
    nodes.add_node(num_cpus=1)


def test_actors_nodes_and_drivers_that_are_killed_cost_what_they_were_at(
    template: Clone, tmp_path: Path
) -> None:
    from ray.cluster_utils import Cluster

    whole = template.outputs()
    clone = untouched(template, tmp_path / "clone")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    clone.params(engine__executor="ray", engine__ray={"address": nodes.address})
    finished, kills = [], 0
    dvc = clone.start("dvc", "repro")
    hows: tuple[Callable[[Any], None] | None, ...] = (actor_dies, None, node_dies)
    try:
        for number in range(KILLS):
            goal = number * BY_RAY // KILLS
            until(lambda n=goal, d=dvc: made(clone) > n or d.poll() is not None, every_s=0.05)
            kills += dvc.poll() is None
            if how := hows[number % len(hows)]:
                how(nodes)
            else:
                kill(dvc)
                dvc = clone.start("dvc", "repro")
            finished.append(items(clone))
        assert dvc.wait(HANGING_S) == 0, clone.root.with_suffix(".log").read_text()
    finally:
        kill(dvc)
        nodes.shutdown()
    assert kills == KILLS
    last = items(clone)
    for had in finished:  # nothing that was finished has been made again
        assert had.items() <= last.items()
    assert clone.outputs() == whole and torn(clone, whole) == []
