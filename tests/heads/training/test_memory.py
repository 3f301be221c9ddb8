import fcntl
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from heads.training.data import Features
from heads.training.memory import Memory, Sample
from heads.training.selection import select_videos
from tests.heads.conftest import Folder

ROLES = {"face": "vggface/fc6", "context": "vgg16/fc6"}
BYTES = 6 * (12 + 10) * 2
"""Of a video's features."""


def sent(memory: Memory) -> Memory:
    """Return what another process gets."""
    other = pickle.loads(pickle.dumps(memory))
    assert isinstance(other, Memory)
    return other


def dataset(folder: Folder, memory: Memory | None, **options: int) -> Features:
    videos = select_videos(folder.index, folder.root, ROLES).videos
    return Features(videos, ROLES, frozenset(ROLES), memory=memory, **options)


def remove_files(folder: Folder, *kept: str) -> None:
    """Remove all feature files but those of some videos."""
    for path in folder.features.rglob("*.h5"):
        if path.stem not in kept:
            path.unlink()


def equal(one: Sample, other: Sample) -> bool:
    assert (one.video_id, one.label) == (other.video_id, other.label)
    return all(
        array.dtype == theirs[role].dtype and np.array_equal(array, theirs[role])
        for ours, theirs in (
            (one.features, other.features),
            (one.mask, other.mask),
            (one.pts_s, other.pts_s),
        )
        for role, array in ours.items()
    )


def test_what_one_process_has_read_the_others_do_not_read_again(folder: Folder) -> None:
    memory, alone = Memory(), dataset(folder, None)
    wanted = [alone[position] for position in range(len(alone))]
    first = dataset(folder, memory)
    assert equal(first[7], wanted[7])
    remove_files(folder, "v 00%")  # it says which shapes and which network all must have
    second = dataset(folder, sent(memory))
    assert second.shapes == alone.shapes and second.axes == alone.axes
    assert all(equal(second[position], sample) for position, sample in enumerate(wanted))
    assert all(equal(first[position], sample) for position, sample in enumerate(wanted))
    assert not second[3].features["face"].flags.writeable


@pytest.mark.parametrize("fitting", [0, 5, 18])
def test_it_holds_no_more_than_it_may_and_the_rest_is_read_each_time(
    folder: Folder, fitting: int
) -> None:
    memory = Memory()
    room = fitting * BYTES + BYTES // 2
    assert equal(dataset(folder, memory, cache_bytes=room)[17], dataset(folder, None)[17])
    remove_files(folder, "v 00%")
    found = dataset(folder, sent(memory), cache_bytes=room)
    there = [folder_has(found, position) for position in range(1, 18)]
    assert there == [position < fitting for position in range(1, 18)]


def folder_has(data: Features, position: int) -> bool:
    """Tell whether a video can be had without its files."""
    try:
        data[position]
    except ValueError:
        return False
    return True


def test_a_video_that_cannot_be_read_is_no_matter_of_those_who_do_not_need_it(
    folder: Folder,
) -> None:
    memory = Memory()
    (folder.features / "vgg16" / "anger/v 03%.h5").write_bytes(b"no")
    first, second = dataset(folder, memory), dataset(folder, sent(memory))
    for data in (first, second):
        assert data[2].video_id == "anger/v 06%"
        with pytest.raises(ValueError, match="v 03%.h5"):
            data[1]


def test_who_dies_while_it_fills_leaves_it_to_the_next(folder: Folder) -> None:
    memory, alone = Memory(), dataset(folder, None)

    def dying() -> Iterator[tuple[int, Sample]]:
        yield 0, alone[5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.samples(dying(), 1e9)
    samples = sent(memory).samples(enumerate([alone[0], alone[1]]), 1e9)
    assert samples is not None
    first, second = samples.get(0), samples.get(1)
    assert first and second and equal(first, alone[0]) and equal(second, alone[1])
    assert samples.get(2) is None


def test_who_waited_while_it_was_filled_fills_it_no_more(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, alone = Memory(), dataset(folder, None)
    lock, locks = fcntl.flock, []

    def taken_before(file: IO[bytes], operation: int) -> None:
        locks.append(operation)
        if len(locks) == 1:  # another process has the lock first
            assert sent(memory).samples(enumerate([alone[5]]), 1e9) is not None
        lock(file, operation)

    def again() -> Iterator[tuple[int, Sample]]:
        raise AssertionError("the others map what is there")
        yield

    monkeypatch.setattr(fcntl, "flock", taken_before)
    samples = memory.samples(again(), 1e9)
    first = samples and samples.get(0)
    assert first and equal(first, alone[5])


def test_nothing_is_written_once_the_lock_is_let_go(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, alone = Memory(), dataset(folder, None)
    path = memory.__getstate__()[0]
    lock, contents = fcntl.flock, []

    def noted(file: IO[bytes], operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            contents.append(path.read_bytes())
        lock(file, operation)

    def failing() -> Iterator[tuple[int, Sample]]:
        yield 0, alone[5]
        raise MemoryError

    monkeypatch.setattr(fcntl, "flock", noted)
    with pytest.raises(MemoryError):
        memory.samples(failing(), 1e9)
    assert contents == [path.read_bytes()]


def test_it_ends_with_its_maker_and_each_process_then_reads_for_itself(folder: Folder) -> None:
    memory = Memory()
    other = sent(memory)
    del memory
    data = dataset(folder, other)
    assert data[4] is data[4]


def test_another_file_of_the_same_name_is_not_touched(folder: Folder, tmp_path: Path) -> None:
    memory, path = Memory(), tmp_path / "another"
    path.write_bytes(b"somebody else's, and long enough for a token and a place")
    before = path.read_bytes()
    memory.__setstate__((path, memory.__getstate__()[1]))
    data = dataset(folder, memory)
    assert data[4] is data[4]
    assert path.read_bytes() == before
