"""What is current and what `dvc repro` would compute: counted and estimated, nothing is run.

`dvc repro` itself prints the same at its start, see stages/engine/run.sh.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from affectline.calibration import Cost, calibrated, sample_cost
from affectline.plan import Link, Plan
from affectline.store import human
from features.cache import tables
from features.cache.digests import digests
from features.cache.store import ItemStore, store_root
from features.video.contents import hash_videos
from features.video.listing import list_videos
from sample.names import clip_ids
from stages.engine.columns import columns_of
from stages.engine.dvc_lock import read_params
from stages.engine.items import item_path
from stages.engine.params import Model, Params
from stages.engine.paths import (
    FEATURES,
    INDEX,
    LOCK,
    LOGS,
    RESULTS,
    SAMPLE,
    TABLES,
    VIEWS,
    index_of,
    weights_file,
)
from stages.engine.progress import last_pace
from stages.engine.protocols import count_runs

Chain = dict[str, Link | None]
"""Video id -> its item of one output; None where its key is not known yet.

It is not known where weights are missing, or where what it is made of has yet to be made: then it
may turn out to be current, as what is made may hold what it held before.
"""


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
        to_compute: items that are neither in the output nor in the store, or may not be.
        unsure: of them, those whose key is not known yet and that may have been made before.
        bytes: of the output's files.
        seconds: an estimate for `to_compute`, None where neither an earlier run of the stage nor a
            calibration tells. Decode makes all its outputs of a video at once: each has the whole.
        new_bytes: an estimate of the disk that they take, None where nothing tells.
        is_rough: the seconds are those of another machine, as the sample has been tried there.
    """

    name: str
    output: str
    items: int
    current: int
    in_store: int
    stale: int
    failed: int
    to_compute: int
    unsure: int
    bytes: int
    seconds: float | None
    new_bytes: int | None
    is_rough: bool


def status(params: Params) -> list[Stage]:
    """Return the outputs that have items, in the order of the flow.

    The videos are those that lie in the root now. Those that have changed since they were last
    looked at are read, to know their content.

    Raises:
        ValueError: the root cannot be read (where it is not there at all, the index says which
            videos there are), or params.yaml and an experiment do not fit.
    """
    plan = Plan(params)
    rows = plan.rows(INDEX)
    hashes = _hashes(params, rows)
    headers = {name: plan.headers(name, sha) if sha else None for name, sha in hashes.items()}
    stages = [_count_clips(params)] if _is_sample(params) else []
    stages.append(_count(plan, "index", INDEX, headers))
    usable = {name: sha for name, sha in hashes.items() if not _has_failed(rows.get(name))}
    chains: dict[str, Chain] = {}
    for view in plan.views:
        chains[view] = {
            name: plan.view(name, sha, view) if sha else None for name, sha in usable.items()
        }
        stages.append(_count(plan, "decode", VIEWS / view, chains[view]))
    if any(block.view == "faces" for block in params.backbones.values()):
        chains["faces"] = _after(plan, chains["segments"], VIEWS / "segments", plan.faces)
        stages.append(_count(plan, "faces", VIEWS / "faces", chains["faces"]))
    for name, block in params.backbones.items():

        def features(view: Link, name: str = name) -> Link | None:
            return plan.features(view, name)

        if block.source == "imported":
            chain: Chain = {video_id: plan.imported(video_id, name) for video_id in usable}
        else:
            chain = _after(plan, chains[block.view], VIEWS / block.view, features)
        stages.append(_count(plan, f"extract@{name}", FEATURES / name, chain))
    done = {stage.output for stage in stages if stage.current == stage.items}
    known = {output for output in _gathered(plan) if str(output) in done}
    runs = count_runs(params.index)
    stages += [_count_runs(params, name, known, runs) for name in params.experiments]
    return stages


def _gathered(plan: Plan) -> set[Path]:
    """Return the features of which the table that train reads has what their own index has."""
    table = index_of(TABLES)
    rows = tables.read(table, ["backbone", "video_id", "key"]) if table.is_file() else []
    keys: dict[Path, dict[str, object]] = {}
    for row in rows:
        output = FEATURES / str(row["backbone"])
        keys.setdefault(output, {})[str(row["video_id"])] = row["key"]
    return {
        output
        for output, known in keys.items()
        if known == {video_id: row["key"] for video_id, row in plan.rows(output).items()}
    }


def _has_failed(row: tables.Row | None) -> bool:
    return row is not None and row["status"] == "failed"


def _is_sample(params: Params) -> bool:
    """Tell whether the data set is the built-in sample as a whole."""
    return os.path.abspath(params.index.root) == os.path.abspath(SAMPLE)


