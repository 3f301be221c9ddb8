"""Scenarios 1 to 3: only what changed is computed, to the video."""

import shutil
from typing import Any

import pytest

from tests.clones import TOY, Clone

VIDEO_STAGES = ("index", "decode", "faces", "extract@faces_toy", "extract@frames_toy")


def test_one_video_more_is_one_item_in_each_stage(clone: Clone) -> None:
    clone.add_clip("joy", 9, "new")
    clone.repro()
    for stage in VIDEO_STAGES:
        log = clone.log(stage)
        assert (log["computed"], log["reused"], log["failed"]) == (1, 6, 0), stage


def test_one_video_less_computes_nothing_and_its_files_are_gone(clone: Clone) -> None:
    (clone.root / "data/raw/joy/joy1.mp4").unlink()
    clone.repro()
    for stage in VIDEO_STAGES:
        log = clone.log(stage)
        assert (log["computed"], log["reused"]) == (0, 5), stage
    left = [name for name in clone.outputs() if "joy/joy1" in name]
    assert left == []


def test_a_renamed_or_moved_video_computes_nothing(clone: Clone) -> None:
    raw = clone.root / "data/raw"
    (raw / "joy/joy0.mp4").rename(raw / "joy/other name.mp4")
    (raw / "joy/joy1.mp4").rename(raw / "fear/moved.mp4")
    clone.repro()
    for stage in VIDEO_STAGES:
        assert clone.log(stage)["computed"] == 0, stage
    assert (clone.root / "data/features/faces_toy/fear/moved.h5").is_file()
    assert not (clone.root / "data/features/faces_toy/joy/joy0.h5").exists()


THERE_AND_BACK = {
    "decode": ("decode__seed", 1),
    "decode, fewer frames": ("decode__views__segments__count", 3),
    "faces": ("faces__min_score", 0.6),
    "faces, margin": ("faces__margin", 0.3),
    "weights": ("backbones__frames_toy__seed", 5),
    "extract": ("backbones__frames_toy__precision", "bfloat16"),
    "train": ("train__epochs", 3),
    "head": ("experiments__caan__with", {"score_layers": 1}),
    "splits": ("index__splits__seed", 3),
}


def there_and_back(clone: Clone, changes: dict[str, Any]) -> None:
    before, params = clone.outputs(), (clone.root / "params.yaml").read_text()
    clone.params(**changes)
    assert clone.repro()
    assert sum(clone.computed().values()) > 0
    (clone.root / "params.yaml").write_text(params)
    clone.repro()
    assert sum(clone.computed().values()) == 0
    assert clone.outputs() == before


@pytest.mark.parametrize("name", THERE_AND_BACK)
def test_on_the_way_back_nothing_is_computed(clone: Clone, name: str) -> None:
    where, value = THERE_AND_BACK[name]
    there_and_back(clone, {where: value})


def test_after_the_way_back_one_video_is_one_item(clone: Clone) -> None:
    there_and_back(clone, dict(THERE_AND_BACK.values()))
    clone.add_clip("fear", 9, "new")
    clone.repro()
    for stage in VIDEO_STAGES:
        assert clone.log(stage)["computed"] == 1, stage


def test_comments_docstrings_and_layout_compute_nothing(clone: Clone) -> None:
    root = clone.root
    toy = root / "features/backbones/toy.py"
    toy.write_text('"""Another text."""\n# a comment\n' + TOY.partition('"""\n')[2])
    for name in (
        "features/networks/extraction.py",
        "features/faces.py",
        "features/video/decode.py",
    ):
        path = root / name
        path.write_text(path.read_text() + "\n\n\n# a comment at the end\n")
    clone.repro()
    assert sum(clone.computed().values()) == 0


def test_a_changed_formula_in_one_backbone_costs_that_backbone_alone(clone: Clone) -> None:
    shutil.copy(
        clone.root / "features/backbones/toy.py", clone.root / "features/backbones/other.py"
    )
    clone.params(backbones__frames_toy__module="other")
    clone.repro()
    toy = clone.root / "features/backbones/other.py"
    toy.write_text(TOY.replace("/ 255", "/ 128"))
    clone.repro()
    computed = clone.computed()
    assert computed["extract@frames_toy"] == 6
    assert computed.get("extract@faces_toy", 0) == computed.get("faces", 0) == 0
    assert computed.get("decode", 0) == 0
    assert computed["train@caan"] == 2 and computed.get("train@average", 0) == 0


def test_changed_weights_cost_that_backbone_alone(clone: Clone) -> None:
    clone.params(backbones__faces_toy__seed=9)
    clone.repro()
    computed = clone.computed()
    assert computed["extract@faces_toy"] == 6
    assert computed.get("extract@frames_toy", 0) == computed.get("faces", 0) == 0


def test_a_changed_detector_threshold_costs_the_faces_and_what_reads_them(clone: Clone) -> None:
    clone.params(faces__min_score=0.55)
    clone.repro()
    computed = clone.computed()
    assert computed["faces"] == computed["extract@faces_toy"] == 6
    assert computed.get("decode", 0) == computed.get("extract@frames_toy", 0) == 0
