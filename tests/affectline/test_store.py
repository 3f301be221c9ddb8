import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from dvc.fs import localfs
from dvc.rwlock import rwlock
from typer.testing import CliRunner

from affectline import store
from affectline.cli import app
from features.cache import arrays, tables
from features.cache.store import ItemStore, link_or_copy, store_root

KEY = {"key": pa.string()}


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["store", *arguments])
    return done.exit_code, done.output


def add(name: str) -> str:
    """Put an item into the store; return its key."""
    key = name * 64
    with ItemStore(store_root()).staging() as folder:
        arrays.write(folder / f"{key}.h5", {"n": np.arange(3)}, {"key": key})
        ItemStore(store_root()).add(key, folder / f"{key}.h5")
    return key


@pytest.fixture
def workspace(in_folder: Path) -> Path:
    """A store with the items a, b and c; a is in an output, b in a run, c in nothing."""
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    Path("params.yaml").touch()
    for name in "abc":
        add(name)
    tables.write(Path("data/tables/toy.parquet"), [{"key": "a" * 64}], pa.schema(KEY))
    tables.write(Path("results/caan/runs.parquet"), [{"key": "b" * 64}], pa.schema(KEY))
    tables.write(
        Path("data/views/faces_boxes.parquet"), [{"x": "y"}], pa.schema({"x": pa.string()})
    )
    return in_folder


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let so many days pass: a file's change of state cannot be set back."""
    now = time.time()
    monkeypatch.setattr(store.time, "time", lambda: now + days * store.DAY_S)


def left() -> str:
    return "".join(item.key[0] for item in ItemStore(store_root()).items())


def test_gc_removes_only_what_no_output_needs(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, 40)
    code, said = run("gc", "--older-than", "30", "--dry-run", "--json")
    told = json.loads(said)
    assert (code, told["removed"], told["items"]) == (0, False, [f"{'c' * 64}.h5"])
    assert left() == "abc"
    assert "removed 1 items" in run("gc", "--older-than", "30")[1]
    assert left() == "ab"


def test_gc_keeps_what_was_used_lately(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 20)
    assert "removed 0 items" in run("gc", "--older-than", "30")[1]
    assert left() == "abc"


def test_gc_keeps_the_weights_that_are_in_use(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = ItemStore(store_root())
    for name in "de":
        path = items.path(name * 64, ".safetensors")
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode() * 100)
    Path("data/weights").mkdir()
    Path("data/weights/vgg16.safetensors").write_bytes(b"d" * 100)  # a copy, no link
    later(monkeypatch, 40)
    run("gc", "--older-than", "30")
    assert left() == "abd"


def test_gc_keeps_what_an_output_needs_that_is_not_checked_out(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Path("data/tables/toy.parquet")
    kept = store.dvc_lock.object_path(store.dvc_lock.cache_folder(), "0" * 32)
    kept.parent.mkdir(parents=True)
    index.rename(kept)
    Path("params.yaml").write_text("{}")
    Path("dvc.yaml").write_text("stages: {toy: {}}")
    Path("dvc.lock").write_text(
        f"stages: {{toy: {{outs: [{{path: {index}, md5: '{'0' * 32}', size: 1}}]}}}}"
    )
    later(monkeypatch, 40)
    run("gc", "--older-than", "30")
    assert left() == "ab"


def test_gc_removes_nothing_where_an_index_cannot_be_read(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data/tables/toy.parquet").write_bytes(b"damaged")
    later(monkeypatch, 40)
    code, said = run("gc", "--older-than", "30")
    assert code == 1 and "toy.parquet: expected an index of items" in " ".join(said.split())
    assert left() == "abc"


def test_gc_waits_for_a_dvc_that_is_at_work(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".dvc/tmp").mkdir()
    later(monkeypatch, 40)
    for read, write in ([["data"], []], [[], ["data"]]):
        with rwlock(".dvc/tmp", localfs, "dvc repro", read, write, False):
            code, said = run("gc", "--older-than", "0")
        assert code == 1 and f"dvc repro (process {os.getpid()}) is at work" in said
        assert left() == "abc"
    assert run("gc", "--older-than", "0")[0] == 0


def test_size_counts_by_age_and_says_what_no_output_shares(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_or_copy(ItemStore(store_root()).path("a" * 64, ".h5"), Path("data/out.h5"))
    later(monkeypatch, 3)
    told = json.loads(run("size", "--json")[1])
    assert told["items"] == 3
    (row,) = (row for row in told["by_age"] if row["items"])
    assert row["days"] == 7
    assert row["bytes_alone"] == row["bytes"] * 2 // 3
    assert run("size")[0] == 0


def test_verify_names_what_is_damaged(workspace: Path) -> None:
    assert "3 items, all whole" in run("verify")[1]
    path = ItemStore(store_root()).path("b" * 64, ".h5")
    path.chmod(0o644)
    os.truncate(path, 100)
    other = path.with_suffix(".json")
    other.write_text("{")
    code, said = run("verify", "--json")
    faults = json.loads(said[: said.rindex("]") + 1])
    assert code == 1 and {fault["path"] for fault in faults} == {str(path), str(other)}


def test_leftovers_are_those_of_the_dead(workspace: Path) -> None:
    items = ItemStore(store_root())
    with items.staging():
        dead = items.root / "unfinished" / "host-1-x"
        dead.mkdir()
        assert items.leftovers() == [dead]


@pytest.fixture
def trials(workspace: Path) -> list[Path]:
    """What is remembered of the runtimes of two networks: 5,000 and 300 bytes."""
    folders = [Path(".store/runtimes") / name for name in ("f00", "ba2")]
    for folder, size in zip(folders, (5_000, 300), strict=True):
        folder.mkdir(parents=True)
        (folder / "machine.json").write_bytes(b" " * size)
    return folders


def test_size_counts_what_is_remembered_of_runtimes(trials: list[Path]) -> None:
    assert json.loads(run("size", "--json")[1])["runtimes_bytes"] == 5_300
    assert "networks for another runtime 5.2 KiB" in " ".join(run("size")[1].split())


def test_gc_removes_runtimes_that_nobody_has_used_for_so_long(
    trials: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, days=8)
    used_s = store.time.time() - 6 * store.DAY_S
    os.utime(trials[1] / "machine.json", (used_s, used_s))
    assert "would remove" in run("gc", "--older-than=7", "--dry-run")[1] and trials[0].exists()
    freed = json.loads(run("gc", "--older-than=7", "--json")[1])
    assert (freed["runtimes"], freed["runtimes_bytes_freed"]) == (["f00"], 5_000)
    assert [folder.exists() for folder in trials] == [False, True]


def test_forget_has_every_network_tried_again(trials: list[Path]) -> None:
    code, said = run("forget")
    assert code == 0 and "2 networks will be tried again" in said
    assert not any(folder.exists() for folder in trials) and left() == "abc"
    assert json.loads(run("forget", "--json")[1]) == {"runtimes": [], "bytes_freed": 0}
