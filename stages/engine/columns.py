"""The columns of the data set's CSV that `index` of params.yaml names: into the index."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from features.cache import tables
from features.video import columns
from features.video.columns import Cell, Reader
from features.video.listing import DataSetError, Video
from heads.training.targets import (
    BETWEEN,
    LABEL,
    Declared,
    column_of,
    labels_of,
    strata,
)
from stages.engine.params import Index, Params
from stages.engine.params import Target as Declaration


def columns_of(index: Index) -> dict[str, Reader]:
    """Return column -> what reads its cells: those of the targets in their order, then others."""
    found: dict[str, Reader] = {
        column: _reader(target)
        for target in index.targets.values()
        for column in target.columns
        if column != LABEL
    }
    if index.splits.columns and not found:
        found[LABEL] = columns.name  # no other column says the class
    for column in index.splits.columns:
        found.setdefault(column, str.strip)
    return found


def cells_of(video: Video, index: Index) -> dict[str, Cell]:
    """Return column -> what it says of a video that was listed with `columns_of`."""
    return dict(zip(columns_of(index), video.cells, strict=True))


def _reader(target: Declaration) -> Reader:
    if target.kind == "class":
        return columns.name
    if target.range is not None:
        return columns.number(*target.range)
    return columns.labels(target.names)


def declared(index: Index) -> list[Declared]:
    """Return the targets as the index's metadata has them."""
    return [
        Declared(
            name,
            target.kind,
            tuple(target.columns),
            tuple(target.names),
            (target.range[0], target.range[1]) if target.range else None,
        )
        for name, target in index.targets.items()
    ]


def add_targets(
    rows: Sequence[tables.Row], videos: Sequence[Video], index: Index
) -> dict[str, pa.DataType]:
    """Add what the CSV says of the targets to the index's rows; return name -> type of the columns.

    Raises:
        DataSetError: a label that no video has.
    """
    cells = {video.video_id: cells_of(video, index) for video in videos}
    told = [name for target in index.targets.values() for name in target.columns if name != LABEL]
    for row in rows:
        for name in told:
            cell = cells[str(row["video_id"])][name]
            row[column_of(name)] = BETWEEN.join(cell) if isinstance(cell, tuple) else cell
    for name, target in index.targets.items():
        had = {
            part for row in rows for part in str(row[column_of(target.columns[0])]).split(BETWEEN)
        }
        if target.kind == "labels" and (unused := [n for n in target.names if n not in had]):
            raise DataSetError(
                f"index.targets.{name}: expected videos with each of the names, found none with "
                f"{', '.join(unused)}: take it out, or see what the column {target.columns[0]} says"
            )
    return {
        column_of(column): pa.float64() if target.kind == "dimensions" else pa.string()
        for target in index.targets.values()
        for column in target.columns
        if column != LABEL
    }


def check_searches(videos: Sequence[Video], params: Params) -> None:
    """Check that each declared search has classes to choose settings by.

    Args:
        videos: listed with `columns_of`.
        params: params.yaml.

    Raises:
        DataSetError: all videos are of one class.
    """
    targets = {each.name: each for each in declared(params.index)}
    for name, block in params.experiments.items():
        target = targets[block.target] if block.target else next(iter(targets.values()), None)
        if block.search is None or (target is not None and target.kind != "class"):
            continue
        column = LABEL if target is None else target.columns[0]
        classes = {
            video.label if column == LABEL else str(cells_of(video, params.index)[column])
            for video in videos
        }
        if len(classes) == 1:
            raise DataSetError(
                f"experiments.{name}.search: expected at least two classes to choose settings by, "
                f"found {classes.pop()!r} alone: add videos of another, or take the search out"
            )


def split_evenly(
    rows: Sequence[tables.Row], index: Index, add: Callable[[list[tables.Row]], list[str]]
) -> list[str]:
    """Have split columns added to rows, even over what the first target says of the videos.

    Args:
        rows: of the index, with their targets.
        index: that section of params.yaml.
        add: what adds them, even over the column `label`, and returns their names.
    """
    target, labels = labels_of(rows, next(iter(declared(index)), None))
    if target.kind == "class":
        even = [str(target.told(label)) for label in labels.values()]
    else:
        even = [str(stratum) for stratum in strata(target, list(labels.values()))]
    drawn = [row | {LABEL: stratum} for row, stratum in zip(rows, even, strict=True)]
    names = add(drawn)
    for row, part in zip(rows, drawn, strict=True):
        row |= {name: value for name, value in part.items() if name not in row}
    return names
