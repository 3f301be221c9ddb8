"""Scenario 10: a damaged feature file is found, never used, and made again alone."""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml

from tests.clones import Clone

VIDEO = "data/features/frames_toy/joy/joy1.h5"


def doctor(clone: Clone, *options: str, ok: bool | None = None) -> Any:
    said = clone.run("python", "-m", "affectline", "doctor", "--json", *options, ok=ok)
    return json.loads(said[said.index("{") : said.rindex("}") + 1])


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    with h5py.File(path) as file:
        chunk = file["colour"].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size - 1)
        (last,) = raw.read(1)
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes([last ^ 4]))


def edit_by_hand(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["colour"][0, 0] = 9.0


DAMAGES = {"cut short": cut_short, "a flipped bit": flip_a_bit, "edited": edit_by_hand}


def names_of(clone: Clone, path: Path) -> dict[str, Path]:
    """Return the other places that have the item which lies at ``path``."""
    inode = path.stat().st_ino
    places = {"store": clone.store / "items", "cache": clone.root / ".dvc/cache/files/md5"}
    found = {"output": path}
    for name, folder in places.items():
        (found[name],) = (p for p in folder.rglob("*") if p.is_file() and p.stat().st_ino == inode)
    return found


@pytest.mark.parametrize(
    ("damage", "shared"),
    [*((damage, True) for damage in DAMAGES), ("edited", False)],
    ids=[*(f"{damage}, everywhere" for damage in DAMAGES), "edited, output alone"],
)
def test_damage_is_found_never_trained_on_and_made_again_alone(
    clone: Clone, damage: str, shared: bool
) -> None:
    path = clone.root / VIDEO
    whole = path.read_bytes()
    places = names_of(clone, path)
    assert set(places) == {"output", "store", "cache"}
    if not shared:
        path.unlink()
        path.write_bytes(whole)
    path.chmod(0o644)
    DAMAGES[damage](path)
    # train reads it where its settings have changed, and ends
    clone.params(train__epochs=3)
    said = clone.run("dvc", "repro", "--single-item", "train@caan", ok=False)
    assert "changed since" in said or "expected a whole array file" in said
    found = doctor(clone, "--repair", ok=True)["findings"]
    assert any(VIDEO in each["where"] + each["what"] for each in found), found
    clone.repro()
    expected = 1 if shared else 0  # DVC and the store still have it
    assert clone.computed().get("extract@frames_toy", 0) == expected
    assert path.read_bytes() == whole
    assert doctor(clone, ok=True)["findings"] == []


def test_a_half_written_lock_of_a_killed_dvc_is_named_and_removed(clone: Clone) -> None:
    lock = clone.root / ".dvc/tmp/rwlock"
    lock.write_text('{"x": ')
    clone.run("dvc", "repro", ok=False)
    assert "killed while it wrote" in doctor(clone, ok=False)["findings"][0]["what"]
    doctor(clone, "--repair", ok=True)
    assert clone.repro() == []


def test_an_object_that_dvc_has_lost_ends_make_repro(clone: Clone) -> None:
    objects = clone.root / ".dvc/cache/files/md5"
    outs = yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]["extract@frames_toy"]
    (listing,) = (out["md5"] for out in outs["outs"] if out["md5"].endswith(".dir"))
    entry = json.loads((objects / listing[:2] / listing[2:]).read_text())[0]["md5"]
    (objects / entry[:2] / entry[2:]).unlink()
    said = clone.run("python", "-m", "affectline", "doctor", "--quick", ok=False)
    assert "DVC's cache lacks 1 of" in said and "dvc commit --force" in said
