import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import faces
import numpy as np
import pytest
import torch
from faces import app, compared, frames_of, in_project, retinaface_ways, stage_ways
from torch import Tensor, nn
from typer.testing import CliRunner

from features.cache import arrays
from sample.clips import encode_clip, plan_clip


@dataclass(frozen=True)
class ToyOptions:
    """What the benchmark chooses of RetinaFace."""

    weights: str


class ToyDetector(nn.Module):
    """A detector that remembers how many frames it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
        self.given: list[int] = []

    def prepare(self, frames: faces.Frames) -> Tensor:
        return torch.from_numpy(frames).permute(0, 3, 1, 2).float()

    def forward(self, rows: Tensor) -> Tensor:
        self.given.append(len(rows))
        return self.layer(rows)  # type: ignore[no-any-return]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyDetector:
    """Stand in for RetinaFace, and for OpenVINO, whose conversion takes seconds."""
    network = ToyDetector()
    module = SimpleNamespace(Options=ToyOptions, build=lambda options: network, FREE_AXES=())
    monkeypatch.setattr(faces.detectors, "load", lambda name: module)
    monkeypatch.setattr(faces.runtimes, "converted", lambda network, inputs, axes: (network,))
    monkeypatch.setattr(faces.runtimes, "forward_of", lambda network: network)
    return network


def test_frames_go_through_retinaface_one_at_a_time_and_at_once(toy: ToyDetector) -> None:
    ways = retinaface_ways(np.zeros((4, 9, 9, 3), np.uint8), 4)
    given = {}
    for name, go in ways.items():
        toy.given.clear()
        assert go() == 4
        given[name] = list(toy.given)
    assert given["torch, one at a time"] == given["OpenVINO, one at a time"] == [1, 1, 1, 1]
    assert given["torch, 4 at once"] == given["OpenVINO, 4 at once"] == [4]
    assert not given["torch, channels last, one"]  # a network of its own


def test_the_ways_are_told_beside_the_first_of_them(toy: ToyDetector) -> None:
    done = CliRunner().invoke(app, ["--size=9x9", "--together=2", "--repeat=1", "--json"])
    assert done.exit_code == 0, done.output
    speeds = json.loads(done.stdout)["speeds"]
    assert len(speeds) == 6 and {speed["network"] for speed in speeds} == {"retinaface"}
    assert speeds[0]["gain"] == speeds[0]["cpu_gain"] == 1
    assert all(speed["ms"] > 0 for speed in speeds)


def test_each_way_has_the_least_of_its_turns_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 8, 8, 9, 9, 13, 13, 15])  # begin and end: slow, fast; slow, fast
    monkeypatch.setattr(faces.time, "perf_counter", lambda: next(clock))
    cpu = iter(range(0, 16, 2))
    monkeypatch.setattr(faces, "used_cpu_s", lambda: next(cpu))
    slow, fast = compared("network", {"slow": lambda: 2, "fast": lambda: 2}, 2)
    assert (slow.ms, fast.ms, fast.gain) == (2000, 500, 4)
    assert (slow.cpu_ms, fast.cpu_gain) == (1000, 1)


def rows(task: Path, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write how many frames a view has."""
    for key, path in outputs.items():
        count = len(arrays.read(task)[0]["frames"])
        arrays.write(path, {"count": np.array([count])}, {"key": key})
    return {}


def test_a_stage_goes_over_all_videos_in_each_turn_and_leaves_nothing(tmp_path: Path) -> None:
    before = os.environ.get("AFFECTLINE_STORE")
    with in_project(tmp_path) as root:
        ways = stage_ways(root, "toy", np.zeros((3, 8, 8, 3), np.uint8), 2, 1, lambda p: p, rows)
        assert list(ways) == [
            "the stage, this process",
            "the stage, 1 processes",
            "of that, start of 1 processes",
        ]
        assert [ways["the stage, this process"]() for _ in range(2)] == [6, 6]
        assert not list((root / "store" / "items").rglob("*.h5"))
    assert os.environ.get("AFFECTLINE_STORE") == before


def test_a_short_clip_gives_as_many_frames_as_are_asked_for(tmp_path: Path) -> None:
    encode_clip(plan_clip(0, "joy", 0, 0.3), tmp_path / "clip.mp4")
    shown = frames_of(tmp_path / "clip.mp4", rows=4, poses=9)
    assert len(shown["segments"]) == 4 and len(shown["uniform"]) == 9
    assert min(shown["uniform"].shape[1:3]) <= 256
