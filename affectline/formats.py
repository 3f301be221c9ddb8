"""The formats of `affectline export`: one function each writes the videos into a new folder.

One video at a time is in memory. The same videos give the same bytes: no times, users or random
names are written. Files are called by a number and what is plain in a video's id (:func:`plain`):
an id is any text, and `videos.csv` says whose file is whose.
"""

import csv
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Array = NDArray[np.generic]

SHARD_BYTES = 1 << 30
"""A shard of WebDataset is closed when it has so many bytes."""

PLAIN_CHARACTERS = 60
"""Of a video's id in the name of a file, at most."""

ARROW = "data-00000-of-00001.arrow"
"""The one file of rows in a folder of Hugging Face's `datasets`, as that library calls it."""


@dataclass(frozen=True)
class Video:
    """What is exported of one video.

    Attributes:
        number: of the video in the export, from 0.
        video_id: `<label>/<name>`, any text.
        label: its class.
        splits: run -> `train`, `test` or None.
        rows: (T, ...) the feature.
        valid: (T,) bool, False where a row means nothing.
        pts_s: (T,) float64, presentation time in seconds.
        index: (T,) int64, number of the frame.
    """

    number: int
    video_id: str
    label: str
    splits: Mapping[str, str | None]
    rows: Array
    valid: Array
    pts_s: Array
    index: Array

    def arrays(self) -> dict[str, Array]:
        """Return its arrays by the names that they have in every format."""
        return {
            "features": self.rows,
            "valid": self.valid.astype(bool),
            "pts_s": self.pts_s,
            "index": self.index,
        }


Places = dict[str, dict[str, str]]
"""video_id -> column of videos.csv -> where that of the video lies."""

Write = Callable[[Path, Iterator[Video]], Places]
"""Writes videos, of which there is at least one, into a folder."""


def plain(number: int, video_id: str) -> str:
    """Return a name for a video's files that every file system and every shell takes: no dot."""
    return f"{number:06d}-{re.sub('[^A-Za-z0-9_-]+', '_', video_id)[:PLAIN_CHARACTERS]}"


def write_npy(folder: Path, videos: Iterator[Video]) -> Places:
    """Write a .npy file a video and array: `features/`, `valid/`, `pts_s/`, `index/`."""
    places: Places = {}
    for video in videos:
        name = f"{plain(video.number, video.video_id)}.npy"
        places[video.video_id] = {}
        for array, values in video.arrays().items():
            (folder / array).mkdir(exist_ok=True)
            np.save(folder / array / name, values, allow_pickle=False)
            column = "file" if array == "features" else array
            places[video.video_id][column] = f"{array}/{name}"
    return places


def write_webdataset(folder: Path, videos: Iterator[Video]) -> Places:
    """Write tar shards, a sample a video: `.features.npy`, `.valid.npy` and so on, and `.json`."""
    places: Places = {}
    with ExitStack() as stack:
        shard: tarfile.TarFile | None = None
        count = 0
        for video in videos:
            if shard is None or shard.offset >= SHARD_BYTES:
                stack.close()
                name = f"shard-{count:06d}.tar"
                shard = stack.enter_context(
                    tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT)
                )
                count += 1
            key = plain(video.number, video.video_id)
            places[video.video_id] = {"shard": name, "key": key}
            for array, values in video.arrays().items():
                data = io.BytesIO()
                np.save(data, values, allow_pickle=False)
                _add(shard, f"{key}.{array}.npy", data.getvalue())
            about = {"video_id": video.video_id, "label": video.label, **video.splits}
            _add(shard, f"{key}.json", json.dumps(about, sort_keys=True).encode())
    return places


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file whose header says nothing of this machine: time 0, no user, rights 644."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


def write_parquet(folder: Path, videos: Iterator[Video]) -> Places:
    """Write `features.parquet`: a row a row, the feature a tensor of Arrow."""
    first = next(videos)
    schema: pa.Schema = _table(first).schema
    with pq.ParquetWriter(folder / "features.parquet", schema, compression="zstd") as file:
        for video in chain([first], videos):
            file.write_table(_table(video))
    return {}


