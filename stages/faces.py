"""faces: detections, tracks and the main person's crops for the rows of the segments view.

Reads a view and the detector's weights; writes ``faces`` (an HDF5 file a video: 224x224 crops,
their mask, all detections), its index, and all boxes and landmarks in one Parquet file.

    python -m stages.faces
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features import detectors
from features.cache import arrays, tables
from features.faces import CROP, Detections, Detector, align, crop, link, main_person, shots
from features.options import options_of
from features.weights.file import load, metadata, tensors_sha256
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
from stages.engine.paths import VIEWS, index_of, weights_file
from stages.engine.progress import StageRun, told
from stages.engine.start import launch, start
from stages.engine.workers import Input, Work, Workers, workers

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


@dataclass(frozen=True)
class Task:
    """One video: its frames, the detector and the rules."""

    frames: Path
    weights: Path
    params: Faces
    options: str
    device: str
    ingredients: dict[str, object]


def main() -> None:
    """Find the main person's face in the frames of the view `segments`."""
    params = start("faces")
    if not params.reads_faces:
        return write_none()
    view, weights = VIEWS / "segments", weights_file("detector")
    with told():
        options, device = _settings(params)
        _detector(params.faces.detector.module, _text(options), weights, device)  # can it work?
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
            _write_tables(partial, rows, files_below(made.items))


def work(params: Params, videos: Iterable[Input]) -> Work[Task]:
    """Return where faces are to be looked for.

    Args:
        params: params.yaml.
        videos: files of the view `segments`.
    """
    weights = weights_file("detector")
    digest = tensors_sha256(weights)
    options, device = _settings(params)
    text = _text(options)
    items = items_of(
        videos,
        lambda content: of_faces(params.faces, options, digest, content),
        lambda file, made_of: Task(file, weights, params.faces, text, device, made_of),
    )
    # torch spreads one video over all cores; what cannot do so takes a video a core
    one_core = detectors.load(params.faces.detector.module).ONE_CORE
    return Work(items, compute, workers(params.engine) if one_core else Workers(0))


def _settings(params: Params) -> tuple[dict[str, object], str]:
    """Return all options of the detector, and the device that it runs on."""
    block = params.faces.detector
    options = detectors.complete_options(block.module, block.options, params.faces.min_score)
    one_core = detectors.load(block.module).ONE_CORE
    return asdict(options), "cpu" if one_core else device_of(params.engine)


def _text(options: Mapping[str, object]) -> str:
    return json.dumps(options, sort_keys=True)


def write_none() -> None:
    """Write empty outputs: no backbone reads faces, so none are looked for."""
    with StageRun("faces") as run, fresh_outputs(VIEWS, run) as partial:
        (partial / "faces").mkdir()
        _write_tables(partial, [], {})
        run.note("no backbone of params.yaml reads faces: none are looked for")


@lru_cache(maxsize=1)
def _detector(name: str, options: str, weights: Path, device: str) -> Detector:
    module = detectors.load(name)
    be_reproducible(device)
    network = load(weights, module.build(options_of(module, json.loads(options))))
    return cast(Detector, network.to(device))


def compute(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Detect, track and cut out the faces of one video."""
    data, _attributes = arrays.read(task.frames)
    params = task.params
    detector = _detector(params.detector.module, task.options, task.weights, task.device)
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
        "weights": metadata(task.weights),
        "device": task.device,
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
    folder: Path, rows: list[tables.Row], keys: Mapping[str, tuple[str, str]]
) -> None:
    """Write the index and the boxes, both from the rows and the files themselves."""
    write_index(index_of(folder / "faces"), folder / "faces", rows, keys, COLUMNS)
    names = [name for name in AXES if name.startswith("det_")]
    boxes = []
    for row in rows:
        if row["status"] == "ok":
            _key, path = keys[str(row["video_id"])]
            faces, _attributes = arrays.read(folder / "faces" / path, [*names, "pts_s"])
            boxes.extend(_boxes(str(row["video_id"]), faces))
    tables.write(folder / "faces_boxes.parquet", boxes, pa.schema(list(BOX_COLUMNS.items())))


def _boxes(video_id: str, faces: Mapping[str, arrays.Array]) -> list[tables.Row]:
    rows = []
    for number, row in enumerate(faces["det_row"].tolist()):
        x0, y0, x1, y1 = faces["det_box"][number].tolist()
        rows.append(
            {
                "video_id": video_id,
                "row": row,
                "pts_s": faces["pts_s"][row].item(),
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
    return rows


if __name__ == "__main__":
    launch(main)
