"""The commands with which a trained head answers: of new videos, here or at a colleague's.

affectline predict clip.mp4 --experiment caan
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from affectline.predictions import Prediction
    from affectline.trained import Trained

ALL = "all"


def predict(
    videos: Annotated[
        list[Path], typer.Argument(help="files, folders, or a list (.txt, .csv with path)")
    ],
    experiment: Annotated[str | None, typer.Option(help="an experiment that has been run")] = None,
    model: Annotated[
        Path | None, typer.Option(help="a folder of `affectline publish`, instead of an experiment")
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option(help="answers by this run; may be given again")
    ] = None,
    all_runs: Annotated[
        bool, typer.Option("--all-runs", help="answers by all runs, as without --run")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with every run")] = False,
    as_csv: Annotated[Path | None, typer.Option("--csv", help="CSV to write")] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page to write, with what was seen and weighed")
    ] = None,
) -> None:
    """Answer what videos show, by an experiment's trained head; the store keeps what is computed.

    A video that cannot be used is a row with its reason. The exit status is 1 where none could be.
    """
    from affectline.given import videos_at
    from affectline.predict import predict as answers_of
    from affectline.predictions import csv_rows
    from features.cache import tables
    from features.cache.store import replacing
    from stages.engine.checks import in_project
    from stages.engine.progress import console, fail, in_a_line, print_json, say

    with in_project():
        if run and all_runs:
            raise ValueError("expected --run or --all-runs, found both")
        files = videos_at(videos)
        with _trained(experiment, model, run or []) as trained:
            for remark in trained.remarks:
                console.print(in_a_line(f"predict: {remark}"), soft_wrap=True)
            predicted = answers_of(trained, files, with_weights=page is not None)
            if page is not None:
                from affectline.predict_page import page_of

                with replacing(page) as partial:
                    partial.write_text(page_of(trained, predicted), encoding="utf-8")
        predictions = predicted.predictions
        if as_csv is not None:
            tables.write_csv(as_csv, *csv_rows(trained.target, predictions))
    if as_json:
        print_json([asdict(each) for each in predictions])
    else:
        _print(trained, predictions)
    if as_csv is not None and not as_json:
        say(f"predict: {as_csv} has every number")
    if all(each.reason is not None for each in predictions):
        raise fail("predict: no video could be answered")


@contextmanager
def _trained(experiment: str | None, model: Path | None, runs: list[str]) -> "Iterator[Trained]":
    """Yield what answers: an experiment of this project, or a published folder."""
    from affectline.published import of_folder
    from affectline.trained import of_experiment
    from stages.engine.params import load_params

    if (experiment is None) == (model is None):
        found = "neither" if model is None else "both"
        raise ValueError(f"expected what answers, --experiment NAME or --model DIR, found {found}")
    if model is None:
        yield of_experiment(load_params(), str(experiment), runs)
        return
    with of_folder(load_params(), model, runs) as trained:
        yield trained


def _print(trained: "Trained", predictions: "list[Prediction]") -> None:
    from affectline.predictions import told
    from stages.engine.progress import print_table

    runs = (
        ", ".join(trained.runs) if len(trained.runs) == 1 else f"mean of {len(trained.runs)} runs"
    )
    columns = ["video", "answer", "decided by", "to know"]
    rows = [told(trained.target, each) for each in predictions]
    print_table(f"{trained.name}, {runs}", columns, rows)


def publish(
    experiment: Annotated[str, typer.Argument(help="an experiment that has been run")],
    out: Annotated[Path, typer.Option(help="folder to make")],
    run: Annotated[list[str] | None, typer.Option(help="a run, may be given again; or all")] = None,
) -> None:
    """Write a trained head into a folder with which others predict: no data, no faces in it."""
    from affectline.publish import publish as write
    from stages.engine.checks import in_project
    from stages.engine.params import load_params
    from stages.engine.progress import say

    with in_project():
        runs = [each for each in run or [] if each != ALL]
        trained = write(load_params(), experiment, runs, out)
    for remark in trained.remarks:
        say(f"publish: {remark}")
    say(
        f"publish: {len(trained.runs)} runs of {experiment} in {out}; README.md there says what "
        f"they are, `affectline predict --model {out} VIDEO` answers with them"
    )
