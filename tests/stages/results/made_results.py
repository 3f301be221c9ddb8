"""Results as train leaves them, made up: answers by chance with a given accuracy, no network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import heads
from heads import Attention, Rows
from heads.training.measures import measured
from heads.training.metrics import per_class, score_run
from heads.training.run import Epoch, Run, run_arrays
from heads.training.scores import scores_of
from heads.training.targets import Target, of_classes
from stages.results import files
from stages.results.files import Result, read_result

CLASSES = ("anger", "joy", "sadness")
SPACE = {"epochs": "integer [3, 30]", "learning_rate": "log_uniform [1e-05, 0.01]"}
FACE_AND_CONTEXT = {"face": "vggface/fc6", "context": "vgg16/fc6"}


def make_run(
    draw: np.random.Generator,
    videos: Mapping[str, int],
    *,
    accuracy: float,
    classes: Sequence[str] = CLASSES,
    attention: Mapping[str, tuple[Attention, tuple[int, ...]]] | None = None,
    rows: int = 6,
    phases: Sequence[str] = ("all",),
    validation: bool = False,
) -> Run:
    """Return a run on test videos.

    Args:
        draw: of everything.
        videos: video_id -> label.
        accuracy: share of the answers that are right, about.
        classes: names.
        attention: name -> what it weighs, and the shape of a weight: () or that of a map, (M,)
            for roles. The last row of a video has none.
        rows: of each role of a video.
        phases: three epochs each.
        validation: whether the curves have it.
    """
    labels = np.array(list(videos.values()))
    right = draw.random(len(labels)) < accuracy
    predicted = np.where(right, labels, (labels + 1) % len(classes))
    chances = np.full((len(labels), len(classes)), 0.1, np.float32)
    chances[np.arange(len(labels)), predicted] = 1
    curve = [
        Epoch(phase, 2 / (at + 1), 1 - 0.6 / (at + 1), 0.5 if validation else np.nan)
        for at, phase in enumerate(phase for phase in phases for _ in range(3))
    ]
    return Run(
        video_ids=tuple(videos),
        labels=labels,
        target=of_classes(classes),
        values=chances / chances.sum(axis=1, keepdims=True),
        kept=len(curve),
        curve=curve,
        state={},
        **weigh(draw, attention or {}, len(labels), rows),
    )


def weigh(
    draw: np.random.Generator,
    attention: Mapping[str, tuple[Attention, tuple[int, ...]]],
    videos: int,
    rows: int = 6,
) -> dict[str, Any]:
    """Return what a run says of its attention, see `make_run`."""
    weights: dict[str, list[Any]] = {name: [] for name in attention}
    for name, (of, shape) in attention.items():
        for _ in range(videos):
            size = (rows, *shape) if isinstance(of, Rows) else shape
            found = draw.random(size).astype(np.float32) ** 3
            if isinstance(of, Rows):
                found[-1] = 0
            weights[name].append(found / found.sum())
    timed = {of.role for of, _ in attention.values() if isinstance(of, Rows)}
    return {
        "attention": weights,
        "weighed": {name: of for name, (of, _) in attention.items()},
        "pts_s": {role: [np.arange(rows) / 2 for _ in range(videos)] for role in timed},
    }


ORIGIN: Mapping[str, Any] = {
    "view": "segments",
    "code": "c0de" * 16,
    "weights": {"source": "seeded", "seed": 1, "licence": ""},
    "software": {"torch": "2"},
}
"""Of a backbone's features, as about.json has it."""


def write_told(
    folder: Path,
    name: str,
    target: Target,
    *,
    noise: float = 0.3,
    runs: int = 2,
    seed: int = 0,
    attention: Mapping[str, tuple[Attention, tuple[int, ...]]] | None = None,
) -> Result:
    """Write, and read, the results of an experiment that tells labels or dimensions.

    Args:
        folder: of all results.
        name: of the experiment.
        target: what it tells, 40 test videos a run.
        noise: of the answers, 0 for none.
        runs: how many.
        seed: of the answers; the videos are the same for all.
        attention: see `make_run`.
    """
    same, draw = np.random.default_rng(1), np.random.default_rng(seed)
    low, high = target.range or (0.0, 1.0)
    answers, scores = {}, []
    for number in range(runs):
        truth = low + (high - low) * same.random((40, target.width))
        if target.kind == "labels":
            truth = (truth < 0.35).astype(np.float64)
            truth[0] = 1
        error = draw.normal(0, noise * (high - low), truth.shape)
        ids = [f"all/v{number}{at:02d}" for at in range(40)]
        run = Run(
            video_ids=tuple(ids),
            target=target,
            labels=truth,
            values=np.clip(0.8 * truth + 0.1 * (low + high) + error, low, high).astype(np.float32),
            kept=2,
            curve=[Epoch("all", 1.0, -0.25, 0.125), Epoch("all", 0.5, 0.5, 0.375)],
            state={},
            **weigh(draw, attention or {}, 40),
        )
        answers[f"split_{number:02d}"] = run_arrays(run)[0]
        scores.append(scores_of(target, answers[f"split_{number:02d}"]))
    (folder / name).mkdir(parents=True)
    files.write_tables(folder / name, answers, target)
    per_name = () if target.kind == "dimensions" else target.names
    files.write_per_class(folder / name, per_class(scores, per_name))
    about = {
        "head": "pooling",
        "roles": {"face": "vggface/fc6"},
        "params": {},
        "training": {"epochs": 1},
        "selection": "last epoch",
        **target.stated(),
        "splits": {run: {"train": 80, "test": 40} for run in answers},
        "missing": {},
        "paper": [],
        "features": {"vggface": ORIGIN},
    }
    files.write_json(folder / name / "about.json", about)
    counts = {"videos": 120, "videos_missing": 0, "pretrained": True, "settings_tried": 1}
    files.write_scores(
        folder / name, measured(target, list(answers.values()), scores, 0.5, 0) | counts
    )
    return read_result(folder, name)


