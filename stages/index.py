"""index: one row a video: what it is, whether it can be read, and how the runs split it.

Reads a folder ``<root>/<label>/<name>.<ext>``, or a CSV ``path,label`` with a column ``split``, or
``split_00``, ``split_01``, ... for several runs, or none; writes the index and, beside it, each
video's headers as JSON. Files of the same content are told: in two classes both are rows that
failed, in train and test of one run they are an error, and runs that are drawn keep them together.

    python -m stages.index
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from features.cache import tables
from features.cache.digests import Digests, digests
from features.cache.keys import item_key
from features.cache.store import replacing, store_root
from features.video.listing import EXTENSIONS, NO_FILE, DataSetError, Video, list_videos
from features.video.probe import probe
from stages.engine.checks import check_all
from stages.engine.ingredients import of_headers
from stages.engine.items import check_failures, fresh_outputs, item_path, run_items
from stages.engine.params import Splits
from stages.engine.paths import INDEX, index_of
from stages.engine.previous import previous_file
from stages.engine.progress import StageRun, told
from stages.engine.start import launch, start
from stages.engine.workers import Item, Workers, workers

COLUMNS = {
    "video_id": pa.string(),
    "label": pa.string(),
    "file": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "key": pa.string(),
    "path": pa.string(),
    "sha256": pa.string(),
    "bytes": pa.int64(),
    "container": pa.string(),
    "video_codec": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "interlaced": pa.bool_(),
    "duration_s": pa.float64(),
    "fps": pa.float64(),
    "frames_stated": pa.int64(),
    "audio_codec": pa.string(),
    "sample_rate_hz": pa.int32(),
    "channels": pa.int32(),
}
"""Columns of the index; after them one column ``split_<run>`` a run: train, test or null."""


_SHOWN = 10
"""So many copies are named in a message."""

T = TypeVar("T")


_EMPTY = hashlib.sha256().hexdigest()
"""Of a file without content, which has a reason of its own."""


def main() -> None:
    """Index the videos of index.root."""
    params = start("index")
    with told():
        check_all(params)  # this stage comes first: what is wrong anywhere ends here
        videos, ignored = list_videos(Path(params.index.root))
    with StageRun("index") as run:
        if ignored:
            _tell_ignored(run, ignored)
        known = _known_elsewhere(run, videos, index_of(INDEX))
        with fresh_outputs(INDEX.parent, run) as partial:
            (partial / INDEX.name).mkdir()
            rows = index(run, videos, partial / INDEX.name, workers(params.engine), known)
            check_failures(run, rows, params.max_failed)
            _tell_copies(run, rows)
            with told(f"{params.index.root}: "):
                splits = add_splits(rows, videos, params.index.splits)
            schema = pa.schema([*COLUMNS.items(), *((name, pa.string()) for name in splits)])
            tables.write(partial / f"{INDEX.name}.parquet", rows, schema)
        for label in few(rows):
            run.note(f"label {label!r} has fewer than two usable videos: it cannot be tested")


def _tell_ignored(run: StageRun, ignored: Sequence[Path]) -> None:
    """Say what of the folder is no row: videos one by one, other files by their number."""
    videos = [file for file in ignored if file.suffix.lower() in EXTENSIONS]
    for file in videos:
        run.note(f"{file} is in no class and left out: move it into the folder of its class")
    if others := [file for file in ignored if file not in videos]:
        run.note(f"files that are no videos and left out: {len(others)}, e.g. {others[0]}")


def _tell_copies(run: StageRun, rows: Iterable[tables.Row]) -> None:
    """Say which usable videos are copies of another of their class."""
    copies = [members for members in _by_content(rows) if len(members) > 1]
    if copies:
        one, other = (str(row["video_id"]) for row in copies[0][:2])
        run.note(
            f"files that are copies of another of their class: "
            f"{sum(map(len, copies)) - len(copies)}, e.g. {other} of {one}; each counts as a video"
        )


def _known_elsewhere(run: StageRun, videos: list[Video], index: Path) -> dict[str, tables.Row]:
    """Return by file the rows of the last index whose videos are not on this machine.

    A team may hold its videos in several places and share a CSV that lists them all.
    """
    absent = {video.file for video in videos if video.problem == NO_FILE}
    before = previous_file("index", index, run.note) if absent else None
    rows = tables.read(before, ["file", "sha256", "bytes", "status"]) if before else []
    known = {str(r["file"]): r for r in rows if r["status"] == "ok" and r["file"] in absent}
    if known:
        run.note(f"{len(known)} videos are not here; what is known of them is kept")
    return known


def index(
    run: StageRun,
    videos: list[Video],
    folder: Path,
    pool: Workers,
    elsewhere: Mapping[str, tables.Row] | None = None,
) -> list[tables.Row]:
    """Probe the videos into ``folder`` and return their rows, without splits.

    Args:
        run: the stage's run.
        videos: of the data set.
        folder: for their headers.
        pool: that reads them.
        elsewhere: by file what is known (``sha256``, ``bytes``) of videos that are not here.
    """
    elsewhere = elsewhere or {}
    with digests(store_root()) as known:
        hashes = with_copies(with_absent(hash_videos(known, videos), elsewhere))
    items = {}
    for video, digest in hashes.items():
        if digest is not None and not video.problem:
            key = item_key(of_headers(digest))
            path = item_path(video.video_id, ".json")
            items[video.video_id] = Item(video.video_id, {key: path}, video.location)
    outcome = run_items(run, list(items.values()), compute, folder, pool)
    rows = []
    for video, digest in hashes.items():
        reason = video.problem or next(iter(outcome[video.video_id].values()), None)
        row: tables.Row = {
            "video_id": video.video_id,
            "label": video.label,
            "file": video.file,
            "status": "failed" if reason else "ok",
            "reason": reason,
            "sha256": digest,
            "bytes": None,
        }
        if digest is not None:
            is_here = video.location.is_file()
            row["bytes"] = (
                video.location.stat().st_size if is_here else elsewhere[video.file]["bytes"]
            )
        if not reason:
            ((row["key"], row["path"]),) = items[video.video_id].files.items()
            row |= json.loads((folder / str(row["path"])).read_text(encoding="utf-8"))
        rows.append(row)
    problems = sum(video.problem is not None for video in hashes)
    run.count(items=problems, failed=problems)
    return rows


def compute(task: Path, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write the headers of the video at ``task``."""
    headers = probe(task)
    for path in outputs.values():
        with replacing(path) as partial:
            partial.write_text(json.dumps(asdict(headers), sort_keys=True), encoding="utf-8")
    return {}


