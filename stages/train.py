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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from heads.training.loop import LossError, run_seed, train_run
from heads.training.measures import measured
from heads.training.memory import Memory
from heads.training.metrics import per_class
from heads.training.run import Run, run_arrays
from heads.training.scores import measured_of, scores_of
from heads.training.search import Found, choose, inner_split, record
from heads.training.selection import Selection, Split, Video, select_videos
from heads.training.settings import Drawn, Settings, Training, draw, settings_of, training_of
from heads.training.targets import Target
from stages.engine.device import (
    GIB,
    be_reproducible,
    cache_bytes,
    device_of,
    devices_of,
    free_bytes,
)
from stages.engine.ingredients import code_of_answer, code_of_run, code_of_trial
from stages.engine.items import Outcome, describe, fill, link, outcome_of, run_items
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

TRIAL = {"trial": ".h5"}
"""The file that a trial of a search consists of."""

STATED = ("head", "params", "training", "roles", "weights")
"""Of what a run is made of, what its checkpoint says."""

TOLD = ("video_id", "label", "predicted", "probabilities", "estimates", "kept")
"""Of what a run leaves, what a trial does: nobody looks at its attention."""

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
        plan, trials = search(run, plan)
        made = work(run, plan)
        with fresh_outputs(RESULTS, run) as partial:
            folder = partial / experiment
            check_made(run, run_items(run, made, folder / "runs"))
            link(trials, outcome_of(trials, {}), folder / "runs")
            answers = _read_answers(folder / "runs", selection)
            scores = [scores_of(selection.target, answer) for answer in answers.values()]
            per_name = () if selection.target.kind == "dimensions" else selection.target.names
            results.write_tables(folder, answers, selection.target)
            results.write_per_class(folder, per_class(scores, per_name))
            _write_index(folder, [*trials, *made.items])
            if plan.found:
                said = record(selection.target, plan.found, plan.drawn())
                text = json.dumps(said, indent=2, ensure_ascii=False)
                (folder / results.SEARCH).write_text(f"{text}\n", encoding="utf-8")
            bring(run, selection.videos[:1])
            results.write_json(folder / "about.json", plan.about())
            metrics = _metrics(answers, scores, selection, plan.training.seed)
            metrics["settings_tried"] = max(1, len(plan.drawn()))
            results.write_scores(folder, metrics)
        _tell(run, metrics)


def check_made(run: StageRun, outcome: Outcome) -> None:
    """End the stage where an item could not be made."""
    if failed := [f"{name}: {why}" for name, gone in outcome.items() for why in gone.values()]:
        raise fail("\n".join(f"{run.name}: {line}" for line in failed))


def search(run: StageRun, plan: "Plan") -> tuple["Plan", list[Item[Task]]]:
    """Have the trials of a search in the store, if there is one.

    Returns:
        The plan with the settings that each run's search has found, and the trials.
    """
    if (asked := plan.block.search) is None:
        return plan, []
    if asked.tries < asked.trials:
        run.note(
            f"search: the space has {asked.tries} points, fewer than {asked.trials} trials: each "
            "is tried once"
        )
    with told(f"{run.name}: "):
        trials = plan.trials()
        prepare = functools.partial(bring, run, plan.selection.videos)
        made = Work(
            trials,
            compute_trial,
            plan.trial_pool,
            unit="trials",
            prepare=prepare,
            weights=tuple(plan.starts.values()),
        )
        check_made(run, outcome_of(trials, fill(run, made)))
        found = plan.choose(trials, ItemStore(store_root()).path)
    failures = Counter(score.failed for each in found.values() for score in each.scores)
    for reason, count in failures.items():
        if reason:
            run.note(f"search: {count} of {len(trials)} trials could not be trained: {reason}")
    return replace(plan, found=found), trials


