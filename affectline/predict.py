"""New videos through the pipeline's own stages, and what a trained head answers of them.

Each stage is told its items by the same code as in `dvc repro`, and fills the same store: what the
pipeline has made of a video is taken, what is made here the pipeline takes, and a second time costs
nothing. Nothing is written but the store and the logs.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

import heads
from affectline.trained import Checkpoint, Trained
from features.cache import tables
from features.cache.arrays import content_sha256
from features.cache.claims import scratch
from features.cache.keys import canonical
from features.cache.store import ItemStore, store_root
from features.video.listing import EXTENSIONS, NO_FILE, Video, unique, video_at
from heads import Rows
from heads.training.answer import Answer, answer
from heads.training.data import Features, Sample, collate
from heads.training.selection import Video as Selected
from heads.training.selection import split_role
from heads.training.settings import training_of
from heads.training.standardise import Standardised, build_network
from stages import decode, extract, faces
from stages.engine.device import be_reproducible, device_of
from stages.engine.items import files_below, fill, merge_reasons, outcome_of
from stages.engine.progress import StageRun
from stages.engine.workers import Input, Task, Work, workers
from stages.index import index
from stages.results.attention import RoleWeights, RowWeights, Weights, of_rows

LABEL = "video"
"""Stands for the class, which nobody knows, where items are named <label>/<name>."""

LISTS = (".txt", ".csv")
"""Endings of files that list videos: a path a line, or a column `path`."""

MOMENTS = 3
"""Of an attention, the rows of most weight that are told."""

LACKING = {"faces": "no face", "sound": "no sound"}
"""View -> what it means that none of its rows are valid; of others no frame could be used."""


@dataclass(frozen=True)
class Moment:
    """A row that decided: of one attention one of those with the most weight.

    Attributes:
        attention: name of the head's output.
        role: whose row.
        row: its number.
        time_s: when it is shown or begins to be heard, seconds.
        weight: the mean over the runs.
    """

    attention: str
    role: str
    row: int
    time_s: float
    weight: float


@dataclass(frozen=True)
class Prediction:
    """What the runs answer of one video.

    Attributes:
        file: as it was given.
        reason: why there is no answer; None where there is one.
        sha256: of the file, None where it cannot be read.
        predicted: the class with the largest mean probability.
        probabilities: class -> mean over the runs.
        spread: class -> standard deviation over the runs, None of a single run.
        runs: run -> class -> probability.
        rows: role -> how many rows the head saw, of how many.
        lacking: what it had to do without, by role.
        moments: the rows that decided.
        trained_on_in: runs that were trained on this very video: no test of anything.
    """

    file: str
    reason: str | None = None
    sha256: str | None = None
    predicted: str | None = None
    probabilities: Mapping[str, float] | None = None
    spread: Mapping[str, float | None] | None = None
    runs: Mapping[str, Mapping[str, float]] | None = None
    rows: Mapping[str, tuple[int, int]] | None = None
    lacking: Mapping[str, str] | None = None
    moments: Sequence[Moment] = ()
    trained_on_in: Sequence[str] = ()


@dataclass(frozen=True)
class Predicted:
    """What has been answered, and what a page shows of it.

    Attributes:
        predictions: in the order of the videos.
        videos: of each the id by which `items` and `weights` know it.
        items: view or backbone -> video id -> key of its file in the store.
        weights: what the head weighed, by run and video id.
    """

    predictions: list[Prediction]
    videos: list[str]
    items: dict[str, dict[str, str]]
    weights: Weights


# ---------------------------------------------------------------------------------- videos


def videos_at(paths: Iterable[Path]) -> list[Video]:
    """Return the videos of files, of folders (with all below them) and of lists, in that order.

    A file that is named counts, whatever its ending; in a folder those count that end like videos.

    Raises:
        ValueError: a list that cannot be read, or no video at all.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise ValueError(
            "expected videos, found none: name files, folders with files that end with one of "
            f"{' '.join(sorted(EXTENSIONS))}, or a list ({', '.join(LISTS)})"
        )
    return list(unique(_video(file) for file in files))


