"""train@<experiment>: a head over the runs of the data set.

Reads the index of the videos and the features that the experiment's roles name; writes
`<experiment>.json` and the folder `<experiment>` (stages/results/files.py says what is in them).
Each run is an item; its checkpoint has in its metadata what
`heads.training.standardise.build_network` needs.

    python -m stages.train caan
"""

import functools
import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

import heads
from features.cache import arrays, tables
from features.cache.keys import item_key
from features.cache.store import ItemStore, store_root
from features.weights.file import metadata, tensors_sha256
from heads.training.data import Features
from heads.training.loop import run_seed, train_run
from heads.training.measures import measured
from heads.training.memory import Memory
from heads.training.metrics import per_class
from heads.training.run import run_arrays
from heads.training.scores import measured_of, of_runs, scores_of
from heads.training.selection import Selection, Split, Video, select_videos
from heads.training.settings import Training, training_of
from heads.training.targets import Target
from stages.engine.device import (
    GIB,
    be_reproducible,
    cache_bytes,
    device_of,
    devices_of,
    free_bytes,
)
from stages.engine.ingredients import code_of_answer, code_of_run
from stages.engine.items import describe, run_items
from stages.engine.outputs import fresh_outputs
from stages.engine.params import Engine, Experiment, Params
from stages.engine.paths import FEATURES, INDEX, RESULTS, index_of, weights_file
from stages.engine.previous import previous_files
from stages.engine.progress import StageRun, fail, told
from stages.engine.start import item_of, launch, start
from stages.engine.workers import Item, Work, Workers, elsewhere
from stages.results import files as results
from stages.results.files import Answers

SUFFIXES = {"answers": ".h5", "checkpoint": ".safetensors"}
"""The files that a run consists of."""

STATED = ("head", "params", "training", "roles", "weights")
"""Of what a run is made of, what its checkpoint says."""

RUN_BYTES = 3 * GIB // 2
"""Memory that a run takes beside the features: HAMF's on VideoEmotion-8, with its batches."""

LONG_BYTES = 1 << 28
"""Of feature files over the epochs of a run: it takes some seconds, as a process does to start."""

RUNS = {"run": pa.string(), "file": pa.string(), "key": pa.string(), "path": pa.string()}


@dataclass(frozen=True)
class Task:
    """One run; what the experiment's runs share is in each.

    Attributes:
        videos: of the experiment.
        roles: role -> `<backbone>/<feature>`.
        split: the run's part of the videos.
        cache_bytes: of features in memory, all runs together.
        memory: where runs that are trained side by side have them.
    """

    videos: tuple[Video, ...]
    roles: Mapping[str, str]
    split: Split
    target: Target
    head: str
    params: Any
    training: Training
    device: str
    cache_bytes: int
    memory: Memory
    run: str
    pretrained: bool
    starts: Mapping[str, Path]
    ingredients: dict[str, dict[str, object]]

    def dataset(self) -> Features:
        """Return the videos, their files where they can be read."""
        videos = [_where_it_lies(video) for video in self.videos]
        aligned = heads.load(self.head).ALIGNED
        return Features(videos, self.roles, aligned, self.cache_bytes, self.memory)


def main(experiment: Annotated[str, item_of("experiments")]) -> None:
    """Train and test the head of EXPERIMENT in every run."""
    settings = start(f"train@{experiment}")
    with told():
        plan = plan_runs(settings, experiment)
    selection = plan.selection
    with StageRun("train", experiment) as run:
        if selection.missing:
            total = len(selection.missing) + len(selection.videos)
            run.note(f"left out for lack of a feature: {len(selection.missing)} of {total} videos")
        made = work(run, plan)
        with fresh_outputs(RESULTS, run) as partial:
            folder = partial / experiment
            outcome = run_items(run, made, folder / "runs")
            failed = [f"{name}: {why}" for name, gone in outcome.items() for why in gone.values()]
            if failed:
                raise fail("\n".join(f"{run.name}: {line}" for line in failed))
            answers = _read_answers(folder / "runs", selection)
            scores = [scores_of(selection.target, answer) for answer in answers.values()]
            per_name = () if selection.target.kind == "dimensions" else selection.target.names
            results.write_tables(folder, answers, selection.target)
            results.write_per_class(folder, per_class(scores, per_name))
            _write_index(folder, made.items)
            bring(run, selection.videos[:1])
            results.write_json(folder / "about.json", plan.about())
            metrics = _metrics(answers, scores, selection, plan.training.seed)
            results.write_scores(folder, metrics)
        _tell(run, metrics)


