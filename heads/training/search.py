"""A declared search: settings drawn at random, of which held-out training videos choose.

Each run chooses for itself: a part of its training videos is held out, settings that are drawn
(`heads.training.settings`) are tried on the rest, and those that answer the held-out videos best
train the run on all of its training videos. Its test videos are in none of that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.cache.arrays import Array
from heads.training.held_out import held_out
from heads.training.scores import measure
from heads.training.selection import Selection, Split
from heads.training.settings import Drawn, Settings
from heads.training.targets import Target


@dataclass(frozen=True)
class Score:
    """How a trial answers the held-out videos.

    Attributes:
        measure: of the target, larger is better; NaN where the held-out videos have no meaning for
            it.
        loss: of one of the classes the mean cross-entropy, in nats; 0 of other targets.
        failed: why it could not be trained; empty where it could.
    """

    measure: float
    loss: float
    failed: str = ""


@dataclass(frozen=True)
class Found:
    """What the search of a run has found.

    Attributes:
        chosen: number of the trial.
        drawn: of it.
        settings: what the run is trained with.
        scores: of every trial.
        held_out: number of videos that chose.
    """

    chosen: int
    drawn: Drawn
    settings: Settings
    scores: Sequence[Score]
    held_out: int


def inner_split(selection: Selection, run: str, share: float, seed: int) -> Split:
    """Return a run's training videos, divided: `test` are those that are held out to choose by.

    Args:
        selection: of the experiment.
        run: name of the run.
        share: of the training videos that is held out.
        seed: of the draw.

    Raises:
        ValueError: there is one class alone, or too few videos of one; the message says which.
    """
    target, outer = selection.target, selection.splits[run]
    if target.kind == "class" and target.width < 2:
        raise ValueError(
            "search: expected at least two classes to choose settings by, found "
            f"{target.names[0]!r} alone, which every setting answers rightly"
        )
    try:
        train, held = held_out(target, selection.videos, outer.train, share, seed)
    except ValueError as error:
        raise ValueError(f"search: {run}: {error}") from None
    labels = [video.label for video in selection.videos]
    kinds: list[tuple[int | None, str]] = [(None, "")]
    if target.kind == "class":
        kinds = [(label, f" of class {name!r}") for label, name in enumerate(target.names)]
    for wanted, of_class in kinds:
        parts = [
            sum(wanted is None or labels[position] == wanted for position in part)
            for part in (outer.train, train, held)
        ]
        if not all(parts):
            raise ValueError(
                f"search: {run} has {parts[0]} training videos{of_class}, of which "
                f"held_out {share:g} leaves {parts[1]} to train on and {parts[2]} to choose by, "
                "expected one of each at least: add videos, or change search.held_out"
            )
    return Split(tuple(train), tuple(held))


def score(target: Target, answers: Mapping[str, Array]) -> Score:
    """Return how a trial did.

    Args:
        target: what was told.
        answers: on the held-out videos, of `heads.training.run.run_arrays`; or `failed`, why there
            are none, in UTF-8.
    """
    if "failed" in answers:
        return Score(math.nan, math.nan, bytes(answers["failed"][0]).decode())
    kind = "estimates" if target.kind == "dimensions" else "probabilities"
    truth, told = answers["label"].astype(np.float64), answers[kind].astype(np.float64)
    loss = 0.0
    if target.kind == "class":
        least = np.finfo(np.float32).tiny  # of a probability that float32 has as 0
        of_truth = np.maximum(told[np.arange(len(truth)), truth.astype(int)], least)
        loss = float(-np.log(of_truth).mean())
    return Score(measure(target, truth, told), loss)


def best(scores: Sequence[Score]) -> int:
    """Return which trial is chosen: the best measure, of those alike the least loss, the first.

    Raises:
        ValueError: none could be trained.
    """
    trained = [number for number, each in enumerate(scores) if not each.failed]
    if not trained:
        why = scores[0].failed
        raise ValueError(f"search: none of {len(scores)} trials could be trained: {why}")
    if all(math.isnan(scores[number].measure) for number in trained):
        raise ValueError("search: the held-out videos have nothing to choose by: hold out more")
    known = [number for number in trained if not math.isnan(scores[number].measure)]
    return min(known, key=lambda number: (-scores[number].measure, scores[number].loss, number))


def choose(
    target: Target,
    settings: Sequence[Settings],
    drawn: Sequence[Drawn],
    answers: Mapping[str, Sequence[Mapping[str, Array]]],
) -> dict[str, Found]:
    """Return what the search of each run has found.

    Args:
        target: what is told.
        settings: of each trial.
        drawn: of each trial.
        answers: run -> what `score` reads, of each trial.

    Raises:
        ValueError: a run of which no trial could be trained.
    """
    found = {}
    for run, of_run in answers.items():
        scores = [score(target, each) for each in of_run]
        try:
            chosen = best(scores)
        except ValueError as error:
            raise ValueError(f"{run}: {error}") from None
        held = len(of_run[chosen]["label"])
        found[run] = Found(chosen, drawn[chosen], settings[chosen], scores, held)
    return found


def record(target: Target, found: Mapping[str, Found], drawn: Sequence[Drawn]) -> dict[str, object]:
    """Return what `search.json` holds: of each run every trial with its score, and the chosen one.

    Numbers are whole; a trial that could not be trained has the reason in place of its score.
    """
    return {
        "tried": len(drawn),
        "measure": target.measure,
        "settings": list(drawn),
        "runs": {
            run: {
                "chosen": each.chosen,
                "settings": each.drawn,
                "held_out": each.held_out,
                "trials": [
                    {"failed": score.failed}
                    if score.failed
                    else {"score": _null_where_none(score.measure), "loss": score.loss}
                    for score in each.scores
                ],
            }
            for run, each in found.items()
        },
    }


def _null_where_none(value: float) -> float | None:
    return None if math.isnan(value) else value
