"""The benchmark of a GPU, run on the CPU: to all but CUDA it is a device like another."""

from pathlib import Path

import extract_loop
import gpu
import pytest
import torch
from gpu import Bench, app
from typer.testing import CliRunner

from features.networks import streams


def test_without_cuda_it_says_so_in_a_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 1 and not done.stdout
    assert done.stderr == "benchmarks/gpu.py: torch finds no GPU with CUDA here\n"


@pytest.mark.slow  # a network over a few seconds of sound
def test_a_backbone_is_measured_from_its_views_and_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract_loop, "SOUND_S", 2)
    monkeypatch.setattr(gpu, "TURNS", 1)
    monkeypatch.setattr(streams, "WARM_UP", 1)
    monkeypatch.setenv("AFFECTLINE_STORE", "")  # the benchmark sets its own, undone after
    bench = Bench("resnet18_mfcc", "bfloat16", "cpu", tmp_path / "a")
    found = bench.measure(videos=2, rows=4, peak=1e12)
    assert (found.runtime, found.readers, found.peak_mib) == ("torch", 0, None)
    assert found.loop > 0 and found.eager > 0 and found.of_forward == found.loop / found.forward
    assert 0.999 < found.cosine < 1  # bfloat16 is another number
    assert found.of_peak is not None and found.of_peak > 0


def test_a_products_operations_are_counted_and_timed() -> None:
    matrix = torch.rand(6, 5)
    rows = torch.rand(4, 6)
    assert gpu.flops(lambda batch: {"y": batch @ matrix}, rows) == 2 * 4 * 6 * 5
    assert gpu.peak_flops(torch.device("cpu"), side=8) > 0
    assert gpu.cosine(torch.tensor([1.0, 0]), torch.tensor([3.0, 4])) == pytest.approx(0.6)
