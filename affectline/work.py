"""A worker by itself: what is missing is made in the store, outside DVC's lock.

Any number of workers may run at once, in terminals, jobs or machines that share the store: by
claims they share the work, and with a `dvc repro` beside them. A later `dvc repro` computes nothing
of what they have made; the outputs are its own to link. A stage's inputs are addressed by key in
the store, so a worker needs no output of a stage but the index, and the weights. Runs of train need
the features of all videos, or the reasons why there are none.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from affectline.feature_rows import Failed, feature_rows, file_of, write_table
from affectline.plan import Link, Plan
from features.cache import claims, tables
from features.cache.store import ItemStore, store_root
from features.options import near
from features.weights.file import remembered_sha256
from stages import decode, extract, faces, train
from stages.engine.items import Outcome, fill, merge_reasons, outcome_of
from stages.engine.outputs import check_failures
from stages.engine.params import Model, Params, ParamsError
from stages.engine.paths import INDEX, LOGS, index_of, weights_file
from stages.engine.progress import StageRun, told
from stages.engine.start import stage_names
from stages.engine.workers import Input, Work

KINDS = ("decode", "faces", "extract", "train")
"""Stages whose items a worker makes."""

NEXT = "next:"
"""In front of a stage's name: a worker is at it, or will come to it."""

WAIT_S = 1.0
"""Seconds between two looks at what others have made of what a stage reads."""

Rows = Sequence[tables.Row]
Make = Callable[[Sequence[Input]], Work[Any]]
"""What a stage reads -> what it has to make of it."""


def stages_to_work_on(params: Params, asked: Sequence[str], *, every: bool = False) -> list[str]:
    """Return the stages that a worker goes through, in the order of the flow.

    Args:
        params: params.yaml.
        asked: names as in dvc.yaml; ``extract`` stands for all of its kind.
        every: all that there are.

    Raises:
        ParamsError: there is no such stage, or none is asked for.
    """
    names = [name for name in stage_names(params) if name.partition("@")[0] in KINDS]
    names = [name for name in names if name != "faces" or params.reads_faces]
    copied = {f"extract@{n}" for n, block in params.backbones.items() if block.source == "imported"}
    names = [name for name in names if name not in copied]  # which is nothing to compute
    for name in asked:
        if name == "faces" and not params.reads_faces:
            raise ParamsError("'faces': no backbone of params.yaml reads faces")
        if name not in {*names, *KINDS}:
            known = ", ".join(names)
            raise ParamsError(f"{name!r}{near(name, names)}: expected some of {known}, or --all")
    chosen = [name for name in names if every or {name, name.partition("@")[0]} & {*asked}]
    if not chosen:
        raise ParamsError(f"expected the names of stages, or --all: {', '.join(names)}")
    return chosen


def work(params: Params, stages: Sequence[str]) -> None:
    """Make what is missing of stages in the store, beside all others who do.

    Args:
        params: params.yaml.
        stages: names as in dvc.yaml, in the order of the flow.

    Raises:
        ParamsError: the index or weights are not here.
    """
    index = index_of(INDEX)
    if not index.is_file():
        raise ParamsError(f"{index}: not made yet; `dvc repro index` makes it, then run this again")
    engine = {"engine": params.engine.here}  # a worker is one itself
    rows, plan = tables.read(index), Plan(params.model_copy(update=engine))
    for stage in stages:
        _check_weights(plan, stage)
    failed: dict[str, dict[str, str]] = {}
    with claims.scratch(store_root() / "unfinished") as folder:
        for number, stage in enumerate(stages):
            claims.retitle(folder, " ".join(f"{NEXT}{name}" for name in stages[number:]))
            if stage.startswith("train@"):
                _train(plan, stage, rows, failed)
            else:
                failed |= _failed(stage, _work_on(plan, stage, rows))


def _check_weights(plan: Plan, stage: str) -> None:
    """Check that a stage's network has the weights that params.yaml asks for.

    Raises:
        ParamsError: it has not.
    """
    for name, block in _networks(plan.params, stage).items():
        file = weights_file(name)
        to_do = f"`dvc repro {'detector' if name == 'detector' else f'weights@{name}'}`"
        if not file.is_file():
            raise ParamsError(f"{file}: {stage} needs these weights; {to_do}, then run this again")
        if plan.weights_sha256(name, block) != remembered_sha256(file, store_root()):
            raise ParamsError(f"{file}: not the weights that params.yaml asks for; {to_do}")


def _networks(params: Params, stage: str) -> Mapping[str, Model]:
    kind, _, name = stage.partition("@")
    if kind == "extract":
        return {name: params.backbones[name]}
    if kind == "train":
        return {each: params.backbones[each] for each in params.experiments[name].weights.values()}
    return {"detector": params.faces.detector} if kind == "faces" else {}