def _table(video: Video) -> pa.Table:
    """Return the rows of a video as a table; without any, the table has its columns."""
    count, shape = len(video.rows), video.rows.shape[1:]
    flat = pa.array(video.rows.reshape(-1))
    size = int(np.prod(shape))
    tensors = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(flat.type, shape),
        pa.FixedSizeListArray.from_arrays(flat, size),
    )
    columns = {
        "video_id": pa.array([video.video_id] * count, pa.string()),
        "label": pa.array([video.label] * count, pa.string()),
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "valid": pa.array(video.valid.astype(bool)),
        "pts_s": _nested(video.pts_s),
        "index": _nested(video.index),
        "features": tensors,
    }
    return pa.table(columns)


def write_csv(folder: Path, videos: Iterator[Video]) -> Places:
    """Write `features.csv`: a line a row, a column a number, which vectors alone have.

    Raises:
        ValueError: a row is no vector.
    """
    first = next(videos)
    shape = first.rows.shape[1:]
    if len(shape) != 1 or first.pts_s.ndim != 1:
        raise ValueError(
            f"csv: expected rows that are vectors, found rows of shape {shape}; npy, parquet, "
            "webdataset and huggingface take any shape"
        )
    numbers = [f"features_{place}" for place in range(shape[0])]
    with (folder / "features.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video_id", "label", "row", "valid", "pts_s", "index", *numbers])
        for video in chain([first], videos):
            for row, values in enumerate(video.rows):
                about = [video.video_id, video.label, row, int(video.valid[row])]
                when = [repr(float(video.pts_s[row])), int(video.index[row])]
                writer.writerow([*about, *when, *values.astype(str)])  # shortest that is exact
    return {}


def write_huggingface(folder: Path, videos: Iterator[Video]) -> Places:
    """Write a folder that `datasets.load_from_disk` opens: a row a video, its arrays as lists."""
    first = next(videos)
    batch = _batch(first)
    features = {field.name: _feature(batch.schema.field(field.name).type) for field in batch.schema}
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    about = {"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)}
    schema = batch.schema.with_metadata(about)
    places: Places = {}
    with pa.OSFile(str(folder / ARROW), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for video in chain([first], videos):
            places[video.video_id] = {"row": str(video.number)}
            stream.write_batch(_batch(video).replace_schema_metadata(about))
    with (folder / ARROW).open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    state: dict[str, object] = {
        "_data_files": [{"filename": ARROW}],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    for name, content in (("dataset_info.json", info), ("state.json", state)):
        text = json.dumps(content, indent=2, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return places


def _batch(video: Video) -> pa.RecordBatch:
    """Return a video as one row of Arrow: each array a list (T) of lists of fixed lengths."""
    texts = {"video_id": video.video_id, "label": video.label, **video.splits}
    columns = {name: pa.array([text], pa.string()) for name, text in texts.items()}
    for name, values in video.arrays().items():
        offsets = pa.array([0, len(values)], pa.int32())
        columns[name] = pa.ListArray.from_arrays(offsets, _nested(values))
    return pa.RecordBatch.from_pydict(columns)


def _nested(values: Array) -> pa.Array:
    """Return (T, a, b) as an Arrow array of T lists of a lists of b numbers."""
    nested = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        nested = pa.FixedSizeListArray.from_arrays(nested, size)
    return nested


def _feature(kind: pa.DataType) -> dict[str, object]:
    """Return a type as `datasets` writes it; `Sequence` is what all its versions read."""
    if pa.types.is_fixed_size_list(kind):
        inner = _feature(kind.value_type)
        return {"feature": inner, "length": kind.list_size, "_type": "Sequence"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    names = {"double": "float64", "float": "float32", "halffloat": "float16"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}


FORMATS: Mapping[str, Write] = {
    "npy": write_npy,
    "parquet": write_parquet,
    "webdataset": write_webdataset,
    "huggingface": write_huggingface,
    "csv": write_csv,
}
"""What `--to` may be."""
