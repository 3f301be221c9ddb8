import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.engine.paths import VIEWS
from stages.results.copies import (
    ALIKE,
    SAME_FEATURES,
    SAME_FILE,
    Pair,
    groups,
    runs_of,
    search,
    source_of,
)
from stages.results.extracted import Extracted, Feature
from stages.results.likeness import LEAST_ALIKE
from tests.stages.results.made_data import (
    Made,
    copies_of,
    draw_clip,
    encode,
    row_of,
    source,
    write_data,
    write_features,
    write_indices,
)

CLASSES = ("anger", "fear", "joy")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Five clips of each of three classes, and four copies of one of each class."""
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for label, name in enumerate(CLASSES):
        for number in range(5):
            video = f"{name}/{number}"
            clip = draw_clip(label, number)
            made[video] = folder / f"{video}.mp4"
            encode(clip, made[video])
            if number == 0:
                for kind, (copy, crf) in copies_of(clip).items():
                    made[f"{name}/0 {kind}"] = folder / f"{video}_{kind}.mp4"
                    encode(copy, made[f"{name}/0 {kind}"], crf)
    return made


def sides(video: str) -> dict[str, str | None]:
    """Train on the first two of a class, test on the others and on all copies; then in reverse."""
    first = "train" if video[-1] in "01" else "test"
    return {"split_00": first, "split_01": "test" if first == "train" else "train"}


@pytest.fixture(scope="module", params=[1, 2], ids=["seed 1", "seed 2"])
def made(
    clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[Path]:
    """The clips' data in a folder that is not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        videos = {video: Made(path, sides(video)) for video, path in clips.items()}
        write_data(videos, request.param)
        yield folder


@pytest.fixture
def data(made: Path, in_folder: Path) -> None:
    shutil.copytree(made, in_folder, dirs_exist_ok=True)


def index(clips: dict[str, Path]) -> list[dict[str, object]]:
    return [row_of(video) | sides(video) for video in clips]


def test_copies_are_found_and_distinct_clips_of_a_class_are_not(
    clips: dict[str, Path], data: None
) -> None:
    found = search(index(clips), [source()])
    originals = {f"{name}/0" for name in CLASSES}
    by_original: dict[str, set[str]] = {name: set() for name in originals}
    for pair in found.pairs:
        assert pair.how == ALIKE and pair.alike
        (original,) = set(pair.videos) & originals
        (copy,) = set(pair.videos) - originals
        by_original[original].add(copy)
        assert pair.alike.mirrored == copy.endswith("mirrored")
    for original, copies in by_original.items():
        kinds = ("encoded", "mirrored", "small", "trimmed")
        assert copies == {f"{original} {kind}" for kind in kinds}
    assert (found.source, found.view, found.videos) == ("network/map", "segments", len(clips))
    assert found.least == LEAST_ALIKE and found.looked_at == found.near > 20


def test_copies_on_one_side_of_every_run_are_no_leak(clips: dict[str, Path], data: None) -> None:
    rows = [row | {"split_00": "train", "split_01": None} for row in index(clips)]
    found = search(rows, [source()])
    assert found.pairs == [] and found.near == 0


def test_without_frames_only_content_decides(clips: dict[str, Path], data: None) -> None:
    for path in VIEWS.rglob("*.h5"):
        path.unlink()
    found = search(index(clips), [source()])
    assert found.pairs == [] and found.near > 0 and found.view is None and found.looked_at == 0


def test_a_damaged_frame_file_is_passed_over(clips: dict[str, Path], data: None) -> None:
    damaged = VIEWS / "segments" / "joy" / "0.h5"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    found = search(index(clips), [source()])
    assert {video.split("/")[0] for pair in found.pairs for video in pair.videos} == {
        "anger",
        "fear",
    }
    assert found.looked_at < found.near


def test_the_same_search_gives_the_same_pairs(clips: dict[str, Path], data: None) -> None:
    rows = index(clips)
    once = search(rows, [source()])
    assert search(rows[::-1], [source()]).pairs == once.pairs == search(rows, [source()]).pairs


