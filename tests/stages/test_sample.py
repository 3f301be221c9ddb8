"""The stage `sample`: the folder and the truth that it writes."""

import json
from pathlib import Path

import pytest
import yaml

from sample.clips import encode_clip, plan_clip
from sample.names import LABELS
from stages import sample

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A folder with the project's params.yaml, for one short clip a class."""
    root_of("data/sample")
    return in_folder


def root_of(root: str) -> None:
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    raw["sample"] = {"seed": 5, "clips_per_class": 1, "seconds": 1.0}
    raw["index"]["root"] = root
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def test_the_stage_makes_clips_and_truth_and_removes_what_it_no_longer_makes(
    project: Path,
) -> None:
    folder = Path("data/sample")
    (folder / "joy").mkdir(parents=True)
    for name in ("clip01.mp4", "clip02.mp4", "holiday.mp4"):
        (folder / "joy" / name).write_bytes(b"from before")
    sample.main()

    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    made = [f"{label}/clip01.mp4" for label in LABELS]
    assert names == sorted([*made, "joy/holiday.mp4"])
    for label in ("joy", "fear"):  # the same bytes in another process with other threads
        encode_clip(plan_clip(5, label, 1, 1.0), Path("direct.mp4"))
        assert (folder / label / "clip01.mp4").read_bytes() == Path("direct.mp4").read_bytes()
    truth = json.loads(Path("data/sample_truth.json").read_text())
    assert list(truth["clips"]) == [f"{label}/clip01" for label in LABELS]
    assert truth["clips"]["joy/clip01"]["modalities"] == ["face", "scene"]
    assert "not data" in truth["about"]
    assert json.loads(Path("logs/sample.json").read_text())["items"] == 6


def test_where_the_videos_are_others_no_clip_is_made_or_left(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sample, "ProcessPoolExecutor", None)  # it would be called
    clip = Path("data/sample/joy/clip01.mp4")
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"from before")
    root_of("data/raw")
    sample.main()
    (note,) = (path for path in Path("data/sample").rglob("*") if path.is_file())
    assert note.read_text() == "Nothing is here: index.root of params.yaml is data/raw.\n"
    assert json.loads(Path("data/sample_truth.json").read_text())["clips"] == {}
    assert json.loads(Path("logs/sample.json").read_text())["items"] == 0
    assert "sample: not made: index.root is data/raw" in capsys.readouterr().err


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

    monkeypatch.setattr("sample.clips.encode_clip", encode_half)
    with pytest.raises(OSError, match="disk full"):
        sample.write_clip(plan_clip(5, "anger", 1, 1.0), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