def work(run: StageRun, plan: "Plan") -> Work[Task]:
    """Return the runs that are to be trained."""
    prepare = functools.partial(bring, run, plan.selection.videos)
    starts = tuple(plan.starts.values())
    return Work(plan.items(), compute, plan.pool, unit="runs", prepare=prepare, weights=starts)


def bring(run: StageRun, videos: Sequence[Video]) -> None:
    """Bring the feature files that are not in the output into the store, by key.

    A clone that has pulled the table alone has them there, or DVC fetches them; or the stage ends.
    """
    store = ItemStore(store_root())
    absent: dict[str, set[str]] = {}
    for video in videos:
        for backbone, key in video.keys.items():
            if not video.files[backbone].is_file() and not store.has(key, ".h5"):
                absent.setdefault(backbone, set()).add(key)
    for backbone, keys in absent.items():
        for key, path in previous_files(f"extract@{backbone}", keys, run.note):
            store.add_copy(key, path, ".h5")
        if lacking := [key for key in keys if not store.has(key, ".h5")]:
            raise fail(
                f"{run.name}: {len(lacking)} feature files of {backbone} are neither in the output "
                "nor in the store, DVC's cache or its remote: `dvc pull "
                f"extract@{backbone}`, or compute them with `dvc repro extract@{backbone}`"
            )


def _where_it_lies(video: Video) -> Video:
    """Return the video with its feature files where they can be read, see `bring`."""
    store = ItemStore(store_root())
    files = {
        backbone: file if file.is_file() else store.path(video.keys[backbone], ".h5")
        for backbone, file in video.files.items()
    }
    return replace(video, files=files)


@dataclass(frozen=True)
class Plan:
    """What an experiment trains: its videos, its head and how.

    Attributes:
        block: its entry in params.yaml.
        head: its head module.
        params: the head's hyper-parameters.
        training: how it is trained.
        device: where.
        cache_bytes: of features in memory, all runs together.
        pool: in which runs are trained.
        selection: its videos and runs; not pretrained where the head starts from seeded weights.
        starts: role -> the weights file that its network in the head starts from.
    """

    block: Experiment
    head: heads.Head
    params: Any
    training: Training
    device: str
    cache_bytes: int
    pool: Workers
    selection: Selection
    starts: Mapping[str, Path]

    def items(self) -> list[Item[Task]]:
        """Return one item a run; they share the features."""
        memory = Memory()
        common = {
            "stage": "train",
            "head": self.block.head,
            # What null stands for, so that two ways to write one network train it once.
            "params": asdict(heads.resolve(self.params, self.block.roles)),
            "training": asdict(self.training),
            "roles": self.block.roles,
            "weights": {role: tensors_sha256(file) for role, file in self.starts.items()},
            **self.selection.target.stated(),
            "code": code_of_run(self.block.head),
        }
        return [
            self._item(name, split, memory, common) for name, split in self.selection.splits.items()
        ]

    def _item(
        self,
        name: str,
        split: Split,
        memory: Memory,
        common: Mapping[str, object],
    ) -> Item[Task]:
        selection = self.selection
        videos = {
            part: [
                [video.video_id, selection.target.told(video.label), video.contents]
                for video in (selection.videos[position] for position in positions)
            ]
            for part, positions in asdict(split).items()
        }
        if self.training.validation_share > 0:  # by which videos are held out, if they have any
            trained = [selection.videos[position] for position in split.train]
            groups = {video.video_id: video.group for video in trained if video.group is not None}
            common = {**common, "groups": groups} if groups else common
        made_of: dict[str, dict[str, object]] = {
            file: {**common, "run": name, "videos": videos, "file": file} for file in SUFFIXES
        }
        keys = {item_key(ingredients): file for file, ingredients in made_of.items()}
        task = Task(
            selection.videos,
            self.block.roles,
            split,
            selection.target,
            self.block.head,
            self.params,
            self.training,
            self.device,
            self.cache_bytes,
            memory,
            name,
            selection.pretrained,
            self.starts,
            {key: made_of[file] for key, file in keys.items()},
        )
        return Item(name, {key: f"{name}{SUFFIXES[file]}" for key, file in keys.items()}, task)

    def about(self) -> dict[str, object]:
        """Return what `about.json` holds: what the numbers stand on."""
        settings, roles, selection = asdict(self.params), self.block.roles, self.selection
        first = _where_it_lies(selection.videos[0])
        return {
            "head": self.block.head,
            "roles": dict(roles),
            "weights": {role: metadata(file) for role, file in self.starts.items()},
            "params": settings,
            "training": asdict(self.training),
            "selection": self.training.selected_by(selection.target.measure),
            **selection.target.stated(),
            "splits": {
                name: {part: len(videos) for part, videos in asdict(split).items()}
                for name, split in selection.splits.items()
            },
            "missing": selection.missing,
            "paper": results.paper_rows(self.head, roles, settings),
            "features": {
                backbone: _origin(arrays.read_attributes(path))
                for backbone, path in sorted(first.files.items())
            },
        }


