"""The command ``affectline``: what a person asks about the pipeline.

The stages themselves are run by DVC (``dvc repro``), not from here. Each command imports what it
uses when it is called: torch takes seconds, and help needs nothing.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from affectline import exchange_cli, predict_cli, store_cli

if TYPE_CHECKING:
    from affectline.presets.preset import Plan
    from affectline.weights import Standing

app = typer.Typer(no_args_is_help=True, help=__doc__)
app.add_typer(store_cli.app, name="store")
app.command("export")(exchange_cli.export)
app.command("import")(exchange_cli.import_arrays)
app.command("predict")(predict_cli.predict)
app.command("publish")(predict_cli.publish)

Json = Annotated[bool, typer.Option("--json", help="print JSON")]

SHOWN_REMARKS = 20
"""Remarks on videos that `preset` prints; the file beside the CSV has all."""


@app.command()
def check() -> None:
    """Check params.yaml, dvc.yaml and this machine before `dvc repro`."""
    from affectline.weights import lacking
    from features.video.listing import list_videos
    from stages.engine import dvc_lock
    from stages.engine.checks import check_all, check_dvc, check_root, check_store, in_project
    from stages.engine.columns import check_searches, columns_of
    from stages.engine.params import ParamsError, load_params
    from stages.engine.paths import PARAMS
    from stages.engine.progress import say, told
    from stages.engine.protocols import foretold

    with in_project():
        params = load_params()
        check_all(params)
        check_dvc()
        dvc_lock.read_outputs()  # DVC stops where it cannot be read
        absent = check_root(params)
        check_store()
        if lines := lacking(params):
            raise ParamsError("\n".join(f"{PARAMS}: {line}" for line in lines))
        root = Path(params.index.root)
        videos = list_videos(root, columns_of(params.index))[0] if root.exists() else []
        with told(f"{root}: "):
            lines = foretold(videos, params.index)
            check_searches(videos, params)
    for line in [absent, *lines] if absent else lines:
        say(line)
    for video in videos:  # DVC stops at a name that is not UTF-8, before any stage can tell
        if video.problem:
            say(f"{video.file}: {video.problem}")
    say(
        f"check: {len(params.backbones)} backbones, {len(params.experiments)} experiments, "
        f"videos of {params.index.root}: all right"
    )


@app.command()
def failures(
    as_json: Json = False,
) -> None:
    """List the videos that a stage could not use, with the reason."""
    from stages.engine.checks import NOT_RUN, in_project
    from stages.engine.paths import indices
    from stages.engine.progress import print_json, print_table, say
    from stages.results.failures import failures as failures_of_stages

    with in_project():
        paths = indices()
        if not paths:
            raise ValueError(NOT_RUN)
        records = [asdict(failure) for failure in failures_of_stages(paths)]
    if as_json:
        print_json(records)
    elif records:
        print_table("failed videos", list(records[0]), (record.values() for record in records))
    else:
        say("failures: none")


@app.command()
def weights(
    as_json: Json = False,
) -> None:
    """List where each network's weights come from, whether they are here, and what is to do."""
    from affectline.weights import survey
    from stages.engine.checks import in_project
    from stages.engine.params import load_params
    from stages.engine.progress import print_json, print_table, say

    with in_project():
        standings = survey(load_params())
    if as_json:
        print_json([asdict(standing) for standing in standings])
        return
    by_name = {standing.network.rpartition(".")[2]: standing for standing in standings}
    rows = (
        (name, each.source, each.file, each.checksum, each.licence, _here(each))
        for name, each in by_name.items()
    )
    print_table("weights", ("network", "source", "file", "checksum", "licence", "here"), rows)
    for name, standing in by_name.items():
        for kind, text in (("to do", standing.to_do), ("notice", standing.notice)):
            if text:
                say(f"{name}: {kind}: {text}")


