from pathlib import Path

import numpy as np
import pytest
import typer
import ve8_shape
from typer.testing import CliRunner
from ve8_shape import Measured, file_path, make_videos, measure, report, write_file

import heads
from features.cache import arrays
from heads.training.settings import Training

VIDEOS = 16
SMALL = {
    "hamf": '{"local_channels": 4, "frame_hidden": 8, "hidden": 8, "global_hidden": [8, 8]}',
    "caan": '{"embedding": 8, "fusion": 8, "feature": 8, "score_hidden": [8, 8]}',
    "rdam": '{"channels": 8, "feature": 8}',
    "lstm": '{"units": 8}',
    "nextvlad": '{"projection": 16, "hidden": 8}',
    "context_fusion": '{"embedding": 8, "fusion": 8, "hidden": 8}',
    "quality_aware": '{"embedding": 8, "channels": 8}',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ve8_shape, "SHAPES", {"fc6": (16,), "pool5": (4, 3, 3)})
    for number in range(VIDEOS):
        for network in ve8_shape.NETWORKS:
            write_file(tmp_path, network, number)
    return tmp_path


def test_files_are_as_the_extraction_writes_them(folder: Path) -> None:
    found, attributes = arrays.read(file_path(folder, "vggface", 3))
    assert found["pool5"].shape == (24, 4, 3, 3)
    assert found["fc6"].dtype == found["pool5"].dtype == np.float16
    assert found["valid"].dtype == np.bool_ and len(found["index"]) == len(found["pts_s"]) == 24
    assert attributes["key"] == make_videos(folder, VIDEOS)[3].keys["vggface"]


def test_files_that_are_there_are_used_again(folder: Path) -> None:
    path = file_path(folder, "vgg16", 2)
    before = path.stat().st_mtime_ns
    write_file(folder, "vgg16", 2)
    assert path.stat().st_mtime_ns == before


def test_files_of_another_shape_are_written_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ve8_shape, "SHAPES", {"fc6": (17,), "pool5": (4, 3, 3)})
    write_file(folder, "vgg16", 2)
    found, _ = arrays.read(file_path(folder, "vgg16", 2))
    assert found["fc6"].shape == (24, 17)


@pytest.mark.parametrize("head", ve8_shape.ROLES)
def test_every_head_trains_an_epoch_a_phase(folder: Path, head: str) -> None:
    training = Training(epochs=1, batch_videos=4, threads=1)
    found = measure(folder, VIDEOS, head, SMALL.get(head, "{}"), training, "cpu", 1000)
    assert found.phases >= 1
    assert found.peak_bytes > 2**20 and found.peak_device_bytes == 0
    numbers = report(found, VIDEOS, head)
    assert numbers["train_run_passes"] == found.phases + 2
    assert all(value > 0 for name, value in numbers.items() if name != "peak_device_GiB")


def test_heads_without_roles_here_need_features_of_other_shapes() -> None:
    assert set(heads.names()) - set(ve8_shape.ROLES) == {"mmf", "vaanet"}


def test_rates_count_every_pass_over_the_features_in_use() -> None:
    measured = Measured(phases=2, trained_s=8.0, read_s=4.0, peak_bytes=2**31, peak_device_bytes=0)
    numbers = report(measured, 100, "rdam")
    assert numbers["train_run_videos_per_s"] == 100 * 4 / 8
    assert numbers["data_GB"] == pytest.approx(100 * 2 * 24 * 512 * 49 * 2 / 1e9)
    assert numbers["first_pass_MB_per_s"] == pytest.approx(numbers["data_GB"] * 1e3 / 4)
    assert numbers["peak_GiB"] == 2


def test_all_videos_are_almost_five_gigabytes() -> None:
    assert 4.6e9 < ve8_shape.VIDEOS * ve8_shape.VIDEO_BYTES < 4.8e9


def test_an_unknown_head_lists_those_that_there_are(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(ve8_shape.main)
    found = CliRunner().invoke(app, ["--folder", str(tmp_path), "--head", "vaanet"])
    assert found.exit_code == 2
    assert "vaanet" in found.output and "hamf" in found.output
