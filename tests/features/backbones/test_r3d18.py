from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import video

from features.backbones import r3d18
from features.weights.file import check_keys
from tests.features.sources.made_files import canonical


@pytest.mark.parametrize("size", [(48, 64), (128, 171), (171, 128), (240, 320)])
def test_preprocessing_is_torchvisions_own_for_these_weights(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, *size, 3), np.uint8)
    preset = video.R3D_18_Weights.KINETICS400_V1.transforms()
    expected = preset(torch.from_numpy(frames).permute(0, 1, 4, 2, 3))
    torch.testing.assert_close(r3d18.preprocess(frames), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 112, 112, 3), (2, 8, 112, 112, 3)])
def test_what_is_no_snippet_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected snippets \(T, 16, H, W, 3\), found"):
        r3d18.preprocess(np.zeros(shape, np.uint8))


def test_keys_and_shapes_are_torchvisions() -> None:
    with torch.device("meta"):
        ours = r3d18.build().state_dict()
        theirs = video.r3d_18(weights=None).state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == shapes


def test_the_address_is_torchvisions() -> None:
    assert r3d18.WEIGHTS.sources[0].address == video.R3D_18_Weights.KINETICS400_V1.url


def test_of_torchvisions_file_the_classifier_is_dropped(tmp_path: Path) -> None:
    with torch.device("meta"):
        keys = video.r3d_18(weights=None).state_dict()
    torch.save({key: torch.tensor([1.0]) for key in keys}, tmp_path / "a.pth")
    with torch.device("meta"):
        assert set(canonical(r3d18.WEIGHTS.sources[0], tmp_path / "a.pth")) == set(
            r3d18.build().state_dict()
        )


@pytest.mark.weights
def test_torchvisions_file_fits(real_file: Callable[[str], Path]) -> None:
    path = real_file("r3d_18-b3b3357e.pth")
    with torch.device("meta"):
        expected = r3d18.build().state_dict()
    check_keys(canonical(r3d18.WEIGHTS.sources[0], path), expected, str(path))
