"""The videos of a data set: a folder ``<label>/<name>.<ext>``, or a CSV that names them.

A CSV ``video_id,label`` lists videos of which no files are to be had: features alone, imported from
elsewhere, are then all that there is of them. A CSV may have more columns, which are read where
they are asked for.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from features.video.columns import Cell, Reader

EXTENSIONS = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .flv .wmv .asf .mpg .mpeg .ts .m2ts .vob .ogv .3gp .rm .rmvb"
    " .mxf .dv .gif .mts".split()
)
"""File names that are taken for videos when a folder is listed."""


NO_FILE = "no such file"

NAME_BYTES = 220
"""Longest label or name of a video: file systems take 255 bytes, and endings are added."""


NO_LABEL = "all"
"""Label of the videos of a CSV that has none: their ids begin with it."""


class DataSetError(ValueError):
    """The folder or CSV cannot be read as a data set."""


@dataclass(frozen=True)
class Video:
    """A file that stands for a video.

    Attributes:
        video_id: ``<label>/<name>``, unique.
        label: its class.
        file: its path as the index shows it, relative to the root where that is a folder; empty
            where the data set has features alone.
        location: its path, None where it has none.
        splits: ``train``, ``test`` or None, of each run that the CSV has; empty for a folder.
        problem: why it cannot be used, where its name alone says so.
        cells: what the CSV's other columns say, in the order in which they were asked for.
    """

    video_id: str
    label: str
    file: str
    location: Path | None
    splits: tuple[str | None, ...] = ()
    problem: str | None = None
    cells: tuple[Cell, ...] = ()


def list_videos(
    root: Path, columns: Mapping[str, Reader] | None = None
) -> tuple[list[Video], list[Path]]:
    """Return the videos of a folder or CSV in order of their ids, and the files left out.

    Args:
        root: the folder or CSV.
        columns: other columns that the CSV must have -> what reads their cells. With them the CSV
            may lack ``label``: then all videos have the label ``all``.

    Raises:
        DataSetError: no such folder or file, or a CSV that is neither ``path,label[,split]`` nor
            ``video_id,label[,split]``, or a cell that its reader does not take.
    """
    columns = columns or {}
    if root.is_dir() and columns:
        raise DataSetError(
            f"{root}: expected a CSV with the columns {', '.join(columns)} that params.yaml names "
            "under index, found a folder; set index.root"
        )
    if root.is_dir():
        videos, ignored = _list_folder(root)
    elif root.is_file():
        videos, ignored = _list_csv(root, columns), []
    else:
        raise DataSetError(
            f"{root}: expected a folder <label>/<name>.<ext> or a CSV path,label[,split], found "
            "nothing; set index.root in params.yaml"
        )
    if not videos:
        raise DataSetError(
            f"{root}: expected videos as <label>/<name>.<ext> with one of the endings "
            f"{' '.join(sorted(EXTENSIONS))}, found none"
        )
    # in an order of its own, so that ids do not depend on the order of a CSV's rows
    ordered = sorted(videos, key=lambda video: (video.video_id, video.file))
    return sorted(unique(ordered), key=lambda video: video.video_id), ignored


def _list_folder(root: Path) -> tuple[list[Video], list[Path]]:
    videos, ignored = [], []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if len(inside.parts) < 2 or path.suffix.lower() not in EXTENSIONS:
            ignored.append(inside)
            continue
        label, *folders, name = inside.parts
        video = video_at(path, label, inside.as_posix())
        if folders and not video.problem:
            # Not taken: <part>/<label>/<name> looks alike, and its classes would be train and test.
            video = replace(
                video,
                video_id=f"{label}/{'~'.join([*folders, path.stem])}",
                problem=f"lies in a folder below {label}; move it to {label}/{name}, or list it "
                "in a CSV path,label and name that in index.root",
            )
        videos.append(video)
    return videos, ignored


def _list_csv(path: Path, more: Mapping[str, Reader]) -> list[Video]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            named, runs = _read_header(path, columns, more)
            rows = ((reader.line_num, row) for row in reader)
            videos = [_csv_video(path, line, row, named, runs, more) for line, row in rows]
            if named == "video_id":
                _check_once(path, videos)
            return videos
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(f"{path}: expected a CSV in UTF-8, found: {error}") from error


def _read_header(
    path: Path, columns: Sequence[str], wanted: Mapping[str, Reader]
) -> tuple[str, list[str]]:
    """Return the column that names a video, and those of the runs."""
    named = "video_id" if "video_id" in columns else "path"
    runs = [name for name in columns if name.startswith("split")]
    numbered = [f"split_{number:02d}" for number in range(len(runs))]
    if (
        not {named, *([] if wanted else ["label"])} <= {*columns}
        or len({*columns}) < len(columns)
        or runs not in (["split"], numbered)
    ):
        raise DataSetError(
            f"{path}: expected the columns path,label (of features alone video_id,label) and "
            "split, or split_00 and so on, or neither, each once, found "
            f"{','.join(columns)}"
        )
    for column in wanted:
        if column not in columns:
            raise DataSetError(
                f"{path}: expected the column {column!r}, which params.yaml names under index, "
                f"found {', '.join(columns)}"
            )
    return named, runs


def unread(path: Path, columns: Iterable[str]) -> list[str]:
    """Return the columns of a CSV that are neither a video's own nor in ``columns``."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    own = {"path", "video_id", "label", *columns}
    return [name for name in header if name not in own and not name.startswith("split")]


