"""New videos through the pipeline's own stages, and what a trained head answers of them.

Each stage is told its items by the same code as in `dvc repro`, and fills the same store: what the
pipeline has made of a video is taken, what is made here the pipeline takes, and a second time costs
nothing. Nothing is written but the store and the logs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import heads
from affectline.predictions import Moment, Prediction
from affectline.trained import Checkpoint, Trained
from features.cache import tables
from features.cache.arrays import content_sha256
from features.cache.claims import scratch
from features.cache.keys import canonical
from features.cache.store import ItemStore, store_root
from features.video.listing import Video
from heads import Rows
from heads.training.answer import Answer, answer
from heads.training.data import Features, collate
from heads.training.memory import Sample
from heads.training.scores import THRESHOLD
from heads.training.selection import Video as Selected
from heads.training.selection import split_role
from heads.training.settings import training_of
from heads.training.standardise import Standardised, build_network
from heads.training.targets import Target
from stages import decode, extract, faces
from stages.engine.device import be_reproducible, device_of
from stages.engine.items import files_below, fill, merge_reasons, outcome_of
from stages.engine.progress import StageRun
from stages.engine.workers import Input, Task, Work, workers
from stages.index import index
from stages.results.attention import RoleWeights, RowWeights, Weights, of_rows

MOMENTS = 3
"""Of an attention, the rows of most weight that are told."""

LACKING = {"faces": "no face", "sound": "no sound"}
"""View -> what it means that none of its rows are valid; of others no frame could be used."""


@dataclass(frozen=True)
class Predicted:
    """What has been answered, and what a page shows of it.

    Attributes:
        predictions: in the order of the videos.
        videos: of each the id by which `items` and `weights` know it.
        items: view or backbone -> video id -> key of its file in the store.
        weights: video id -> what the head weighed of it, by run; empty where it was not asked for.
    """

    predictions: list[Prediction]
    videos: list[str]
    items: dict[str, dict[str, str]]
    weights: dict[str, Weights]


def predict(trained: Trained, videos: Sequence[Video], *, with_weights: bool = False) -> Predicted:
    """Return what the runs of an experiment answer of each video.

    Args:
        trained: what answers.
        videos: of `affectline.given.videos_at`.
        with_weights: keep all that the head weighed; maps may be large.

    Raises:
        ValueError: features that are not what the checkpoint reads.
    """
    store, ids = ItemStore(store_root()), [each.video_id for each in videos]
    rows = _indexed(store, trained, videos)
    items, reasons = _made(store, trained, rows)
    usable = [
        _selected(store, video_id, items, trained.params.backbones)
        for video_id in ids
        if reasons[video_id] is None
    ]
    given, weights = _answered(trained, usable, with_weights)
    predictions = [
        replace(
            given.get(video_id, Prediction("", reasons[video_id])),
            file=video.file,
            sha256=str(row["sha256"]) if row["sha256"] else None,
        )
        for video_id, video, row in zip(ids, videos, rows, strict=True)
    ]
    return Predicted(predictions, ids, items, weights)


# ---------------------------------------------------------------------------------- stages


def _indexed(store: ItemStore, trained: Trained, videos: Sequence[Video]) -> list[tables.Row]:
    """Return the videos' rows of an index, in their order."""
    here = [replace(each, file=str(Path(each.file).absolute())) for each in videos]
    pool = workers(trained.params.engine.here)
    with scratch(store.root / "unfinished") as unfinished, StageRun("predict", "index") as run:
        by_id = {str(row["video_id"]): row for row in index(run, here, unfinished / "index", pool)}
    return [by_id[video.video_id] for video in videos]


