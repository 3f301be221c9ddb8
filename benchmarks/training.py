"""How near the training of a head comes to its bare network on tensors in memory.

Feature files of random numbers are written at the shape that each of the five papers has on
VideoEmotion-8, fewer videos. Two competitors train a head on them, in turns, `--repeat` times, and
the least of each counts:

* the pipeline's own run (`heads.training.loop.train_run`): statistics of the input, batches out of
  the features in memory, their standardisation, all epochs, and the answers on the test videos;
* bare: the same network, phases, batches, loss and optimiser on batches that lie ready,
  standardised and in float32, and one pass over the test videos. It tells no accuracy.

Two ratios, both bare ÷ ours: of seconds on the clock, and of the processor's over all threads.

    python benchmarks/training.py --only hamf,caan --videos 24 --epochs 4 --threads 1 --json

With `--processes 2` runs are trained as the stage does it, one after the other in a process, and
so many at once; `at_once` is the ratio of the seconds on the clock, the start of the processes
counted, `at_once_cpu` that of the processor's. Their answers must be the same, bit for bit.

    python benchmarks/training.py --only caan --processes 2 --runs 4 --epochs 20 --json

On a machine that others use too, the second ratio with `--threads 1` is the one to trust.
"""

import json
import math
import os
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from runtimes import machine
from torch import Tensor

import heads
from features.cache import arrays
from features.cache.keys import item_key
from features.cache.store import ItemStore, store_root
from heads.training.data import Features, collate, draw_batches
from heads.training.loop import run_seed, train_run
from heads.training.memory import Memory
from heads.training.selection import Split, Video
from heads.training.settings import Training
from heads.training.standardise import Standardised, build_network, input_statistics
from heads.training.targets import of_classes, strata
from stages.engine.items import fill
from stages.engine.progress import StageRun
from stages.engine.workers import Item, Work, Workers
from stages.train import Task, compute

CLASSES = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")
LACKING = 0.1
"""Share of the rows that are not valid: frames without a face."""

AXES = {1: "T D", 2: "T L C", 3: "T C H W"}
_LIU: Mapping[str, Any] = {"optimiser": "sgd", "learning_rate": 1e-3, "decay_every": 6000}


@dataclass(frozen=True)
class Paper:
    """A head at the shape that its paper has on VideoEmotion-8.

    Attributes:
        roles: role -> rows of a video and shape of a row.
        train: how it trains, `affectline/presets/bindings.yaml`.
        params: hyper-parameters that differ from the head's own.
    """

    roles: Mapping[str, tuple[int, ...]]
    train: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)

    def sources(self) -> dict[str, str]:
        """Return role -> feature: a network of its own each, maps with their rows."""
        return {role: f"{role.removesuffix('_map')}/{role}" for role in self.roles}


_FC6, _POOL5 = (24, 4096), (24, 512, 7, 7)
PAPERS = {
    "hamf": Paper(
        {
            **dict.fromkeys(("face", "scene", "image"), _FC6),
            **dict.fromkeys(("face_map", "scene_map", "image_map"), _POOL5),
        },
        _LIU,
    ),
    "caan": Paper({"face": _FC6, "context": _FC6}, _LIU),
    "rdam": Paper({"face": (24, 2048, 28, 28), "frame": (24, 2048, 28, 28)}, _LIU),
    "mmf": Paper(
        {"visual": (100, 768), "audio": (100, 128), "skeleton": (100, 33, 3)},
        {"learning_rate": 1e-4, "batch_videos": 16, "sampling": "shuffled"},
    ),
    "vaanet": Paper(
        {"visual": (10, 2048, 4, 4), "audio": (10, 256, 32)},
        {"learning_rate": 2e-4, "batch_videos": 32, "sampling": "shuffled"},
        {"positive": ("Anticipation", "Joy", "Surprise", "Trust")},
    ),
}


@dataclass(frozen=True)
class Rate:
    """What was found of a head.

    Attributes:
        head: its name.
        threads: of torch.
        batch_videos: videos of a batch.
        steps: of the optimiser, in all phases.
        videos_per_s: that the pipeline's run trains on, the whole run counted.
        wall: seconds of the bare network over those of the run, on the clock.
        cpu: likewise, of the processor, all threads together.
        at_once: seconds of runs one after the other over those of runs side by side.
        at_once_cpu: likewise, of the processor.
    """

    head: str
    threads: int
    batch_videos: int
    steps: int
    videos_per_s: float
    wall: float
    cpu: float
    at_once: float | None = None
    at_once_cpu: float | None = None


@dataclass(frozen=True)
class Case:
    """A head, its data and how it trains."""

    name: str
    params: Any
    training: Training
    dataset: Features
    train: Sequence[int]
    test: Sequence[int]
    seed: int

    def steps(self) -> list[list[int]]:
        """Return the batches of the first epoch, as positions."""
        true = [self.dataset.videos[position].label for position in self.train]
        labels = strata(of_classes(CLASSES), true)
        each = self.training.videos_per_class if self.training.sampling == "balanced" else None
        generator = torch.Generator().manual_seed(self.seed)
        drawn = draw_batches(labels, self.training.batch_videos, each, generator)
        return [[self.train[position] for position in batch] for batch in drawn]


