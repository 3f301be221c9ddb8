import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mediapipe
import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from features.backbones import blazepose
from features.weights.file import load, write_pretrained
from features.weights.record import Source, Weights
from tests.features.sources.made_files import canonical


@pytest.fixture
def network(real_file: Callable[[str], Path], tmp_path: Path) -> nn.Module:
    tensors = canonical(blazepose.WEIGHTS.sources[0], real_file("pose_landmarker_full.task"))
    write_pretrained(tmp_path / "a", "blazepose", Weights("Apache-2.0", ()), tensors, "a", "b")
    return load(tmp_path / "a", blazepose.build())


def frames() -> torch.Tensor:
    person = skimage.data.astronaut()
    return blazepose.preprocess(np.stack([np.zeros_like(person), person, person[:, ::-1]]))


def test_frames_go_in_as_they_are() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    np.testing.assert_array_equal(blazepose.preprocess(pictures).numpy(), pictures)
    assert blazepose.preprocess(np.zeros((0, 5, 7, 3), np.uint8)).shape == (0, 5, 7, 3)


def test_scores_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match="0..1"):
        blazepose.Options(min_detection=1.5)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size: expected one of lite, full, heavy, found 'tiny'"):
        blazepose.Options(size="tiny")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", ["lite", "full", "heavy"])
def test_each_size_has_an_address_and_a_checksum_of_its_own(size: blazepose.Size) -> None:
    weights = blazepose.weights(blazepose.Options(size=size))
    bundle, *others = weights.sources
    assert isinstance(bundle, Source)
    assert bundle.url.endswith(f"/pose_landmarker_{size}/float16/1/pose_landmarker_{size}.task")
    assert len(bundle.sha256 or "") == 64
    assert others == ([blazepose.PACKAGE] if size == "full" else [])
    assert not weights.can_seed
    assert (weights == blazepose.WEIGHTS) == (size == "full")


def test_there_is_no_network_to_fill_with_random_weights() -> None:
    assert not blazepose.WEIGHTS.can_seed


def test_a_network_without_weights_says_so() -> None:
    with pytest.raises(ValueError, match="no weights before"):
        blazepose.build()(frames())


class Found:
    """Stands for MediaPipe's landmarker: a pose in every picture that is not black, and noise."""

    def detect(self, image: mediapipe.Image) -> SimpleNamespace:
        os.write(2, b"W0000 00:00:1795331781.170755 4657 runner.cc:1] not aligned\n")
        if not image.numpy_view().any():
            return SimpleNamespace(pose_landmarks=[], pose_world_landmarks=[])
        return SimpleNamespace(
            pose_landmarks=[[self._point(n, 0.9) for n in range(33)]],
            pose_world_landmarks=[[self._point(n - 16, 0.4) for n in range(33)]],
        )

    def _point(self, n: int, visibility: float) -> SimpleNamespace:
        return SimpleNamespace(x=n / 50, y=n / 40, z=-n / 30, visibility=visibility - n / 100)


def test_landmarks_are_shares_of_the_frame_whatever_its_shape(
    capfd: pytest.CaptureFixture[str],
) -> None:
    network = blazepose.BlazePose(blazepose.Options())
    network._landmarker = Found()
    pictures = np.zeros((3, 40, 90, 3), np.uint8)
    pictures[1:] = 200
    found = network(blazepose.preprocess(pictures))
    assert found["valid"].tolist() == [False, True, True]
    n = np.arange(33)
    expected = {
        "landmarks": np.stack([n / 50, n / 40, -n / 30], axis=1),
        "world": np.stack([n - 16.0] * 3, axis=1) / [50, 40, -30],
        "visibility": 0.9 - n / 100,
    }
    for name, values in expected.items():
        assert not found[name][0].any()
        np.testing.assert_allclose(found[name][1:], [values, values], rtol=1e-5, atol=1e-7)
    assert capfd.readouterr().err == ""


def test_what_counts_as_a_pose_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from mediapipe.tasks.python import vision

    asked = []

    def create(options: vision.PoseLandmarkerOptions) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(vision.PoseLandmarker, "create_from_options", create)
    network = blazepose.BlazePose(blazepose.Options(min_detection=0.61, min_presence=0.37))
    network.model = torch.ones(4, dtype=torch.uint8)
    network._open()
    assert asked[0].min_pose_detection_confidence == 0.61
    assert asked[0].min_pose_presence_confidence == 0.37
    assert asked[0].num_poses == 1


@pytest.mark.weights
def test_the_astronauts_nose_is_where_it_is(network: nn.Module) -> None:
    found = network(frames())
    assert found["valid"].tolist() == [False, True, True]
    x, y, _ = found["landmarks"][1, 0].tolist()
    assert (x, y) == (pytest.approx(0.435, abs=0.005), pytest.approx(0.250, abs=0.005))
    mirrored = found["landmarks"][2, 0, 0].item()
    assert mirrored == pytest.approx(1 - 0.435, abs=0.02)
    assert found["landmarks"][1, 11, 0] > found["landmarks"][1, 12, 0]  # her left is on the right


@pytest.mark.weights
def test_features_have_the_promised_shapes_and_are_numbers(network: nn.Module) -> None:
    found = network(frames())
    assert set(found) == {*blazepose.FEATURES, "valid"}
    for name, shape in blazepose.FEATURES.items():
        assert found[name].shape == (3, *shape)
        assert found[name].dtype == torch.float32
        assert torch.isfinite(found[name]).all()
        assert not found[name][0].any()
    assert (found["visibility"][1] <= 1).all()
    world = found["world"][1]
    assert world[[23, 24]].mean(dim=0).abs().max() < 0.01  # metres from between the hips


@pytest.mark.weights
def test_a_frame_does_not_depend_on_those_before(network: nn.Module) -> None:
    together = network(frames())
    for order in ([1], [2, 1], [0, 1]):
        found = network(frames()[order])
        for name, values in found.items():
            assert torch.equal(values[-1], together[name][1])


@pytest.mark.weights
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (33, 17)])
def test_tiny_frames_have_no_pose(network: nn.Module, size: tuple[int, int]) -> None:
    found = network(blazepose.preprocess(np.full((1, *size, 3), 255, np.uint8)))
    assert found["valid"].tolist() == [False]


@pytest.mark.weights
def test_no_frames_give_no_rows(network: nn.Module) -> None:
    found = network(frames()[:0])
    assert found["landmarks"].shape == (0, 33, 3)
    assert found["valid"].shape == (0,)


@pytest.mark.weights
def test_nothing_is_written_to_standard_error(
    network: nn.Module, capfd: pytest.CaptureFixture[str]
) -> None:
    network(frames())
    del network
    assert capfd.readouterr().err == ""