def _run(stage: str) -> StageRun:
    """Return a run of a stage that this worker is at, with a log of its own."""
    kind, _, item = stage.partition("@")
    return StageRun(kind, item or None, log=LOGS / "work" / f"{stage}.{claims.me()}.json")


def _work_on(plan: Plan, stage: str, rows: Rows) -> Outcome:
    """Make a stage's items as what they are made of comes, and tell what is left out."""
    kind = stage.partition("@")[0]
    outcome: Outcome = {}
    with _run(stage) as run:
        if kind == "decode":
            made = replace(decode.work(plan.params, rows), compute=decode.compute_indexed)
            outcome = outcome_of(made.items, fill(run, made))
        else:
            for made in _as_inputs_come(run, plan, stage, rows):
                outcome |= outcome_of(made.items, fill(run, made))
        check_failures(run, merge_reasons(rows, outcome), plan.params.max_failed)
    return outcome


def _failed(stage: str, outcome: Outcome) -> dict[str, dict[str, str]]:
    """Return what :class:`affectline.feature_rows.Failed` asks for, of one stage."""
    failed: dict[str, dict[str, str]] = {}
    for video_id, reasons in outcome.items():
        for path, why in reasons.items():
            name = f"decode/{path.partition('/')[0]}" if stage == "decode" else stage
            failed.setdefault(name, {})[video_id] = why
    return failed


def _train(plan: Plan, stage: str, rows: Rows, failed: Failed) -> None:
    """Train an experiment's runs, when all is known of the features that they read."""
    name = stage.partition("@")[2]
    backbones = sorted({r.partition("/")[0] for r in plan.params.experiments[name].roles.values()})
    before = ("decode", "faces", *(f"extract@{backbone}" for backbone in backbones))
    with _run(stage) as run, ItemStore(store_root()).staging() as folder:
        while True:
            at_work = _somebody_works(before)
            found = [feature_rows(plan, backbone, rows, failed) for backbone in backbones]
            unknown = {video for _, videos in found for video in videos}
            if not unknown:
                break
            if not at_work:
                run.note(
                    f"left out: of {len(unknown)} videos there are no features that it reads; "
                    f"`affectline work {' '.join(before)}`"
                )
                return
            run.note(f"waiting for features of {len(unknown)} videos, made by another")
            time.sleep(WAIT_S)
        write_table(folder, [row for table, _ in found for row in table])
        with told():
            runs = train.plan_runs(plan.params, name, folder)
        runs, _ = train.search(run, runs)
        chosen, _ = train.search(run, runs)
        made = train.work(run, chosen)
        train.check_made(run, outcome_of(made.items, fill(run, made)))


def _as_inputs_come(run: StageRun, plan: Plan, stage: str, rows: Rows) -> Iterator[Work[Any]]:
    """Yield what there is to make of what lies in the store, and again when others add to it."""
    kind, _, name = stage.partition("@")
    view = plan.params.backbones[name].view if kind == "extract" else "segments"
    make: Make = partial(faces.work, plan.params)
    if kind == "extract":
        make = partial(extract.work, plan.params, name)
    before = ("decode", "faces") if view == "faces" else ("decode",)
    left = {str(row["video_id"]): str(row["sha256"]) for row in rows if row["status"] == "ok"}
    while left:
        at_work = _somebody_works(before)  # looked at first: what it then ends with is seen below
        inputs = list(_inputs(plan, view, left))
        for each in inputs:
            del left[each.video_id]
        if inputs:
            yield make(inputs)
        elif at_work:
            run.note(f"waiting for {' and '.join(before)} of {len(left)} videos, made by another")
            time.sleep(WAIT_S)
        else:
            run.note(
                f"{len(left)} videos are left out: there is nothing in the store that "
                f"{' and '.join(before)} has made of them; `affectline work {' '.join(before)}`"
            )
            return


def _inputs(plan: Plan, view: str, videos: Mapping[str, str]) -> Iterator[Input]:
    """Yield what is there of a view.

    Args:
        plan: the keys.
        view: its name.
        videos: video id -> sha256.
    """
    for video_id, sha256 in videos.items():
        link: Link | None = plan.view(video_id, sha256, "segments" if view == "faces" else view)
        if view == "faces" and link is not None:
            link = plan.faces(link)
        content = plan.content(link) if link else None
        if link and content and (file := file_of(plan, link)):
            yield Input(video_id, content, file)


def _somebody_works(stages: Sequence[str]) -> bool:
    """Tell whether another process makes items of some stages, or will."""
    folder, me = store_root() / "unfinished", claims.me()
    names = [name for stage in stages for name in (stage, f"{NEXT}{stage}")]
    there = [who for name in names for who in claims.workers(folder, name).items()]
    return any(is_alive and name != me for name, is_alive in there)
