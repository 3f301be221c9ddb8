"""The videos that a person names: files, folders with all below them, lists of paths."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from features.video.listing import EXTENSIONS, NO_FILE, Video, unique, video_at

LABEL = "video"
"""Stands for the class, which nobody knows, where items are named <label>/<name>."""

LISTS = (".txt", ".csv")
"""Endings of files that list videos: a path a line, or a column `path`."""


def videos_at(paths: Iterable[Path]) -> list[Video]:
    """Return the videos of files, of folders (with all below them) and of lists, in that order.

    A file that is named counts, whatever its ending; in a folder those count that end like videos.

    Raises:
        ValueError: a list that cannot be read, or no video at all.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise ValueError(
            "expected videos, found none: name files, folders with files that end with one of "
            f"{' '.join(sorted(EXTENSIONS))}, or a list ({', '.join(LISTS)})"
        )
    return list(unique(_video(file) for file in files))


def _video(file: Path) -> Video:
    video = video_at(file, LABEL, str(file))
    is_there = video.problem or _is_file(file)
    return video if is_there else replace(video, problem=NO_FILE)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path).parts
            hidden = any(part.startswith(".") for part in inside)
            if file.suffix.lower() in EXTENSIONS and not hidden and file.is_file():
                yield file
    elif path.suffix.lower() in LISTS:
        yield from (path.parent / name for name in _listed(path))
    else:
        yield path


def _listed(path: Path) -> Iterator[str]:
    """Yield the paths of a list, which count from its folder."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                if "path" not in (reader.fieldnames or []):
                    raise ValueError(f"{path}: expected a CSV with a column path")
                names = [row["path"] for row in reader]
            else:
                names = [line.strip() for line in file]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a list of paths in UTF-8, found: {error}") from None
    for name in names:
        if name and "\0" in name:
            raise ValueError(f"{path}: expected paths, found {name!r}")
        if name:
            yield name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name or a path that the system does not take
        return False
