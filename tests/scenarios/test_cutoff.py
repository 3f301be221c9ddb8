"""Early cutoff: what is made anew and holds the same numbers as before recomputes nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clones import Clone
from tests.scenarios.team import add_remote, join

AFTER_DECODE = ("faces", "extract@faces_toy", "extract@frames_toy", "train@average", "train@caan")

ROWS = ("    missing = count - len(view.index)\n", "    missing = count - view.index.shape[0]\n")
"""A line of `padded` in features/video/decode.py, and another way to write it."""


def edit(clone: Clone, file: str, old: str, new: str) -> None:
    """Replace what stands once in a file of the project."""
    path = clone.root / file
    text = path.read_text()
    assert text.count(old) == 1, f"{file} has changed: {old!r} is there {text.count(old)} times"
    path.write_text(text.replace(old, new))


def answer(clone: Clone, *command: str) -> Any:
    """Return what a command of affectline says as JSON; notes may stand before it."""
    said = clone.run("affectline", *command, "--json")
    return json.loads(said[min(place for place in map(said.find, "[{") if place >= 0) :])


def links(clone: Clone) -> dict[str, dict[str, Any]]:
    """Return what `affectline explain` says of one video, by stage."""
    said = answer(clone, "explain", "joy/joy0", "faces_toy")
    return {link["stage"]: link for link in said["links"]}


def contents(clone: Clone, view: str) -> list[str]:
    return [row["content"] for row in clone.table(f"data/views/{view}")]


def test_a_refactor_of_decode_recomputes_decode_and_nothing_after_it(clone: Clone) -> None:
    before, frames = links(clone), contents(clone, "segments")
    results = {name: data for name, data in clone.outputs().items() if name.startswith("results/")}
    edit(clone, "features/video/decode.py", *ROWS)

    rows = {row["name"]: row for row in answer(clone, "status")}
    assert (rows["decode"]["to_compute"], rows["decode"]["unsure"]) == (6, 0)
    for stage, items in zip(AFTER_DECODE, (6, 6, 6, 2, 2), strict=True):
        assert (rows[stage]["to_compute"], rows[stage]["unsure"]) == (items, items), stage
    assert clone.run("affectline", "status").count("up to") == len(AFTER_DECODE) + 1  # the sum
    said = links(clone)
    assert list(said) == ["index", "decode"], "what comes after decode is known when that is made"
    assert [part["ingredient"] for part in said["decode"]["changed"]] == [
        "code.features.video.decode.padded"
    ]
    assert (said["decode"]["state"], said["decode"]["content"]) == ("stale", None)

    clone.repro()
    computed = clone.computed()
    assert computed.pop("decode") == 6 and not any(computed.values()), computed
    assert clone.log("faces")["reused"] == 6, "it ran, and found all that it had made"
    after = links(clone)
    assert after["decode"]["key"] != before["decode"]["key"]
    for stage in ("decode", "faces", "extract@faces_toy"):
        assert after[stage]["content"] == before[stage]["content"], stage
        assert after[stage]["state"] == "current"
    assert after["faces"]["ingredients"]["input"] == after["decode"]["content"]
    assert after["faces"]["key"] == before["faces"]["key"]
    tree = clone.run("affectline", "explain", "joy/joy0", "faces_toy")
    for word in ("key", "content"):
        assert f"{word} {after['decode'][word][:12]}" in tree
    assert contents(clone, "segments") == frames
    assert {name: clone.outputs()[name] for name in results} == results
    assert clone.repro() == []


def test_a_change_that_does_move_the_frames_recomputes_what_reads_them(clone: Clone) -> None:
    frames = contents(clone, "segments")
    edit(
        clone,
        "features/video/decode.py",
        "_lengthened(view.frames, missing, 0)",
        "_lengthened(view.frames // 2, missing, 0)",
    )
    clone.repro()
    assert not {*frames} & {*contents(clone, "segments")}
    assert clone.computed() == {
        "index": 0,
        "decode": 6,
        "faces": 6,
        "extract@faces_toy": 6,
        "extract@frames_toy": 6,
        "train@average": 2,
        "train@caan": 2,
    }


def test_a_definition_in_another_file_recomputes_nothing(clone: Clone) -> None:
    keys = {stage: link["key"] for stage, link in links(clone).items()}
    path = clone.root / "features/video/decode.py"
    text = path.read_text()
    start, end = text.index("def padded("), text.index("@dataclass\nclass Decoded")
    (clone.root / "features/video/padding.py").write_text(
        '"""Rows that a clip is too short for."""\n\n'
        "from __future__ import annotations\n\nimport numpy as np\n\n\n" + text[start:end]
    )
    path.write_text(
        (text[:start] + text[end:]).replace(
            "from features.video.opening import (",
            "from features.video.padding import padded as padded\n"
            "from features.video.opening import (",
        )
    )
    said = " ".join(clone.run("affectline", "status").split())
    assert "status: dvc repro would compute nothing" in said
    outputs = clone.outputs()
    assert "decode" in clone.repro()
    assert sum(clone.computed().values()) == 0
    assert {stage: link["key"] for stage, link in links(clone).items()} == keys
    assert clone.outputs() == outputs


@pytest.fixture
def pushed(clone: Clone, tmp_path: Path) -> Clone:
    """The clone after it has pushed all it has."""
    add_remote(clone, str(tmp_path / "remote"))
    clone.run("dvc", "push", "--run-cache")
    return clone


def test_who_has_pulled_one_backbones_table_trains_nothing(pushed: Clone, tmp_path: Path) -> None:
    second = join(pushed, tmp_path / "second")
    second.run("dvc", "pull", "data/index.parquet", "data/tables/faces_toy.parquet")
    assert [path.name for path in (second.root / "data/tables").iterdir()] == ["faces_toy.parquet"]
    assert second.repro("--allow-missing") == ["tables"]  # DVC sees a folder with less in it
    table = "data/tables.parquet"
    assert (second.root / table).read_bytes() == (pushed.root / table).read_bytes()
