"""What `affectline status` and `explain` say before a run is what the run then does."""

import json
from typing import Any

import pytest

from tests.clones import TOY, Clone


def to_compute(clone: Clone) -> dict[str, int]:
    """Return stage -> items that status says are to be computed, without those that have none."""
    found: dict[str, int] = {}
    for row in json.loads(clone.run("python", "-m", "affectline", "status", "--json")):
        if row["to_compute"]:
            found[row["name"]] = found.get(row["name"], 0) + row["to_compute"]
    return found


def explained(clone: Clone, video: str = "joy/joy1", backbone: str = "faces_toy") -> Any:
    return json.loads(clone.run("python", "-m", "affectline", "explain", video, backbone, "--json"))


def ran(clone: Clone) -> dict[str, int]:
    clone.repro()
    return {name: count for name, count in clone.computed().items() if count}


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "current: dvc repro would compute nothing for it"),
    "decode": ({"decode__seed": 4}, "not current: seed of decode changed"),
    "detector": ({"faces__min_score": 0.6}, "not current: options.min_score of faces changed"),
    "margin": ({"faces__margin": 0.1}, "not current: params.margin of faces changed"),
    "weights": (
        {"backbones__faces_toy__seed": 8},
        "not current: weights of extract@faces_toy changed",
    ),
    "training": ({"train__epochs": 1}, "current: dvc repro would compute nothing for it"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_is_foretold(clone: Clone, name: str) -> None:
    changes, verdict = CHANGES[name]
    clone.params(**changes)
    said = explained(clone)
    assert said["verdict"] == verdict
    assert said["is_current"] == verdict.startswith("current")
    foretold = to_compute(clone)
    assert ran(clone) == foretold
    assert to_compute(clone) == {}
    assert explained(clone)["is_current"]


def test_a_changed_formula_is_named_with_its_function(clone: Clone) -> None:
    toy = clone.root / "features/backbones/toy.py"
    toy.write_text(TOY.replace("/ 255", "/ 128"))
    said = explained(clone)
    assert said["verdict"] == (
        "not current: code.features.backbones.toy.preprocess of extract@faces_toy changed"
    )
    foretold = to_compute(clone)
    assert {name: foretold[name] for name in foretold if name.startswith("extract")} == {
        "extract@faces_toy": 6,
        "extract@frames_toy": 6,
    }
    assert ran(clone) == foretold


def test_a_new_video_is_foretold(clone: Clone) -> None:
    clone.add_clip("joy", 9, "new")
    foretold = to_compute(clone)
    done = ran(clone)
    for stage in ("index", "decode", "faces", "extract@frames_toy", "extract@faces_toy"):
        assert foretold[stage] == done[stage] == 1


def test_another_file_under_the_same_name_is_seen(clone: Clone) -> None:
    clone.add_clip("joy", 9, "joy1", seconds=1.0)
    assert explained(clone)["verdict"] == "not current: video of index changed"
    assert to_compute(clone)["extract@faces_toy"] == 1


def test_a_broken_video_is_explained_by_its_reason(clone: Clone) -> None:
    (clone.root / "data/raw/joy/bad.mp4").write_bytes(b"\0" * 99)
    clone.repro()
    assert "failed in index: " in explained(clone, "joy/bad")["verdict"]
    unknown = clone.run("python", "-m", "affectline", "explain", "bad", "faces_toy", ok=False)
    assert "did you mean joy/bad?" in unknown
