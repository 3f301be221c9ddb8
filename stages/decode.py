"""decode: one pass over each video for all views that the enabled backbones read.

Reads the index and the videos; writes one folder a view (``segments``, ``uniform``, ``snippets``,
``sound``) with an HDF5 file a video, and beside it its index in Parquet. The folder of a
view that no backbone reads says so and holds nothing else. The view ``none`` is the list of the
videos, of which nothing is decoded: imported arrays are made of it.

    python -m stages.decode
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.cache import arrays, tables
from features.cache.keys import file_sha256, item_key
from features.video import decode, sound
from features.video.opening import VideoError
from features.video.views import View
from stages.engine.ingredients import of_view
from stages.engine.items import describe, files_below, item_path, merge_reasons, run_items
from stages.engine.outputs import INDEX as COLUMNS
from stages.engine.outputs import check_failures, fresh_outputs, say_empty, write_index
from stages.engine.params import Params
from stages.engine.paths import INDEX, VIEWS, index_of
from stages.engine.progress import StageRun
from stages.engine.start import launch, start
from stages.engine.trouble import PartlyFailed
from stages.engine.workers import Item, Work, workers

SOUND_COLUMNS = {"rows": pa.int32()}
"""Of the sound's index, besides those of every index: samples."""

FRAMES_COLUMNS = {"rows": pa.int32(), "interlaced": pa.int32()}
"""Of another view's: valid rows, and how many frames of the whole video were deinterlaced."""

FRAMES_AXES = {"frames": "T H W C", "index": "T", "pts_s": "T", "valid": "T"}
SNIPPET_AXES = {"frames": "T L H W C", "index": "T L", "pts_s": "T L", "valid": "T"}
SOUND_AXES = {"waveform": "N"}

NONE = "none"
"""The view of which nothing is decoded."""

LISTED = ("video_id", "label", "status", "reason")
"""Columns of its index that have values."""

NOWHERE = Path()
"""The file of a video of which there are features alone."""

NO_VIDEO = (
    "the data set has features alone and no videos: only imported arrays can be read, take the "
    "other backbones out of params.yaml"
)

ALL_VIEWS = ("segments", "uniform", "snippets", "sound")


@dataclass(frozen=True)
class Task:
    """One video to decode: its file, the views by key (None is the sound), and their attributes."""

    location: Path
    sha256: str
    seed: int
    views: dict[str, tuple[str, View | None]]
    ingredients: dict[str, dict[str, object]]


def main() -> None:
    """Decode the videos of the index."""
    params = start("decode")
    wanted = ["video_id", "label", "file", "sha256", "status", "reason"]
    with StageRun("decode") as run:
        videos = tables.read(index_of(INDEX), wanted)
        made, views = work(params, videos), wanted_views(params)
        with fresh_outputs(VIEWS, run) as partial:
            outcome = run_items(run, made, partial)
            check_failures(run, merge_reasons(videos, outcome), params.max_failed)
            for name in ALL_VIEWS:
                (partial / name).mkdir(exist_ok=True)
                rows = merge_reasons(videos, outcome, f"{name}/") if name in views else []
                columns = SOUND_COLUMNS if name == "sound" else FRAMES_COLUMNS
                write_index(
                    index_of(partial / name),
                    partial / name,
                    rows,
                    files_below(made.items, f"{name}/"),
                    columns,
                )
            _write_listed(partial / NONE, videos)


def _write_listed(folder: Path, videos: Sequence[tables.Row]) -> None:
    """Write the list of all videos, of which nothing is decoded."""
    rows = [{name: row[name] for name in LISTED} for row in videos]
    tables.write(index_of(folder), rows, pa.schema(list(COLUMNS.items())))
    say_empty(folder, f"of this view nothing is decoded, its list is {index_of(folder).name}")


def wanted_views(params: Params) -> dict[str, View | None]:
    """Return the views that the enabled backbones read; the sound has no frames to choose."""
    names = {backbone.view for backbone in params.backbones.values()}
    if "faces" in names:
        names = (names - {"faces"}) | {"segments"}
    choices = params.decode.views
    known: dict[str, View | None] = {
        "segments": choices.segments.view(),
        "uniform": choices.uniform.view(),
        "snippets": choices.snippets.view(),
        "sound": None,
    }
    return {name: known[name] for name in ALL_VIEWS if name in names}


