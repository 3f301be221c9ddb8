"""Which videos train and which test: the index's columns by the protocol of ``index.splits``."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from features.cache import tables
from features.video.listing import DataSetError, Video, list_videos, unread
from features.video.splits import add_drawn, add_given, few
from heads.training.groups import ignored_groups
from heads.training.protocols import (
    add_cross_corpus,
    add_folds,
    add_groups_out,
    add_holdout,
    check_apart,
    left_out,
)
from stages.engine.columns import add_targets, cells_of, columns_of, split_evenly
from stages.engine.params import Index

OWN = ("group", "corpus", "class")
"""Columns of the index: what a video belongs to, where ``index.splits`` names a column of the CSV;
its class among several corpora, null where it is left out."""

_SHOWN = 10
"""So many videos are named in a message."""


def add_splits(rows: list[tables.Row], videos: Sequence[Video], index: Index) -> list[str]:
    """Add what videos belong to and the split columns to ``rows``; return the names of the latter.

    Args:
        rows: of the index.
        videos: as `list_videos` gives them with `columns_of`.
        index: that section of params.yaml.

    Raises:
        DataSetError: blanks in a column, videos that cannot be divided by this protocol, or that
            the CSV divides so that the same content or group is in train and in test of a run.
    """
    splits = index.splits
    for name, column in (("corpus", splits.corpus), ("group", splits.groups)):
        if column is not None:
            _add_column(rows, videos, index, name, column)
    classes = not index.targets or next(iter(index.targets.values())).kind == "class"
    if splits.kind == "kfold":
        return add_folds(rows, folds=splits.folds, seed=splits.seed, classes=classes)
    if splits.kind == "leave_one_group_out":
        return add_groups_out(rows, classes=classes)
    if splits.kind == "cross_corpus":
        names = splits.map if classes else None
        return add_cross_corpus(rows, train=splits.train, names=names)
    if splits.kind == "predefined" or (splits.kind is None and _has_splits(videos)):
        if not _has_splits(videos):
            raise DataSetError(
                "expected a column split, or split_00 and so on, as index.splits.kind is "
                "predefined, found none with train or test"
            )
        names_of_runs = add_given(rows, {video.video_id: video.splits for video in videos})
        if splits.groups is not None:
            check_apart(rows, names_of_runs)
        return names_of_runs
    runs, share, seed = splits.runs, splits.test_share, splits.seed
    if splits.groups is None:
        return add_drawn(rows, runs=runs, test_share=share, seed=seed)
    return add_holdout(rows, runs=runs, test_share=share, seed=seed, classes=classes)


def count_runs(index: Index) -> int:
    """Return how many runs the videos are divided into, by the list of them alone."""
    splits, root = index.splits, Path(index.root)
    if splits.kind == "kfold":
        return splits.folds
    if splits.kind != "holdout" and root.is_file():
        videos, _ = list_videos(root, columns_of(index))
        column = splits.corpus or splits.groups
        if splits.kind in ("leave_one_group_out", "cross_corpus") and column:
            return len({cells_of(video, index)[column] for video in videos})
        if _has_splits(videos):
            return len(videos[0].splits)
    return splits.runs


def foretold(videos: Sequence[Video], index: Index) -> list[str]:
    """Return what `remarks` says before any video is read, as if all were usable and no copies.

    Raises:
        DataSetError: as `add_splits`, and targets that no video has.
    """
    rows: list[tables.Row] = [
        {"video_id": v.video_id, "label": v.label, "sha256": v.video_id, "status": "ok"}
        for v in videos
        if not v.problem
    ]
    if not rows:
        return []
    add_targets(rows, videos, index)
    names = split_evenly(rows, index, lambda each: add_splits(each, videos, index))
    return remarks(rows, names, videos, index)


def _add_column(
    rows: Iterable[tables.Row], videos: Sequence[Video], index: Index, name: str, column: str
) -> None:
    """Add a column of the CSV to the rows; speakers of two corpora are not the same."""
    values = {video.video_id: str(cells_of(video, index)[column]) for video in videos}
    if blank := [video_id for video_id, value in values.items() if not value]:
        more = f" and {len(blank) - _SHOWN} more" if len(blank) > _SHOWN else ""
        raise DataSetError(
            f"column {column}: expected a value for every video, found none for "
            f"{', '.join(blank[:_SHOWN])}{more}; a video that belongs to no other gets a value of "
            "its own"
        )
    for row in rows:
        value = values[str(row["video_id"])]
        row[name] = f"{row['corpus']}/{value}" if name == "group" and "corpus" in row else value


def _has_splits(videos: Iterable[Video]) -> bool:
    return any(split for video in videos for split in video.splits)


def remarks(
    rows: Sequence[tables.Row], names: Sequence[str], videos: Sequence[Video], index: Index
) -> list[str]:
    """Return what a person should know of how the runs divide the videos, a line each.

    Args:
        rows: with what `add_splits` has added.
        names: of the runs.
        videos: as they were listed.
        index: that section of params.yaml.
    """
    root, splits = Path(index.root), index.splits
    lines = []
    if root.is_file() and (others := unread(root, columns_of(index))):
        lines.append(f"columns of {root} that nothing reads: {', '.join(others)}")
    if splits.kind not in (None, "predefined") and _has_splits(videos):
        lines.append(f"the split columns of {root} are not used: the runs are {splits.kind}")
    if splits.kind == "cross_corpus" and (gone := left_out(rows)):
        counts = [(f"{corpus}: {name} {n}", n) for (corpus, name), n in gone.items()]
        lines.append(
            f"videos left out, as not every corpus has their class: {sum(n for _, n in counts)} "
            f"({', '.join(text for text, _ in counts)})"
        )
    if splits.kind in (None, "holdout"):
        lines += [
            f"label {label!r} has fewer than two usable videos: it cannot be tested"
            for label in few(rows)
        ]
    if not splits.columns and (line := ignored_groups(rows, names)):
        lines.append(f"warning: {line}")
    return lines
