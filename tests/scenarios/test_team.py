"""Scenarios 5 and 6: what one clone has computed, no other computes again."""

import json
import shutil
from pathlib import Path

import pytest

from tests.clones import Clone
from tests.scenarios.team import (
    VIDEO_STAGES,
    add_remote,
    bring_commits,
    cache,
    counts,
    join,
    named_by,
    objects,
    track_videos,
)

NEW_HEAD = {"head": "pooling", "roles": {"context": "frames_toy/colour"}}


def shared(clone: Clone, remote: Path, *, with_videos: bool) -> Clone:
    """Return the clone after it has pushed all it has; its videos too, or not."""
    if with_videos:
        track_videos(clone)
    add_remote(clone, str(remote))
    clone.run("dvc", "push", "--run-cache")
    return clone


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return tmp_path / "remote"


@pytest.mark.parametrize("with_videos", [True, False])
def test_a_second_clone_computes_nothing(
    clone: Clone, remote: Path, tmp_path: Path, with_videos: bool
) -> None:
    shared(clone, remote, with_videos=with_videos)
    second = join(clone, tmp_path / "second")
    assert second.repro("--pull") == []
    assert second.outputs() == clone.outputs()
    assert len([*second.root.glob("data/raw/*/*.mp4")]) == (6 if with_videos else 0)
    assert "dvc.lock" not in second.run("git", "status", "--short")
    assert second.repro("--allow-missing") == []  # also without the videos


@pytest.mark.parametrize("with_videos", [True, False])
def test_only_what_is_needed_is_downloaded(
    clone: Clone, remote: Path, tmp_path: Path, with_videos: bool
) -> None:
    shared(clone, remote, with_videos=with_videos)
    second = join(clone, tmp_path / "second")
    assert second.repro("--pull", "--allow-missing") == []
    assert objects(cache(second)) == set()

    second.params(experiments__mine=NEW_HEAD)
    assert second.repro("--pull", "--allow-missing", "train@mine") == ["train@mine"]
    made = named_by(second, "results/mine", "results/mine.json")
    needed = ("data/index.parquet", "data/tables.parquet")
    needed += ("data/tables/frames_toy.parquet", "data/features/frames_toy")
    fetched = named_by(clone, *needed)
    assert objects(cache(second)) == fetched | made
    assert len(fetched) == 3 + 1 + 6  # tables, a listing, a file a video
    assert not (second.root / "data/raw").exists()

    second.run("dvc", "pull", "train")  # what others have trained, for the page
    assert second.repro("--allow-missing") == ["report"]
    unused = named_by(clone, "data/views/segments", "data/views/faces", "data/features/faces_toy")
    assert not unused & objects(cache(second))


def test_who_changes_nothing_that_counts_fetches_no_feature(
    clone: Clone, remote: Path, tmp_path: Path
) -> None:
    shared(clone, remote, with_videos=False)
    second = join(clone, tmp_path / "second")
    with (second.root / "heads/caan.py").open("a") as file:
        file.write("# a remark\n")
    assert second.repro("--pull", "--allow-missing", "train@caan") == ["train@caan"]
    log = second.log("train@caan")
    assert (log["computed"], log["reused"]) == (0, 2)
    tables = ("data/index.parquet", "data/tables.parquet", "data/tables")
    listings = {md5 for md5 in named_by(clone, "data/features") if md5.endswith(".dir")}
    features = named_by(clone, "data/features") - listings
    held = objects(cache(second))
    assert len(held & features) == 2, "one a backbone, for what the results say of the features"
    assert held - features - listings == named_by(clone, *tables, "results/caan") | named_by(
        clone, "results/caan.json"
    )


