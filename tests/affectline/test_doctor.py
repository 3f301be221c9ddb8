import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from dvc.lock import LockBase, make_lock

from affectline import doctor
from features.cache import arrays
from features.cache.store import ItemStore, link_or_copy, store_root
from stages.engine import dvc_lock
from stages.engine.params import Engine, load_params

FOLDER = Path("data/features/toy")
KEYS = {"joy/a.h5": "a" * 64, "joy/b.h5": "b" * 64}


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def keep(data: bytes, ending: str = "") -> str:
    """Put an object into DVC's cache; return its name."""
    md5 = md5_of(data) + ending
    path = object_at(md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)
    return md5


def object_at(md5: str) -> Path:
    return dvc_lock.object_path(dvc_lock.cache_folder(), md5)


@pytest.fixture
def objects(in_folder: Path) -> dict[str, Path]:
    """A workspace with one stage of two items and an index; returns DVC's objects by name."""
    Path("params.yaml").write_text("backbones: {toy: {}}\n")
    stages = {"extract": {"foreach": "${backbones}", "do": {}}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    store, listed, found = ItemStore(store_root()), [], {}
    for name, key in KEYS.items():
        with store.staging() as folder:
            arrays.write(folder / f"{key}.h5", {"n": np.arange(9)}, {"key": key})
            item = store.add(key, folder / f"{key}.h5")
        md5 = md5_of(item.read_bytes())
        link_or_copy(item, FOLDER / name)
        link_or_copy(item, object_at(md5))
        listed.append({"md5": md5, "relpath": name})
        found[name] = object_at(md5)
    index = b"index"
    FOLDER.with_suffix(".parquet").write_bytes(index)
    listing = keep(json.dumps(listed).encode(), dvc_lock.FOLDER)
    size = sum(path.stat().st_size for path in found.values())
    outs = [
        {"path": str(FOLDER), "md5": listing, "size": size, "nfiles": 2},
        {"path": f"{FOLDER}.parquet", "md5": keep(index), "size": len(index)},
    ]
    stages = {"extract@toy": {"outs": outs}, "extract@gone": {"outs": [outs[0] | {"md5": "f.dir"}]}}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    return found | {"listing": object_at(listing), "index": object_at(str(outs[1]["md5"]))}


def findings() -> list[doctor.Finding]:
    return [*doctor.kept(), *doctor.whole()]


def overwrite(path: Path, data: bytes) -> None:
    """Change a file in place: all its names change with it."""
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def flip_a_bit(path: Path) -> None:
    """Flip a bit of the array: what HDF5 leaves unused has no checksum."""
    with h5py.File(path) as file:
        chunk = file["n"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size - 1] ^= 4
    overwrite(path, bytes(data))


def alone(path: Path) -> Path:
    """Give a file an inode of its own."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    return path


def test_nothing_is_found_where_all_is_well(objects: Mapping[str, Path]) -> None:
    assert findings() == []


def test_a_workspace_that_has_never_run_is_well(in_folder: Path) -> None:
    assert list(doctor.kept()) == []


def test_an_object_that_dvc_lacks_is_found(objects: Mapping[str, Path]) -> None:
    objects["joy/b.h5"].unlink()
    (found,) = doctor.kept()
    assert found.what == "DVC's cache lacks 1 of 2 files of extract@toy"
    assert found.where == str(FOLDER / "joy/b.h5")
    assert "dvc repro extract@toy" in found.to_do


def test_an_output_that_is_not_here_need_not_be_in_the_cache(objects: Mapping[str, Path]) -> None:
    FOLDER.with_suffix(".parquet").unlink()
    objects["index"].unlink()
    assert findings() == []


@pytest.mark.parametrize("name", ["joy/a.h5", "index"])
def test_an_object_that_was_cut_short_is_found_by_its_size_alone(
    objects: Mapping[str, Path], name: str
) -> None:
    overwrite(alone(objects[name]), b"")
    (found,) = doctor.kept()
    assert "bytes of data/features/toy" in found.what and "dvc.lock says" in found.what


def test_a_flipped_bit_is_found_once_and_repaired_under_all_its_names(
    objects: Mapping[str, Path],
) -> None:
    flip_a_bit(FOLDER / "joy/a.h5")  # store, output and cache share it
    found = findings()
    where = {each.where for each in found}
    assert where <= {str(objects["joy/a.h5"]), str(ItemStore(store_root()).path("a" * 64, ".h5"))}
    removed = doctor.repair(found)
    assert len(removed) == 3 and not any(path.exists() for path in removed)
    left = [FOLDER / "joy/b.h5", objects["joy/b.h5"], objects["listing"], objects["index"]]
    assert all(path.exists() for path in left)
    assert ItemStore(store_root()).has("b" * 64, ".h5")
    # what is left to do is what `dvc repro` does
    assert {each.to_do.split("`")[-2] for each in findings()} == {"dvc repro extract@toy"}


@pytest.mark.parametrize("place", ["store", "output", "cache"])
def test_damage_of_one_copy_costs_that_copy_alone(objects: Mapping[str, Path], place: str) -> None:
    item = ItemStore(store_root()).path("a" * 64, ".h5")
    places = {"store": item, "output": FOLDER / "joy/a.h5", "cache": objects["joy/a.h5"]}
    flip_a_bit(alone(places[place]))
    found = findings()
    assert [each.where for each in found] == [str(places[place])]
    doctor.repair(found)
    assert [name for name, path in places.items() if not path.exists()] == [place]


def test_a_bit_in_the_unused_bytes_of_an_output_is_found_by_its_md5(
    objects: Mapping[str, Path],
) -> None:
    path = alone(FOLDER / "joy/a.h5")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    arrays.read(path)
    (found,) = findings()
    assert found.where == str(path) and "expected the md5" in found.what


def test_an_item_under_the_key_of_another_is_found(objects: Mapping[str, Path]) -> None:
    store = ItemStore(store_root())
    path = alone(store.path("a" * 64, ".h5"))
    path.write_bytes(store.path("b" * 64, ".h5").read_bytes())
    (found,) = findings()
    assert found.where == str(path)
    assert "expected the item aaaaaaaaaaaa, found the item bbbbbbbbbbbb" in found.what


def test_a_changed_table_is_found_also_where_its_time_says_otherwise(
    objects: Mapping[str, Path],
) -> None:
    path = FOLDER.with_suffix(".parquet")
    times = path.stat()
    path.write_bytes(b"xndex")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    (found,) = findings()
    assert found.where == str(path) and "expected the md5" in found.what


def test_a_damaged_listing_is_removed_for_dvc_does_not_mend_it(
    objects: Mapping[str, Path],
) -> None:
    overwrite(objects["listing"], b'[{"md5": ')
    found = findings()
    assert [each.where for each in found] == [str(objects["listing"])]
    assert doctor.repair(found) == [objects["listing"]]
    assert "lacks the listing" in next(doctor.kept()).what


def test_files_that_lack_in_an_output_or_are_too_many_are_told(
    objects: Mapping[str, Path],
) -> None:
    (FOLDER / "joy/a.h5").unlink()
    (FOLDER / "joy/mine.txt").touch()
    (FOLDER / "joy/.x.tmp").touch()  # DVC does not look at it either
    assert [(each.where, each.files) for each in findings()] == [
        (str(FOLDER / "joy/a.h5"), ()),
        (str(FOLDER / "joy/mine.txt"), ()),
    ]


def test_what_dead_processes_and_full_disks_left_is_removed(
    objects: Mapping[str, Path],
) -> None:
    folder = store_root() / "unfinished" / "host-1-abc"
    folder.mkdir()
    (folder / "half.h5").touch()
    new, old = (objects["index"].with_name(f".{name}.tmp") for name in ("new", "old"))
    for path in (new, old):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 2 * doctor.COPY_S))
    found = findings()
    assert {each.where for each in found} == {str(folder), str(old)}
    doctor.repair(found)
    assert new.exists() and not old.exists() and not folder.exists()


def test_a_finding_of_a_lock_that_is_no_yaml_says_what_to_do(objects: Mapping[str, Path]) -> None:
    Path("dvc.lock").write_text("stages: [")
    (found,) = findings()
    assert found.where == "dvc.lock" and "git checkout dvc.lock" in found.to_do


def test_packages_of_other_versions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor.packages()) == []
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "1.0" if name == "torch" else real(name))
    told = {each.what.split(",")[0] for each in doctor.packages()}
    assert "affectline asks for torch==2.15.0" in told
    assert any(line.startswith("torchvision asks for torch") for line in told)


def test_a_remote_whose_downloads_may_break_off_unseen_is_told(objects: dict[str, Path]) -> None:
    lines = [
        "['remote \"a\"']",
        "url = webdavs://server/a",
        "['remote \"b\"']",
        "url = ssh://server/b",
    ]
    Path(".dvc/config").write_text("\n".join(lines) + "\n")
    assert [each.where for each in doctor.remotes()] == ["remote a"]
    Path(".dvc/config.local").write_text("['remote \"a\"']\nverify = true\n")
    assert list(doctor.remotes()) == []


def test_a_lock_that_dvc_is_writing_is_no_spoilt_one(in_folder: Path) -> None:
    Path(".dvc/tmp").mkdir(parents=True)
    dvc_lock.RWLOCK.write_text('{"read": ')
    with guard():
        assert not dvc_lock.is_spoilt()
    assert dvc_lock.is_spoilt()
    dvc_lock.RWLOCK.write_text("{}")
    assert not dvc_lock.is_spoilt()


def guard() -> LockBase:
    """Return the lock that DVC holds while it writes the file."""
    return make_lock(".dvc/tmp/rwlock.lock", tmp_dir=".dvc/tmp")


def test_the_file_that_is_broken_is_named_and_no_other_to_be_removed(
    objects: dict[str, Path],
) -> None:
    for name, to_do in (
        ("dvc.yaml", "`git checkout dvc.yaml`"),
        ("dvc.lock", "`git checkout dvc.lock`, or remove it"),
    ):
        text = Path(name).read_text()
        Path(name).write_text("a: [")
        (found,) = doctor.kept()
        assert (found.where, found.to_do) == (name, to_do) and name not in found.what
        Path(name).write_text(text)


def test_a_store_that_cannot_be_written_is_found(
    objects: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    assert not [f for f in doctor.machine(params) if f.where == "this machine"]
    monkeypatch.setenv("AFFECTLINE_STORE", str(Path("dvc.lock").absolute() / "store"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wrong = params.model_copy(update={"engine": Engine(device="cuda")})
    store, device = (f.what for f in doctor.machine(wrong) if f.where == "this machine")
    assert "cannot be written" in store and "engine.device: found 'cuda'" in device
