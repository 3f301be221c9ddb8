import json
from collections.abc import Iterator

import pytest
import runtimes
import torch
from runtimes import app, lacking, measure, noise, torch_backbones
from typer.testing import CliRunner

from features import backbones


@pytest.fixture(autouse=True)
def torch_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no other runtime installed: to export a network takes seconds."""
    packages = {name: ("no_such_package",) for name in runtimes.NEEDED}
    monkeypatch.setattr(runtimes, "NEEDED", packages)
    yield


def test_every_backbone_of_torch_is_measured() -> None:
    assert set(torch_backbones()) == set(backbones.names()) - {"blazepose"}
    assert lacking(("torch", "no_such_package")) == ["no_such_package"]


def test_runtimes_are_measured_beside_the_first_of_them() -> None:
    rows = {row.runtime: row for row in measure("resnet18_mfcc", batch=2, repeat=1)}
    assert list(rows) == ["torch", "torch, channels last", "torch, bfloat16"]
    assert (rows["torch"].of_first, rows["torch"].relative) == (1, 0)
    assert rows["torch, channels last"].relative < 1e-5 < rows["torch, bfloat16"].relative
    assert all(row.ms > 0 and row.cpu_ms > 0 for row in rows.values())


@pytest.mark.parametrize("name", ["resnet18_mfcc", "r3d18", "vggish"])
def test_the_input_is_a_batch_of_what_the_backbone_reads(name: str) -> None:
    inputs = noise(name, 2)
    assert len(inputs) == 2 and inputs.is_contiguous() and torch.isfinite(inputs).all()


def test_what_is_left_out_is_told() -> None:
    arguments = ["--only=resnet18_mfcc", "--batch=1", "--repeat=1", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "OpenVINO: left out, not installed: no_such_package" in done.stderr
    said = json.loads(done.stdout)
    assert {row["backbone"] for row in said["speeds"]} == {"resnet18_mfcc"}
    assert said["threads"] == 1 and said["commit"]
