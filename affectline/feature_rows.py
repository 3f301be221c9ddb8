"""The table of features as `dvc repro` would write it, known from the store: what runs are made of.

A worker trains before any stage has linked its features, on the very videos that the stage would
choose: the keys of its runs are the stage's only if of each video it is known that there are
features, or that there will be none and why.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa

from affectline.plan import Link, Plan
from features.cache import tables
from features.cache.arrays import read_attributes
from features.cache.store import ItemStore, store_root
from stages.engine.items import item_path
from stages.engine.paths import FEATURES, TABLES, index_of
from stages.tables import COLUMNS

Failed = Mapping[str, Mapping[str, str]]
"""Stage, of decode ``decode/<view>`` -> video id -> why it has failed in this worker."""


def feature_rows(
    plan: Plan, backbone: str, videos: Sequence[tables.Row], failed: Failed
) -> tuple[list[tables.Row], list[str]]:
    """Return a backbone's rows, and the videos of which nothing is known yet.

    Args:
        plan: the keys.
        backbone: a name in params.yaml.
        videos: rows of the index.
        failed: what has failed.
    """
    known, unknown = [], []
    for video in videos:
        name = str(video["video_id"])
        row: tables.Row = dict.fromkeys(COLUMNS)
        row |= {"backbone": backbone, "video_id": name, "pretrained": False}
        link, why = None, video["reason"]
        if video["status"] == "ok":
            link = _features(plan, backbone, name, str(video["sha256"]))
            why = None if link else _why(plan, backbone, name, failed)
        if link:
            row |= _made(plan, link)
        elif why:
            row |= {"status": "failed", "reason": why}
        else:
            unknown.append(name)
        known.append(row)
    return known, unknown


def write_table(folder: Path, rows: Sequence[tables.Row]) -> None:
    """Write rows where train looks for them below ``folder``."""
    tables.write(folder / index_of(TABLES).name, rows, pa.schema(list(COLUMNS.items())))


def file_of(plan: Plan, link: Link) -> Path | None:
    """Return where an item can be read: in the store, else in the output."""
    file = ItemStore(store_root()).path(link.key, link.file.suffix)
    if file.is_file():
        return file
    row = plan.rows(link.output).get(link.video_id)
    return link.file if row and row["key"] == link.key and link.file.is_file() else None


def _features(plan: Plan, backbone: str, video_id: str, sha256: str) -> Link | None:
    """Return a video's features, in the store, None where there are none."""
    link = plan.chain(video_id, sha256, backbone)[-1]
    if link.stage != f"extract@{backbone}" or not (file := file_of(plan, link)):
        return None
    if file == link.file:
        ItemStore(store_root()).add_copy(link.key, file, file.suffix)
    return link


def _made(plan: Plan, link: Link) -> tables.Row:
    file = ItemStore(store_root()).path(link.key, link.file.suffix)
    return {
        "status": "ok",
        "key": link.key,
        "content": plan.content(link),
        "path": item_path(link.video_id),
        "pretrained": read_attributes(file)["pretrained"],
    }


def _why(plan: Plan, backbone: str, video_id: str, failed: Failed) -> str | None:
    """Return why a video has no features, by this worker or by the stage's last output."""
    view = plan.params.backbones[backbone].view
    stages = ["decode/segments", "faces"] if view == "faces" else [f"decode/{view}"]
    stages.append(f"extract@{backbone}")
    reasons = [failed[stage][video_id] for stage in stages if video_id in failed.get(stage, {})]
    row = plan.rows(FEATURES / backbone).get(video_id, {})
    return reasons[0] if reasons else cast(str | None, row.get("reason"))