def test_data_of_one_picture_is_no_flood(tmp_path: Path, in_folder: Path) -> None:
    room = draw_clip(0, 0, 16).astype(np.float64)
    rng = np.random.default_rng(0)
    videos = {}
    for number in range(24):  # the same picture with another grain and other brightness
        grain = rng.normal(0, 2.5, room.shape) + rng.uniform(-20, 20)
        video = f"{CLASSES[number % 3]}/{number}"
        path = tmp_path / f"{number}.mp4"
        encode(np.clip(room + grain, 0, 255).astype(np.uint8), path)
        videos[video] = Made(path, {"split_00": "train" if number % 2 else "test"})
    rows = write_data(videos, rows=6)
    found = search(rows, [source()])
    assert found.near > 10 and found.least > 0.97
    assert len(found.pairs) <= found.near // 5


def test_the_same_content_is_told_without_a_frame(in_folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"joy/{number}" for number in range(6)]
    twin = {"vector": rng.normal(size=(4, 8)).astype(np.float16), "valid": np.ones(4, bool)}
    for video in names:
        own = twin | {"vector": rng.normal(size=(4, 8)).astype(np.float16)}
        write_features("network", video, twin if video in ("joy/2", "joy/5") else own)
    rows = [
        row_of(video, sha256="ab" if video in ("joy/0", "joy/1") else video, split_00=side)
        for video, side in zip(
            names, ("train", "test", "train", "test", "train", "test"), strict=True
        )
    ]
    write_indices(rows, "network")
    found = search(rows, [source()])
    assert [(pair.videos, pair.how) for pair in found.pairs] == [
        (("joy/0", "joy/1"), SAME_FILE),
        (("joy/2", "joy/5"), SAME_FEATURES),
    ]


def test_a_hundred_copies_are_a_hundred_pairs_and_one_group() -> None:
    rows = [
        row_of(f"joy/{n:03d}", sha256="ab", split_00="train" if n % 2 else "test")
        for n in range(100)
    ]
    found = search(rows, [])
    assert len(found.pairs) == 99
    (group,) = groups(found.pairs)
    assert {video for pair in group for video in pair.videos} == {row["video_id"] for row in rows}


def test_a_run_parts_what_it_trains_on_from_what_it_tests_on() -> None:
    rows = [
        row_of("a/1", split_00="train", split_01="train", split_02=None),
        row_of("a/2", split_00="test", split_01="train", split_02="test"),
        row_of("a/3", split_00="train", split_01="test", split_02="train"),
        row_of("a/4", split_00="test") | {"status": "failed"},
    ]
    runs = runs_of(rows)
    assert runs.parting("a/1", "a/2") == {"split_00"}
    assert runs.parting("a/3", "a/2") == {"split_00", "split_01", "split_02"}
    assert runs.parting("a/1", "a/3") == {"split_01"}
    assert "a/4" not in runs.train


def extracted_as(view: str, *features: tuple[str, str, tuple[int, ...]]) -> Extracted:
    made = tuple(Feature(name, axes, shape, "float16") for name, axes, shape in features)
    return Extracted(view, [], {}, 0, {"ingredients": {"view": view}}, made, 1)


def test_videos_are_compared_by_maps_of_whole_frames_where_there_are() -> None:
    faces = extracted_as("faces", ("pool5", "C H W", (512, 7, 7)))
    scene = extracted_as("segments", ("fc6", "D", (4096,)), ("pool5", "C H W", (512, 7, 7)))
    plain = extracted_as("segments", ("pooled", "D", (768,)))
    sound = extracted_as("sound", ("mfcc", "L C", (256, 32)))
    pose = extracted_as("uniform", ("landmarks", "K D", (33, 3)), ("visibility", "D", (33,)))

    def named(*sources: Extracted) -> tuple[str, str] | None:
        chosen = source_of(sources)
        return (chosen[0].view, chosen[1].name) if chosen else None

    assert named(sound, pose, faces, plain, scene) == ("segments", "pool5")
    assert named(sound, faces, plain) == ("segments", "pooled")
    assert named(sound, pose, faces) == ("faces", "pool5")
    assert named(sound, pose) is None


def test_pairs_that_hang_together_are_a_group_the_largest_first() -> None:
    pairs = [Pair(("a", "b"), ALIKE), Pair(("c", "d"), ALIKE), Pair(("d", "e"), ALIKE)]
    assert groups(pairs) == [pairs[1:], pairs[:1]]
    assert groups([]) == []
