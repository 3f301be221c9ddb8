"""No parameter is forgotten in a key: each changes the keys that it should, and no other."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from affectline.plan import Link, Plan
from stages.engine.params import Params
from tests.papers import papers_params

BACKBONES = ("vggface", "vgg16", "vggish", "blazepose", "r3d101")
EXPERIMENTS = {"caan": {"head": "caan", "roles": {"face": "vggface/fc6", "context": "vgg16/fc6"}}}
SECTIONS = ("decode", "faces", "backbones", "train", "experiments", "index", "sample", "engine")

OTHER = {
    "align": {"crop": "similarity"},
    "precision": {"float32": "bfloat16"},
    "fc6": {"float16": "float32"},
    "device": {"auto": "cpu"},
    "devices": {"all": [0]},
    "executor": {"local": "ray"},
    "runtime": {"auto": "torch"},
    "cache_gib": {None: 1.0},
}
"""Another value of what is no number."""

READERS = {
    "decode.views.segments": {"vggface", "vgg16"},
    "decode.views.uniform": {"blazepose"},
    "decode.views.snippets": {"r3d101"},
    "decode.seed": set(BACKBONES),
    "faces": {"vggface"},
    "faces.detector.file": set[str](),  # the weights' checksum stands in the key, not their place
    **{f"backbones.{name}": {name} for name in BACKBONES},
    **{f"backbones.{name}.file": set[str]() for name in BACKBONES},
    "backbones.blazepose.seed": set[str](),  # of pretrained weights
}
"""Whose features a parameter, or all below it, belongs to: the longest name counts. Else none."""


def raw() -> dict[str, Any]:
    """Return params.yaml with a backbone of each view, and what it leaves to defaults."""
    found: dict[str, Any] = yaml.safe_load(papers_params())
    found["backbones"] = {name: found["backbones"][name] for name in BACKBONES}
    found["experiments"] = EXPERIMENTS
    found["backbones"]["r3d101"] = {"module": "r3d101", "view": "snippets", "source": "seeded"}
    for block in found["backbones"].values():
        block |= {"file": None, "seed": block.get("seed", 0), "precision": "float32"}
    found["backbones"]["vgg16"]["dtypes"] = {"fc6": "float16"}
    found["faces"]["detector"] |= {"options": {"max_overlap": 0.3}}
    found["backbones"]["vggish"]["options"] = {"relu": False, "pca": True, "quantise": False}
    return found


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of each parameter."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def changed(where: str) -> dict[str, Any]:
    """Return params.yaml with another value of one parameter."""
    values = raw()
    *sections, name = where.split(".")
    place = values
    for section in sections:
        place = place[section]
    value = place[name]
    if name in OTHER:
        place[name] = OTHER[name][value]
    elif value is None or isinstance(value, str):
        place[name] = "vggface/pool5" if "roles" in sections else "other"
    else:
        place[name] = not value if isinstance(value, bool) else value * 0.5 if value else 1
        if isinstance(value, int) and not isinstance(value, bool):
            place[name] = value + 1
    return values


class Foretold(Plan):
    """A plan that takes an item's key for its content, as nothing is made here."""

    def content(self, link: Link) -> str:
        return link.key


def keys(values: Mapping[str, Any]) -> dict[str, str]:
    """Return for each backbone the key of a video's features."""
    plan = Foretold(Params.model_validate(values))
    for name in ("detector", "blazepose"):  # a checksum stands for the real model
        block = plan.params.faces.detector if name == "detector" else plan.params.backbones[name]
        if block.source == "pretrained":
            plan.weights[name] = "0" * 64
    return {name: plan.chain("joy/a", "1" * 64, name)[-1].key for name in BACKBONES}


BEFORE = keys(raw())
SAME_FOR_ALL = {"module", "view", "source", "sampling"}  # each value asks for another file or view
PARAMETERS = [
    where
    for where, _value in leaves({name: raw()[name] for name in SECTIONS})
    if where.rpartition(".")[2] not in SAME_FOR_ALL
]


@pytest.mark.parametrize("where", PARAMETERS)
def test_a_parameter_changes_the_keys_of_what_is_made_with_it(where: str) -> None:
    above = [".".join(where.split(".")[:depth]) for depth in range(len(where.split(".")), 0, -1)]
    readers = next((READERS[name] for name in above if name in READERS), set())
    after = keys(changed(where))
    assert {name for name in BACKBONES if after[name] != BEFORE[name]} == readers
