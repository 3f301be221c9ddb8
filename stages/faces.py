"""faces: detections, tracks and the main person's crops for the rows of the segments view.

Reads a view and the detector's weights; writes ``faces`` (an HDF5 file a video: 224x224 crops,
their mask, all detections), its index, and all boxes and landmarks in one Parquet file.

    python -m stages.faces --view data/views/segments --weights data/weights/detector.safetensors \
        --out data/views
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from features import arrays, tables
from features.cache import code_fingerprint, file_sha256, item_key
from features.faces import CROP, Detections, crop, link, main_person
from features.weights import load
from stages.console import StageRun, fail
from stages.items import (
    Item,
    check_failures,
    describe,
    fresh_outputs,
    item_path,
    merge_reasons,
    run_items,
    workers,
)
from stages.params import Faces, ParamsError, load_params

COLUMNS = {
    "video_id": pa.string(),
    "label": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "key": pa.string(),
    "path": pa.string(),
    "rows": pa.int32(),
    "rows_with_face": pa.int32(),
    "tracks": pa.int32(),
}
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
"""One row a detection; boxes and landmarks (x y of each point) in pixels of the view's frame."""

AXES = {
    "frames": "T H W C",
    "index": "T",
    "pts_s": "T",
    "valid": "T",
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
    ingredients: dict[str, object]


def main(
    view: Annotated[Path, typer.Option(help="folder of the frames; its index is <view>.parquet")],
    weights: Annotated[Path, typer.Option(help="the detector's weights")],
    out: Annotated[Path, typer.Option(help="folder that gets `faces`")],
) -> None:
    """Find the main person's face in the frames of VIEW."""
    try:
        params = load_params()
    except ParamsError as error:
        raise fail(str(error)) from None
    with StageRun("faces") as run:
        videos = tables.read(view.with_suffix(".parquet"), ["video_id", "key", "path"])
        items = _items(videos, view, weights, params.faces)
        with fresh_outputs(out, run) as partial:
            (partial / "faces").mkdir()
            outcome = run_items(run, items, compute, partial / "faces", workers(params.engine))
            rows = merge_reasons(videos, outcome)
            check_failures(run, rows, params.max_failed)
            keys = {item.name: next(iter(item.files.items())) for item in items}
            _write_tables(partial, rows, keys)


def _items(videos: list[tables.Row], view: Path, weights: Path, params: Faces) -> list[Item]:
    choices = params.model_dump(exclude={"detector": {"file", "source", "seed"}})
    common = {
        "stage": "faces",
        "detector": file_sha256(weights),
        "params": choices,
        "code": code_fingerprint("features.faces", f"features.{params.detector.module}"),
    }
    items = []
    for row in videos:
        if row["status"] != "ok":
            continue
        made_of = {**common, "input": row["key"]}
        task = Task(view / str(row["path"]), weights, params, made_of)
        files = {item_key(made_of): item_path(str(row["video_id"]))}
        items.append(Item(str(row["video_id"]), files, task))
    return items


def detector_module(name: str) -> ModuleType:
    """Import a detector's module, ``features/<name>.py``."""
    return importlib.import_module(f"features.{name}")


@lru_cache(maxsize=1)
def _detector(name: str, weights: Path, min_score: float) -> Any:
    module = detector_module(name)
    return load(weights, module.build(module.Options(min_score=min_score)))


def compute(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Detect, track and crop the faces of one video."""
    assert isinstance(task, Task)
    data, _attributes = arrays.read(task.frames)
    params = task.params
    detector = _detector(params.detector.module, task.weights, params.min_score)
    frames, shown = data["frames"], data["valid"]
    found = [_detect(detector, frame, bool(ok)) for frame, ok in zip(frames, shown, strict=True)]
    tracks = link(found, min_overlap=params.min_overlap, max_gap=params.max_gap)
    chosen = main_person(found, tracks)
    crops = np.zeros((len(frames), CROP, CROP, 3), np.uint8)
    for row, face in enumerate(chosen):
        if face >= 0:
            crops[row] = crop(frames[row], found[row].boxes[face], margin=params.margin)
    main = [np.arange(len(row.scores)) == face for row, face in zip(found, chosen, strict=True)]
    result = {
        "frames": crops,
        "index": data["index"],
        "pts_s": data["pts_s"],
        "valid": chosen >= 0,
        "det_row": np.repeat(np.arange(len(found)), [len(row.scores) for row in found]),
        "det_track": np.concatenate(tracks),
        "det_main": np.concatenate(main),
        "det_score": np.concatenate([row.scores for row in found]),
        "det_box": np.concatenate([row.boxes for row in found]),
        "det_landmarks": np.concatenate([row.landmarks for row in found]),
    }
    ((key, path),) = outputs.items()
    numbers = {
        "rows": int(np.count_nonzero(shown)),
        "rows_with_face": int(np.count_nonzero(result["valid"])),
        "tracks": len(np.unique(result["det_track"])),
    }
    arrays.write(path, result, describe(key, task.ingredients, AXES, **numbers))
    return {}


def _detect(detector: Any, frame: arrays.Array, shown: bool) -> Detections:
    if not shown:
        points = int(detector.points)
        return Detections(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, points, 2), np.float32),
        )
    return Detections(*detector.detect(frame))


def _write_tables(
    folder: Path, rows: list[tables.Row], keys: Mapping[str, tuple[str, str]]
) -> None:
    """Write the index and the boxes, both from the rows and the files themselves."""
    filled, boxes = [], []
    for row in rows:
        row = {column: row.get(column) for column in ("video_id", "label", "status", "reason")}
        if row["status"] == "ok":
            row["key"], row["path"] = keys[str(row["video_id"])]
            names = [name for name in AXES if name.startswith("det_")]
            found, attributes = arrays.read(folder / "faces" / str(row["path"]), [*names, "pts_s"])
            row |= {name: attributes[name] for name in ("rows", "rows_with_face", "tracks")}
            boxes.extend(_boxes(str(row["video_id"]), found))
        filled.append(row)
    tables.write(folder / "faces.parquet", filled, pa.schema(list(COLUMNS.items())))
    tables.write(folder / "faces_boxes.parquet", boxes, pa.schema(list(BOX_COLUMNS.items())))


def _boxes(video_id: str, found: Mapping[str, arrays.Array]) -> list[tables.Row]:
    rows = []
    for number, at in enumerate(found["det_row"].tolist()):
        x0, y0, x1, y1 = found["det_box"][number].tolist()
        rows.append(
            {
                "video_id": video_id,
                "row": at,
                "pts_s": found["pts_s"][at].item(),
                "track": found["det_track"][number].item(),
                "main": found["det_main"][number].item(),
                "score": found["det_score"][number].item(),
                "x0": x0,
                "y0": y0,
                "x1": x1,
                "y1": y1,
                "landmarks": found["det_landmarks"][number].ravel().tolist(),
            }
        )
    return rows


if __name__ == "__main__":
    typer.run(main)
