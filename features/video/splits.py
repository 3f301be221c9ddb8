"""Splits: which videos train and which test in each run, as a CSV gives them or as they are drawn.

Rows are those of the index: ``video_id``, ``label``, ``status`` and ``sha256``. Files of the same
content are never on both sides of a run.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from features.cache import tables
from features.video.listing import DataSetError

T = TypeVar("T")

_SHOWN = 10
"""So many copies are named in a message."""


def add_given(rows: Iterable[tables.Row], given: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Add the split columns that a CSV gives to ``rows`` and return their names.

    Args:
        rows: of the index.
        given: video id -> ``train``, ``test`` or None, of each run.

    Raises:
        DataSetError: the same content trains and tests in a run.
    """
    names = run_names(len(next(iter(given.values()))))
    for row in rows:
        for name, split in zip(names, given[str(row["video_id"])], strict=True):
            row[name] = split if row["status"] == "ok" else None
    check_copies(rows, names)
    return names


def add_drawn(rows: Iterable[tables.Row], *, runs: int, test_share: float, seed: int) -> list[str]:
    """Add split columns that are drawn to ``rows`` and return their names.

    Each run draws the share of every label by a seeded hash of the video ids, so that one more
    video moves no other across by more than the rounding.

    Args:
        rows: of the index.
        runs: how many columns.
        test_share: of each label's usable videos, above 0 and below 1; at least one of them where
            there are two.
        seed: of the hash.
    """
    usable = defaultdict(list)
    for members in by_content(rows):
        usable[members[0]["label"]].append(members)
    names = run_names(runs)
    for name in names:
        for contents in usable.values():
            contents.sort(key=lambda copies: _draw(seed, name, str(copies[0]["video_id"])))
            count = sum(map(len, contents))
            tested = min(max(round(test_share * count), 1), count - 1)
            test = {row["video_id"] for copies in draw_whole(contents, tested) for row in copies}
            for row in (row for copies in contents for row in copies):
                row[name] = "test" if row["video_id"] in test else "train"
    return names


def run_names(runs: int) -> list[str]:
    """Return the names of so many runs."""
    return [f"split_{number:02d}" for number in range(runs)]


def _draw(seed: int, name: str, video_id: str) -> str:
    return hashlib.sha256(f"{seed} {name} {video_id}".encode()).hexdigest()


def draw_whole(groups: Sequence[Sequence[T]], count: int) -> list[Sequence[T]]:
    """Return the first groups that have together at most ``count`` members, whole groups alone.

    Where not one is so small it is the smallest, unless it is all that there is.
    """
    drawn, left = [], count
    for group in groups:
        if len(group) <= left:
            drawn.append(group)
            left -= len(group)
    if not drawn and count > 0 and len(groups) > 1:
        drawn.append(min(groups, key=len))
    return drawn


def by_content(rows: Iterable[tables.Row]) -> list[list[tables.Row]]:
    """Return the usable rows, those of the same content together."""
    members: dict[object, list[tables.Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok":
            members[row["sha256"]].append(row)
    return list(members.values())


def few(rows: Sequence[tables.Row]) -> list[str]:
    """Return the labels with fewer than two usable videos, copies counted once."""
    usable = Counter({str(row["label"]): 0 for row in rows})
    usable.update(str(copies[0]["label"]) for copies in by_content(rows))
    return sorted(label for label, count in usable.items() if count < 2)


def check_copies(rows: Iterable[tables.Row], names: Sequence[str]) -> None:
    """Check runs that are not drawn here.

    Raises:
        DataSetError: copies of a file train and test in the same run.
    """
    torn = []
    for copies in by_content(rows):
        for name in names:
            parts = {str(row[name]): str(row["video_id"]) for row in copies if row[name]}
            if len(parts) > 1:
                torn.append(f"{parts['train']} trains and {parts['test']} tests in {name}")
    if torn:
        more = f"; and {len(torn) - _SHOWN} more" if len(torn) > _SHOWN else ""
        raise DataSetError(
            f"expected other files in test than in train, found the same content in both: "
            f"{'; '.join(torn[:_SHOWN])}{more}. Give copies the same split, or none to all but one"
        )
