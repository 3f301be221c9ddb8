"""Attention as the page shows it, out of `attention.parquet`, read piece by piece.

Maps make the table large: those of the videos that are shown are kept, the others are passed over.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.cache import tables
from stages.results.files import ATTENTION, Result

BATCH_ROWS = 4096
"""Rows of the table in memory at a time."""

EVEN = 1e-3
"""Sums that differ by less than this share are the same: float32, over thousands of channels."""

Values = NDArray[np.float64]

Answer = tuple[str, str]
"""A run and the id of a video that it tested."""


@dataclass
class RowWeights:
    """An attention over the rows of a role.

    Attributes:
        name: of the head's output.
        role: whose rows.
        weights: answer -> (T,), a weight a row, 0 where masked; of a map over channels or groups
            the sum. Empty where maps say nothing of rows.
        maps: answer -> (T, ...), a map a row; of the answers that are shown alone.
        pts_s: answer -> (T,), times of the rows in seconds, NaN where padded.
    """

    name: str
    role: str
    weights: dict[Answer, Values] = field(default_factory=dict)
    maps: dict[Answer, Values] = field(default_factory=dict)
    pts_s: dict[Answer, Values] = field(default_factory=dict)


@dataclass
class RoleWeights:
    """An attention over roles: answer -> role -> weight, of every answer."""

    name: str
    weights: dict[Answer, dict[str, float]] = field(default_factory=dict)


@dataclass
class Weights:
    """What a head of an experiment weighed."""

    rows: list[RowWeights]
    roles: list[RoleWeights]


def read_attention(
    result: Result, shown: Collection[Answer], *, every_row: bool = False
) -> Weights:
    """Return the attention of an experiment; nothing where its head gives none.

    Args:
        result: of the experiment.
        shown: answers of which all weights are kept.
        every_row: keep the weights of the rows of all answers; else of those shown.

    Raises:
        TableError: `attention.parquet` is missing or no such table.
    """
    rows: dict[tuple[str, str], dict[Answer, list[tuple[float | Values, float]]]] = {}
    roles: dict[str, RoleWeights] = {}
    for row, values in _rows(result, shown, every_row):
        answer = (row["run"], row["video_id"])
        if row["row"] is None:
            of_roles = roles.setdefault(row["name"], RoleWeights(row["name"]))
            of_roles.weights.setdefault(answer, {})[row["role"]] = row["value"]
            continue
        weight = row["value"] if values is None else values
        if values is not None and answer not in shown:
            weight = float(values.sum())
        cells = rows.setdefault((row["name"], row["role"]), {})
        cells.setdefault(answer, []).append((weight, row["pts_s"]))
    return Weights([of_rows(*key, found) for key, found in rows.items()], list(roles.values()))


def of_rows(
    name: str, role: str, found: Mapping[Answer, list[tuple[float | Values, float]]]
) -> RowWeights:
    """Return an attention over rows from its cells, (weight or map, time) each."""
    attention = RowWeights(name, role)
    for answer, cells in found.items():
        weights = np.array([weight for weight, _ in cells])
        attention.pts_s[answer] = np.array([pts_s for _, pts_s in cells], np.float64)
        if weights.ndim > 1:
            attention.maps[answer] = weights
        if weights.ndim <= 2:
            attention.weights[answer] = weights.sum(axis=1) if weights.ndim == 2 else weights
    if attention.maps and _even(attention.weights):
        attention.weights = {}
    return attention


def _even(weights: Mapping[Answer, Values]) -> bool:
    """Tell whether the maps of all rows have the same sum: they say nothing of the rows."""
    sums = [row[row != 0] for row in weights.values()]
    given = np.concatenate([np.zeros(0), *sums])
    return len(given) == 0 or bool(np.ptp(given) <= EVEN * np.abs(given).max())


def _rows(
    result: Result, shown: Collection[Answer], every_row: bool
) -> Iterator[tuple[dict[str, Any], Values | None]]:
    """Yield each wanted row of the table, without its map, and the map in its shape."""
    path = result.folder / "attention.parquet"
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise tables.TableError(f"{path}: expected a Parquet file, found: {error}") from error
    if missing := sorted(set(ATTENTION) - set(file.schema_arrow.names)):
        raise tables.TableError(f"{path}: expected the columns {missing}: train again")
    runs = pa.array(sorted({run for run, _ in shown}), pa.string())
    videos = pa.array(sorted({video_id for _, video_id in shown}), pa.string())
    with file:
        for batch in file.iter_batches(BATCH_ROWS):
            is_run = pc.is_in(batch["run"], value_set=runs)
            is_video = pc.is_in(batch["video_id"], value_set=videos)
            wanted = pc.or_(pc.and_(is_run, is_video), pc.is_null(batch["row"]))
            if every_row:
                axes = pc.fill_null(pc.list_value_length(batch["shape"]), 0)
                wanted = pc.or_(wanted, pc.less_equal(axes, 1))
            kept = batch.filter(wanted)
            maps = kept["map"]
            for at, row in enumerate(kept.drop_columns(["map"]).to_pylist()):
                answer = (row["run"], row["video_id"])
                if not every_row and row["row"] is not None and answer not in shown:
                    continue  # the video was shown in another run
                values = None
                if row["shape"] is not None:
                    if len(row["shape"]) > 1 and answer not in shown:
                        continue
                    flat = maps[at].values.to_numpy(zero_copy_only=False)
                    values = flat.astype(np.float64).reshape(row["shape"])
                yield row, values