app = typer.Typer(add_completion=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="heads, with commas; all")] = "all",
    videos: Annotated[int, typer.Option(help="how many, a quarter of them for testing")] = 32,
    rows: Annotated[int, typer.Option(help="of a video at most; 0: as the paper")] = 0,
    batch: Annotated[int, typer.Option(help="videos of a batch; 0: as the paper")] = 0,
    epochs: Annotated[int, typer.Option(help="of each phase")] = 4,
    repeat: Annotated[int, typer.Option(help="turns")] = 2,
    threads: Annotated[int, typer.Option(help="of a run")] = 1,
    processes: Annotated[int, typer.Option(help="side by side; 0: not measured")] = 0,
    runs: Annotated[int, typer.Option(help="of an experiment, where they are")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure each head beside its bare network."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    rates = []
    for name in PAPERS if only == "all" else only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            case = make_case(name, Path(folder), videos, rows, batch, epochs)
            rate = measure(case, repeat)
            if processes:
                wall, cpu = side_by_side(case, Path(folder), runs, processes, repeat)
                rate = replace(rate, at_once=wall, at_once_cpu=cpu)
            rates.append(rate)
        if not as_json:
            print(rates[-1], flush=True)
    if as_json:
        print(json.dumps({**machine(), "rates": [asdict(rate) for rate in rates]}, indent=1))


def make_case(name: str, folder: Path, videos: int, rows: int, batch: int, epochs: int) -> Case:
    """Write the features of a head's videos, of at most so many rows, and say how it trains."""
    paper, head = PAPERS[name], heads.load(name)
    shapes = {
        role: (min(rows or shape[0], shape[0]), *shape[1:]) for role, shape in paper.roles.items()
    }
    settings = {**paper.train, "epochs": epochs}
    own = {"threads": torch.get_num_threads()} | ({"batch_videos": batch} if batch else {})
    training = Training(**settings | own)
    made = [write_video(folder, number, shapes) for number in range(videos)]
    dataset = Features(made, paper.sources(), head.ALIGNED)
    for position in range(videos):
        _ = dataset[position]  # into memory
    positions = range(videos)
    return Case(
        name,
        heads.validate(head, dict(paper.params)),
        training,
        dataset,
        [position for position in positions if position // len(CLASSES) % 4],
        [position for position in positions if not position // len(CLASSES) % 4],
        run_seed(training.seed, "split_00"),
    )


def write_video(folder: Path, number: int, shapes: Mapping[str, tuple[int, ...]]) -> Video:
    """Write random features of a video, a file a network; classes come in turn."""
    draw = np.random.default_rng(number)
    networks: dict[str, dict[str, tuple[int, ...]]] = {}
    for role, shape in shapes.items():
        networks.setdefault(role.removesuffix("_map"), {})[role] = shape
    files = {}
    for network, features in networks.items():
        data: dict[str, arrays.Array] = {
            name: draw.standard_normal(shape, dtype=np.float32).astype(np.float16)
            for name, shape in features.items()
        }
        count = len(next(iter(data.values())))
        valid = draw.random(count) >= LACKING
        data |= {"index": np.arange(count), "pts_s": np.arange(count) / 2, "valid": valid}
        axes = {name: AXES[len(shape) - 1] for name, shape in features.items()}
        files[network] = folder / f"{network}_{number:04d}.h5"
        arrays.write(files[network], data, {"key": network, "axes": axes}, arrays.COMPACT)
    keys = {network: network for network in networks}
    label = number % len(CLASSES)
    return Video(f"{CLASSES[label]}/{number:04d}", label, files, keys, keys)


# -------------------------------------------------------------------------------- measurement


def measure(case: Case, repeat: int) -> Rate:
    """Return how the run stands beside its bare network; both take turns."""
    competitors = {"ours": own, "bare": bare}
    wall, cpu = dict.fromkeys(competitors, np.inf), dict.fromkeys(competitors, np.inf)
    for _ in range(repeat):
        for name, compete in competitors.items():
            seconds, processor_s, steps = compete(case)
            wall[name], cpu[name] = min(wall[name], seconds), min(cpu[name], processor_s)
    trained = steps * sum(map(len, case.steps())) / len(case.steps())
    return Rate(
        head=case.name,
        threads=torch.get_num_threads(),
        batch_videos=case.training.batch_videos,
        steps=steps,
        videos_per_s=trained / wall["ours"],
        wall=wall["bare"] / wall["ours"],
        cpu=cpu["bare"] / cpu["ours"],
    )


def own(case: Case) -> tuple[float, float, int]:
    """Train as the stage does; return seconds on the clock, of the processor, and the steps."""
    start = time.perf_counter(), time.process_time()
    run = train_run(
        heads.load(case.name),
        case.params,
        case.training,
        case.dataset,
        case.train,
        case.test,
        of_classes(CLASSES),
        case.seed,
    )
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    return *seconds, len(run.curve) * len(case.steps())


def bare(case: Case) -> tuple[float, float, int]:
    """Train on batches that lie ready; return the same."""
    wrapped = build_network(
        heads.load(case.name),
        case.params,
        case.dataset.shapes,
        case.dataset.axes,
        of_classes(CLASSES),
        case.seed,
    )
    statistics = input_statistics(case.dataset, case.train, case.training.standardise)
    for role, (mean, std) in statistics.items():
        wrapped.mean[role].copy_(mean)
        wrapped.std[role].copy_(std)
    network = wrapped.network
    batches = [ready(case, wrapped, positions) for positions in case.steps()]
    asked = [ready(case, wrapped, [position]) for position in case.test]
    steps = 0
    start = time.perf_counter(), time.process_time()
    for phase, modules in network.phases().items():
        network.requires_grad_(False)
        for module in modules:
            module.requires_grad_(True)
        optimiser = make_optimiser(network, case.training)
        network.eval()
        with torch.no_grad():
            kept = [network.frozen(features, mask, phase) for features, mask, _ in batches]
        for module in modules:
            module.train()
        for _ in range(case.training.epochs):
            for (features, mask, labels), frozen in zip(batches, kept, strict=True):
                output = network.resume(frozen) if frozen else network(features, mask)
                optimiser.zero_grad()
                network.loss(output, labels, phase).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                steps += 1
    network.eval()
    with torch.no_grad():
        for features, mask, _ in asked:
            network(features, mask)
    return time.perf_counter() - start[0], time.process_time() - start[1], steps


Ready = tuple[dict[str, Tensor], dict[str, Tensor], Tensor]


@torch.no_grad()
def ready(case: Case, wrapped: Standardised, positions: Sequence[int]) -> Ready:
    """Return a batch as a head takes it: rows standardised in float32, masks, labels."""
    batch = collate([case.dataset[position] for position in positions])
    return wrapped.standardise(batch.features), batch.mask, batch.labels


def make_optimiser(network: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return the optimiser of the settings, in the form that is fastest on a CPU."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if training.optimiser == "adam":
        return torch.optim.Adam(weights, lr=training.learning_rate, fused=True)
    return torch.optim.SGD(weights, lr=training.learning_rate, momentum=0.9)


# ------------------------------------------------------------------------------- side by side


def side_by_side(
    case: Case, folder: Path, runs: int, processes: int, repeat: int
) -> tuple[float, float]:
    """Return how much faster runs are in several processes, on the clock and of the processor.

    Raises:
        ValueError: their answers are not those of runs one after the other.
    """
    wall, cpu = dict.fromkeys((0, processes), np.inf), dict.fromkeys((0, processes), np.inf)
    answers: dict[int, list[bytes]] = {}
    os.chdir(folder)  # the log's
    for turn in range(repeat):
        for count in wall:
            os.environ["AFFECTLINE_STORE"] = str(folder / f"store{turn}{count}")
            start = time.perf_counter(), processor_s()
            answers[count] = train_all(case, runs, count)
            wall[count] = min(wall[count], time.perf_counter() - start[0])
            cpu[count] = min(cpu[count], processor_s() - start[1])
        if answers[0] != answers[processes]:
            raise ValueError("runs side by side are not those one after the other")
    return wall[0] / wall[processes], cpu[0] / cpu[processes]


def train_all(case: Case, runs: int, processes: int) -> list[bytes]:
    """Train runs as the stage does, and return the probabilities that they give."""
    memory, items = Memory(), []
    paper = PAPERS[case.name]
    for number in range(runs):
        ingredients = {"file": "answers", "run": number}
        key = item_key(ingredients)
        task = Task(
            case.dataset.videos,
            paper.sources(),
            Split(tuple(case.train), tuple(case.test)),
            of_classes(CLASSES),
            case.name,
            case.params,
            case.training,
            "cpu",
            1 << 40,
            memory,
            f"split_{number:02d}",
            False,
            {},
            {key: ingredients},
        )
        items.append(Item(task.run, {key: f"{task.run}.h5"}, task))
    work = Work(items, compute, Workers(processes, time_limit_s=math.inf), unit="runs")
    with StageRun("train", case.name) as run:
        reasons = fill(run, work)
        if reasons:
            raise ValueError(next(iter(reasons.values())))
    store = ItemStore(store_root())
    keys = [key for item in items for key in item.files]
    return [arrays.read(store.path(key, ".h5"))[0]["probabilities"].tobytes() for key in keys]


def processor_s() -> float:
    """Return the processor's seconds of this process and of those that it has started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    app()