def _here(standing: "Standing") -> str:
    return "weights" if standing.is_made else "source" if standing.has_source else "nothing"


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="video_id, <label>/<name>; or an experiment")],
    backbone: Annotated[
        str | None, typer.Argument(help="of a video: name in params.yaml, backbones")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what went into a video's features, or an experiment's runs, and what changed since."""
    from affectline import explain as of_video
    from affectline import explain_runs as of_runs
    from stages.engine.checks import in_project
    from stages.engine.params import load_params
    from stages.engine.progress import answers, print_json

    with in_project():
        params = load_params()
        if backbone is None:
            runs = of_runs.explain_runs(params, name)
            record, tree = of_runs.as_record(runs), of_runs.as_tree(runs)
        else:
            video = of_video.explain(params, name, backbone)
            record, tree = of_video.as_record(video), of_video.as_tree(video)
    if as_json:
        print_json(record)
    else:
        answers.print(tree)


@app.command("compare")
def compare_two(
    first: Annotated[str, typer.Argument(help="an experiment that has been run")],
    second: Annotated[str, typer.Argument(help="the one to compare it with")],
    as_json: Json = False,
) -> None:
    """Compare two experiments by what measures both, run by run on the same test videos."""
    from features.options import near
    from heads.training.targets import MEASURES
    from stages.engine.checks import in_project
    from stages.engine.params import ParamsError, load_params
    from stages.engine.paths import PARAMS, RESULTS
    from stages.engine.progress import print_json, print_table, say
    from stages.results.compare import compare, tell
    from stages.results.files import read_result

    with in_project():
        if first == second:
            raise ValueError(f"{first}: expected two experiments, found one twice")
        for name in (first, second):
            known = [] if (RESULTS / name).is_dir() else list(load_params().experiments)
            if known and name not in known:
                raise ParamsError(
                    f"{PARAMS}: no experiment {name!r}{near(name, known)}; there are "
                    f"{', '.join(known)}"
                )
        comparison = compare(*(read_result(RESULTS, name) for name in (first, second)))
    if as_json:
        print_json(asdict(comparison))
        return
    is_share = comparison.measure != MEASURES["dimensions"]
    forms = ("{:.1%}", "{:+.1%}") if is_share else ("{:.3f}", "{:+.3f}")
    rows = [
        (run, forms[0].format(a), forms[0].format(b), forms[1].format(a - b).removesuffix("%"))
        for run, (a, b) in comparison.runs.items()
    ]
    columns = ["run", first, second, "difference, points" if is_share else "difference"]
    print_table(comparison.measure, columns, rows)
    for line in tell(comparison):
        say(line)


@app.command()
def status(
    try_few: Annotated[
        bool, typer.Option("--calibrate", help="first try a few videos, to know what one costs")
    ] = False,
    as_json: Json = False,
) -> None:
    """Count what is current, and say what `dvc repro` would compute, with time and disk."""
    from affectline.calibration import calibrate
    from affectline.status import as_table, summary
    from affectline.status import status as counted
    from features.video.listing import list_videos
    from stages.engine.checks import in_project
    from stages.engine.columns import columns_of
    from stages.engine.params import load_params
    from stages.engine.progress import answers, print_json, say
    from stages.engine.start import check_watched, stage_names

    with in_project():
        params = load_params()
        check_watched(params, stage_names(params))  # DVC would skip what is to be computed
        if try_few:
            root = Path(params.index.root)
            calibrate(params, list_videos(root, columns_of(params.index))[0])
        stages = counted(params)
    if as_json:
        print_json([asdict(stage) for stage in stages])
        return
    answers.print(as_table(stages))
    say(f"status: dvc repro would compute {summary(stages)}")


@app.command()
def plan() -> None:
    """List only what `dvc repro` would compute, as it does itself at its start."""
    from affectline.status import absent_weights, as_table, summary
    from affectline.status import status as counted
    from stages.engine.checks import in_project
    from stages.engine.params import load_params
    from stages.engine.progress import answers, say

    with in_project():
        params = load_params()
        stages = counted(params)
    if waiting := [stage for stage in stages if stage.to_compute]:
        answers.print(as_table(waiting, "plan"))
    if ready := [stage for stage in stages if not stage.to_compute and stage.items]:
        names = dict.fromkeys(stage.name for stage in ready)
        say(f"plan: reused as they are: {', '.join(names)}")
    if absent := absent_weights(params):
        say(f"plan: weights to be had first: {', '.join(absent)}")
    say(f"plan: to compute: {summary(stages)}")


@app.command()
def work(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            help="names as in dvc.yaml: decode, faces, extract@<backbone>, train@<experiment>, or "
            "extract and train for all of their kind"
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all of them, in order")] = False,
) -> None:
    """Make what is missing in the store, beside other workers, until nothing is left."""
    from affectline.work import stages_to_work_on
    from affectline.work import work as work_on
    from stages.engine.checks import check_all, check_store, in_project
    from stages.engine.params import load_params

    with in_project():
        params = load_params()
        check_all(params)
        check_store()
        work_on(params, stages_to_work_on(params, stages or (), every=every))


@app.command()
def preset(
    name: Annotated[
        str, typer.Argument(help="ve8, ekman6, mhed, heiv, sfew, caer; own for your videos")
    ] = "own",
    *,
    root: Annotated[Path, typer.Option(help="folder of the data set; with own, or a CSV")],
    splits: Annotated[
        Path | None,
        typer.Option(help="split file: xlsx, json, csv, trainlist01.txt or the folder of it"),
    ] = None,
    paper: Annotated[
        str | None, typer.Option(help="only its experiments: hamf, rdam, caan, mmf or vaanet")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV to write [default: data/<name>.csv]")
    ] = None,
    seeded: Annotated[
        bool, typer.Option("--seeded", help="random networks, to try it; no real weights")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="of every experiment, instead of the papers'")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep the experiments of params.yaml beside the new")
    ] = False,
    groups: Annotated[
        str | None,
        typer.Option(help="of your own folder: what names say who it is, e.g. '(actor\\d+)_'"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show, write nothing")] = False,
) -> None:
    """Set up the papers' protocol of a data set: its CSV, and their experiments in params.yaml."""
    from affectline.presets import preset as presets
    from stages.engine.checks import in_project
    from stages.engine.progress import say

    source: Literal["seeded", "pretrained"] = "seeded" if seeded else "pretrained"
    choices = presets.Choices(splits, paper, out, source, epochs, keep, groups)
    with in_project():
        plan = presets.make_plan(name, root, choices, dry_run=dry_run)
        _show_plan(plan, dry_run)
        if not dry_run:
            plan.write()
    if not dry_run:
        say("next: `affectline check`, `affectline weights`, then `dvc repro`")


def _show_plan(plan: "Plan", dry_run: bool) -> None:
    from stages.engine.progress import print_table, say

    if plan.table is not None:
        title = f"{plan.preset.title or 'own'}: {plan.table}"
        columns = ["class", "published", "here", "train / test in run 1"]
        print_table(title, columns, plan.counts())
    experiments = (
        (planned.name, planned.head, ", ".join(planned.rows[0].roles), planned.reported())
        for planned in plan.experiments
    )
    print_table("experiments", ["name", "head", "roles", "reported, %"], experiments)
    for line in plan.left_out:
        say(f"left out: {line}")
    for line in plan.notes:
        say(f"note: {line}")
    for remark in plan.remarks[:SHOWN_REMARKS]:
        say(": ".join(filter(None, remark)))
    if plan.remarks:
        more = f"{len(plan.remarks)} remarks on videos"
        place = "" if dry_run else f", all of them in {plan.remarks_file}"
        say(f"{more}{place}")
    if dry_run:
        for line in plan.changes():
            say(line.removesuffix("\n"))


@app.command()
def diff(
    first: Annotated[str, typer.Argument(help="git revision: a commit, branch or tag")],
    second: Annotated[
        str | None, typer.Argument(help="another [default: dvc.lock as it lies here]")
    ] = None,
    worst: Annotated[int, typer.Option(min=1, help="rows a backbone")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with all rows")] = False,
) -> None:
    """Say how far each backbone's features moved between two revisions, worst videos first."""
    from affectline.diff import as_tables
    from affectline.diff import diff as differences_of
    from stages.engine.checks import check_dvc, in_project
    from stages.engine.progress import answers, print_json

    with in_project():
        check_dvc()
        differences = differences_of(first, second)
    if as_json:
        print_json([asdict(difference) for difference in differences])
        return
    for table in as_tables(differences, worst):
        answers.print(table)


@app.command()
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="only whether DVC has kept what dvc.lock names")
    ] = False,
    mend: Annotated[
        bool, typer.Option("--repair", help="remove what is damaged, so that it is made again")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look whether all is well: machine, weights, store, outputs, DVC's cache."""
    from affectline import doctor as examining
    from affectline import shared
    from stages.engine import dvc_lock
    from stages.engine.checks import check_dvc, in_project
    from stages.engine.params import load_params
    from stages.engine.progress import fail, print_json, say

    about: dict[str, str] = {}
    remarks: list[str] = []
    with in_project():
        if command := dvc_lock.busy():
            raise fail(f"doctor: {command} is at work here; run it again after that")
        check_dvc()
        findings = list(examining.kept())
        if not quick:
            findings += [*examining.packages(), *examining.remotes(), *examining.whole()]
            findings += examining.machine(load_params())
            about, remarks = examining.environment(), list(shared.remarks())
        removed = examining.repair(findings) if mend else []
    if as_json:
        rows = [{"what": row.what, "where": row.where, "to_do": row.to_do} for row in findings]
        removed_paths = [str(path) for path in removed]
        record = {"environment": about, "remarks": remarks}
        print_json({**record, "findings": rows, "removed": removed_paths})
    else:
        if about:
            parts = ", ".join(f"{name} {value}" for name, value in about.items())
            say(parts)
        for remark in remarks:
            say(remark)
        for finding in findings:
            say(f"{finding.where}: {finding.what}. {finding.to_do}")
        if removed:
            say(f"doctor: removed {len(removed)} files; now `dvc repro`")
    if findings and not mend:
        raise fail(f"doctor: {len(findings)} things are not as they should be")
    if not findings and not as_json:
        say("doctor: all is well")


@app.command()
def show(
    path: Annotated[
        Path, typer.Argument(help="array file, table, weights or JSON that a stage made; a folder")
    ],
) -> None:
    """Show what a file holds, and where its numbers came from."""
    from affectline.show import show as show_file
    from stages.engine.progress import told

    with told():
        show_file(path)
