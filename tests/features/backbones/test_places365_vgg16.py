from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision import transforms

from features.backbones import places365_vgg16
from features.weights.file import check_keys
from tests.features.sources.made_files import canonical

Network = Callable[[str], nn.Module]

LATER = {"classifier.3", "classifier.6"}  # fc7 and fc8, which we do not build

AFTER = (
    transforms.CenterCrop(224),
    transforms.ConvertImageDtype(torch.float32),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)  # load_dataset in experiment/setting.py of the weights' source, which resizes with Pillow
DOCUMENTED = transforms.Compose([transforms.Resize((256, 256)), *AFTER])
WITH_PILLOW = transforms.Compose([transforms.Resize((256, 256)), transforms.PILToTensor(), *AFTER])


@pytest.mark.parametrize("size", [(48, 64), (224, 224), (256, 256), (720, 1280)])
def test_preprocessing_is_the_documented_one(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    expected = DOCUMENTED(torch.from_numpy(frames).permute(0, 3, 1, 2))
    torch.testing.assert_close(places365_vgg16.preprocess(frames), expected, rtol=0, atol=1e-5)


def test_preprocessing_is_close_to_pillows() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    expected = WITH_PILLOW(transforms.functional.to_pil_image(frame))
    found = places365_vgg16.preprocess(frame[None])[0]
    one_level = 1 / 255 / 0.224  # Pillow rounds between the two directions
    torch.testing.assert_close(found, expected, rtol=0, atol=1.01 * one_level)


def test_the_aspect_of_a_frame_is_not_kept() -> None:
    frame = np.zeros((1, 100, 400, 3), np.uint8)
    frame[:, :, 100:300] = 255  # the middle half
    lit = places365_vgg16.preprocess(frame)[0, 0, 112] > 0
    assert abs(int(lit.sum()) - 128) <= 2  # half of 256; 224 if the aspect were kept


def test_features_are_those_of_torchvisions_vgg16_of_365_classes(network: Network) -> None:
    ours = network("places365_vgg16")
    with torch.device("meta"):
        oracle = torchvision.models.vgg16(weights=None, num_classes=365).eval()
    oracle.load_state_dict(ours.state_dict(), strict=False, assign=True)
    frames = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pool5 = oracle.avgpool(oracle.features(frames))
        fc6 = oracle.classifier[:2](pool5.flatten(1))
        found = ours(frames)
    torch.testing.assert_close(found["pool5"], pool5, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["fc6"], fc6, rtol=1e-4, atol=1e-4)


def test_the_keys_are_torchvisions_and_its_parameters_are_counted() -> None:
    with torch.device("meta"):
        ours = places365_vgg16.build()
        theirs = torchvision.models.vgg16(weights=None, num_classes=365)
    later = {k: v for k, v in theirs.state_dict().items() if k[:12] in LATER}
    assert len(later) == 4
    assert set(ours.state_dict()) == set(theirs.state_dict()) - set(later)
    dropped = sum(value.numel() for value in later.values())
    assert count(ours) == count(theirs) - dropped


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.weights
def test_the_file_fits_and_its_first_layer_expects_the_documented_range(
    real_file: Callable[[str], Path],
) -> None:
    path = real_file("vgg16_places365-0bafbc55.pth")
    with torch.device("meta"):
        network = places365_vgg16.build()
    tensors = canonical(places365_vgg16.WEIGHTS.sources[0], path)
    check_keys(tensors, network.state_dict(), str(path))
    network.load_state_dict(tensors, assign=True)
    noise = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    with torch.inference_mode():
        first = network.get_submodule("features.0")(places365_vgg16.preprocess(noise))
    bias = tensors["features.0.bias"].view(1, -1, 1, 1)
    # a network of the Caffe kind (0..255) would hardly see pixels of +-2 beside its biases
    assert (first - bias).std() > bias.abs().mean()
