"""What a stage puts out: folders of items with their index, in place at once or not at all."""

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from features.cache import claims, tables
from features.cache.store import store_root
from features.cache.summaries import summaries
from stages.engine.progress import StageRun, console, fail, print_table


@contextmanager
def fresh_outputs(parent: Path, run: StageRun) -> Iterator[Path]:
    """Yield an empty folder; when all went well, what lies in it moves to ``parent``.

    Each file or folder takes the place of the one with its name; nothing else there is touched.
    One process at a time does this; another waits for it, one that its dvc has left behind too.
    """
    partial = parent / f".{run.name}.tmp"
    _end_with_dvc()
    with claims.held(
        parent / f".{run.name}.busy.tmp",
        on_wait=lambda: run.note("waiting for another process that writes the same outputs"),
    ):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for made in sorted(partial.iterdir()):
                target = parent / made.name
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                made.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _end_with_dvc() -> None:
    """Let this process end with the dvc that started it: nobody waits for its outputs then."""
    if "DVC_STAGE" not in os.environ:
        return
    dvc = os.getppid()

    def watch() -> None:
        while os.getppid() == dvc:
            time.sleep(claims.POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


EMPTY = "empty.txt"
"""In a folder without items: why there are none."""

INDEX = {
    "video_id": pa.string(),
    "label": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "key": pa.string(),
    "content": pa.string(),
    "path": pa.string(),
}
"""Columns of every index of items: one row a video.

``path`` lies below the folder of that name; ``content`` is what the keys of the items that are made
of it hold, :func:`features.cache.arrays.content_sha256`.
"""


def write_index(
    index: Path,
    folder: Path,
    rows: Sequence[Mapping[str, object]],
    files: Mapping[str, tuple[str, str]],
    more: Mapping[str, pa.DataType],
) -> None:
    """Write the index of a folder of array files; where there are none, the folder says so.

    Args:
        index: the Parquet file to write.
        folder: of the files.
        rows: rows with ``video_id``, ``label``, ``status``, ``reason``.
        files: video id -> key and path of its item.
        more: further columns; an item's values are the attributes of that name in its file.
    """
    filled = []
    with summaries(store_root(), index.stem) as known:
        for row in rows:
            entry = {column: row[column] for column in ("video_id", "label", "status", "reason")}
            if entry["status"] == "ok":
                key, path = files[str(row["video_id"])]
                entry |= {"key": key, "path": path, **known.of(key, folder / path, more)}
            filled.append(entry)
    schema = pa.schema([*INDEX.items(), *more.items()])
    tables.write(index, filled, schema)
    if not any(entry["status"] == "ok" for entry in filled):
        why = "no backbone of params.yaml reads it" if not rows else "no video could be used"
        say_empty(folder, f"{why}, see {index.name}")


def say_empty(folder: Path, why: str) -> None:
    """Write into a folder without items why there are none: DVC warns of one that is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EMPTY).write_text(f"Nothing is here: {why}.\n", encoding="utf-8")


def check_failures(run: StageRun, rows: Sequence[Mapping[str, object]], max_failed: float) -> None:
    """End the stage if more than the share ``max_failed`` of the rows have failed.

    Args:
        run: the stage's run.
        rows: rows with ``video_id``, ``status`` and ``reason``.
        max_failed: the largest share that is put up with.
    """
    failed = [row for row in rows if row["status"] == "failed"]
    if not rows:
        raise fail(f"{run.name}: there are no videos")
    if len(failed) > max_failed * len(rows):
        print_table(
            f"{run.name}: {len(failed)} of {len(rows)} videos failed",
            ["video", "reason"],
            [(row["video_id"], row["reason"]) for row in failed],
            to=console,
        )
        raise fail(
            f"{run.name}: {len(failed)} of {len(rows)} videos failed, allowed are "
            f"{max_failed:.0%} (max_failed in params.yaml). Mend or remove them, or raise "
            "max_failed, and run again: what was computed is kept"
        )
    if run.counts["failed"]:  # what failed in a stage before has been told
        run.note(f"{len(failed)} of {len(rows)} videos have failed (affectline failures)")
