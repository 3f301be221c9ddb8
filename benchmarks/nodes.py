"""What a second node of Ray gains: clips decoded and their features extracted by actors.

Stages as `dvc repro` runs them, on a cluster of one node of one core and on one of two, in turns,
each with a store of its own; the start of the actors and all that the stages do besides is counted.
Two could be twice as fast, where each has a core to itself.

    python benchmarks/nodes.py
    python benchmarks/nodes.py --clips 40 --turns 3 --json
"""

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from features.cache.keys import PROJECT
from features.weights.file import write_seeded
from sample.clips import encode_clip, plan_clip
from stages import decode, extract, index
from stages.engine.paths import weights_file
from stages.engine.progress import console, print_table

BACKBONE = "resnet50"
"""What extracts, with random weights: an eighth of a second a frame on one core."""

FRAMES = 24
"""Of each clip, as the papers have it."""


@dataclass(frozen=True)
class Nodes:
    """Stages on nodes of Ray.

    Attributes:
        nodes: how many.
        decode_s: seconds of decode.
        extract_s: of extract.
    """

    nodes: int
    decode_s: float
    extract_s: float

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.decode_s + self.extract_s


def main(
    clips: Annotated[int, typer.Option(help="of three seconds")] = 40,
    turns: Annotated[int, typer.Option(help="of one node and two")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure and tell."""
    rows = [on_nodes(count, clips) for _ in range(turns) for count in (1, 2)]
    gains = [one.seconds / two.seconds for one, two in zip(rows[::2], rows[1::2], strict=True)]
    gain = statistics.median(gains)
    if as_json:
        print(json.dumps({**machine(), "nodes": [asdict(r) for r in rows], "gain": gain}, indent=1))
        return
    told = [(row.nodes, f"{row.decode_s:.1f}", f"{row.extract_s:.1f}") for row in rows]
    print_table(f"{clips} clips", ["nodes", "decode s", "extract s"], told)
    console.print(f"two nodes are {gain:.2f} times as fast as one")


def machine() -> dict[str, Any]:
    """Return where and of what the measures are."""
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=PROJECT, capture_output=True, text=True)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
    }


def on_nodes(count: int, clips: int) -> Nodes:
    """Have a cluster decode clips and extract their features, in a process of its own.

    Args:
        count: of nodes, each of one core.
        clips: how many.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = context.SimpleQueue()
        child = context.Process(target=_cluster, args=(folder, results, count, clips))
        child.start()
        seconds = results.get()
        child.join()
    return Nodes(count, *seconds)


def _cluster(folder: str, results: Any, count: int, clips: int) -> None:
    import ray
    from ray.cluster_utils import Cluster

    os.chdir(folder)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(count - 1):
        cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False)
    _prepare(clips, cluster.address)
    times = [time.monotonic()]
    for stage in (decode.main, lambda: extract.main(BACKBONE)):
        stage()
        times.append(time.monotonic())
    results.put((times[1] - times[0], times[2] - times[1]))
    ray.shutdown()
    cluster.shutdown()


def _prepare(clips: int, address: str) -> None:
    """Make clips, their index, weights and params.yaml here."""
    for number in range(clips):
        path = Path(f"raw/joy/{number:02}.mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_clip(plan_clip(0, "joy", number, 3.0), path)
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    raw["index"]["root"] = "raw"
    raw["decode"]["views"]["segments"]["count"] = FRAMES
    block = {"module": BACKBONE, "view": "segments", "source": "seeded", "seed": 0}
    raw["backbones"] = {BACKBONE: block}
    raw["experiments"] = {"e": {"head": "pooling", "roles": {"face": f"{BACKBONE}/pooled"}}}
    there = {"address": address, "cpus": 1.0}
    raw["engine"] |= {"executor": "ray", "ray": there, "runtime": "torch"}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    write_seeded(weights_file(BACKBONE), BACKBONE, 0)
    index.main()


if __name__ == "__main__":
    typer.run(main)
