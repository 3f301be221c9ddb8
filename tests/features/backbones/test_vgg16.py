from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from features.backbones import vgg16
from features.weights.file import check_keys
from tests.features.sources.made_files import canonical

Network = Callable[[str], nn.Module]


@pytest.mark.parametrize("size", [(48, 64), (300, 200), (256, 256), (720, 1280)])
def test_preprocessing_is_torchvisions_own_for_these_weights(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    preset = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    expected = torch.stack([preset(torch.from_numpy(frame).permute(2, 0, 1)) for frame in frames])
    torch.testing.assert_close(vgg16.preprocess(frames), expected, rtol=0, atol=1e-5)


def test_preprocessing_is_close_to_pillows() -> None:
    ramp = np.linspace(0, 255, 400)
    frame = np.stack([np.add.outer(ramp[:300] * 0.3, ramp * k) for k in (0.1, 0.4, 0.6)], -1)
    frame = frame.astype(np.uint8)
    preset = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    expected = preset(torchvision.transforms.functional.to_pil_image(frame))
    torch.testing.assert_close(vgg16.preprocess(frame[None])[0], expected, rtol=0, atol=0.02)


def test_features_are_those_of_torchvision_with_the_same_weights(network: Network) -> None:
    ours = network("vgg16")
    with torch.device("meta"):
        oracle = torchvision.models.vgg16(weights=None).eval()
    oracle.load_state_dict(ours.state_dict(), strict=False, assign=True)
    frames = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pool5 = oracle.avgpool(oracle.features(frames))
        fc6 = oracle.classifier[:2](pool5.flatten(1))
        found = ours(frames)
    torch.testing.assert_close(found["pool5"], pool5, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["fc6"], fc6, rtol=1e-4, atol=1e-4)
    assert (found["fc6"] >= 0).all()


def test_the_keys_are_torchvisions() -> None:
    with torch.device("meta"):
        ours = vgg16.build().state_dict()
        theirs = torchvision.models.vgg16(weights=None).state_dict()
    later = {key for key in theirs if key.startswith(("classifier.3", "classifier.6"))}
    assert set(ours) == set(theirs) - later
    assert all(ours[key].shape == theirs[key].shape for key in ours)


@pytest.mark.weights
def test_torchvisions_file_fits(real_file: Callable[[str], Path]) -> None:
    path = real_file("vgg16-397923af.pth")
    with torch.device("meta"):
        expected = vgg16.build().state_dict()
    check_keys(canonical(vgg16.WEIGHTS.sources[0], path), expected, str(path))
