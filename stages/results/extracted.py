"""What extract left of a backbone, where it is here: its table, its files, each video's mean.

Tables and files of features are no dependencies of the page: it says what is missing and goes on.
Nothing here needs torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.cache import arrays, tables
from features.options import MEASURED
from features.video.views import FRAME_ARRAYS
from stages.engine.paths import FEATURES, index_of

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Feature:
    """A named feature of a backbone.

    Attributes:
        name: of the array.
        axes: of a row, `C H W`.
        shape: of a row.
        dtype: in which it is stored.
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def measured(self) -> int:
        """How many numbers a row has where places are averaged over."""
        sizes = zip(self.axes.split(), self.shape, strict=True)
        return int(np.prod([size for axis, size in sizes if axis in MEASURED]))


@dataclass(frozen=True)
class Extracted:
    """What is here of a backbone's features.

    Attributes:
        backbone: its name in params.yaml.
        rows: of its table, a row a video.
        files: videos whose file is here, by id, in the table's order.
        size_bytes: of those files.
        about: attributes of the first file; empty where there is none.
        features: of the first file, likewise.
        rows_of_first: how many valid rows it has.
    """

    backbone: str
    rows: list[tables.Row]
    files: Mapping[str, Path]
    size_bytes: int
    about: Mapping[str, Any]
    features: tuple[Feature, ...]
    rows_of_first: int

    @property
    def view(self) -> str:
        """The view that was read; nothing where no file is here."""
        return str(self.about["ingredients"]["view"]) if self.about else ""


def extracted(backbone: str) -> Extracted | None:
    """Return what is here of a backbone's features; None where its table is not.

    A first file that is damaged counts as one that is not here.

    Raises:
        TableError: the table is there and is none.
    """
    folder = FEATURES / backbone
    if not index_of(folder).is_file():
        return None
    rows = tables.read(index_of(folder), ["video_id", "label", "status", "path", "rows_valid"])
    files, size_bytes = {}, 0
    for row in rows:
        path = folder / str(row["path"])
        if row["status"] == "ok" and path.is_file():
            files[str(row["video_id"])] = path
            size_bytes += path.stat().st_size
    about, features, valid = _first(list(files.values()))
    return Extracted(backbone, rows, files, size_bytes, about, features, valid)


def _first(paths: Sequence[Path]) -> tuple[Mapping[str, Any], tuple[Feature, ...], int]:
    for path in paths:
        try:
            data, about = arrays.read(path)
        except arrays.ArrayFileError:
            continue
        axes: Any = about["axes"]
        features = tuple(
            Feature(name, axes[name].removeprefix("T").strip(), values.shape[1:], str(values.dtype))
            for name, values in data.items()
            if name not in FRAME_ARRAYS
        )
        return about, features, int(np.count_nonzero(data["valid"]))
    return {}, (), 0


def mean_rows(
    files: Mapping[str, Path], feature: Feature, unread: list[str]
) -> Iterator[tuple[str, Values]]:
    """Yield each video and the mean of its valid rows, float32 of the row's shape.

    Videos without a valid row are left out. One file is in memory at a time.

    Args:
        files: video -> file.
        feature: that all of them have.
        unread: gets a line for each file that cannot be read.
    """
    for video, path in files.items():
        try:
            data, _ = arrays.read(path, [feature.name, "valid"])
        except arrays.ArrayFileError as error:
            unread.append(str(error))
            continue
        rows = data[feature.name][data["valid"].astype(np.bool_)]
        if rows.shape[1:] != feature.shape:
            unread.append(f"{path}: expected rows of {feature.shape}, found {rows.shape[1:]}")
        elif len(rows):
            yield video, rows.mean(axis=0, dtype=np.float64).astype(np.float32)


def measured_means(
    files: Mapping[str, Path], feature: Feature, unread: list[str]
) -> tuple[list[str], Values]:
    """Return videos, and of each the mean over rows and the places of a row: (N, D) float32.

    Args as of :func:`mean_rows`; D is `feature.measured`.
    """
    videos: list[str] = []
    values = np.zeros((len(files), feature.measured), np.float32)
    places = tuple(at for at, axis in enumerate(feature.axes.split()) if axis not in MEASURED)
    for video, row in mean_rows(files, feature, unread):
        values[len(videos)] = row.mean(axis=places).ravel()
        videos.append(video)
    return videos, values[: len(videos)]


def standardised(values: Values) -> Values:
    """Return (N, D) with mean 0 and deviation 1 of each column, without those that never differ."""
    if not len(values):
        return values
    centred = values - values.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = centred.std(axis=0)
    kept = deviation > np.finfo(np.float32).eps * np.abs(values).max(axis=0)
    found: Values = centred[:, kept] / deviation[kept]
    return found
