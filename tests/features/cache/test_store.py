import multiprocessing
import os
from pathlib import Path

import pytest

from features.cache import store as cache
from features.cache.keys import item_key
from features.cache.store import ItemStore, replacing


def test_an_item_comes_out_of_the_store_as_it_went_in(tmp_path: Path) -> None:
    store = ItemStore(tmp_path / "store")
    key = item_key({"n": 1})
    with store.staging() as folder:
        (folder / "x.h5").write_bytes(b"whole")
        store.add(key, folder / "x.h5")
    assert store.has(key, ".h5")
    assert store.path(key, ".h5").read_bytes() == b"whole"
    assert not os.access(store.path(key, ".h5"), os.W_OK) or os.getuid() == 0


def test_unfinished_files_leave_no_trace(tmp_path: Path) -> None:
    store = ItemStore(tmp_path / "store")
    with pytest.raises(RuntimeError), store.staging() as folder:
        (folder / "x.h5").write_bytes(b"half")
        raise RuntimeError
    assert not list((tmp_path / "store").rglob("*.h5"))


def test_an_output_is_a_hard_link_and_a_copy_across_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    cache.link_or_copy(source, tmp_path / "a" / "linked")
    assert (tmp_path / "a" / "linked").stat().st_ino == source.stat().st_ino

    def no_link(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    cache.link_or_copy(source, tmp_path / "b" / "copied")
    assert (tmp_path / "b" / "copied").read_bytes() == b"x"
    assert (tmp_path / "b" / "copied").stat().st_ino != source.stat().st_ino


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), replacing(tmp_path / "out") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def _add(root: Path, key: str, number: int) -> None:
    store = ItemStore(root)
    for _ in range(20):
        with store.staging() as folder:
            (folder / "x.h5").write_bytes(b"same" * 1000)
            store.add(key, folder / "x.h5")


def test_two_processes_may_add_the_same_item_at_once(tmp_path: Path) -> None:
    key = item_key({"n": 1})
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(tmp_path, key, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert ItemStore(tmp_path).path(key, ".h5").read_bytes() == b"same" * 1000


def test_the_store_lies_in_the_project_or_where_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLINE_STORE", raising=False)
    assert cache.store_root() == tmp_path / ".store"
    monkeypatch.setenv("AFFECTLINE_STORE", "../shared")
    assert cache.store_root() == tmp_path / "../shared"
    monkeypatch.setenv("AFFECTLINE_STORE", "/disk/store")
    assert cache.store_root() == Path("/disk/store")


@pytest.mark.parametrize("copy", ["tmpx", "standalone/tmpx", "tmpx/inner"])
def test_an_experiment_that_runs_apart_has_the_store_of_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str
) -> None:
    workspace = tmp_path / ".dvc" / "tmp" / "exps" / copy
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("AFFECTLINE_STORE", raising=False)
    assert cache.store_root() == tmp_path / ".store"
    monkeypatch.setenv("AFFECTLINE_STORE", "here")
    assert cache.store_root() == tmp_path / "here"
