"""train@<experiment>: a head over the runs of the data set.

Reads the index of the videos and the features that the experiment's roles name; writes
`<experiment>.json` and the folder `<experiment>` (stages/results/files.py says what is in them).
Each run is an item; its checkpoint has in its metadata what
`heads.training.standardise.build_network` needs.

    python -m stages.train caan
"""

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from heads.training.metrics import over_runs, per_class, score_run
from heads.training.run import run_arrays
from heads.training.selection import Selection, Split, Video, select_videos
from heads.training.settings import Training, training_of
from stages.engine.device import be_reproducible, cache_bytes, device_of
from stages.engine.ingredients import code_of_answer, code_of_run
from stages.engine.items import describe, run_items
from stages.engine.outputs import fresh_outputs
from stages.engine.params import Experiment, Params
from stages.engine.paths import FEATURES, INDEX, RESULTS, index_of, weights_file
from stages.engine.previous import previous_files
from stages.engine.progress import StageRun, fail, told
from stages.engine.start import item_of, launch, start
from stages.engine.workers import Item, Work, Workers
from stages.results import files as results
from stages.results.files import Answers

SUFFIXES = {"answers": ".h5", "checkpoint": ".safetensors"}
"""The files that a run consists of."""

STATED = ("head", "params", "training", "roles", "weights")
"""Of what a run is made of, what its checkpoint says."""