def _video(file: Path) -> Video:
    video = video_at(file, LABEL, str(file))
    is_there = video.problem or _is_file(file)
    return video if is_there else replace(video, problem=NO_FILE)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path).parts
            hidden = any(part.startswith(".") for part in inside)
            if file.suffix.lower() in EXTENSIONS and not hidden and file.is_file():
                yield file
    elif path.suffix.lower() in LISTS:
        yield from (path.parent / name for name in _listed(path))
    else:
        yield path


def _listed(path: Path) -> Iterator[str]:
    """Yield the paths of a list, which count from its folder."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                if "path" not in (reader.fieldnames or []):
                    raise ValueError(f"{path}: expected a CSV with a column path")
                names = [row["path"] for row in reader]
            else:
                names = [line.strip() for line in file]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a list of paths in UTF-8, found: {error}") from None
    for name in names:
        if name and "\0" in name:
            raise ValueError(f"{path}: expected paths, found {name!r}")
        if name:
            yield name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name or a path that the system does not take
        return False


# ---------------------------------------------------------------------------------- stages


def predict(trained: Trained, videos: Sequence[Video]) -> Predicted:
    """Return what the runs of an experiment answer of each video.

    Args:
        trained: what answers.
        videos: of `videos_at`.

    Raises:
        ValueError: features that are not what the checkpoint reads.
    """
    store, items = ItemStore(store_root()), {}
    here = [replace(each, file=str(Path(each.file).absolute())) for each in videos]
    params, folder = trained.params, trained.weights
    with scratch(store.root / "unfinished") as unfinished, StageRun("predict", "index") as run:
        indexed = index(run, here, unfinished / "index", workers(params.engine))
    ids = [each.video_id for each in videos]
    by_id = {str(row["video_id"]): row for row in indexed}
    rows = [by_id[video_id] for video_id in ids]
    with StageRun("predict", "decode") as run:
        made = decode.work(params, rows)
        outcome = outcome_of(made.items, fill(run, made))
    seen: dict[str, list[tables.Row]] = {}
    for name in decode.wanted_views(params):
        seen[name] = merge_reasons(rows, outcome, f"{name}/")
        files = files_below(made.items, f"{name}/")
        items[name] = {video: key for video, (key, _) in files.items()}
    if params.reads_faces:
        inputs = _inputs(store, seen["segments"], items["segments"])
        work = faces.work(params, inputs, folder)
        seen["faces"], items["faces"] = _filled("faces", work, seen["segments"])
    of_backbone = {}
    for name, block in params.backbones.items():
        inputs = _inputs(store, seen[block.view], items[block.view])
        work_on = extract.work(params, name, inputs, folder)
        stage = f"extract {name}"
        of_backbone[name], items[name] = _filled(stage, work_on, seen[block.view])
    reasons = {
        video_id: next((str(r["reason"]) for r in rows_of if r["reason"]), None)
        for video_id, *rows_of in zip(ids, *of_backbone.values(), strict=True)
    }
    usable = [_selected(store, video_id, items, params.backbones) for video_id in ids
              if reasons[video_id] is None]  # fmt: skip
    given, weights = _answered(trained, usable)
    predictions = [
        replace(
            given.get(video_id, Prediction("", reasons[video_id])),
            file=video.file,
            sha256=str(row["sha256"]) if row["sha256"] else None,
        )
        for video_id, video, row in zip(ids, videos, rows, strict=True)
    ]
    return Predicted(predictions, ids, items, weights)


def _filled(
    stage: str, work: Work[Task], rows: Sequence[tables.Row]
) -> tuple[list[tables.Row], dict[str, str]]:
    """Have a stage's items in the store; return the videos' rows, and their keys."""
    with StageRun("predict", stage) as run:
        outcome = outcome_of(work.items, fill(run, work))
    keys = {video: key for video, (key, _) in files_below(work.items).items()}
    return merge_reasons(rows, outcome), keys


def _inputs(store: ItemStore, rows: Iterable[tables.Row], keys: Mapping[str, str]) -> list[Input]:
    """Return the files of a view, where they lie in the store."""
    usable = [str(row["video_id"]) for row in rows if row["status"] == "ok"]
    files = {video_id: store.path(keys[video_id], ".h5") for video_id in usable}
    return [Input(video_id, content_sha256(file), file) for video_id, file in files.items()]


def _selected(
    store: ItemStore, video_id: str, items: Mapping[str, Mapping[str, str]], names: Iterable[str]
) -> Selected:
    """Return a video as a head reads it: its feature files in the store; it has no label."""
    keys = {name: items[name][video_id] for name in names}
    files = {name: store.path(key, ".h5") for name, key in keys.items()}
    contents = {name: content_sha256(file) for name, file in files.items()}
    return Selected(video_id, -1, files, keys, contents)


# --------------------------------------------------------------------------------- answers


def _answered(
    trained: Trained, videos: Sequence[Selected]
) -> tuple[dict[str, Prediction], Weights]:
    """Return video id -> what the runs answer of it, and what they weighed."""
    if not videos:
        return {}, Weights([], [])
    stated = trained.stated
    head = heads.load(stated["head"])
    data = Features(videos, trained.roles, head.ALIGNED, cache_bytes=0)
    _check_shapes(trained, data)
    torch.set_num_threads(training_of(stated["training"]).threads)
    torch.use_deterministic_algorithms(True)
    device = device_of(trained.params.engine)
    be_reproducible(device)
    answers: dict[tuple[str, str], Answer] = {}
    predictions: dict[str, Prediction] = {}
    times_s: dict[str, Mapping[str, NDArray[np.float64]]] = {}
    with StageRun("predict", stated["head"]) as run:
        run.count(items=len(videos))
        networks = {name: _network(trained, each).to(device) for name, each in trained.runs.items()}
        for number, video in enumerate(run.track(videos)):
            sample = data[number]
            batch = collate([sample]).to(torch.device(device))
            given = {name: answer(network, batch) for name, network in networks.items()}
            answers |= {(name, video.video_id): each for name, each in given.items()}
            times_s[video.video_id] = sample.pts_s
            predictions[video.video_id] = replace(
                _prediction(trained.classes, {n: each.probabilities for n, each in given.items()}),
                rows={role: (int(real.sum()), len(real)) for role, real in sample.mask.items()},
                lacking=_lacking(trained, sample),
                trained_on_in=[
                    name
                    for name, checkpoint in trained.runs.items()
                    if canonical(video.contents) in checkpoint.trained_on
                ],
            )
            run.count(computed=1)
    weights = _weights(answers, next(iter(networks.values())).network.attention, times_s)
    return {
        video_id: replace(each, moments=_moments(weights, list(trained.runs), video_id))
        for video_id, each in predictions.items()
    }, weights


def _check_shapes(trained: Trained, data: Features) -> None:
    """Check that rows are those that the head was built for."""
    wanted = {role: tuple(shape) for role, shape in trained.stated["shapes"].items()}
    if data.shapes != wanted:
        raise ValueError(
            f"{trained.name}: trained on rows of {wanted}, found {data.shapes}: the backbones, or "
            "their options, are not those that it was trained with"
        )


def _network(trained: Trained, checkpoint: Checkpoint) -> Standardised:
    """Return a head with the weights of a run."""
    stated = checkpoint.stated
    head = heads.load(stated["head"])
    shapes = {role: tuple(shape) for role, shape in stated["shapes"].items()}
    params = heads.validate(head, stated["params"])
    network = build_network(head, params, shapes, stated["axes"], stated["classes"], seed=0)
    try:
        network.load_state_dict(load_file(checkpoint.file))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{checkpoint.file}: not the weights of this head: {text}") from None
    return network.eval()


def _prediction(classes: Sequence[str], of_runs: Mapping[str, NDArray[np.float32]]) -> Prediction:
    """Return the answer of all runs together."""
    values = np.stack(list(of_runs.values())).astype(np.float64)
    mean = values.mean(axis=0)
    spread = values.std(axis=0, ddof=1).tolist() if len(values) > 1 else [None] * len(classes)
    return Prediction(
        "",
        predicted=classes[int(mean.argmax())],
        probabilities=dict(zip(classes, mean.tolist(), strict=True)),
        spread=dict(zip(classes, spread, strict=True)),
        runs={
            run: dict(zip(classes, chances.tolist(), strict=True))
            for run, chances in of_runs.items()
        },
    )


def _lacking(trained: Trained, sample: Sample) -> dict[str, str]:
    """Return role -> what of it the video has none of."""
    views = {}
    for role, source in trained.roles.items():
        backbone, _ = split_role(role, source)
        views[role] = trained.params.backbones[backbone].view
    return {
        role: LACKING.get(views[role], "no frame that could be used")
        for role, real in sample.mask.items()
        if not real.any()
    }


def _weights(
    answers: Mapping[tuple[str, str], Answer],
    weighed: Mapping[str, heads.Attention],
    times_s: Mapping[str, Mapping[str, NDArray[np.float64]]],
) -> Weights:
    """Return what the head weighed as the report reads it."""
    rows: list[RowWeights] = []
    roles: list[RoleWeights] = []
    for name, of in weighed.items():
        if isinstance(of, Rows):
            cells = {
                key: [
                    (value.astype(np.float64) if value.ndim else float(value), time_s)
                    for value, time_s in zip(
                        given.attention[name], times_s[key[1]][of.role].tolist(), strict=True
                    )
                ]
                for key, given in answers.items()
            }
            rows.append(of_rows(name, of.role, cells))
        else:
            shares = {
                key: dict(zip(of.roles, given.attention[name].tolist(), strict=True))
                for key, given in answers.items()
            }
            roles.append(RoleWeights(name, shares))
    return Weights(rows, roles)


def _moments(weights: Weights, runs: Sequence[str], video_id: str) -> list[Moment]:
    """Return of each attention over rows those with the most weight, the heaviest first."""
    moments = []
    for each in weights.rows:
        given = [each.weights[run, video_id] for run in runs if (run, video_id) in each.weights]
        if not given or not len(given[0]):
            continue
        mean, times_s = np.mean(given, axis=0), each.pts_s[runs[0], video_id]
        order = np.argsort(-mean, kind="stable")[:MOMENTS]
        moments += [
            Moment(each.name, each.role, int(row), float(times_s[row]), float(mean[row]))
            for row in order
            if mean[row] > 0
        ]
    return moments


# ------------------------------------------------------------------------------- as a table


def csv_rows(
    classes: Sequence[str], predictions: Iterable[Prediction]
) -> tuple[list[str], list[list[object]]]:
    """Return the columns and rows of a CSV: a row a video, a probability and its spread a class."""
    columns = ["video", "predicted", *(f"p_{name}" for name in classes)]
    columns += [f"spread_{name}" for name in classes]
    columns += ["runs", "lacking", "moments", "trained_on_in", "sha256", "reason"]
    rows: list[list[object]] = []
    for each in predictions:
        chances, spread = each.probabilities or {}, each.spread or {}
        moments = "; ".join(f"{m.role} {m.time_s:.3f} s {m.weight:.4f}" for m in each.moments)
        lacking = "; ".join(f"{role}: {what}" for role, what in (each.lacking or {}).items())
        rows.append(
            [
                each.file,
                each.predicted or "",
                *(chances.get(name, "") for name in classes),
                *("" if spread.get(name) is None else spread[name] for name in classes),
                len(each.runs or {}),
                lacking,
                moments,
                " ".join(each.trained_on_in),
                each.sha256 or "",
                each.reason or "",
            ]
        )
    return columns, rows


def told(prediction: Prediction, most: int = 3) -> tuple[str, str, str, str]:
    """Return a prediction for a person: file, answer with chances, moments, what to know."""
    if prediction.reason is not None:
        return prediction.file, "none", "", prediction.reason
    chances, spread = prediction.probabilities or {}, prediction.spread or {}
    ranked = sorted(chances, key=lambda name: -chances[name])
    parts = [
        f"{name} {100 * chances[name]:.0f}"
        + ("" if spread[name] is None else f" ± {100 * float(spread[name] or 0):.0f}")
        + " %"
        for name in ranked[:most]
    ]
    by_attention = Counter((m.attention, m.role) for m in prediction.moments)
    moments = [
        f"{role}: "
        + ", ".join(
            f"{m.time_s:.1f} s ({m.weight:.2f})"
            for m in prediction.moments
            if (m.attention, m.role) == (attention, role)
        )
        for attention, role in by_attention
    ]
    notes = [f"{role}: {what}" for role, what in (prediction.lacking or {}).items()]
    if prediction.trained_on_in:
        notes.append(f"trained on in {', '.join(prediction.trained_on_in)}")
    return prediction.file, ", ".join(parts), "\n".join(moments), "; ".join(notes)
