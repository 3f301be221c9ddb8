"""What is current and what `dvc repro` would compute: counted and estimated, nothing is run."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich import box
from rich.table import Table

from features import tables
from features.cache import ItemStore, store_root
from stages.console import LOGS
from stages.index import list_videos
from stages.items import item_path
from stages.params import Params
from stages.plan import FEATURES, INDEX, VIEWS, Link, Plan

RESULTS = Path("results")

Chain = dict[str, Link | None]
"""Video id -> its item of one output; None where its key is not known yet."""


@dataclass(frozen=True)
class Stage:
    """One output of a stage, counted.

    Attributes:
        name: of the stage as in dvc.yaml.
        output: what it puts out.
        items: what there would be after `dvc repro`.
        current: of them, those that lie in the output as they would be made now.
        in_store: those that do not, but lie in the store: linked, not computed.
        stale: items in the output that were made of something else, or of videos that are gone.
        failed: rows with a reason.
        to_compute: items that are neither in the output nor in the store.
        bytes: of the output's files.
        seconds: an estimate for `to_compute`, None where no earlier run of the stage tells.
        new_bytes: an estimate of the disk that they take, None where there is no file to tell.
    """

    name: str
    output: str
    items: int
    current: int
    in_store: int
    stale: int
    failed: int
    to_compute: int
    bytes: int
    seconds: float | None
    new_bytes: int | None


def status(params: Params) -> list[Stage]:
    """Return the outputs that have items, in the order of the flow.

    The videos are those that lie in the root now. One that is new since the last index, or whose
    size has changed, counts as to be computed everywhere.

    Raises:
        ValueError: the root cannot be read (where it is not there at all, the index says which
            videos there are), or params.yaml and an experiment do not fit.
    """
    rows = _rows(INDEX)
    hashes = _hashes(params, rows)
    plan = Plan(params)
    headers: Chain = {n: plan.headers(n, sha) if sha else None for n, sha in hashes.items()}
    stages = [_count("index", INDEX, headers, rows)]
    usable = {name: sha for name, sha in hashes.items() if not _has_failed(rows.get(name))}
    chains: dict[str, Chain] = {}
    for view in plan.views:
        chains[view] = {n: plan.view(n, sha, view) if sha else None for n, sha in usable.items()}
        stages.append(_count("decode", VIEWS / view, chains[view]))
    if any(block.view == "faces" for block in params.backbones.values()):
        chains["faces"] = _after(chains["segments"], VIEWS / "segments", plan.faces)
        stages.append(_count("faces", VIEWS / "faces", chains["faces"]))
    for name, block in params.backbones.items():

        def features(video_id: str, key: str, name: str = name) -> Link | None:
            return plan.features(video_id, name, key)

        chain = _after(chains[block.view], VIEWS / block.view, features)
        stages.append(_count(f"extract@{name}", FEATURES / name, chain))
    done = {stage.output for stage in stages if stage.current == stage.items}
    stages += [_count_runs(params, name, done) for name in params.experiments]
    return stages


def _rows(output: Path) -> dict[str, tables.Row]:
    path = output.with_suffix(".parquet")
    return {str(row["video_id"]): row for row in tables.read(path)} if path.is_file() else {}


def _has_failed(row: tables.Row | None) -> bool:
    return row is not None and row["status"] == "failed"


def _hashes(params: Params, rows: Mapping[str, tables.Row]) -> dict[str, str | None]:
    """Return video id -> sha256 of its file, None where it is new or of another size."""
    root = Path(params.index.root)
    if not root.exists() and rows:  # a clone without the videos
        return {name: str(row["sha256"]) for name, row in rows.items() if row["sha256"]}
    by_file = {str(row["file"]): row for row in rows.values()}
    found: dict[str, str | None] = {}
    for video in list_videos(root)[0]:
        row = by_file.get(video.file)
        same = row is not None and video.location.is_file()
        same = same and row is not None and row["bytes"] == video.location.stat().st_size
        found[video.video_id] = str(row["sha256"]) if same and row is not None else None
    return found


def _after(chain: Chain, output: Path, link: Callable[[str, str], Link | None]) -> Chain:
    """Return the items made of those of `chain`, but of those that failed there."""
    rows = _rows(output)
    return {
        video_id: link(video_id, before.key) if before else None
        for video_id, before in chain.items()
        if not _has_failed(rows.get(video_id))
    }


def _count(
    name: str, output: Path, chain: Chain, rows: Mapping[str, tables.Row] | None = None
) -> Stage:
    rows = _rows(output) if rows is None else rows
    store = ItemStore(store_root())
    suffix = ".json" if output == INDEX else ".h5"
    sizes = {
        video_id: path.stat().st_size
        for video_id in rows
        for path in [output / item_path(video_id, suffix)]
        if path.is_file()
    }
    current, in_store, to_compute = 0, 0, 0
    for video_id, link in chain.items():
        row = rows.get(video_id)
        if _has_failed(row):
            continue
        is_there = video_id in sizes and row is not None
        if link is not None and is_there and row is not None and row["key"] == link.key:
            current += 1
        elif link is not None and store.has(link.key, suffix):
            in_store += 1
        else:
            to_compute += 1
    failed = sum(_has_failed(row) for row in rows.values())
    mean = sum(sizes.values()) / len(sizes) if sizes else None
    return _stage(
        name,
        output,
        len(chain),
        current,
        in_store,
        len(sizes),
        failed,
        to_compute,
        sum(sizes.values()),
        mean,
    )


def _stage(
    name: str,
    output: Path,
    items: int,
    current: int,
    in_store: int,
    files: int,
    failed: int,
    to_compute: int,
    size: int,
    item_bytes: float | None,
) -> Stage:
    pace = _pace(name)
    return Stage(
        name,
        str(output),
        items,
        current,
        in_store,
        files - current,
        failed,
        to_compute,
        size,
        None if pace is None and to_compute else (pace or 0.0) * to_compute,
        None if item_bytes is None and to_compute else round((item_bytes or 0) * to_compute),
    )


def _pace(name: str) -> float | None:
    try:
        said = json.loads((LOGS / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    pace = said.get("seconds_an_item")
    return None if pace is None else float(pace)


def _count_runs(params: Params, name: str, current_outputs: set[str]) -> Stage:
    """Count the runs of an experiment; while a feature is to be computed, none is current."""
    from stages.train import plan_runs  # slow to import

    output = RESULTS / name
    runs = output / "runs"
    files = [path for path in runs.rglob("*") if path.is_file()] if runs.is_dir() else []
    size = sum(path.stat().st_size for path in files)
    table = output / "runs.parquet"
    there: Sequence[str] = (
        pq.read_table(table, columns=["key"])["key"].to_pylist() if table.is_file() else []
    )
    block = params.experiments[name]
    needed = {str(FEATURES / source.split("/")[0]) for source in block.roles.values()}
    total = params.index.splits.runs
    current, in_store = 0, 0
    if needed <= current_outputs:
        plan = plan_runs(params, name, INDEX.with_suffix(".parquet"), FEATURES)
        items = plan.items(plan.selection)
        total = len(items)
        store = ItemStore(store_root())
        for item in items:
            if set(item.files) <= set(there):
                current += 1
            elif all(store.has(key, Path(path).suffix) for key, path in item.files.items()):
                in_store += 1
    made = len(there) // 2  # answers and checkpoint
    mean = size / made if made else None
    rest = total - current - in_store
    return _stage(f"train@{name}", output, total, current, in_store, made, 0, rest, size, mean)


COUNTS = {
    "items": "items",
    "current": "current",
    "stale": "stale",
    "failed": "failed",
    "in_store": "in store",
    "to_compute": "to compute",
}
"""Fields of `Stage` that a person is shown, and what their columns are called."""

ALWAYS = ("items", "current", "to_compute")
"""Of them those that have a column even where all are 0."""


def as_table(stages: Sequence[Stage]) -> Table:
    """Return the counts for a person; a column of zeros alone is left out."""
    shown = [n for n in COUNTS if n in ALWAYS or any(getattr(stage, n) for stage in stages)]
    table = Table(title="status", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage", overflow="fold")
    for column in (*(COUNTS[name] for name in shown), "size"):
        table.add_column(column, justify="right")
    for stage in stages:
        view = f" {Path(stage.output).name}" if stage.name == "decode" else ""
        counts = (getattr(stage, name) for name in shown)
        cells = (
            f"[yellow]{n}[/yellow]" if n and name not in ("items", "current") else str(n)
            for name, n in zip(shown, counts, strict=True)
        )
        table.add_row(stage.name + view, *cells, _size(stage.bytes))
    return table


def summary(stages: Sequence[Stage]) -> str:
    """Say in a line what `dvc repro` would compute, how long and how much disk it would take."""
    waiting = [stage for stage in stages if stage.to_compute]
    if not waiting:
        return "status: dvc repro would compute nothing"
    seconds = sum(stage.seconds or 0.0 for stage in waiting)
    new_bytes = sum(stage.new_bytes or 0 for stage in waiting)
    free = shutil.disk_usage(".").free
    unknown = [stage.name for stage in waiting if stage.seconds is None]
    more = f", and {', '.join(unknown)} (no earlier run to judge by)" if unknown else ""
    return (
        f"status: dvc repro would compute {sum(s.to_compute for s in waiting)} items, about "
        f"{_time(seconds)} and {_size(new_bytes)} ({_size(free)} are free){more}"
    )


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