def hash_videos(known: Digests, videos: Sequence[Video]) -> dict[Video, str | None]:
    """Return each video and its content's sha256; None, and a problem, where it has none."""
    with ThreadPoolExecutor() as threads:  # hashing leaves Python's lock
        return dict(threads.map(lambda video: _hash(known, video), videos))


def with_absent(
    hashed: Mapping[Video, str | None], known: Mapping[str, tables.Row]
) -> dict[Video, str | None]:
    """Return the videos with their hashes, those too that are not here but ``known``, by file."""
    found = {}
    for video, digest in hashed.items():
        row = known.get(video.file) if video.problem == NO_FILE else None
        if row is not None:
            video, digest = replace(video, problem=None), str(row["sha256"])
        found[video] = digest
    return found


def with_copies(hashed: Mapping[Video, str | None]) -> dict[Video, str | None]:
    """Return the videos with their hashes, with a problem where a file is in another class too.

    No copy can be used: which of the classes is right is for a person to say.
    """
    members: dict[str | None, list[Video]] = defaultdict(list)
    for video, digest in hashed.items():
        members[digest].append(video)
    found = {}
    for video, digest in hashed.items():
        copies = members[digest] if digest not in (None, _EMPTY) else []
        others = [other.video_id for other in copies if other.label != video.label]
        if others:
            problem = (
                f"same file as {', '.join(others)}, of another class; keep the one that is right"
            )
            video = replace(video, problem=problem)
        found[video] = digest
    return found


def _hash(known: Digests, video: Video) -> tuple[Video, str | None]:
    """Return the video with its content's hash, or with the reason why it has none."""
    if video.problem:
        return video, None
    try:
        return video, known.sha256(video.location)
    except OSError as error:
        return replace(video, problem=f"cannot be read: {error.strerror}"), None


# -------------------------------------------------------------------------------- listing


# --------------------------------------------------------------------------------- splits


def add_splits(rows: list[tables.Row], videos: list[Video], splits: Splits) -> list[str]:
    """Add the split columns to ``rows`` and return their names.

    Splits that the CSV gives are taken as they are. Otherwise each run draws the share
    ``test_share`` of every label by a seeded hash of the video ids, so that one more video moves
    no other across by more than the rounding; files of the same content stay on one side.

    Raises:
        DataSetError: the CSV has the same content in train and in test of a run.
    """
    given = {video.video_id: video.splits for video in videos}
    if any(split for found in given.values() for split in found):
        names = [f"split_{number:02d}" for number in range(len(videos[0].splits))]
        for row in rows:
            found = given[str(row["video_id"])]
            for name, split in zip(names, found, strict=True):
                row[name] = split if row["status"] == "ok" else None
        _check_parts(rows, names)
        return names
    usable = defaultdict(list)
    for members in _by_content(rows):
        usable[members[0]["label"]].append(members)
    names = [f"split_{number:02d}" for number in range(splits.runs)]
    for name in names:
        for contents in usable.values():
            contents.sort(key=lambda rows: _draw(splits.seed, name, str(rows[0]["video_id"])))
            count = sum(map(len, contents))
            tested = min(max(round(splits.test_share * count), 1), count - 1)
            test = {row["video_id"] for rows in draw_whole(contents, tested) for row in rows}
            for row in (row for rows in contents for row in rows):
                row[name] = "test" if row["video_id"] in test else "train"
    return names


def _by_content(rows: Iterable[tables.Row]) -> list[list[tables.Row]]:
    """Return the usable rows, those of the same content together."""
    found: dict[object, list[tables.Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok":
            found[row["sha256"]].append(row)
    return list(found.values())


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


def _check_parts(rows: Iterable[tables.Row], names: Sequence[str]) -> None:
    """Raise DataSetError where copies of a file train and test in the same run."""
    found = []
    for members in _by_content(rows):
        for name in names:
            parts = {str(row[name]): str(row["video_id"]) for row in members if row[name]}
            if len(parts) > 1:
                found.append(f"{parts['train']} trains and {parts['test']} tests in {name}")
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataSetError(
            f"expected other files in test than in train, found the same content in both: "
            f"{'; '.join(found[:_SHOWN])}{more}. Give copies the same split, or none to all but one"
        )


def _draw(seed: int, name: str, video_id: str) -> str:
    return hashlib.sha256(f"{seed} {name} {video_id}".encode()).hexdigest()


def few(rows: Sequence[tables.Row]) -> list[str]:
    """Return the labels with fewer than two usable videos, copies counted once."""
    usable = Counter({str(row["label"]): 0 for row in rows})
    usable.update(str(members[0]["label"]) for members in _by_content(rows))
    return sorted(label for label, count in usable.items() if count < 2)


if __name__ == "__main__":
    launch(main)
