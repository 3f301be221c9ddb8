"""Settings: what every experiment was run with."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.table import Column, Table

TITLE = "Settings"

COLUMNS = (Column("experiment"), Column("setting"), Column("value"))

MOST_LISTED = 12
"""Experiments that stand in the open; more are folded away together."""

MOST_NAMED = 20
"""Videos left out of an experiment that the page names; results/*/about.json has all."""


def section(inputs: Inputs) -> Section:
    """Return the section."""
    settings = {result.name: _settings(result) for result in inputs.results}
    rows = [
        (name, setting, value) for name, own in settings.items() for setting, value in own.items()
    ]
    common = _common(list(settings.values()))
    content = {
        "common": common,
        "own": {
            name: {key: value for key, value in own.items() if key not in common}
            for name, own in settings.items()
        },
        "videos": {result.name: result.metrics["videos"] for result in inputs.results},
        "missing": {result.name: _missing(result) for result in inputs.results},
        "most_named": MOST_NAMED,
        "is_folded": len(settings) > MOST_LISTED,
    }
    table = Table(COLUMNS, rows, "What every experiment was run with")
    return Section(TITLE, "settings.html", content, {"settings": table})


def _settings(result: Result) -> dict[str, str]:
    """Return setting -> value, as text; a head's own begin with its name."""
    about = result.about
    parts: dict[str, Mapping[str, Any]] = {
        "role": about["roles"],
        about["head"]: about["params"],
        "training": about["training"],
    }
    flat = {"head": str(about["head"])}
    for part, values in parts.items():
        flat |= {f"{part}: {name}": _text(value) for name, value in values.items()}
    if search := about.get("search"):
        for name, of in search["space"].items():
            part = about["head"] if name in about["params"] else "training"
            flat[f"{part}: {name}"] = f"searched in {of}"
        flat["search"] = f"{search['tried']} settings tried in each run, seed {search['seed']}"
    return flat | {"runs": _splits(about["splits"])}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _splits(splits: Mapping[str, Mapping[str, int]]) -> str:
    """Return how many videos train and test, run by run where they differ."""
    texts = {run: ", ".join(f"{n} {part}" for part, n in of.items()) for run, of in splits.items()}
    kinds = sorted(set(texts.values()))
    if len(kinds) == 1:
        return f"{len(texts)}, each of {kinds[0]}"
    return "; ".join(f"{run}: {text}" for run, text in texts.items())


def _common(settings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what all experiments have alike; nothing where there is one alone."""
    if len(settings) == 1:
        return {}
    first = settings[0]
    return {k: v for k, v in first.items() if all(own.get(k) == v for own in settings)}


def _missing(result: Result) -> dict[str, str]:
    """Return video -> why it is left out."""
    return {video: _text(why) for video, why in result.about["missing"].items()}
