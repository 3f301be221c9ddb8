"""`affectline export`: a backbone's feature in a form that others read, with a card and the labels.

The folder has the rows of all videos (:mod:`affectline.formats`), `videos.csv` with a line a video
of the index (label, splits, where its rows lie, or why it has none), and README.md, which says what
the numbers are (:mod:`affectline.card`). It is there whole or not at all.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.progress import track

from affectline.card import Counts, card
from affectline.formats import FORMATS, Places, Video
from affectline.project import FeatureArrays, Project
from features.cache.tables import write_csv
from stages.engine.progress import console

EXPORTS = Path("exports")
"""Where an export goes for which no folder is named."""


class ExportError(ValueError):
    """Nothing can be exported; the message says why, and what to do."""


def export(project: Project, source: str, kind: str, out: Path | None = None) -> tuple[Path, int]:
    """Write a feature of all videos in a format.

    Args:
        project: an open one.
        source: `<backbone>/<feature>`, e.g. `vgg16/fc6`.
        kind: one of `FORMATS`.
        out: the folder to make; None for `exports/<backbone>_<feature>_<kind>`.

    Returns:
        The folder, and how many videos have rows in it.

    Raises:
        ValueError: a malformed source, no such backbone or feature, no video that has it, rows of
            a shape that the format has no place for, or the folder is there.
    """
    features, index = project.features(source), project.index()
    if not len(features):
        why = next(iter(features.missing.values()), "the data set is empty")
        raise ExportError(f"{source}: no video has it, the first says: {why}")
    folder = out or EXPORTS / f"{source.replace('/', '_')}_{kind}"
    counts = Counts()
    with new_folder(folder) as partial:
        videos = _videos(source, features, index, counts)
        places = FORMATS[kind](partial, videos)
        _write_table(partial / "videos.csv", index, features, counts, places)
        text = card(project, source, kind, features, counts)
        (partial / "README.md").write_text(text, encoding="utf-8")
    return folder, len(features)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` when all went well.

    Raises:
        ExportError: something has that name.
    """
    if os.path.lexists(folder):
        raise ExportError(
            f"{folder}: expected no such folder, found one: remove it, or name another with --out"
        )
    partial = folder.absolute().with_name(f".{folder.name}.{os.getpid()}.tmp")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _videos(
    source: str, features: FeatureArrays, index: pd.DataFrame, counts: Counts
) -> Iterator[Video]:
    """Yield the videos that have the feature, read one by one; ``counts`` learns what they are."""
    runs = _runs(index)
    feature = source.partition("/")[2]
    quiet = not console.is_terminal
    shown = track(features, "export", console=console, transient=True, disable=quiet)
    for number, video_id in enumerate(shown):
        arrays, about = features.read(video_id)
        rows = arrays[feature]
        if counts.files and (rows.shape[1:], rows.dtype) != (counts.shape, counts.dtype):
            raise ExportError(
                f"{video_id}: expected rows of {counts.shape} {counts.dtype} as the others have, "
                f"found {rows.shape[1:]} {rows.dtype}: extract this backbone again"
            )
        counts.take(feature, arrays, about, video_id)
        row = index.loc[video_id]
        splits = {run: row[run] if isinstance(row[run], str) else None for run in runs}
        yield Video(
            number,
            video_id,
            str(row["label"]),
            splits,
            rows,
            arrays["valid"],
            arrays["pts_s"],
            arrays["index"],
        )


def _runs(index: pd.DataFrame) -> list[str]:
    return sorted(name for name in index.columns if name.startswith("split_"))


def _write_table(
    path: Path,
    index: pd.DataFrame,
    features: FeatureArrays,
    counts: Counts,
    places: Places,
) -> None:
    """Write a line a video of the index: label, splits, and where its rows lie or why not."""
    runs = _runs(index)
    columns = list(next(iter(places.values()), {}))
    rows = []
    for video_id, video in index.iterrows():
        place: Mapping[str, str] = places.get(str(video_id), {})
        all_rows, valid_rows = counts.rows.get(str(video_id), ("", ""))
        reason = features.missing.get(str(video_id), "")
        if not reason and video_id not in features:
            reason = "not in the index of the features"
        splits = [video[run] if isinstance(video[run], str) else "" for run in runs]
        files = [place.get(column, "") for column in columns]
        rows.append((video_id, video["label"], all_rows, valid_rows, *files, *splits, reason))
    names = ["video_id", "label", "rows", "rows_valid", *columns, *runs, "reason"]
    write_csv(path, names, rows)
