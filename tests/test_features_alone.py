"""What docs/own-features.md has of a data set of features alone, run as it stands there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.cache.arrays import read
from tests.clones import PROJECT, Clone, make_clone
from tests.test_docs import commands

pytestmark = pytest.mark.slow

SHAPES = {"visual": (16,), "audio": (8,), "skeleton": (33, 3)}
"""Of a row of each: the sizes of the first two are a fraction of what the page speaks of."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone beside triples of features, in which each class has its own mean."""
    clone = make_clone(tmp_path_factory.mktemp("clone"))
    draw = np.random.default_rng(0)
    lines = ["video_id,label,split"]
    for number in range(9):
        label = ("anger", "joy")[number % 2]
        lines.append(f"dia{number}_utt0,{label},{'test' if number > 5 else 'train'}")
        for name, shape in SHAPES.items():
            rows = draw.normal(2 * (number % 2), 1, (4 + number % 3, *shape))
            path = clone.root / "ver" / name / f"dia{number}_utt0.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rows.astype(np.float32))
    (clone.root / "ver/videos.csv").write_text("\n".join(lines) + "\n")
    clone.commit("triples")
    return clone


def test_three_commands_train_mmf_without_a_video(clone: Clone) -> None:
    page = PROJECT / "docs/own-features.md"
    mine = [words for words in commands(page) if "ver/videos.csv" in words or words[0] == "dvc"]
    assert [words[:2] for words in mine] == [
        ["affectline", "import"],
        ["affectline", "preset"],
        ["dvc", "repro"],
    ]
    for words in mine:
        clone.run(*words, *(["--epochs", "1"] if "preset" in words else []))
    scores = json.loads((clone.root / "results/mmf/scores.json").read_text())
    assert scores["videos"] == 9 and scores["accuracy"]["runs"] == 1
    found = read(clone.root / "data/features/skeleton/joy/dia1_utt0.h5")[0]
    made = np.load(clone.root / "ver/skeleton/dia1_utt0.npy")
    np.testing.assert_array_equal(found["features"], made)
    page_text = (clone.root / "report/index.html").read_text()
    assert "made elsewhere" in page_text and "seeded" not in scores


def test_nothing_is_left_to_do_and_one_video_more_costs_one(clone: Clone) -> None:
    assert clone.repro() == []
    said = json.loads(clone.run("affectline", "status", "--json"))
    assert {row["name"]: row["to_compute"] for row in said if row["to_compute"]} == {}
    rows = np.ones((3, 8), np.float32)
    np.save(clone.root / "ver/audio/dia9_utt0.npy", rows)
    table = clone.root / "ver/videos.csv"
    table.write_text(table.read_text() + "dia9_utt0,joy,train\n")
    clone.run("affectline", "import", "audio", "ver/audio")
    clone.repro("extract@audio")
    assert (clone.log("extract@audio")["computed"], clone.log("extract@audio")["reused"]) == (1, 9)


def test_what_leaves_by_export_comes_in_again(clone: Clone) -> None:
    clone.run("affectline", "export", "skeleton/features", "--to", "npy", "--out", "out")
    card = (clone.root / "out/README.md").read_text()
    assert "Imported: what made these numbers" in card and card.count("- origin: ") == 1
    before = next((clone.root / "data/imports").glob("skeleton-*")).name
    clone.run("affectline", "import", "skeleton", "out")
    assert next((clone.root / "data/imports").glob("skeleton-*")).name == before, "byte for byte"


def test_a_clone_without_the_arrays_has_them_from_dvc(clone: Clone) -> None:
    shutil.rmtree(clone.root / "data/imports")
    shutil.rmtree(clone.root / ".store")
    clone.repro("--force", "--single-item", "weights@audio")
    clone.repro("--force", "--single-item", "extract@audio")
    assert clone.log("extract@audio")["computed"] == 0
    table: Path = clone.root / "data/features/audio/joy/dia9_utt0.h5"
    assert read(table)[0]["features"].shape == (3, 8)
