import errno
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from features.cache import claims
from features.cache.claims import FOREIGN_S, held, scratch, sweep, take, take_all
from tests.conftest import HANGING_S

Start = Callable[..., SpawnProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a function in a process of its own, with an event that it sets when it is ready."""
    context = multiprocessing.get_context("spawn")
    started = []

    def begin(target: Callable[..., None], *arguments: object) -> SpawnProcess:
        ready = context.Event()
        process = context.Process(target=target, args=(ready, *arguments))
        process.start()
        started.append(process)
        assert ready.wait(HANGING_S)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()


def hold(ready: Event, path: Path) -> None:
    with held(path):
        ready.set()
        signal.pause()


def leave_scratch(ready: Event, parent: Path) -> None:
    with scratch(parent, "next:faces extract@a") as folder:
        (folder / "half").write_bytes(b"half")
        ready.set()
        signal.pause()


def test_a_claim_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "claims" / "x"
    claim = take(path)
    assert claim is not None
    assert take(path) is None
    claim.release()
    assert list(path.parent.iterdir()) == []
    again = take(path)
    assert again is not None
    again.release()


def test_all_are_claimed_or_none(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    claim = take(two)
    assert claim is not None
    assert take_all([one, two]) is None
    assert not one.exists()
    claim.release()
    both = take_all([one, two])
    assert both is not None and len(both) == 2
    for claim in both:
        claim.release()


def test_a_killed_process_holds_nothing(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "x"
    process = start(hold, path)
    assert take(path) is None
    process.kill()
    process.join()
    claim = take(path)
    assert claim is not None
    claim.release()


def test_who_waits_is_told_once_and_gets_it_in_the_end(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "x"
    process = start(hold, path)
    told = []

    def tell() -> None:
        told.append(1)
        process.kill()

    with held(path, tell):
        assert take(path) is None
    assert told == [1]


def count_up(ready: Event, folder: Path) -> None:
    ready.set()
    for _ in range(50):
        while (claim := take(folder / "claim")) is None:
            time.sleep(0.0005)
        number = int((folder / "count").read_text())
        (folder / "count").write_text(str(number + 1))
        claim.release()


def test_a_claim_that_is_removed_and_made_again_has_one_holder(
    tmp_path: Path, start: Start
) -> None:
    (tmp_path / "count").write_text("0")
    workers = [start(count_up, tmp_path) for _ in range(3)]
    for worker in workers:
        worker.join()
    assert (tmp_path / "count").read_text() == "150"


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)


def lapse(path: Path) -> None:
    """Let a lease look as if it had not been renewed for long."""
    old = time.time() - claims.LEASE_S - 5
    lease = path.with_name(f"{path.name}{claims.LEASE}")
    lease.touch()
    os.utime(lease, (old, old))


@pytest.mark.parametrize("number", sorted(claims.NO_LOCKS))
def test_without_locks_a_claim_is_a_lease_that_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    one = take(tmp_path / "x")
    assert one is not None and not one.is_sure
    assert take(tmp_path / "x") is None and take_all([tmp_path / "y", tmp_path / "x"]) is None
    one.release()
    again = take(tmp_path / "x")
    assert again is not None
    again.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_is_not_renewed_is_anyones_and_then_the_others(
    tmp_path: Path, no_locks: None
) -> None:
    one = take(tmp_path / "x")
    assert one is not None and take(tmp_path / "x") is None
    lapse(tmp_path / "x")
    other = take(tmp_path / "x")
    assert other is not None
    assert take(tmp_path / "x") is None
    for claim in (one, other):  # the first holder was only slow: it lets go as well
        claim.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_is_renewed_while_it_is_held(
    tmp_path: Path, no_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEW_S", 0.01)
    renewed = Counted()
    monkeypatch.setattr(Path, "touch", lambda path: renewed(path))
    one, other = take(tmp_path / "x"), take(tmp_path / "y")
    assert one is not None and other is not None
    assert renewed.several.wait(HANGING_S)
    assert {path.name for path in renewed.paths} == {"x.lease", "y.lease"}
    one.release()
    other.release()


class Counted:
    """Stands in for `Path.touch`, and knows when it has been called for two files."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self.several = threading.Event()

    def __call__(self, path: Path) -> None:
        self.paths.add(path)
        if len(self.paths) > 1:
            self.several.set()


def test_without_locks_only_what_has_long_lapsed_is_swept(tmp_path: Path, no_locks: None) -> None:
    with scratch(tmp_path) as folder:
        mark = tmp_path / f"{folder.name}{claims.ALIVE}"
        assert sweep(tmp_path) == []
        lapse(mark)
        assert sweep(tmp_path) == [] and folder.is_dir() and mark.is_file()
        old = time.time() - FOREIGN_S - 60
        os.utime(mark, (old, old))
        lapse(mark)
        assert sweep(tmp_path) == [folder] and not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_who_is_at_work_on_what_is_known_and_who_of_them_has_died(
    tmp_path: Path, start: Start
) -> None:
    alive, dead = start(leave_scratch, tmp_path), start(leave_scratch, tmp_path)
    with scratch(tmp_path, "decode"):
        me = f"{claims.host()}-{os.getpid()}"
        assert claims.workers(tmp_path, "decode") == {me: True}
        assert claims.workers(tmp_path, "faces") == {}
    dead.kill()
    dead.join()
    assert claims.workers(tmp_path, "extract@a") == {
        f"{claims.host()}-{alive.pid}": True,
        f"{claims.host()}-{dead.pid}": False,
    }


def test_scratch_folders_of_the_dead_are_swept_and_those_of_the_living_stay(
    tmp_path: Path, start: Start
) -> None:
    alive, dead = start(leave_scratch, tmp_path), start(leave_scratch, tmp_path)
    dead.kill()
    dead.join()
    with scratch(tmp_path) as mine:
        folders = {path for path in tmp_path.iterdir() if path.is_dir()}
        owners = {int(path.name.split("-")[1]) for path in folders}
        assert mine in folders and owners == {os.getpid(), alive.pid}
    alive.kill()
    alive.join()
    assert len(sweep(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_of_another_machine_is_left_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mark = tmp_path / "elsewhere-1-a", tmp_path / "elsewhere-1-a.alive"
    folder.mkdir()
    mark.touch()
    assert sweep(tmp_path) == [] and folder.is_dir()
    old = time.time() - FOREIGN_S - 60
    os.utime(mark, (old, old))
    assert sweep(tmp_path) == [folder] and not folder.exists() and not mark.exists()


def test_an_error_that_is_none_of_locking_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(claims.fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"):
        take(tmp_path / "x")