def plan_runs(settings: Params, experiment: str, root: Path = FEATURES.parent) -> Plan:
    """Return what an experiment of params.yaml trains.

    Args:
        settings: params.yaml.
        experiment: a name in it.
        root: folder of the features and their table.

    Raises:
        ValueError: settings, index or features that do not fit it.
    """
    block = settings.experiments[experiment]
    head = heads.load(block.head)
    selection = select_videos(index_of(INDEX), root, block.roles, block.target)
    starts = {role: weights_file(name) for role, name in block.weights.items()}
    facts = [metadata(file) for file in starts.values()]
    training, cache = training_of(settings.train | block.train), cache_bytes(settings.engine)
    are_real = all(known["pretrained"] == "true" for known in facts)
    engine = settings.engine if _are_long(training, selection) else settings.engine.here
    return Plan(
        block,
        head,
        heads.validate(head, block.overrides),
        training,
        device_of(engine),
        cache,
        _pool(engine, training, selection, cache),
        replace(selection, pretrained=selection.pretrained and are_real),
        starts,
    )


def _pool(engine: Engine, training: Training, selection: Selection, cache: int) -> Workers:
    """Return where runs are trained: one a GPU, or side by side as far as cores and memory go.

    Short ones are trained in this process, one after the other.
    """
    if not _are_long(training, selection):
        return Workers(0, math.inf)
    if there := elsewhere(engine, 0, math.inf):
        return there
    if (device := device_of(engine)) != "cpu":
        return Workers(0, math.inf, devices_of(engine, device))
    cores = max(1, (os.cpu_count() or 1) // training.threads)
    room = max(1, (free_bytes() - cache) // RUN_BYTES)
    at_once = min(engine.workers or cores, room, len(selection.splits))
    return Workers(at_once if at_once > 1 else 0, math.inf)


def _are_long(training: Training, selection: Selection) -> bool:
    """Tell whether runs take longer than processes take to start; one video stands for all."""
    files = _where_it_lies(selection.videos[0]).files.values()
    if not all(file.is_file() for file in files):
        return True  # they are in DVC's cache or its remote
    size = sum(file.stat().st_size for file in files)
    return size * len(selection.videos) * training.epochs >= LONG_BYTES


def compute(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Train and test one run and write those of its files that are asked for."""
    torch.set_num_threads(task.training.threads)
    torch.use_deterministic_algorithms(True)
    be_reproducible(task.device)
    start = time.monotonic()
    dataset = task.dataset()
    result = train_run(
        heads.load(task.head),
        task.params,
        task.training,
        dataset,
        task.split.train,
        task.split.test,
        task.target,
        run_seed(task.training.seed, task.run),
        task.device,
        task.starts,
    )
    seconds = time.monotonic() - start
    for key, path in outputs.items():
        ingredients = task.ingredients[key]
        if ingredients["file"] == "answers":
            answers, axes = run_arrays(result)
            attributes = describe(key, ingredients, axes, pretrained=task.pretrained)
            arrays.write(path, answers, attributes)
        else:
            stated = {
                "key": key,
                **{name: ingredients[name] for name in STATED},
                "code": item_key({"code": code_of_answer(task.head)}),
                "run": task.run,
                **task.target.stated(),
                "shapes": dataset.shapes,
                "axes": dataset.axes,
                "pretrained": task.pretrained,
            }
            # One entry alone: the format keeps several in no fixed order, and bytes would differ.
            save_file(result.state, path, {"affectline": json.dumps(stated, sort_keys=True)})
    return {"train_seconds": seconds}


def _read_answers(folder: Path, selection: Selection) -> Answers:
    return {name: arrays.read(folder / f"{name}.h5")[0] for name in selection.splits}


def _write_index(folder: Path, items: Sequence[Item[Task]]) -> None:
    """Write which item each file of the runs is: by it the next repro finds them."""
    rows: list[tables.Row] = []
    for item in items:
        for key, path in item.files.items():
            file = item.task.ingredients[key]["file"]
            rows.append({"run": item.name, "file": file, "key": key, "path": path})
    tables.write(folder / "runs.parquet", rows, pa.schema(list(RUNS.items())))


def _metrics(
    answers: Answers, scores: Sequence[Mapping[str, float]], selection: Selection, seed: int
) -> dict[str, object]:
    """Return what `scores.json` holds; accuracies are shares, not per cent."""
    splits, target = selection.splits.values(), selection.target
    ratio = float(np.mean([len(split.test) / len(split.train) for split in splits]))
    if target.kind == "class":
        commonest = [_commonest_accuracy(selection, split) for split in splits]
        scored = measured(list(answers.values()), scores, ratio, seed)
        scored |= {"chance": 1 / target.width, "commonest_class": float(np.mean(commonest))}
    else:
        scored = of_runs(target, scores, ratio)
    return {
        **scored,
        "videos": len(selection.videos),
        "videos_missing": len(selection.missing),
        "pretrained": selection.pretrained,
    }


def _origin(attributes: Mapping[str, Any]) -> dict[str, object]:
    """Return what a feature file says of where it came from, but for its video."""
    made_of = attributes["ingredients"]
    return {
        "module": made_of["module"],
        "options": made_of["options"],
        "view": made_of["view"],
        "code": item_key({"code": made_of["code"]}),
        "weights": attributes["weights"],
        "software": attributes["software"],
    }


def _commonest_accuracy(selection: Selection, split: Split) -> float:
    """Return the accuracy of always answering the commonest class of the training videos."""
    labels = [video.label for video in selection.videos]
    ((commonest, _),) = Counter(labels[position] for position in split.train).most_common(1)
    return sum(labels[position] == commonest for position in split.test) / len(split.test)


def _tell(run: StageRun, metrics: Mapping[str, Any]) -> None:
    measure = measured_of(metrics)[0]
    score, form = metrics[measure], ".1%" if measure == "accuracy" else ".3f"
    spread = "" if score["std"] is None else f" ± {score['std']:{form}}"
    line = f"{measure} {score['mean']:{form}}{spread} in {score['runs']} runs"
    line += f" (chance {metrics['chance']:{form}})"
    computed = run.counts["computed"]
    if computed:
        line += f", {run.counts['train_seconds'] / computed:.1f} s a run"
    if not metrics["pretrained"]:
        line += "; features, or first weights, are seeded (random): nothing about emotion"
    run.note(line)


if __name__ == "__main__":
    launch(main)