def _made(
    store: ItemStore, trained: Trained, rows: Sequence[tables.Row]
) -> tuple[dict[str, dict[str, str]], dict[str, str | None]]:
    """Have the views and features of videos in the store.

    Args:
        store: that.
        trained: says what is to be made.
        rows: of the videos, as the index has them.

    Returns:
        View or backbone -> video id -> key of its file; video id -> why it has not all features.
    """
    params, items = trained.params, {}
    seen: dict[str, list[tables.Row]] = {}
    with StageRun("predict", "decode") as run:
        made = decode.work(params, rows)
        outcome = outcome_of(made.items, fill(run, made))
    for name in decode.wanted_views(params):
        seen[name] = merge_reasons(rows, outcome, f"{name}/")
        files = files_below(made.items, f"{name}/")
        items[name] = {video: key for video, (key, _) in files.items()}
    if params.reads_faces:
        inputs = _inputs(store, seen["segments"], items["segments"])
        found = faces.work(params, inputs, trained.weights)
        seen["faces"], items["faces"] = _filled("faces", found, seen["segments"])
    reasons: dict[str, str | None] = {str(row["video_id"]): None for row in rows}
    for name, block in params.backbones.items():
        inputs = _inputs(store, seen[block.view], items[block.view])
        extracted = extract.work(params, name, inputs, trained.weights)
        ended, items[name] = _filled(f"extract {name}", extracted, seen[block.view])
        for row in ended:
            video_id = str(row["video_id"])
            reasons[video_id] = reasons[video_id] or (str(row["reason"]) if row["reason"] else None)
    return items, reasons


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
    trained: Trained, videos: Sequence[Selected], with_weights: bool
) -> tuple[dict[str, Prediction], dict[str, Weights]]:
    """Return video id -> what the runs answer of it, and, if asked for, what they weighed."""
    predictions: dict[str, Prediction] = {}
    kept: dict[str, Weights] = {}
    if not videos:
        return predictions, kept
    stated = trained.stated
    data = Features(videos, trained.roles, heads.load(stated["head"]).ALIGNED, cache_bytes=0)
    _check_shapes(trained, data)
    torch.set_num_threads(training_of(stated["training"]).threads)
    torch.use_deterministic_algorithms(True)
    device = device_of(trained.params.engine)
    be_reproducible(device)
    with StageRun("predict", stated["head"]) as run:
        run.count(items=len(videos))
        networks = {name: _network(trained, each).to(device) for name, each in trained.runs.items()}
        weighed = next(iter(networks.values())).network.attention
        for number, video in enumerate(run.track(videos)):
            sample = data[number]
            batch = collate([sample]).to(torch.device(device))
            answers = {name: answer(network, batch) for name, network in networks.items()}
            weights = _weights(answers, weighed, sample)
            predictions[video.video_id] = replace(
                _prediction(trained.target, answers),
                rows={role: (int(real.sum()), len(real)) for role, real in sample.mask.items()},
                lacking=_lacking(trained, sample),
                moments=_moments(weights, list(networks), video.video_id),
                trained_on_in=_trained_on(trained, video),
            )
            if with_weights:
                kept[video.video_id] = weights
            run.count(computed=1)
    return predictions, kept


def _trained_on(trained: Trained, video: Selected) -> list[str]:
    """Return the runs that had these very features among those that they were trained on."""
    content = canonical(video.contents)
    return [run for run, checkpoint in trained.runs.items() if content in checkpoint.trained_on]


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
    network = build_network(head, params, shapes, stated["axes"], trained.target, seed=0)
    try:
        network.load_state_dict(load_file(checkpoint.file))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{checkpoint.file}: not the weights of this head: {text}") from None
    return network.eval()


def _prediction(target: Target, answers: Mapping[str, Answer]) -> Prediction:
    """Return the answer of all runs together."""
    names = target.names
    values = np.stack([given.values for given in answers.values()]).astype(np.float64)
    mean = values.mean(axis=0)
    spread = values.std(axis=0, ddof=1).tolist() if len(values) > 1 else [None] * len(names)
    told = dict(zip(names, mean.tolist(), strict=True))
    given = Prediction(
        "",
        spread=dict(zip(names, spread, strict=True)),
        runs={
            run: dict(zip(names, each.values.tolist(), strict=True))
            for run, each in answers.items()
        },
    )
    if target.kind == "dimensions":
        return replace(given, estimates=told)
    if target.kind == "class":
        return replace(given, predicted=names[int(mean.argmax())], probabilities=told)
    labels = target.told(tuple((mean >= THRESHOLD).astype(float).tolist()))
    return replace(given, predicted=str(labels), probabilities=told)


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
    answers: Mapping[str, Answer], weighed: Mapping[str, heads.Attention], sample: Sample
) -> Weights:
    """Return what the runs weighed of a video, as the report reads it."""
    rows: list[RowWeights] = []
    roles: list[RoleWeights] = []
    for name, of in weighed.items():
        given = {(run, sample.video_id): each.attention[name] for run, each in answers.items()}
        if isinstance(of, Rows):
            times_s = sample.pts_s[of.role].tolist()
            cells = {
                key: [
                    (value.astype(np.float64) if value.ndim else float(value), time_s)
                    for value, time_s in zip(weights, times_s, strict=True)
                ]
                for key, weights in given.items()
            }
            rows.append(of_rows(name, of.role, cells))
        else:
            shares = {
                key: dict(zip(of.roles, weights.tolist(), strict=True))
                for key, weights in given.items()
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
