import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from agreement import Agreement, agreement, app, compare
from typer.testing import CliRunner

from tests.conftest import write_clip

pytestmark = pytest.mark.slow  # a detector's network and processes that import torch


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with a clip with sound, and a file that is none."""
    write_clip(tmp_path / "clips/a.mp4", frames=40, size=(96, 64), sound_s=2.0)
    (tmp_path / "clips/broken.mp4").write_bytes(b"no video")
    return tmp_path / "clips"


def record(clips: Path, path: Path, *arguments: str) -> Path:
    """Record what this process makes of the clips."""
    done = CliRunner().invoke(
        app, [f"--clips={clips}", "--only=none", f"--record={path}", *arguments]
    )
    assert done.exit_code == 0, done.output
    assert "broken.mp4: cannot be opened" in done.output
    return path


def test_a_clip_gives_the_same_numbers_twice_and_every_kind_is_compared(
    clips: Path, tmp_path: Path
) -> None:
    one, other = (record(clips, tmp_path / f"{name}.h5") for name in "ab")
    rows = {row.kind: row for row in compare(one, other)}
    kinds = {"frames segments", "frames snippets", "crops", "crops aligned", "shots"}
    kinds |= {"sound", "sound 16 kHz", "log-mel", "MFCC", "retinaface input", "retinaface boxes"}
    assert kinds <= set(rows)
    for row in rows.values():
        assert row.numbers > 0, row
        assert (row.differ, row.largest, row.of_norm, row.missing) == (0, 0, 0, 0), row
        assert row.cosine == pytest.approx(1), row
    with h5py.File(one) as file:
        software = json.loads(file.attrs["software"])
    assert {"av", "pillow", "libavcodec", "torch cpu", "torch threads"} <= set(software)


def test_a_change_of_a_number_is_found_and_measured(clips: Path, tmp_path: Path) -> None:
    one, other = (record(clips, tmp_path / f"{name}.h5") for name in "ab")
    with h5py.File(other, "r+") as file:
        crops = file["a.mp4|crops"]
        crops[0, 0, 0, 0] += 2
        del file["a.mp4|MFCC"]
    rows = {row.kind: row for row in compare(one, other) if row.differ or row.missing}
    assert set(rows) == {"crops", "MFCC"}
    assert rows["crops"].differ == 1 / rows["crops"].numbers and rows["crops"].largest == 2
    assert rows["MFCC"].missing == 1


def test_differences_are_measured_over_all_clips() -> None:
    pairs = [
        (np.array([3.0, 0.0, 4.0]), np.array([3.0, 0.0, 4.5])),
        (np.array([1e-6]), np.array([2e-6])),  # far below the largest: its ratio says nothing
        None,
    ]
    row = agreement("a kind", pairs)
    assert row == Agreement(
        kind="a kind",
        numbers=4,
        differ=0.5,
        largest=0.5,
        relative=pytest.approx(0.5 / 4.5),
        of_norm=pytest.approx(0.1),
        cosine=pytest.approx(27 / (5 * np.hypot(3, 4.5))),
        missing=1,
    )


def test_environments_are_compared_each_in_a_process_of_its_own(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of libraries comes before those of this environment."""
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries/soxr.py").write_text(
        "class ResampleStream:\n"
        "    def __init__(self, before, after, *_, **__):\n"
        "        self.step = before // after or 1\n"
        "    def resample_chunk(self, samples, last=False):\n"
        "        return samples[:: self.step]\n"
    )
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    done = CliRunner().invoke(
        app,
        [f"--clips={clips}", "--only=none", f"--other=toy={tmp_path / 'libraries'}", "--json"],
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["here"]["torch threads"] == "1"
    assert {row["kind"] for row in said["toy"] if row["differ"] or row["missing"]} == {"MFCC"}