RUNS = {"run": pa.string(), "file": pa.string(), "key": pa.string(), "path": pa.string()}


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        features: the experiment's videos, shared by its runs, so that they are read once.
        split: the run's part of them.
    """

    features: Callable[[], Features]
    split: Split
    classes: tuple[str, ...]
    head: str
    params: Any
    training: Training
    device: str
    run: str
    pretrained: bool
    starts: Mapping[str, Path]
    ingredients: dict[str, dict[str, object]]

    @property
    def dataset(self) -> Features:
        """The videos, their files looked for at the first run that is computed."""
        return self.features()


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
        locate = functools.partial(_located, run)
        made = Work(plan.items(locate), compute, Workers(0), unit="runs")
        with fresh_outputs(RESULTS, run) as partial:
            folder = partial / experiment
            outcome = run_items(run, made, folder / "runs")
            failed = [f"{name}: {why}" for name, gone in outcome.items() for why in gone.values()]
            if failed:
                raise fail("\n".join(f"{run.name}: {line}" for line in failed))
            answers = _read_answers(folder / "runs", selection)
            classes = selection.classes
            scores = [
                score_run(answer["label"].astype(int), answer["predicted"].astype(int), classes)
                for answer in answers.values()
            ]
            results.write_tables(folder, answers, classes)
            results.write_per_class(folder, per_class(scores, classes))
            _write_index(folder, made.items)
            results.write_json(folder / "about.json", plan.about(locate))
            metrics = _metrics(answers, scores, selection)
            results.write_scores(folder, metrics)
        _tell(run, metrics)


Locate = Callable[[Sequence[Video]], Sequence[Video]]
"""Returns videos with their feature files where they can be read."""


def _located(run: StageRun, videos: Sequence[Video]) -> Sequence[Video]:
    """Return the videos with their feature files where they are: by key, also out of the output.

    A clone that has pulled the table alone reads from the store, or from what DVC fetches.
    """
    store = ItemStore(store_root())
    elsewhere: dict[str, Path] = {}
    absent: dict[str, set[str]] = {}
    for video in videos:
        for backbone, key in video.keys.items():
            if store.has(key, ".h5"):
                elsewhere[key] = store.path(key, ".h5")
            if not video.files[backbone].is_file() and key not in elsewhere:
                absent.setdefault(backbone, set()).add(key)
    for backbone, keys in absent.items():
        elsewhere |= dict(previous_files(f"extract@{backbone}", keys, run.note))
        if lacking := keys - set(elsewhere):
            raise fail(
                f"{run.name}: {len(lacking)} feature files of {backbone} are neither in the output "
                "nor in the store, DVC's cache or its remote: `dvc pull "
                f"extract@{backbone}`, or compute them with `dvc repro extract@{backbone}`"
            )
    return [
        replace(video, files={b: f if f.is_file() else elsewhere[video.keys[b]] for b, f in files})
        for video in videos
        for files in [video.files.items()]
    ]


def _in_output(videos: Sequence[Video]) -> Sequence[Video]:
    return videos


@dataclass(frozen=True)
class Plan:
    """What an experiment trains: its videos, its head and how.

    Attributes:
        block: its entry in params.yaml.
        head: its head module.
        params: the head's hyper-parameters.
        training: how it is trained.
        device: where.
        cache_bytes: of features in memory.
        selection: its videos and runs; not pretrained where the head starts from seeded weights.
        starts: role -> the weights file that its network in the head starts from.
    """

    block: Experiment
    head: heads.Head
    params: Any
    training: Training
    device: str
    cache_bytes: int
    selection: Selection
    starts: Mapping[str, Path]

    def items(self, locate: Locate = _in_output) -> list[Item[Task]]:
        """Return one item a run; `locate` is asked for feature files when a run is computed."""

        @functools.cache
        def features() -> Features:
            videos = locate(self.selection.videos)
            return Features(videos, self.block.roles, self.head.ALIGNED, self.cache_bytes)

        common = {
            "stage": "train",
            "head": self.block.head,
            # What null stands for, so that two ways to write one network train it once.
            "params": asdict(heads.resolve(self.params, self.block.roles)),
            "training": asdict(self.training),
            "roles": self.block.roles,
            "weights": {role: tensors_sha256(file) for role, file in self.starts.items()},
            "classes": self.selection.classes,
            "code": code_of_run(self.block.head),
        }
        return [
            self._item(name, split, features, common)
            for name, split in self.selection.splits.items()
        ]

    def _item(
        self,
        name: str,
        split: Split,
        features: Callable[[], Features],
        common: Mapping[str, object],
    ) -> Item[Task]:
        selection = self.selection
        videos = {
            part: [
                [video.video_id, selection.classes[video.label], video.contents]
                for video in (selection.videos[position] for position in positions)
            ]
            for part, positions in asdict(split).items()
        }
        made_of: dict[str, dict[str, object]] = {
            file: {**common, "run": name, "videos": videos, "file": file} for file in SUFFIXES
        }
        keys = {item_key(ingredients): file for file, ingredients in made_of.items()}
        task = Task(
            features,
            split,
            selection.classes,
            self.block.head,
            self.params,
            self.training,
            self.device,
            name,
            selection.pretrained,
            self.starts,
            {key: made_of[file] for key, file in keys.items()},
        )
        return Item(name, {key: f"{name}{SUFFIXES[file]}" for key, file in keys.items()}, task)

    def about(self, locate: Locate = _in_output) -> dict[str, object]:
        """Return what `about.json` holds: what the numbers stand on; `locate` as in `items`."""
        settings, roles, selection = asdict(self.params), self.block.roles, self.selection
        (first,) = locate(selection.videos[:1])
        return {
            "head": self.block.head,
            "roles": dict(roles),
            "weights": {role: metadata(file) for role, file in self.starts.items()},
            "params": settings,
            "training": asdict(self.training),
            "selection": self.training.selection,
            "classes": selection.classes,
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


def plan_runs(settings: Params, experiment: str) -> Plan:
    """Return what an experiment of params.yaml trains.

    Raises:
        ValueError: settings, index or features that do not fit it.
    """
    block = settings.experiments[experiment]
    head = heads.load(block.head)
    selection = select_videos(index_of(INDEX), FEATURES.parent, block.roles)
    starts = {role: weights_file(name) for role, name in block.weights.items()}
    facts = [metadata(file) for file in starts.values()]
    are_real = all(known["pretrained"] == "true" for known in facts)
    return Plan(
        block,
        head,
        heads.validate(head, block.overrides),
        training_of(settings.train | block.train),
        device_of(settings.engine),
        cache_bytes(settings.engine),
        replace(selection, pretrained=selection.pretrained and are_real),
        starts,
    )


def compute(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Train and test one run and write those of its files that are asked for."""
    torch.set_num_threads(task.training.threads)
    torch.use_deterministic_algorithms(True)
    be_reproducible(task.device)
    start = time.monotonic()
    result = train_run(
        heads.load(task.head),
        task.params,
        task.training,
        task.dataset,
        task.split.train,
        task.split.test,
        task.classes,
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
                "classes": task.classes,
                "shapes": task.dataset.shapes,
                "axes": task.dataset.axes,
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
    answers: Answers, scores: Sequence[Mapping[str, float]], selection: Selection
) -> dict[str, object]:
    """Return what `scores.json` holds; accuracies are shares, not per cent."""
    splits = selection.splits.values()
    commonest = [_commonest_accuracy(selection, split) for split in splits]
    ratio = float(np.mean([len(split.test) / len(split.train) for split in splits]))
    return {
        "accuracy": over_runs([score["accuracy"] for score in scores], ratio),
        "macro_f1": over_runs([score["macro_f1"] for score in scores], ratio),
        "chance": 1 / len(selection.classes),
        "commonest_class": float(np.mean(commonest)),
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
    accuracy = metrics["accuracy"]
    spread = "" if accuracy["std"] is None else f" ± {accuracy['std']:.1%}"
    line = f"accuracy {accuracy['mean']:.1%}{spread} in {accuracy['runs']} runs"
    line += f" (chance {metrics['chance']:.1%})"
    computed = run.counts["computed"]
    if computed:
        line += f", {run.counts['train_seconds'] / computed:.1f} s a run"
    if not metrics["pretrained"]:
        line += "; features, or first weights, are seeded (random): nothing about emotion"
    run.note(line)


if __name__ == "__main__":
    launch(main)
