"""Scenario 9: a full disk ends the run with a message; nothing is lost, and it goes on after."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clones import Clone, make_light_clone

MIB = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)]
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


@pytest.fixture
def clone(small_disk: Path) -> Clone:
    """A light clone on the small disk, its sixth videos not yet looked at."""
    return make_light_clone(small_disk / "clone")


@pytest.mark.parametrize("leave", [64 * 1024, 2 * MIB, 4 * MIB])
def test_a_full_disk_loses_nothing(
    clone: Clone, small_disk: Path, template: Clone, leave: int
) -> None:
    ballast = fill(small_disk, leave)
    said = clone.run("dvc", "repro", ok=None)
    quick = clone.run("python", "-m", "stages.cli", "doctor", "--quick", ok=None)
    ended = "No space left on device" in said or "failed to transfer" in said
    assert ended or "DVC's cache lacks" in quick, said
    assert "ERROR" in said or "doctor: " in quick  # never silent
    finished = {
        path.name: path.stat().st_mtime_ns
        for path in (clone.store / "items").rglob("*")
        if path.is_file()
    }
    ballast.unlink()
    clone.run("python", "-m", "stages.cli", "doctor", "--repair", ok=None)
    clone.run("dvc", "repro")
    kept = {
        path.name: path.stat().st_mtime_ns
        for path in (clone.store / "items").rglob("*")
        if path.is_file()
    }
    assert {name: kept[name] for name in finished} == finished
    assert clone.run("python", "-m", "stages.cli", "doctor").strip().endswith("all is well")
    features = {k: v for k, v in template.outputs().items() if k.startswith("data/features")}
    assert {k: v for k, v in clone.outputs().items() if k.startswith("data/features")} == features
