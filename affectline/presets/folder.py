"""A data set on disk: its videos, the split file that goes with them, and both together.

What is listed and not in the folder, or the reverse, or both in an unclear way, becomes a remark:
nothing is left out without one.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from affectline.presets.split_files import Classes, Entry, Lists, ProtocolError, Remark, plain
from features.cache import tables
from features.cache.keys import file_sha256
from features.video.listing import EXTENSIONS, list_videos
from features.video.splits import draw_whole


@dataclass(frozen=True)
class File:
    """A video of the folder.

    Attributes:
        label: its class, as the data set spells it.
        inside: its path below the folder of the class.
        path: its path.
        subset: the folder `train`, `validation`, ... that it lies in, where there are such.
    """

    label: str
    inside: str
    path: Path
    subset: str | None = None

    @property
    def key(self) -> str:
        """Return `<class>/<path below it>`."""
        return f"{self.label}/{self.inside}"


class Row(NamedTuple):
    """A row of the CSV that `index` reads."""

    path: Path
    label: str
    splits: tuple[str | None, ...]
    group: str | None = None


GROUP = "group"
"""The column of the CSV that `index.splits.groups` then names."""

SHOWN = 3
"""So many videos are named in a message."""


def by_name(root: Path, pattern: str) -> list[Row]:
    """Return the rows of a folder whose names say which group a video belongs to.

    Args:
        root: the folder `<label>/<name>.<ext>`.
        pattern: regular expression; what its first parentheses hold in a name is the group.

    Raises:
        ProtocolError: no folder, no such expression, or a name without it.
    """
    if not root.is_dir():
        raise ProtocolError(
            f"{root}: expected a folder whose names say the groups, found none; a CSV has a column "
            "for them, which index.splits.groups names"
        )
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ProtocolError(f"--groups: expected a regular expression: {error}") from None
    if expression.groups != 1:
        raise ProtocolError(
            f"--groups: expected one pair of parentheses, around the group, found "
            f"{expression.groups} in {pattern!r}"
        )
    rows, others = [], []
    for video in list_videos(root)[0]:
        found = expression.search(video.video_id.partition("/")[2])
        if video.problem or video.location is None:
            continue
        if found and found[1]:
            rows.append(Row(video.location, video.label, (), found[1]))
        else:
            others.append(video.video_id)
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise ProtocolError(
            f"--groups: expected {pattern!r} in every name, found names without it: "
            f"{', '.join(others[:SHOWN])}{more}"
        )
    if not rows:
        raise ProtocolError(f"{root}: expected videos as <label>/<name>.<ext>, found none")
    return rows


# --------------------------------------------------------------------------------- folder


def read_folder(
    root: Path,
    classes: Classes,
    subsets: Set[str] = frozenset(),
    extensions: Set[str] = EXTENSIONS,
) -> tuple[list[File], list[Remark]]:
    """Return the videos of `<class>/.../<file>` or `<subset>/<class>/.../<file>`, in order.

    Args:
        root: the folder.
        classes: of the data set, see `spellings`.
        subsets: names of folders that may stand above the classes, in plain letters.
        extensions: of the files that count, in lower case.

    Raises:
        ProtocolError: no such folder, or none of the classes in it.
    """
    if not root.is_dir():
        raise ProtocolError(f"{root}: expected the folder of the data set, found none")
    files: list[File] = []
    remarks: list[Remark] = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if not path.is_file() or any(part.startswith(".") for part in parts):
            continue
        subset = parts[0] if len(parts) > 2 and plain(parts[0]) in subsets else None
        label, *inside = parts[1:] if subset else parts
        name = _utf8("/".join(parts))
        if name != "/".join(parts):
            remarks.append(Remark("name is not UTF-8", name, "rename it"))
        elif path.suffix.lower() not in extensions:
            remarks.append(Remark("not a video", name))
        elif not inside or plain(label) not in classes:
            remarks.append(Remark("not in the folder of a class", name))
        else:
            subset_name = plain(subset) if subset else None
            files.append(File(classes[plain(label)], "/".join(inside), path, subset_name))
    if not files:
        example = f"; found e.g. {remarks[0].video}" if remarks else ""
        raise ProtocolError(
            f"{root}: expected videos in folders {', '.join(classes.values())}, found none{example}"
        )
    return files, remarks


def _utf8(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="replace")


# ------------------------------------------------------------------------------- together


def join(files: Sequence[File], lists: Lists, root: Path) -> tuple[list[Row], list[Remark]]:
    """Return a row for every video of the folder and every one that is only listed, and remarks.

    A listed name means the file of its class that has this path, or else this name, with its
    ending or without or with another, or else this name but for case and composed letters. A file
    stands for one listed name only.

    Raises:
        ProtocolError: in some run no video of the folder trains, or none tests.
    """
    meant, remarks = _meant(files, lists.entries)
    remarks = [*lists.remarks, *remarks]
    nothing = (None,) * lists.runs
    rows = []
    taken = {file: lists.entries[entry] for entry, file in meant.items()}
    for file in files:
        if file not in taken:
            remarks.append(Remark("in the folder, not in the split file", file.key))
        rows.append(Row(file.path, file.label, taken.get(file, nothing)))
    for entry, splits in lists.entries.items():
        if entry not in meant:
            remarks.append(Remark("in the split file, not in the folder", "/".join(entry)))
            rows.append(Row(root / entry.label / entry.inside, entry.label, splits))
    for run in range(lists.runs):
        counts = Counter(splits[run] for splits in taken.values())
        if not counts["train"] or not counts["test"]:
            raise ProtocolError(
                f"{root}: expected videos that train and videos that test in run {run + 1}, found "
                f"{counts['train']} and {counts['test']}: is it the folder of this split file?"
            )
    return rows, remarks


def _meant(
    files: Sequence[File], entries: Iterable[Entry]
) -> tuple[dict[Entry, File], list[Remark]]:
    """Return entry -> the file that it means; the strictest reading goes first, for all of them."""
    meant: dict[Entry, File] = {}
    taken: set[File] = set()
    remarks = []
    for is_exact, of_file, of_entry in _READINGS:
        known = defaultdict(list)
        for file in files:
            if file not in taken:
                known[file.label, of_file(file.inside)].append(file)
        for entry in entries:
            if entry in meant:
                continue
            candidates = known.get((entry.label, of_entry(entry.inside)), [])
            candidates = [file for file in candidates if file not in taken]
            if not candidates:
                continue
            meant[entry] = candidates[0]
            taken.add(candidates[0])
            if len(candidates) > 1:
                others = ", ".join(file.inside for file in candidates[1:])
                detail = f"took {candidates[0].inside}, not {others}"
                remarks.append(Remark("several files of this name", "/".join(entry), detail))
            if not is_exact:
                detail = f"took {candidates[0].inside}"
                remarks.append(Remark("spelt differently", "/".join(entry), detail))
    return meant, remarks


def _whole(inside: str) -> str:
    return inside


def _bare(inside: str) -> str:
    """Return the path without the ending of a video; a name may have other dots."""
    path = PurePosixPath(inside)
    return str(path.with_suffix("")) if path.suffix.lower() in EXTENSIONS else inside


def _name(inside: str) -> str:
    return inside.rpartition("/")[2]


def _bare_name(inside: str) -> str:
    return _name(_bare(inside))


def _plain_name(inside: str) -> str:
    return plain(_bare_name(inside))


# Exact or not, and what of the file's and of the listed path has to be the same.
_READINGS: Sequence[tuple[bool, Callable[[str], str], Callable[[str], str]]] = (
    (True, _whole, _whole),
    (True, _bare, _whole),
    (True, _name, _name),
    (True, _bare_name, _name),
    (False, _bare_name, _bare_name),
    (False, _plain_name, _plain_name),
)


def by_subset(files: Sequence[File], parts: Mapping[str, str | None]) -> list[Row]:
    """Return the rows of a data set whose folders are its split; `parts` is subset -> part.

    Raises:
        ProtocolError: a video lies in no such folder.
    """
    outside = [file.key for file in files if file.subset is None]
    if outside:
        raise ProtocolError(
            f"expected every video below one of {', '.join(parts)}, found {len(outside)} that are "
            f"not, e.g. {outside[0]}: give the split file"
        )
    return [Row(file.path, file.label, (parts[str(file.subset)],)) for file in files]


def draw(files: Sequence[File], test: int, seed: int) -> list[Row]:
    """Return rows of which `test` test and the others train, the same share of every class.

    Which ones is a hash of their names; shares are rounded by largest remainder, so that the total
    is met. Files of the same content stay on one side, for which a total may be missed.
    """
    members = defaultdict(list)
    for file in files:
        members[file.label].append(file)
    contents = _contents(files)
    exact = {
        label: len(members_of_label) * test / len(files)
        for label, members_of_label in members.items()
    }
    counts = {label: int(share) for label, share in exact.items()}
    by_rest = sorted(exact, key=lambda label: (counts[label] - exact[label], label))
    for label in by_rest[: test - sum(counts.values())]:
        counts[label] += 1
    tested: set[File] = set()
    for label, members_of_label in members.items():
        copies = defaultdict(list)
        for file in members_of_label:
            copies[contents[file]].append(file)
        order = sorted(
            copies.values(),
            key=lambda group: hashlib.sha256(
                f"{seed} {min(file.key for file in group)}".encode()
            ).digest(),
        )
        tested.update(file for group in draw_whole(order, counts[label]) for file in group)
    return [Row(f.path, f.label, ("test" if f in tested else "train",)) for f in files]


def _contents(files: Sequence[File]) -> dict[File, str]:
    """Return what tells the content of each file; only files of one size are read.

    A file that is empty or cannot be read is like no other.
    """
    sizes: dict[File, int] = {}
    for file in files:
        with suppress(OSError):
            sizes[file] = file.path.stat().st_size
    alike = Counter(sizes.values())
    contents = {file: file.key for file in files}
    for file, size in sizes.items():
        if size > 0 and alike[size] > 1:
            with suppress(OSError):
                contents[file] = file_sha256(file.path)
    return contents


# -------------------------------------------------------------------------------- writing


def write_rows(path: Path, rows: Sequence[Row], shown: Callable[[Path], str]) -> None:
    """Write the CSV that `index` reads; `shown` is what a path looks like in it."""
    runs = [f"split_{run:02d}" for run in range(len(rows[0].splits))]
    header = ["path", "label", *runs, *([] if rows[0].group is None else [GROUP])]
    cells = (
        [shown(row.path), row.label, *(part or "" for part in row.splits)]
        + ([] if row.group is None else [row.group])
        for row in rows
    )
    tables.write_csv(path, header, cells)


def write_remarks(path: Path, remarks: Sequence[Remark]) -> None:
    """Write the remarks, a row each."""
    tables.write_csv(path, Remark._fields, remarks)
