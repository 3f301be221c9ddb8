import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from features.cache import tables
from stages.engine.dvc_lock import cache_folder, objects, read_outputs
from stages.engine.previous import changed_deps, previous_file, previous_files
from tests.affectline.test_diff import Repository, features


@pytest.fixture
def keys(in_folder: Path) -> set[str]:
    """A clone that knows what a stage has put out, and has none of it."""
    repository = Repository(in_folder)
    repository.commit(
        "one",
        vgg16={"joy/a": features([[1, 2], [3, 4]]), "joy/b": features([[5, 6], [7, 8]])},
        swin={"joy/a": features([[9, 9], [9, 9]])},
    )
    more = "      - data/features/${item}_more.parquet\n"
    with Path("dvc.yaml").open("a") as file:
        file.write(more)
    for name in ("vgg16", "swin"):  # another table, which is the index of no folder
        table = Path(f"data/features/{name}_more.parquet")
        tables.write(table, [{"key": name}], pa.schema([("key", pa.string())]))
    repository.dvc("commit", "-f")
    repository.dvc("remote", "add", "-d", "team", str(in_folder / "remote"))
    repository.dvc("push")
    rows = repository.rows("data/features/vgg16")
    shutil.rmtree(in_folder / ".dvc/cache")
    shutil.rmtree(in_folder / "data")
    return {str(row["key"]) for row in rows}


def test_what_the_cache_lacks_is_fetched(keys: set[str]) -> None:
    notes: list[str] = []
    found = dict(previous_files("extract@vgg16", keys, notes.append))
    assert (found.keys(), notes) == (keys, [])
    assert all(path.is_file() for path in found.values())


def test_nothing_is_fetched_that_is_not_asked_for(keys: set[str]) -> None:
    key, _ = sorted(keys)
    ((_, path),) = previous_files("extract@vgg16", {key}, print)
    outputs = {str(output.path): output.md5 for output in read_outputs()}
    listing, index = (outputs[f"data/features/{name}"] for name in ("vgg16", "vgg16.parquet"))
    held = {md5 for md5, _ in objects(cache_folder())}
    assert held == {listing, index, path.parent.name + path.name}
    assert previous_file("extract@swin", Path("data/features/swin.parquet"), print) is not None
    assert len({md5 for md5, _ in objects(cache_folder())} - held) == 1


def test_keys_that_were_not_put_out_are_not_found(keys: set[str]) -> None:
    assert dict(previous_files("extract@vgg16", {"0" * 64}, print)) == {}
    assert dict(previous_files("extract@swin", keys, print)) == {}


def test_what_a_broken_download_left_is_fetched_again_or_not_used(keys: set[str]) -> None:
    from dvc.cli import main

    key = min(keys)
    ((_, path),) = previous_files("extract@vgg16", {key}, print)
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:100])
    assert dict(previous_files("extract@vgg16", {key}, print)) == {key: path}
    assert path.read_bytes() == whole
    assert main(["remote", "remove", "team", "-q"]) == 0
    for mode in (0o644, 0o444):  # DVC may even have marked it as whole
        path.unlink()
        path.write_bytes(whole[:100])
        path.chmod(mode)
        assert dict(previous_files("extract@vgg16", {key}, print)) == {}


def test_a_remote_out_of_reach_is_a_note_and_no_error(
    keys: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_connection(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("Connection lost") from OSError("no route")  # a library's, not DVC's

    monkeypatch.setattr("dvc.data_cloud.DataCloud.pull", lose_connection)
    notes: list[str] = []
    assert dict(previous_files("extract@vgg16", keys, notes.append)) == {}
    (note,) = notes
    assert "cannot be fetched (Connection lost: no route)" in note


def test_a_web_server_that_is_gone_is_not_taken_for_an_empty_one(keys: set[str]) -> None:
    from dvc.cli import main

    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        address = f"http://localhost:{closed.getsockname()[1]}"  # nobody listens
        assert main(["remote", "add", "-q", "--force", "--default", "team", address]) == 0
        notes: list[str] = []
        assert dict(previous_files("extract@vgg16", keys, notes.append)) == {}
    (note,) = notes
    assert "cannot be fetched (Cannot connect to host localhost" in note


def test_one_file_of_the_previous_output(keys: set[str]) -> None:
    table = Path("data/features/vgg16.parquet")
    found = previous_file("extract@vgg16", table, print)
    assert found is not None
    assert {str(row["key"]) for row in tables.read(found)} == keys
    assert previous_file("extract@vgg16", Path("data/features/other.parquet"), print) is None
    Path("dvc.lock").unlink()
    assert previous_file("extract@vgg16", table, print) is None


PIPELINE = """
stages:
  made:
    cmd: cp code out
    deps: [code]
    params: [detector, backbones]
    outs: [out]
"""


def test_what_has_changed_since_a_stage_ran_is_named_by_dep_and_section(in_folder: Path) -> None:
    Repository(in_folder)
    Path("code").write_text("1")
    Path("params.yaml").write_text("{detector: 1, backbones: {a: 1}}")
    Path("dvc.yaml").write_text(PIPELINE)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert changed_deps("made") == set()
    Path("out").unlink()  # as DVC does before it runs a stage
    Path("params.yaml").write_text("{detector: 1, backbones: {a: 2}}")
    assert changed_deps("made") == {"backbones"}
    Path("params.yaml").write_text("{detector: 2, backbones: {a: 2}}")
    Path("code").write_text("2")
    assert changed_deps("made") == {"backbones", "detector", "code"}
    Path("dvc.yaml").write_text(PIPELINE.replace("cp code", "cp -p code"))
    assert "command" in changed_deps("made")
