"""What went into the runs of an experiment, what a search has chosen for each, and what changed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.text import Text
from rich.tree import Tree

from affectline.plan import changes
from features.cache import arrays
from features.cache.keys import canonical, item_key
from features.options import near
from stages.engine.params import Params, ParamsError
from stages.engine.paths import PARAMS, RESULTS
from stages.engine.progress import in_a_line, styled
from stages.results.files import Result, read_result
from stages.results.searched import tried

State = Literal["current", "stale", "unknown"]

COLOURS: Mapping[State, str] = {"current": "green", "stale": "yellow", "unknown": "yellow"}

SHORT = 12
"""Digits of a key or checksum that a person is shown."""


@dataclass(frozen=True)
class ExplainedRun:
    """A run that lies in the results.

    Attributes:
        name: of it.
        file: its answers.
        state: beside what would be trained now; unknown where that cannot be told.
        ingredients: what it was made of, the videos of each part by their number.
        changed: ingredient, what it was, what it is.
        search: what its search has found, see `heads.training.search.record`; empty without one.
    """

    name: str
    file: Path
    state: State
    ingredients: Mapping[str, Any]
    changed: list[tuple[str, Any, Any]]
    search: Mapping[str, Any]


@dataclass(frozen=True)
class ExplainedExperiment:
    """The runs of an experiment.

    Attributes:
        name: of it.
        runs: in their order.
        tried: settings that were tried for each run; 1 without a search.
        measure: by which they were chosen; empty without a search.
        unknown: why it cannot be told whether they are current; empty where it can.
    """

    name: str
    runs: list[ExplainedRun]
    tried: int
    measure: str
    unknown: str


def explain_runs(params: Params, name: str) -> ExplainedExperiment:
    """Return what went into the runs of an experiment.

    Raises:
        ValueError: no such experiment, or it has no results here.
    """
    if name not in params.experiments and not (RESULTS / name).is_dir():
        known = list(params.experiments)
        raise ParamsError(
            f"{PARAMS}: no experiment {name!r}{near(name, known)}; there are {', '.join(known)}. "
            "Of a video's features: `affectline explain <label>/<name> <backbone>`"
        )
    result = read_result(RESULTS, name)
    now, unknown = _made_now(params, name)
    runs = [_run(result, run, now.get(run)) for run in result.runs]
    return ExplainedExperiment(
        name, runs, tried(result), str(result.search.get("measure", "")), unknown
    )


def _made_now(params: Params, name: str) -> tuple[dict[str, Mapping[str, Any]], str]:
    """Return what each run would be made of now, and why that is not known, where it is not."""
    from stages.train import known_found, plan_runs  # torch comes with it

    if name not in params.experiments:
        return {}, f"{PARAMS} has no such experiment any more"
    try:
        plan = plan_runs(params, name)
        found = known_found(plan, plan.trials(), RESULTS / name / "runs")
    except (ValueError, OSError) as error:
        return {}, " ".join(str(error).split())
    if found is None:
        return {}, "not all trials of its search are here: `dvc repro` makes them"
    made = (next(iter(item.task.ingredients.values())) for item in found.items())
    return {str(each["run"]): each for each in made}, ""


def _run(result: Result, run: str, now: Mapping[str, Any] | None) -> ExplainedRun:
    file = result.folder / "runs" / f"{run}.h5"
    attributes = arrays.read_attributes(file)
    was = attributes["ingredients"]
    assert isinstance(was, dict)
    state: State = "unknown"
    if now is not None:
        state = "current" if item_key(now) == attributes["key"] else "stale"
    changed = list(changes(_counted(was), _counted(now))) if now and state == "stale" else []
    searched = result.search["runs"][run] if result.search else {}
    return ExplainedRun(run, file, state, _counted(was), changed, searched)


def _counted(ingredients: Mapping[str, Any]) -> dict[str, Any]:
    """Return ingredients with one hash of the code, and of the videos their number and hash."""
    videos = {
        part: f"{len(of_part)} videos ({item_key({'videos': of_part})[:SHORT]})"
        for part, of_part in ingredients["videos"].items()
    }
    code = item_key({"code": ingredients["code"]})
    left_out = ("stage", "run", "file", "code", "videos")
    kept = {name: value for name, value in ingredients.items() if name not in left_out}
    # As the file has it, JSON: a tuple is a list there.
    return dict(json.loads(json.dumps(kept))) | {"code": code, "videos": videos}


def as_record(explained: ExplainedExperiment) -> dict[str, Any]:
    """Return an explanation as JSON values."""
    return {
        "experiment": explained.name,
        "settings_tried": explained.tried,
        "unknown": explained.unknown,
        "runs": [
            {
                "run": run.name,
                "file": str(run.file),
                "state": run.state,
                "ingredients": run.ingredients,
                "changed": [
                    {"ingredient": name, "was": was, "now": now} for name, was, now in run.changed
                ],
                "search": run.search,
            }
            for run in explained.runs
        ],
    }


def as_tree(explained: ExplainedExperiment) -> Tree:
    """Return an explanation for a person: the runs, below each what it is made of."""
    said = "as params.yaml has them" if explained.tried == 1 else f"the best of {explained.tried}"
    tree = Tree(_line((explained.name, "bold"), f"settings {said}"))
    if explained.unknown:
        tree.add(_line(("whether they are current is not known", "yellow"), explained.unknown))
    for run in explained.runs:
        place = tree.add(_line((run.name, "bold"), (run.state, COLOURS[run.state]), str(run.file)))
        if search := run.search:
            chosen = search["trials"][search["chosen"]]
            place.add(
                _line(
                    ("chosen", "bold"),
                    f"{_values(search['settings'])}: {explained.measure} {chosen['score']:.3f} on "
                    f"{search['held_out']} held-out training videos, trial {search['chosen']} of "
                    f"{len(search['trials'])}",
                )
            )
        for name, value in run.ingredients.items():
            text = _values(value) if isinstance(value, dict) else _short(value)
            place.add(_line(f"{name}: {text}"))
        for name, was, now in run.changed:
            place.add(_line(("changed", "yellow"), f"{name}: was {_short(was)}, is {_short(now)}"))
    return tree


def _line(*parts: str | tuple[str, str]) -> Text:
    texts = (in_a_line(part) if isinstance(part, str) else part for part in parts)
    spaced = [piece for text in texts for piece in (" ", text)][1:]
    return styled(*spaced)


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items()) or "none"


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else canonical(value)
    return text[:SHORT] if len(text) == 64 else text
