"""faces: detections, tracks and the main person's crops for the rows of the segments view.

Reads a view and the detector's weights; writes ``faces`` (an HDF5 file a video: 224x224 crops,
their mask, all detections), its index, and all boxes and landmarks in one Parquet file.

    python -m stages.faces
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features import detectors
from features.cache import arrays, tables
from features.cache.keys import code_fingerprint, defined, item_key
from features.cache.store import store_root
from features.faces import (
    CROP,
    Detections,
    Detector,
    NetworkDetector,
    align,
    crop,
    link,
    main_person,
    shots,
)
from features.options import options_of
from features.weights.file import load, metadata, remembered_sha256
from stages.engine.device import be_reproducible, device_of
from stages.engine.ingredients import of_faces
from stages.engine.items import (
    describe,
    files_below,
    inputs_of,
    items_of,
    merge_reasons,
    run_items,
)
from stages.engine.outputs import check_failures, fresh_outputs, write_index
from stages.engine.params import Faces, Params
from stages.engine.paths import VIEWS, WEIGHTS, index_of, weights_file
from stages.engine.previous import previous_file
from stages.engine.progress import StageRun, console, in_a_line, told
from stages.engine.start import launch, start
from stages.engine.workers import Input, Work, networks, workers

COLUMNS = {name: pa.int32() for name in ("rows", "rows_with_face", "shots", "tracks")}
"""Of the index, besides those of every index."""

BOX_COLUMNS = {
    "video_id": pa.string(),
    "row": pa.int32(),
    "pts_s": pa.float64(),
    "track": pa.int32(),
    "main": pa.bool_(),
    "score": pa.float32(),
    **{name: pa.float32() for name in ("x0", "y0", "x1", "y1")},
    "landmarks": pa.list_(pa.float32()),
}
"""One row a detection; boxes and landmarks in pixels of the view's frame.

Landmarks are x y of each point, in the order of the detector's LANDMARKS, which the faces files
name in the attribute ``landmarks``.
"""

AXES = {
    "frames": "T H W C",
    "index": "T",
    "pts_s": "T",
    "valid": "T",
    "shot": "T",
    "det_row": "N",
    "det_track": "N",
    "det_main": "N",
    "det_score": "N",
    "det_box": "N xyxy",
    "det_landmarks": "N point xy",
}


BOXES = VIEWS / "faces_boxes.parquet"

TRIAL_SIZE = (270, 480)
"""Height and width of the frame on which runtimes are compared."""


@dataclass(frozen=True)
class Network:
    """A detector as it is to be run.

    Attributes:
        module: the detector's.
        options: its own, as JSON.
        weights: the file.
        device: where it runs.
        runtime: ``torch``, or on a CPU ``openvino``, or the faster (``auto``).
        sha256: of its code, options and weights; a trial of its runtimes is remembered by it.
    """

    module: str
    options: str
    weights: Path
    device: str
    runtime: Literal["auto", "torch", "openvino"]
    sha256: str


@dataclass(frozen=True)
class Task:
    """One video: its frames, the detector and the rules."""

    frames: Path
    network: Network
    params: Faces
    ingredients: dict[str, object]


def main() -> None:
    """Find the main person's face in the frames of the view `segments`."""
    params = start("faces")
    if not params.reads_faces:
        return write_none()
    view, weights = VIEWS / "segments", weights_file("detector")
    with told():
        _detector(_network(params, weights))  # can it work?
    with StageRun("faces") as run:
        if metadata(weights)["pretrained"] != "true":
            run.remark("the detector's weights are seeded (random): what it finds are no faces")
        videos = tables.read(index_of(view), ["video_id", "content", "path"])
        made = work(params, inputs_of(videos, view))
        with fresh_outputs(VIEWS, run) as partial:
            (partial / "faces").mkdir()
            outcome = run_items(run, made, partial / "faces")
            rows = merge_reasons(videos, outcome)
            check_failures(run, rows, params.max_failed)
            _write_tables(partial, rows, files_below(made.items), run.note)


