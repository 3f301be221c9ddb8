"""The stage `sample`: the folder and the truth that it writes."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sample.clips import LABELS, encode_clip, plan_clip
from stages import sample
from stages.params import Sample


def test_the_stage_makes_clips_and_truth_and_removes_what_it_no_longer_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SimpleNamespace(sample=Sample(seed=5, clips_per_class=1, seconds=1.0))
    monkeypatch.setattr(sample, "load_params", lambda: params)
    monkeypatch.chdir(tmp_path)
    folder = Path("data/sample")
    (folder / "joy").mkdir(parents=True)
    for name in ("clip01.mp4", "clip02.mp4", "holiday.mp4"):
        (folder / "joy" / name).write_bytes(b"from before")
    sample.main(folder, Path("data/sample_truth.json"))

    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    made = [f"{label}/clip01.mp4" for label in LABELS]
    assert names == sorted([*made, "joy/holiday.mp4"])
    for label in ("joy", "fear"):  # the same bytes in another process with other threads
        encode_clip(plan_clip(5, label, 1, 1.0), tmp_path / "direct.mp4")
        assert (folder / label / "clip01.mp4").read_bytes() == Path("direct.mp4").read_bytes()
    truth = json.loads(Path("data/sample_truth.json").read_text())
    assert list(truth["clips"]) == [f"{label}/clip01" for label in LABELS]
    assert truth["clips"]["joy/clip01"]["modalities"] == ["face", "scene"]
    assert "not data" in truth["about"]
    assert json.loads(Path("logs/sample.json").read_text())["items"] == 6


def test_more_clips_a_class_leave_the_earlier_ones_as_they_are() -> None:
    few, many = sample.plan_sample(5, 2, 4.0), sample.plan_sample(5, 9, 4.0)
    assert len(many) == 9 * len(LABELS)
    assert len({plan.video_id for plan in many}) == len(many)
    assert [plan for plan in many if plan.number <= 2] == few


def test_a_failed_clip_leaves_nothing_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_half(plan: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(sample, "encode_clip", encode_half)
    with pytest.raises(OSError, match="disk full"):
        sample.write_clip(plan_clip(5, "anger", 1, 1.0), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