def _count_clips(params: Params) -> Stage:
    """Count the clips of the sample, which are made all at once."""
    files = _clips(params)
    sizes = [file.stat().st_size for file in files if file.is_file()]
    is_made = _is_made(params)
    to_compute = 0 if is_made else len(files)
    cost = _cost(params, "sample", SAMPLE, sizes, to_compute)
    return Stage(
        "sample",
        str(SAMPLE),
        items=len(files),
        current=len(files) - to_compute,
        in_store=0,
        stale=0 if is_made else len(sizes),
        failed=0,
        to_compute=to_compute,
        unsure=0,
        bytes=sum(sizes),
        seconds=cost.seconds,
        new_bytes=cost.bytes,
        is_rough=cost.is_rough,
    )


def _clips(params: Params) -> list[Path]:
    return [SAMPLE / f"{name}.mp4" for name in clip_ids(params.sample.clips_per_class)]


def _is_made(params: Params) -> bool:
    """Tell whether the clips lie here as params.yaml describes them."""
    return _is_described(params) and all(file.is_file() for file in _clips(params))


def _is_described(params: Params) -> bool:
    """Tell whether the sample was last made as params.yaml describes it."""
    return bool(read_params("sample").get("sample") == params.sample.model_dump())


def _hashes(params: Params, rows: Mapping[str, tables.Row]) -> dict[str, str | None]:
    """Return video id -> sha256 of each file that can be read, None of one yet to be made."""
    root = Path(params.index.root)
    if _is_sample(params) and not _is_made(params):  # clips of one description are the same
        known = {name: str(row["sha256"]) for name, row in rows.items() if row["sha256"]}
        names = clip_ids(params.sample.clips_per_class)
        return {name: known.get(name) if _is_described(params) else None for name in names}
    if not root.exists() and rows:  # a clone without the videos
        return {name: str(row["sha256"]) for name, row in rows.items() if row["sha256"]}
    videos = list_videos(root, columns_of(params.index))[0]
    with digests(store_root()) as remembered:
        by_file = {str(row["file"]): row for row in rows.values() if row["sha256"]}
        hashed = hash_videos(remembered, videos, by_file)
    return {v.video_id: sha256 for v, sha256 in hashed.items() if sha256 and not v.problem}


def _after(plan: Plan, chain: Chain, output: Path, link: Callable[[Link], Link | None]) -> Chain:
    """Return the items made of those of `chain`, but of those that failed there."""
    rows = plan.rows(output)
    return {
        video_id: link(before) if before else None
        for video_id, before in chain.items()
        if not _has_failed(rows.get(video_id))
    }


def _count(plan: Plan, name: str, output: Path, chain: Chain) -> Stage:
    rows = plan.rows(output)
    store = ItemStore(store_root())
    suffix = ".json" if output == INDEX else ".h5"
    sizes = {
        video_id: path.stat().st_size
        for video_id in rows
        for path in [output / item_path(video_id, suffix)]
        if path.is_file()
    }
    current, in_store, to_compute, unsure = 0, 0, 0, 0
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
            unsure += link is None
    unsure *= _has_worked(store)
    cost = _cost(plan.params, name, output, list(sizes.values()), to_compute)
    return Stage(
        name,
        str(output),
        items=len(chain),
        current=current,
        in_store=in_store,
        stale=len(sizes) - current,
        failed=sum(_has_failed(row) for row in rows.values()),
        to_compute=to_compute,
        unsure=unsure,
        bytes=sum(sizes.values()),
        seconds=cost.seconds,
        new_bytes=cost.bytes,
        is_rough=cost.is_rough,
    )


def _has_worked(store: ItemStore) -> bool:
    """Tell whether anything has been made before, here or elsewhere, that may be found again."""
    return LOCK.is_file() or any(store.root.glob("items/??/*"))


def _cost(params: Params, name: str, output: Path, sizes: Sequence[int], items: int) -> Cost:
    """Return what items cost: by the stage's last run and its files, else as was tried."""
    tried = calibrated().get(str(output), Cost())
    pace = last_pace(LOGS / f"{name}.json")
    seconds = tried.seconds if pace is None else pace
    size = round(sum(sizes) / len(sizes)) if sizes else tried.bytes
    is_rough = seconds is None and items > 0 and _is_sample(params)
    if is_rough:
        seconds = sample_cost(params, name, items)
    return Cost(seconds, size, is_rough).times(items)


