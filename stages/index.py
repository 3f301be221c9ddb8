"""index: one row a video: what it is, whether it can be read, and how the runs split it.

Reads a folder ``<root>/<label>/<name>.<ext>``, or a CSV ``path,label`` with a column ``split``, or
``split_00``, ``split_01``, ... for several runs, or none. A CSV ``video_id,label`` lists videos of
which there are features alone. Columns that index.targets names say what is told of a video; the
runs are drawn even over the first of them. Columns that index.splits names give each video its
group or corpus. Writes the index and, beside it, each video's headers as JSON. Files of the same
content are told: in two classes both are rows that failed, in train and test of one run they are an
error, and runs that are drawn keep them together.

    python -m stages.index
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from features.cache import tables
from features.cache.digests import digests
from features.cache.keys import item_key
from features.cache.store import replacing, store_root
from features.video.contents import hash_videos
from features.video.listing import EXTENSIONS, NO_FILE, Video, list_videos
from features.video.probe import probe
from features.video.splits import by_content
from heads.training.targets import metadata_of
from stages.engine.checks import check_all
from stages.engine.columns import add_targets, columns_of, declared, split_evenly
from stages.engine.ingredients import of_headers
from stages.engine.items import item_path, run_items
from stages.engine.outputs import check_failures, fresh_outputs
from stages.engine.paths import INDEX, index_of
from stages.engine.previous import previous_file
from stages.engine.progress import StageRun, told
from stages.engine.protocols import OWN, add_splits, remarks
from stages.engine.start import launch, start
from stages.engine.workers import Item, Work, Workers, workers

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
"""Columns of the index; after them those of targets and of `OWN`, as far as params.yaml names them,
and one column ``split_<run>`` a run: train, test or null."""


def main() -> None:
    """Index the videos of index.root."""
    params = start("index")
    with told():
        check_all(params)  # this stage comes first: what is wrong anywhere ends here
        videos, ignored = list_videos(Path(params.index.root), columns_of(params.index))
    with StageRun("index") as run:
        if ignored:
            _tell_ignored(run, ignored)
        pool = workers(params.engine.here)  # the files are read here
        known = _known_elsewhere(run, videos, index_of(INDEX))
        with fresh_outputs(INDEX.parent, run) as partial:
            (partial / INDEX.name).mkdir()
            rows = index(run, videos, partial / INDEX.name, pool, known)
            check_failures(run, rows, params.max_failed)
            _tell_copies(run, rows)
            with told(f"{params.index.root}: "):
                of_targets = add_targets(rows, videos, params.index)
                splits = split_evenly(
                    rows, params.index, lambda each: add_splits(each, videos, params.index)
                )
            added = [*(name for name in OWN if name in rows[0]), *splits]
            columns = [*COLUMNS.items(), *of_targets.items(), *((n, pa.string()) for n in added)]
            schema = pa.schema(columns, metadata_of(declared(params.index)) or None)
            tables.write(partial / f"{INDEX.name}.parquet", rows, schema)
        for line in remarks(rows, splits, videos, params.index):
            run.note(line)


def _tell_ignored(run: StageRun, ignored: Sequence[Path]) -> None:
    """Say what of the folder is no row: videos one by one, other files by their number."""
    videos = [file for file in ignored if file.suffix.lower() in EXTENSIONS]
    for file in videos:
        run.note(f"{file} is in no class and left out: move it into the folder of its class")
    if others := [file for file in ignored if file not in videos]:
        run.note(f"files that are no videos and left out: {len(others)}, e.g. {others[0]}")


def _tell_copies(run: StageRun, rows: Iterable[tables.Row]) -> None:
    """Say which usable videos are copies of another of their class."""
    copies = [members for members in by_content(rows) if len(members) > 1]
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
        hashes = hash_videos(known, videos, elsewhere)
    items = {}
    for video, digest in hashes.items():
        if digest is not None and not video.problem:
            key = item_key(of_headers(digest))
            path = item_path(video.video_id, ".json")
            items[video.video_id] = Item(video.video_id, {key: path}, video.location)
    outcome = run_items(run, Work(list(items.values()), headers_of, pool), folder)
    rows = []
    for video, digest in hashes.items():
        reason = video.problem or next(iter(outcome[video.video_id].values()), None)
        row: tables.Row = {
            "video_id": video.video_id,
            "label": video.label,
            "file": video.file or None,
            "status": "failed" if reason else "ok",
            "reason": reason,
            "sha256": digest,
            "bytes": None,
        }
        if digest is not None and video.location is not None:
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


def headers_of(task: Path | None, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write the headers of the video at ``task``, or none where there are features alone."""
    if task is not None:
        return compute(task, outputs)
    for path in outputs.values():
        with replacing(path) as partial:
            partial.write_text("{}", encoding="utf-8")
    return {}


def compute(task: Path, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write the headers of the video at ``task``."""
    headers = probe(task)
    for path in outputs.values():
        with replacing(path) as partial:
            partial.write_text(json.dumps(asdict(headers), sort_keys=True), encoding="utf-8")
    return {}


if __name__ == "__main__":
    launch(main)