def work(params: Params, videos: Iterable[Input], folder: Path = WEIGHTS) -> Work[Task]:
    """Return where faces are to be looked for.

    Args:
        params: params.yaml.
        videos: files of the view `segments`.
        folder: of the weights files.
    """
    weights = weights_file("detector", folder)
    digest, network = remembered_sha256(weights, store_root()), _network(params, weights)
    options = json.loads(network.options)
    items = items_of(
        videos,
        lambda content: of_faces(params.faces, options, digest, content),
        lambda file, made_of: Task(file, network, params.faces, made_of),
    )
    # torch spreads one video over all cores; what cannot do so takes a video a core
    one_core, engine = detectors.load(params.faces.detector.module).ONE_CORE, params.engine
    pool = workers(engine) if one_core else networks(engine, network.device)
    return Work(items, compute, pool, weights=(weights,))


def _network(params: Params, weights: Path) -> Network:
    """Return the detector that params.yaml names, with all its options, as it is to be run."""
    block = params.faces.detector
    module = detectors.load(block.module)
    device = "cpu" if module.ONE_CORE else device_of(params.engine)
    chosen = detectors.complete_options(block.module, block.options, params.faces.min_score)
    options = asdict(chosen)
    has_choice = device == "cpu" and hasattr(module, "FREE_AXES")
    runtime = params.engine.runtime if has_choice else "torch"
    code = code_fingerprint(*defined(f"features.detectors.{block.module}", ("build",)))
    made_of = {name: value for name, value in options.items() if name != "min_score"}
    digest = remembered_sha256(weights, store_root())
    sha256 = item_key({"code": code, "options": made_of, "weights": digest})
    text = json.dumps(options, sort_keys=True)
    return Network(block.module, text, weights, device, runtime, sha256)


def write_none() -> None:
    """Write empty outputs: no backbone reads faces, so none are looked for."""
    with StageRun("faces") as run, fresh_outputs(VIEWS, run) as partial:
        (partial / "faces").mkdir()
        _write_tables(partial, [], {}, run.note)
        run.note("no backbone of params.yaml reads faces: none are looked for")


@lru_cache(maxsize=1)
def _detector(network: Network) -> Detector:
    module = detectors.load(network.module)
    be_reproducible(network.device)
    options = options_of(module, json.loads(network.options))
    built = load(network.weights, module.build(options))
    return cast(Detector, built.to(network.device))


@lru_cache(maxsize=1)
def _running(network: Network) -> tuple[Detector, str]:
    """Return the detector, computed by the runtime that is to be taken here, and its name."""
    detector = _detector(network)
    if network.runtime == "torch":
        return detector, "torch"
    from stages.engine.runtime import fastest  # torch comes with it

    part = cast(NetworkDetector, detector)
    noise = np.random.default_rng(0).integers(0, 256, (1, *TRIAL_SIZE, 3), np.uint8)
    with told():
        runtime, part.computed_by = fastest(
            store_root(),
            network.sha256,
            lambda: cast(Any, detector),
            part.prepare(noise),
            wanted=network.runtime,
            note=lambda line: console.print(in_a_line(f"faces: {line}"), soft_wrap=True),
            free=detectors.load(network.module).FREE_AXES,
        )
    return detector, runtime


