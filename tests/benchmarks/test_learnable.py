"""The benchmark of the sample: its criteria, on results that are made up."""

import json
from pathlib import Path

import learnable as benchmark
import pyarrow as pa
import pytest

from features.cache import tables
from stages.results.files import ATTENTION

CLIPS = {
    f"joy/clip{n:02d}": {
        "modalities": ["face", "scene", "sound"] if n % 2 else ["sound"],
        "intervals": [{"start_s": 1.0, "stop_s": 2.0}],
    }
    for n in range(1, 13)
}
SPLITS = {f"split_0{n}": {"train": 24, "test": 12} for n in range(4)}


def write(root: Path, rights: dict[str, float], weights: tuple[float, ...]) -> None:
    """Write results: experiment -> share of the videos that it answers rightly."""
    (root / "data").mkdir()
    (root / "data/sample_truth.json").write_text(json.dumps({"clips": CLIPS}))
    texts = ("run", "video_id", "label", "predicted")
    for name, share in rights.items():
        folder = root / "results" / name
        folder.mkdir(parents=True)
        scores = {"accuracy": {"mean": share}, "chance": 1 / 6}
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "about.json").write_text(json.dumps({"splits": SPLITS}))
        rows: list[tables.Row] = [
            {
                "run": run,
                "video_id": video_id,
                "label": "joy",
                "predicted": "joy" if (number + at) % 12 < 12 * share else "fear",
            }
            for at, run in enumerate(SPLITS)
            for number, video_id in enumerate(CLIPS)
        ]
        schema = pa.schema([(column, pa.string()) for column in texts])
        tables.write(folder / "predictions.parquet", rows, schema)
    attention: list[tables.Row] = [
        {
            **dict.fromkeys(ATTENTION),
            "run": run,
            "video_id": video_id,
            "name": "frame_scores",
            "role": "face",
            "row": row,
            "pts_s": 0.1 + 0.7 * row,
            "value": weight,
        }
        for run in SPLITS
        for video_id in CLIPS
        for row, weight in enumerate(weights)
    ]
    path = root / "results" / benchmark.ATTENTION / "attention.parquet"
    tables.write(path, attention, pa.schema(list(ATTENTION.items())))


RIGHTS = {"face_average": 0.5, "scene_average": 0.5, "sound_average": 0.5}
RIGHTS |= {"fusion_average": 0.75, "caan": 0.9, "caan_average": 0.6}
SHOWN = (0.1, 0.3, 0.4, 0.2)
"""Rows at 0.1, 0.8, 1.5 and 2.2 s: the third shows the class."""


def verdicts(root: Path) -> dict[str, bool]:
    return {check.name: check.holds for check in benchmark.judge(root, 0)[1]}


def test_what_holds_holds(tmp_path: Path) -> None:
    write(tmp_path, RIGHTS, SHOWN)
    found = verdicts(tmp_path)
    assert all(found.values()), found
    assert {"face alone", "fusion", "attention", "weights"} < set(found)


@pytest.mark.parametrize(
    ("changed", "weights", "missed"),
    [
        ({"sound_average": 0.1}, SHOWN, {"sound alone"}),
        ({"fusion_average": 0.55}, SHOWN, {"fusion"}),
        ({"caan": 0.65}, SHOWN, {"attention"}),
        ({}, (0.4, 0.3, 0.1, 0.2), {"weights"}),
    ],
)
def test_what_is_missed_is_named(
    tmp_path: Path, changed: dict[str, float], weights: tuple[float, ...], missed: set[str]
) -> None:
    write(tmp_path, RIGHTS | changed, weights)
    assert {name for name, holds in verdicts(tmp_path).items() if not holds} == missed


def test_weights_count_where_face_or_scene_shows_the_class(tmp_path: Path) -> None:
    write(tmp_path, RIGHTS, SHOWN)
    aucs = benchmark.attention_aucs(tmp_path, CLIPS)
    assert aucs == [1.0] * 4 * 6  # runs, and clips that have pictures of their class