def _search(draw: np.random.Generator, runs: Sequence[str], tried: int) -> dict[str, object]:
    """Return what a search of so many learning rates leaves; the last could not be trained."""
    settings = [{"epochs": 3 + at, "learning_rate": 10 ** -(2 + at / 4)} for at in range(tried)]
    scores = draw.random((len(runs), tried))
    return {
        "tried": tried,
        "measure": "accuracy",
        "settings": settings,
        "runs": {
            run: {
                "chosen": int(of_run[:-1].argmax()),
                "settings": settings[int(of_run[:-1].argmax())],
                "held_out": 6,
                "trials": [{"score": each, "loss": 1 - each} for each in of_run[:-1].tolist()]
                + [{"failed": "the loss is inf"}],
            }
            for run, of_run in zip(runs, scores, strict=True)
        },
    }


def write_result(
    folder: Path,
    name: str,
    *,
    head: str = "caan",
    params: Mapping[str, object] | None = None,
    roles: Mapping[str, str] = FACE_AND_CONTEXT,
    accuracy: float = 0.6,
    classes: Sequence[str] = CLASSES,
    videos: int = 12,
    runs: int = 3,
    skip: Sequence[str] = (),
    selection: str = "last epoch",
    pretrained: bool = True,
    tried: int = 1,
    declared: str | None = None,
    seed: int = 0,
    **run_options: Any,
) -> Result:
    """Write an experiment's results, but for its items, and read them.

    Args:
        folder: of all results.
        name: of the experiment.
        head: its head.
        params: what differs from the head's defaults.
        roles: role -> feature.
        accuracy: of the answers, about.
        classes: names.
        videos: test videos of each run, as many of each class.
        runs: how many.
        skip: videos that this experiment does not answer.
        selection: which network answers.
        pretrained: whether the features are.
        tried: settings that a search has tried; 1 for no search.
        declared: name of the class in `index.targets`; None where there are none.
        seed: of the answers; the videos are the same for all.
        run_options: see `make_run`.
    """
    draw = np.random.default_rng(seed)
    answers, scores = {}, []
    for number in range(runs):
        ids = {
            f"{classes[at % len(classes)]}/v{number}{at:03d}": at % len(classes)
            for at in range(videos)
        }
        kept = {video: label for video, label in sorted(ids.items()) if video not in skip}
        run = make_run(draw, kept, accuracy=accuracy, classes=classes, **run_options)
        answers[f"split_{number:02d}"] = run_arrays(run)[0]
        scores.append(score_run(run.labels, run.predicted, classes))
    (folder / name).mkdir(parents=True)
    files.write_tables(folder / name, answers, of_classes(classes))
    files.write_per_class(folder / name, per_class(scores, classes))
    settings = {**vars(heads.validate(heads.load(head), {})), **(params or {})}
    about = {
        "head": head,
        "roles": dict(roles),
        "params": settings,
        "training": {"epochs": 3},
        "selection": selection,
        "search": {"tried": tried, "held_out": 0.25, "seed": 1, "space": SPACE}
        if tried > 1
        else None,
        **Target("class", tuple(classes), None, declared).stated(),
        "splits": {run: {"train": 2 * videos, "test": videos} for run in answers},
        "missing": {},
        "paper": files.paper_rows(heads.load(head), roles, settings),
        "features": {source.split("/")[0]: ORIGIN for source in roles.values()},
    }
    files.write_json(folder / name / "about.json", about)
    if tried > 1:
        path = folder / name / files.SEARCH
        path.parent.mkdir()
        path.write_text(json.dumps(_search(draw, list(answers), tried)), encoding="utf-8")
    metrics = {
        **measured(of_classes(classes), list(answers.values()), scores, 0.5, seed=0),
        "chance": 1 / len(classes),
        "commonest_class": 1 / len(classes),
        "videos": 3 * videos,
        "videos_missing": 0,
        "pretrained": pretrained,
        "settings_tried": tried,
    }
    files.write_scores(folder / name, metrics)
    return read_result(folder, name)