def compute(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Detect, track and cut out the faces of one video."""
    data, _attributes = arrays.read(task.frames)
    params, network = task.params, task.network
    detector, runtime = _running(network)
    frames, shown = data["frames"].astype(np.uint8, copy=False), data["valid"]
    start = time.monotonic()
    detections = _detect(detector, frames, shown)
    seconds = time.monotonic() - start
    shot = shots(frames, shown.astype(bool), cut=params.cut)
    tracks = link(detections, shot, min_overlap=params.min_overlap, max_gap=params.max_gap)
    chosen = main_person(detections, tracks)
    crops = np.zeros((len(frames), CROP, CROP, 3), np.uint8)
    for row, face in enumerate(chosen):
        if face >= 0:
            crops[row] = _cut(frames[row], detections[row], int(face), params)
    main = [
        np.arange(len(row.scores)) == face for row, face in zip(detections, chosen, strict=True)
    ]
    result = {
        "frames": crops,
        "index": data["index"],
        "pts_s": data["pts_s"],
        "valid": chosen >= 0,
        "shot": shot,
        "det_row": np.repeat(np.arange(len(detections)), [len(row.scores) for row in detections]),
        "det_track": np.concatenate(tracks),
        "det_main": np.concatenate(main),
        "det_score": np.concatenate([row.scores for row in detections]),
        "det_box": np.concatenate([row.boxes for row in detections]),
        "det_landmarks": np.concatenate([row.landmarks for row in detections]),
    }
    ((key, path),) = outputs.items()
    about = {
        "weights": metadata(network.weights),
        "device": network.device,
        "runtime": runtime,
        "landmarks": list(detectors.load(params.detector.module).LANDMARKS),
        "rows": int(np.count_nonzero(shown)),
        "rows_with_face": int(np.count_nonzero(result["valid"])),
        "shots": len(np.unique(shot)),
        "tracks": len(np.unique(result["det_track"])),
    }
    arrays.write(path, result, describe(key, task.ingredients, AXES, **about))
    return {"forward_seconds": seconds}


def _detect(detector: Detector, frames: NDArray[np.uint8], shown: arrays.Array) -> list[Detections]:
    """Return the faces of each row; a row that shows no frame has none."""
    rows = np.flatnonzero(shown)
    none = Detections(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros((0, detector.points, 2), np.float32),
    )
    detections = [none] * len(frames)
    for row, faces in zip(rows, detector.detect_batch(frames[rows]), strict=True):
        detections[row] = faces
    return detections


def _cut(
    frame: NDArray[np.uint8], detections: Detections, face: int, params: Faces
) -> NDArray[np.uint8]:
    if params.align == "similarity":
        names = detectors.load(params.detector.module).LANDMARKS
        return align(
            frame, detections.boxes[face], detections.landmarks[face], names, margin=params.margin
        )
    return crop(frame, detections.boxes[face], margin=params.margin)


def _write_tables(
    folder: Path,
    rows: list[tables.Row],
    keys: Mapping[str, tuple[str, str]],
    note: Callable[[str], None],
) -> None:
    """Write the index and the boxes: of videos whose faces are as they were, the last boxes."""
    write_index(index_of(folder / "faces"), folder / "faces", rows, keys, COLUMNS)
    code = item_key({"code": code_fingerprint("stages.faces._boxes")})
    schema = pa.schema(list(BOX_COLUMNS.items()), metadata={"code": code})
    before = _boxes_before(schema, note)
    boxes = [schema.empty_table()]
    for row in tables.read(index_of(folder / "faces")):
        if row["status"] == "ok":
            video_id = str(row["video_id"])
            content, known = before.get(video_id, (None, None))
            is_known = content == row["content"]
            boxes.append(known if is_known else _boxes(video_id, folder / "faces", row, schema))
    table = pa.concat_tables(boxes).combine_chunks()  # the same bytes, however it was put together
    tables.write_table(folder / BOXES.name, table)


def _boxes_before(
    schema: pa.Schema, note: Callable[[str], None]
) -> dict[str, tuple[str, pa.Table]]:
    """Return by video the content of its faces and the boxes that the stage last wrote.

    Nothing where they are not at hand, or were written by other code.
    """
    index, boxes = (previous_file("faces", p, note) for p in (index_of(VIEWS / "faces"), BOXES))
    if index is None or boxes is None:
        return {}
    with pq.ParquetFile(boxes) as file:
        written = file.schema_arrow
        if not written.equals(schema) or written.metadata != schema.metadata:
            return {}
        table = file.read().cast(schema)
    found, first = {}, 0
    for video_id, same in groupby(table["video_id"].to_pylist()):  # a video's stand together
        count = len(list(same))
        found[video_id] = table.slice(first, count)
        first += count
    none = schema.empty_table()
    return {
        str(row["video_id"]): (str(row["content"]), found.get(str(row["video_id"]), none))
        for row in tables.read(index, ["video_id", "status", "content"])
        if row["status"] == "ok"
    }


def _boxes(video_id: str, folder: Path, row: tables.Row, schema: pa.Schema) -> pa.Table:
    """Return the boxes of a video from its file."""
    names = [name for name in AXES if name.startswith("det_")]
    faces, _attributes = arrays.read(folder / str(row["path"]), [*names, "pts_s"])
    rows = []
    for number, place in enumerate(faces["det_row"].tolist()):
        x0, y0, x1, y1 = faces["det_box"][number].tolist()
        rows.append(
            {
                "video_id": video_id,
                "row": place,
                "pts_s": faces["pts_s"][place].item(),
                "track": faces["det_track"][number].item(),
                "main": faces["det_main"][number].item(),
                "score": faces["det_score"][number].item(),
                "x0": x0,
                "y0": y0,
                "x1": x1,
                "y1": y1,
                "landmarks": faces["det_landmarks"][number].ravel().tolist(),
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)


if __name__ == "__main__":
    launch(main)