def known_found(plan: "Plan", trials: Sequence[Item[Task]], folder: Path) -> "Plan | None":
    """Return the plan with what its search finds in trials that are made already.

    Args:
        plan: of an experiment.
        trials: its trials, none where it has no search.
        folder: of the items in its output.

    Returns:
        None where a trial is neither there nor in the store, or no trial could be trained.
    """
    if not trials:
        return plan
    store, kept = ItemStore(store_root()), {}
    for item in trials:
        ((key, path),) = item.files.items()
        places = [file for file in (store.path(key, ".h5"), folder / path) if file.is_file()]
        if not places or arrays.read_attributes(places[0]).get("key") != key:
            return None
        kept[key] = places[0]
    try:
        return replace(plan, found=plan.choose(trials, lambda key, _suffix: kept[key]))
    except ValueError:  # told when it is trained
        return None


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
        trial_pool: in which trials of a search are trained.
        found: run -> what its search has found; empty where there is none, or it is to come.
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
    trial_pool: Workers
    found: Mapping[str, Found] = field(default_factory=dict)

    def items(self) -> list[Item[Task]]:
        """Return one item a run; they share the features."""
        memory = Memory()
        return [
            item
            for run, split in self.selection.splits.items()
            for item in self._with(self.settings(run), {run: split})._items(memory, SUFFIXES)
        ]

    def settings(self, run: str) -> Settings:
        """Return what a run is trained with."""
        if run in self.found:
            return self.found[run].settings
        return Settings(self.params, self.training)

    def drawn(self) -> list[Drawn]:
        """Return the settings that a search tries, none where there is no search."""
        if (asked := self.block.search) is None:
            return []
        return draw(asked.drawn_from, asked.tries, asked.seed)

    def trials(self) -> list[Item[Task]]:
        """Return an item of each run and each of `drawn`, trained on a part of the run's videos.

        Raises:
            ValueError: too few videos to choose settings by.
        """
        if (asked := self.block.search) is None:
            return []
        inner = {
            run: inner_split(self.selection, run, asked.held_out, run_seed(asked.seed, run))
            for run in self.selection.splits
        }
        memory, items = Memory(), []
        for number, settings in enumerate(self._tried()):
            for item in self._with(settings, inner)._items(memory, TRIAL):
                (key,) = item.files
                path = f"trials/{item.name}/{number:03d}{TRIAL['trial']}"
                items.append(Item(f"{item.name}, trial {number}", {key: path}, item.task))
        return items

    def choose(
        self, trials: Sequence[Item[Task]], file: Callable[[str, str], Path]
    ) -> dict[str, Found]:
        """Return what the search of each run finds.

        Args:
            trials: of `trials`, all of them made.
            file: key and suffix -> where an item lies.

        Raises:
            ValueError: a run of which no trial could be trained.
        """
        answers: dict[str, list[Mapping[str, arrays.Array]]] = {}
        for item in trials:
            (key,) = item.files
            answers.setdefault(item.task.run, []).append(arrays.read(file(key, ".h5"))[0])
        return choose(self.selection.target, self._tried(), self.drawn(), answers)

    def _tried(self) -> list[Settings]:
        training = self.training.stated()
        return [
            settings_of(self.head, self.block.overrides, training, each) for each in self.drawn()
        ]

    def _with(self, settings: Settings, splits: Mapping[str, Split]) -> "Plan":
        selection = replace(self.selection, splits=dict(splits))
        return replace(
            self, params=settings.params, training=settings.training, selection=selection
        )

    def _items(self, memory: Memory, files: Mapping[str, str]) -> list[Item[Task]]:
        head = self.block.head
        common = {
            "stage": "train",
            "head": head,
            # What null stands for, so that two ways to write one network train it once.
            "params": asdict(heads.resolve(self.params, self.block.roles)),
            "training": self.training.stated(),
            "roles": self.block.roles,
            "weights": {role: tensors_sha256(file) for role, file in self.starts.items()},
            **self.selection.target.stated(),
            "code": code_of_trial(head) if files == TRIAL else code_of_run(head),
        }
        return [
            self._item(name, split, memory, common, files)
            for name, split in self.selection.splits.items()
        ]

    def _item(
        self,
        name: str,
        split: Split,
        memory: Memory,
        common: Mapping[str, object],
        files: Mapping[str, str],
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
            file: {**common, "run": name, "videos": videos, "file": file} for file in files
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
        return Item(name, {key: f"{name}{files[file]}" for key, file in keys.items()}, task)

    def about(self) -> dict[str, object]:
        """Return what `about.json` holds: what the numbers stand on."""
        settings, roles, selection = asdict(self.params), self.block.roles, self.selection
        first = _where_it_lies(selection.videos[0])
        return {
            "head": self.block.head,
            "roles": dict(roles),
            "weights": {role: metadata(file) for role, file in self.starts.items()},
            "params": settings,
            "training": self.training.stated(),
            "selection": self.training.selected_by(selection.target.measure),
            "search": self._search(),
            **selection.target.stated(),
            "splits": {
                name: {part: len(videos) for part, videos in asdict(split).items()}
                for name, split in selection.splits.items()
            },
            "missing": selection.missing,
            "paper": self._paper(),
            "features": {
                backbone: _origin(arrays.read_attributes(path))
                for backbone, path in sorted(first.files.items())
            },
        }

    def _paper(self) -> list[dict[str, object]]:
        """Return the papers' rows that every run is."""
        chosen = [asdict(self.settings(run).params) for run in self.selection.splits]
        first, *others = [
            results.paper_rows(self.head, self.block.roles, params) for params in chosen
        ]
        return [row for row in first if all(row in of_run for of_run in others)]

    def _search(self) -> dict[str, object] | None:
        """Return what `about.json` says of the search, None where there is none."""
        if (asked := self.block.search) is None:
            return None
        return {
            "tried": len(self.drawn()),
            "held_out": asked.held_out,
            "seed": asked.seed,
            "space": {
                name: f"{kind} {values}" for name, (kind, values) in asked.drawn_from.items()
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
    trials = len(selection.splits) * (block.search.tries if block.search else 0)
    are_real = all(known["pretrained"] == "true" for known in facts)
    engine = settings.engine if _are_long(training, selection) else settings.engine.here
    return Plan(
        block,
        head,
        heads.validate(head, block.overrides),
        training,
        device_of(engine),
        cache,
        _pool(engine, training, selection, cache, len(selection.splits)),
        replace(selection, pretrained=selection.pretrained and are_real),
        starts,
        _pool(engine, training, selection, cache, trials),
    )


def _pool(
    engine: Engine, training: Training, selection: Selection, cache: int, runs: int
) -> Workers:
    """Return where so many runs are trained: one a GPU, or side by side as cores and memory allow.

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
    at_once = min(engine.workers or cores, room, runs)
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
    start = time.monotonic()
    dataset = task.dataset()
    result = _trained(task, dataset)
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


def compute_trial(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Try settings on a part of a run's training videos and write the answers on the others.

    Settings that do not train the head leave why in place of answers.
    """
    start = time.monotonic()
    try:
        written, axes = run_arrays(_trained(task, task.dataset()))
        answers = {name: array for name, array in written.items() if name in TOLD}
    except LossError as error:
        answers, axes = {"failed": np.array([str(error).encode()])}, {"failed": "one"}
    for key, path in outputs.items():
        of_answers = {name: axes[name] for name in answers}
        described = describe(key, task.ingredients[key], of_answers, pretrained=task.pretrained)
        arrays.write(path, answers, described)
    return {"train_seconds": time.monotonic() - start}


def _trained(task: Task, dataset: Features) -> Run:
    """Return one run, trained and tested."""
    torch.set_num_threads(task.training.threads)
    torch.use_deterministic_algorithms(True)
    be_reproducible(task.device)
    return train_run(
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
    scored = measured(target, list(answers.values()), scores, ratio, seed)
    if target.kind == "class":
        commonest = [_commonest_accuracy(selection, split) for split in splits]
        scored |= {"chance": 1 / target.width, "commonest_class": float(np.mean(commonest))}
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