def _check_once(table: Path, videos: Iterable[Video]) -> None:
    """Raise DataSetError where an id stands twice: it would be two videos' features."""
    counts = Counter(video.video_id for video in videos)
    if twice := [video_id for video_id, count in counts.items() if count > 1]:
        raise DataSetError(f"{table}: expected each video_id once, found {twice[0]!r} twice")


def _csv_video(
    table: Path,
    line: int,
    row: Mapping[str, str | None],
    named: str,
    runs: Sequence[str],
    more: Mapping[str, Reader],
) -> Video:
    file, label = row.get(named), row.get("label", NO_LABEL)
    where = f"{table}, line {line}"
    if None in row or not file or "\0" in file:
        expected = ",".join(name for name in row if name is not None)
        raise DataSetError(f"{where}: expected {expected}, found {list(row.values())}")
    if not label or label.strip() != label or label.startswith(".") or set(label) & set("/\\\0"):
        raise DataSetError(
            f"{where}: expected a label that can name a folder (no slash, no dot in front, no "
            f"space around it), found {label!r}"
        )
    splits = [row.get(run) or None for run in runs]
    for split in splits:
        if split not in (None, "train", "test"):
            raise DataSetError(
                f"{where}: expected the split train, test or nothing, found {split!r}"
            )
    cells = tuple(_cell(where, name, row[name] or "", read) for name, read in more.items())
    if named == "video_id":
        return replace(_listed(where, label, file), splits=tuple(splits), cells=cells)
    location = table.parent / file
    video = video_at(location, label, file)
    if not video.problem and not _is_file(location):
        video = replace(video, problem=NO_FILE)
    return replace(video, splits=tuple(splits), cells=cells)


def _cell(where: str, name: str, text: str, read: Reader) -> Cell:
    """Return what a cell of a column says.

    Raises:
        DataSetError: its reader does not take it.
    """
    try:
        return read(text)
    except ValueError as error:
        raise DataSetError(f"{where}, column {name}: {error}") from None


def _listed(where: str, label: str, video_id: str) -> Video:
    """Return a video of which there are features alone.

    Raises:
        DataSetError: the id is neither ``<name>`` nor ``<label>/<name>`` with the label of its row.
    """
    name = video_id.removeprefix(f"{label}/")
    if not name or "/" in name or "\\" in name:
        raise DataSetError(
            f"{where}: expected a video_id <name> or {label}/<name>, found {video_id!r}"
        )
    video = video_at(Path(f"{name}.h5"), label, "")
    return replace(video, video_id=f"{label}/{name}", location=None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name or a path that the system does not take
        return False


def video_at(location: Path, label: str, file: str) -> Video:
    """Return a file as a video of a class; a name that cannot be one is its problem."""
    video = Video(f"{label}/{location.stem}", label, file, location)
    try:
        f"{label}/{file}".encode()
    except UnicodeEncodeError:
        video_id, label, file = (
            name.encode(errors="surrogateescape").decode(errors="replace")
            for name in (video.video_id, label, file)
        )
        return Video(video_id, label, file, location, problem="its name is not UTF-8; rename it")
    if location.stem in ("", ".", ".."):
        return replace(video, problem="its name cannot name its items; rename it")
    if max(len(part.encode()) for part in (label, location.name)) > NAME_BYTES:
        problem = f"its name or label has more than {NAME_BYTES} bytes; rename it"
        return replace(video, problem=problem)
    return video


def unique(videos: Iterable[Video]) -> list[Video]:
    """Give each video an id of its own: files that share one keep their ending, or a number."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last that was given to a name
    kept = []
    for video in videos:
        video_id = video.video_id
        if video_id in taken:
            video_id = f"{video.label}/{Path(video.file).name}"
        while video_id in taken:
            numbers[video.video_id] = numbers.get(video.video_id, 1) + 1
            video_id = f"{video.video_id}~{numbers[video.video_id]}"
        taken.add(video_id)
        kept.append(replace(video, video_id=video_id))
    return kept