def _count_runs(params: Params, name: str, current_outputs: set[Path], total: int) -> Stage:
    """Count the runs of an experiment; while a feature is to come, none is known to be current."""
    output = RESULTS / name
    runs = output / "runs"
    files = [path for path in runs.rglob("*") if path.is_file()] if runs.is_dir() else []
    size = sum(path.stat().st_size for path in files)
    table = output / "runs.parquet"
    rows = tables.read(table, ["run", "key"]) if table.is_file() else []
    there = {str(row["key"]) for row in rows}
    block = params.experiments[name]
    needed = {FEATURES / source.split("/")[0] for source in block.roles.values()}
    total *= 1 + (block.search.tries if block.search else 0)  # trials are items too
    current, in_store = 0, 0
    started = [weights_file(backbone) for backbone in block.weights.values()]
    is_known = needed <= current_outputs and all(file.is_file() for file in started)
    if is_known:
        from stages.train import known_found, plan_runs  # torch comes with it

        plan = plan_runs(params, name)
        trials = plan.trials()
        # Runs are known when all trials of their search are; till then they are to be computed.
        searched = known_found(plan, trials, output / "runs")
        items = [*trials, *(searched.items() if searched else [])]
        total = len(trials) + len(plan.selection.splits)
        store = ItemStore(store_root())
        for item in items:
            if item.files.keys() <= there:
                current += 1
            elif all(store.has(key, Path(path).suffix) for key, path in item.files.items()):
                in_store += 1
    made = len({row["run"] for row in rows})  # answers and checkpoint, or a trial
    to_compute = total - current - in_store
    stage = f"train@{name}"
    cost = _cost(params, stage, output, [round(size / made)] if made else [], to_compute)
    return Stage(
        stage,
        str(output),
        items=total,
        current=current,
        in_store=in_store,
        stale=made - current,
        failed=0,
        to_compute=to_compute,
        unsure=0 if is_known or not _has_worked(ItemStore(store_root())) else to_compute,
        bytes=size,
        seconds=cost.seconds,
        new_bytes=cost.bytes,
        is_rough=cost.is_rough,
    )


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

UNUSUAL = ("stale", "failed", "in_store", "to_compute")
"""Of them those that catch the eye where they are not 0."""


def as_table(stages: Sequence[Stage], title: str = "status") -> Table:
    """Return the counts for a person; a column that would say nothing is left out."""
    shown = [n for n in COUNTS if n in ALWAYS or any(getattr(stage, n) for stage in stages)]
    columns = [COUNTS[name] for name in shown]
    columns += ["size"] if any(stage.bytes for stage in stages) else []
    columns += ["takes"] if any(stage.to_compute and stage.seconds for stage in stages) else []
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for stage in stages:
        view = f" {Path(stage.output).name}" if stage.name == "decode" else ""
        cells: dict[str, str | Text] = {
            "size": human(stage.bytes),
            "takes": _time(stage.seconds) if stage.to_compute and stage.seconds else "",
        }
        for name in shown:
            n = getattr(stage, name)
            text = f"up to {n}" if name == "to_compute" and stage.unsure else str(n)
            cells[COUNTS[name]] = Text(text, "yellow" if n and name in UNUSUAL else "")
        table.add_row(stage.name + view, *(cells[column] for column in columns))
    return table


def summary(stages: Sequence[Stage]) -> str:
    """Say in a line what is to be computed, how long it would take and how much disk."""
    waiting = [stage for stage in stages if stage.to_compute]
    if not waiting:
        return "nothing"
    by_name: dict[str, float] = {}
    for stage in waiting:  # decode makes its outputs at once
        by_name[stage.name] = max(by_name.get(stage.name, 0.0), stage.seconds or 0.0)
    up_to = "up to " if any(stage.unsure for stage in waiting) else ""
    count = f"{up_to}{sum(stage.to_compute for stage in waiting)} items"
    free = f"{human(shutil.disk_usage('.').free)} are free"
    unknown = list(dict.fromkeys(stage.name for stage in waiting if stage.seconds is None))
    can_try = any(not name.startswith(("sample", "train")) for name in unknown)
    hint = "; affectline status --calibrate tries a few videos" if can_try else ""
    if len(unknown) == len(by_name):
        return f"{count} ({free}); no earlier run tells the cost{hint}"
    time = _time(sum(by_name.values()))
    if any(stage.is_rough for stage in waiting):
        time += " by what the sample has taken elsewhere"
    new_bytes = sum(stage.new_bytes or 0 for stage in waiting)
    disk = f" and {human(new_bytes)} of disk" if new_bytes else ""
    names = f", and {', '.join(unknown)} (no earlier run to judge by{hint})" if unknown else ""
    return f"{count}, about {time}{disk} ({free}){names}"


def absent_weights(params: Params) -> list[str]:
    """Return the networks whose pretrained weights are to be downloaded or converted first."""
    blocks: dict[str, Model] = dict(params.backbones)
    if params.reads_faces:
        blocks["detector"] = params.faces.detector
    return [
        name
        for name, block in blocks.items()
        if block.source == "pretrained" and not weights_file(name).is_file()
    ]


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
