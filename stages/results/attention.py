"""Attention as the page shows it: sums of `attention.parquet`, read piece by piece."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.cache import tables
from stages.results.files import ATTENTION, Result

BATCH_ROWS = 4096
"""Rows of the table in memory at a time: maps make them large."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RowWeights:
    """Weights of the rows of `role`, in one run: label -> video -> (T,), 0 where masked."""

    name: str
    role: str
    run: str
    videos: dict[str, dict[str, Values]]


@dataclass(frozen=True)
class MapWeights:
    """Maps over the rows of `role`: label -> mean map over the unmasked rows of all runs."""

    name: str
    role: str
    means: dict[str, Values]


@dataclass(frozen=True)
class RoleWeights:
    """Weights of roles: label -> (M,), mean over the test videos of all runs."""

    name: str
    roles: tuple[str, ...]
    means: dict[str, Values]


Weights = RowWeights | MapWeights | RoleWeights


class _Mean:
    """A running mean of arrays of one shape."""

    def __init__(self) -> None:
        self.total: Values = np.zeros(())
        self.count = 0

    def add(self, values: Values | float) -> None:
        self.total = self.total + values
        self.count += 1

    def value(self) -> Values:
        return self.total / self.count


def read_attention(result: Result) -> list[Weights]:
    """Return the attention of an experiment, by name; none where its head gives none.

    Raises:
        TableError: `attention.parquet` is missing or no such table.
    """
    labels = {str(row["video_id"]): str(row["label"]) for row in result.predictions}
    sheets: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    maps: dict[tuple[str, str], dict[str, _Mean]] = {}
    shares: dict[str, dict[str, dict[str, _Mean]]] = {}
    first = result.runs[0]
    for row, values in _rows(result):
        name, role, label = row["name"], row["role"], labels[row["video_id"]]
        if row["row"] is None:
            mean = shares.setdefault(name, {}).setdefault(label, {}).setdefault(role, _Mean())
            mean.add(row["value"])
        elif values is None:
            if row["run"] == first:
                videos = sheets.setdefault((name, role), {}).setdefault(label, {})
                videos.setdefault(row["video_id"], []).append(row["value"])
        else:
            means = maps.setdefault((name, role), {}).setdefault(label, _Mean())
            if values.any():  # a masked row has no weight anywhere
                means.add(values)
    return [
        *(
            RowWeights(name, role, first, {k: _arrays(v) for k, v in sorted(means.items())})
            for (name, role), means in sheets.items()
        ),
        *(
            MapWeights(name, role, {k: v.value() for k, v in sorted(means.items()) if v.count})
            for (name, role), means in maps.items()
        ),
        *_role_weights(shares),
    ]


def _arrays(videos: Mapping[str, list[float]]) -> dict[str, Values]:
    return {name: np.array(values) for name, values in sorted(videos.items())}


def _role_weights(shares: Mapping[str, Mapping[str, Mapping[str, _Mean]]]) -> Iterator[RoleWeights]:
    for name, by_label in shares.items():
        roles = tuple(next(iter(by_label.values())))
        means = {
            label: np.array([found[role].value() for role in roles])
            for label, found in sorted(by_label.items())
        }
        yield RoleWeights(name, roles, means)


def _rows(result: Result) -> Iterator[tuple[dict[str, Any], Values | None]]:
    """Yield each row of the table, without its map, and the map in its shape."""
    path = result.folder / "attention.parquet"
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise tables.TableError(f"{path}: expected a Parquet file, found: {error}") from error
    if missing := sorted(set(ATTENTION) - set(file.schema_arrow.names)):
        raise tables.TableError(f"{path}: expected the columns {missing}: train again")
    with file:
        for batch in file.iter_batches(BATCH_ROWS):
            maps = batch.column("map")
            rows = batch.drop_columns(["map"]).to_pylist()
            for at, row in enumerate(rows):
                values = None
                if row["shape"] is not None:
                    flat = maps[at].values.to_numpy(zero_copy_only=False)
                    values = flat.astype(np.float64).reshape(row["shape"])
                yield row, values