def test_without_videos_and_gpu_every_head_is_trained(
    clone: Clone, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    second = join(shared(clone, remote, with_videos=False), tmp_path / "second")
    second.params(train__epochs=3, experiments__mine=NEW_HEAD)
    trained = {"train@average", "train@caan", "train@mine"}
    assert {*second.repro("--pull", "--allow-missing")} == trained | {"report"}
    assert second.computed() == dict.fromkeys(trained, 2)
    for folder in ("data/raw", "data/views", "data/weights"):
        assert not (second.root / folder).exists(), folder


@pytest.mark.parametrize("with_videos", [True, False])
def test_one_video_more_is_one_item_and_travels_alone(
    clone: Clone, remote: Path, tmp_path: Path, with_videos: bool
) -> None:
    first = shared(clone, remote, with_videos=with_videos)
    second = join(first, tmp_path / "second")
    if with_videos:
        second.run("dvc", "pull", "data/raw.dvc")
    else:
        shutil.copytree(first.root / "data/raw", second.root / "data/raw")
    clip = second.add_clip("joy", 9, "new")
    if with_videos:
        track_videos(second)
    second.repro("extract@faces_toy", "extract@frames_toy")  # without having pulled
    assert counts(second) == dict.fromkeys(VIDEO_STAGES, (1, 6, 0))
    second.repro("--pull")
    assert not {*second.computed()} & {*VIDEO_STAGES}
    second.commit("one video more")

    before = {path: path.stat().st_mtime_ns for path in remote.rglob("*") if path.is_file()}
    old, wanted = objects(remote), named_by(second)
    second.run("dvc", "push")
    new = objects(remote) - old
    assert new == wanted - old
    items = named_by(second, *ITEMS) - named_by(first, *ITEMS)
    assert len(items) == len(ITEMS) * 2  # of each folder its listing and one file
    assert items <= new
    assert before == {path: path.stat().st_mtime_ns for path in before}, "nothing old went again"

    bring_commits(first, second)
    if not with_videos:
        shutil.copy(clip, first.root / "data/raw/joy")
    held = objects(cache(first))
    first.run("dvc", "pull")
    assert objects(cache(first)) - held == new
    assert first.repro() == []
    assert first.outputs() == second.outputs()


def test_one_video_more_where_the_others_are_not(
    clone: Clone, remote: Path, tmp_path: Path
) -> None:
    """Videos that may not travel: each has some, and a CSV in git lists them all."""
    videos = sorted((clone.root / "data/raw").rglob("*.mp4"))
    lines = [f"raw/{path.parent.name}/{path.name},{path.parent.name}" for path in videos]
    table = clone.root / "data/videos.csv"
    table.write_text("\n".join(["path,label", *lines]) + "\n")
    clone.params(index__root="data/videos.csv")
    clone.repro()
    assert sum(clone.computed().values()) == 0  # the same videos, named otherwise
    first = shared(clone, remote, with_videos=False)

    second = join(first, tmp_path / "second")
    clip = second.add_clip("joy", 9, "new")
    with (second.root / "data/videos.csv").open("a") as file:
        file.write("raw/joy/new.mp4,joy\n")
    said = json.loads(second.run("affectline", "status", "--json"))
    assert {row["name"]: row["items"] for row in said}["index"] == 1  # nothing pulled yet
    second.repro()
    assert counts(second) == dict.fromkeys(VIDEO_STAGES, (1, 6, 0))
    assert [path.name for path in (second.root / "data/raw").rglob("*.mp4")] == [clip.name]
    second.commit("one video more")
    second.run("dvc", "push")
    assert second.repro() == []

    bring_commits(first, second)
    first.run("dvc", "pull")
    assert first.repro() == []
    table.write_text(table.read_text().replace("raw/fear/fear0.mp4,fear\n", ""))
    first.repro()
    for stage in VIDEO_STAGES:
        assert (first.log(stage)["computed"], first.log(stage)["items"]) == (0, 6), stage


ITEMS = (
    "data/views/segments",
    "data/views/faces",
    "data/features/faces_toy",
    "data/features/frames_toy",
)
"""Folders with a file a video, that no other video shares."""


def test_a_change_of_weights_is_shown_before_it_is_taken_over(
    clone: Clone, remote: Path, tmp_path: Path
) -> None:
    add_remote(clone, str(remote))
    clone.run("dvc", "push")
    clone.params(backbones__frames_toy__seed=9)
    clone.repro("extract@frames_toy")
    clone.commit("another seed")
    clone.run("dvc", "push", "extract@frames_toy")
    second = join(clone, tmp_path / "second")
    said = second.run("affectline", "diff", "HEAD~1", "HEAD", "--json")
    found = {part["backbone"]: part for part in json.loads(said[said.index("[\n") :])}
    faces, frames = found["faces_toy"], found["frames_toy"]
    assert (faces["videos"], faces["same"], faces["moved"]) == (6, 6, [])
    assert (frames["videos"], frames["same"], frames["changed"]) == (6, 0, ["weights"])
    cosines = [moved["cosine"] for moved in frames["moved"]]
    assert len(cosines) == 6 and cosines == sorted(cosines) and cosines[-1] < 0.999
    assert "frames_toy" in second.run("affectline", "diff", "HEAD~1")
