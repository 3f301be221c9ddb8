"""Scenario 9: a full disk ends the run with a message; nothing is lost, and it goes on after."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clones import Clone, copy_clone

MIB = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """Fill a disk up to `leave` bytes, and return the file that does."""
    ballast = place / "ballast"
    with ballast.open("wb") as file:
        left = shutil.disk_usage(place).free - leave
        while left > 0:
            left -= file.write(b"\0" * min(MIB, left))
    return ballast


@pytest.mark.parametrize("leave", [64 * 1024, 2 * MIB])
def test_a_full_disk_says_so_loses_nothing_and_goes_on_after(
    template: Clone, small_disk: Path, leave: int
) -> None:
    clone = copy_clone(template, small_disk / "clone")
    params = (clone.root / "params.yaml").read_text()
    before = clone.outputs()
    clone.params(decode__seed=5)  # everything after the index is computed anew
    ballast = fill(small_disk, leave)
    said = clone.run("dvc", "repro", ok=None)
    quick = clone.run("python", "-m", "affectline", "doctor", "--quick", ok=None)
    is_told = "No space left on device" in said or "failed to transfer" in said
    assert is_told or "doctor: all is well" not in quick, said
    assert "ERROR" in said or "doctor: all is well" not in quick  # make repro ends non-zero
    finished = items(clone)
    ballast.unlink()
    clone.run("python", "-m", "affectline", "doctor", "--repair", ok=None)
    clone.run("dvc", "repro")
    assert {name: items(clone)[name] for name in finished} == finished  # none was made again
    assert "doctor: all is well" in clone.run("python", "-m", "affectline", "doctor", "--quick")
    (clone.root / "params.yaml").write_text(params)
    clone.run("dvc", "repro")
    assert clone.outputs() == before


def items(clone: Clone) -> dict[str, int]:
    """Return the items of the store with the times at which they were written."""
    files = (path for path in (clone.store / "items").rglob("*") if path.is_file())
    return {path.name: path.stat().st_mtime_ns for path in files}