def work(params: Params, videos: Iterable[tables.Row]) -> Work[Task]:
    """Return what there is to decode.

    Args:
        params: params.yaml.
        videos: rows of the index: ``video_id``, ``file``, ``sha256``, ``status``.
    """
    root = Path(params.index.root)
    folder = root if root.is_dir() else root.parent
    views = wanted_views(params)
    items = [
        _item(row, folder / str(row["file"]) if row["file"] else NOWHERE, views, params.decode.seed)
        for row in videos
        if row["status"] == "ok" and views
    ]
    return Work(items, compute, workers(params.engine))


def _item(
    row: tables.Row, location: Path, views: Mapping[str, View | None], seed: int
) -> Item[Task]:
    files, by_key, ingredients = {}, {}, {}
    for name, view in views.items():
        made_of = of_view(str(row["sha256"]), name, view, seed)
        key = item_key(made_of)
        files[key] = f"{name}/{item_path(str(row['video_id']))}"
        by_key[key] = (name, view)
        ingredients[key] = made_of
    task = Task(location, str(row["sha256"]), seed, by_key, ingredients)
    return Item(str(row["video_id"]), files, task)


def compute(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Decode the views whose keys are in ``outputs``: the frames in one pass, then the sound.

    Raises:
        PartlyFailed: the frames or the sound cannot be had; the other is written.
    """
    if task.location == NOWHERE:
        raise VideoError(NO_VIDEO)
    reasons: dict[str, str] = {}
    frames_decoded = 0
    pictures = {key: path for key, path in outputs.items() if task.views[key][1]}
    with ThreadPoolExecutor(1) as behind:  # frames are packed while the sound is decoded
        packed: list[Future[None]] = []
        if pictures:
            try:
                frames_decoded, packed = _write_frames(task, pictures, behind)
            except VideoError as error:
                reasons |= dict.fromkeys(pictures, str(error))
        for key in outputs.keys() - pictures.keys():
            try:
                _write_sound(task, key, outputs[key])
            except VideoError as error:
                reasons[key] = str(error)
        for each in packed:
            each.result()
    if reasons:
        raise PartlyFailed(reasons)
    return {"frames_decoded": frames_decoded}


def compute_indexed(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Decode as :func:`compute`, if the file still is the one that the index knows.

    DVC indexes a changed file before it decodes it; a worker by itself may be older than
    the change (`affectline work`).
    """
    if file_sha256(task.location) != task.sha256:
        raise VideoError("its file has changed since it was indexed; `dvc repro index`")
    return compute(task, outputs)


def _write_frames(
    task: Task, outputs: Mapping[str, Path], behind: Executor
) -> tuple[int, list[Future[None]]]:
    """Decode the frames of views and have them written; return how many, and when all are."""
    views = {name: view for name, view in (task.views[key] for key in outputs) if view}
    decoded = decode.decode(task.location, views, seed=f"{task.seed} {task.sha256}")
    packed = []
    for key, path in outputs.items():
        name = task.views[key][0]
        data = decode.padded(decoded.views[name], views[name].count)
        axes = SNIPPET_AXES if views[name].sampling == "snippets" else FRAMES_AXES
        rows = int(np.count_nonzero(data["valid"]))
        more = {"rows": rows, "interlaced": decoded.interlaced}
        about = describe(key, task.ingredients[key], axes, **more)
        packed.append(behind.submit(arrays.write, path, data, about))
    return decoded.frames_decoded, packed


def _write_sound(task: Task, key: str, path: Path) -> None:
    with sound.decoded(task.location, path.parent) as waveform:
        blocks = arrays.Blocks((waveform.samples,), np.dtype(np.float32), waveform.blocks)
        attributes = describe(
            key,
            task.ingredients[key],
            SOUND_AXES,
            sample_rate_hz=waveform.sample_rate_hz,
            start_s=waveform.start_s,
            rows=waveform.samples,
        )
        arrays.write(path, {"waveform": blocks}, attributes, arrays.COMPACT)


if __name__ == "__main__":
    launch(main)
