from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from features.backbones import resnet50
from features.backbones.resnet50 import Options
from features.options import options_of
from features.weights.file import check_keys
from features.weights.seeding import initialise
from tests.features.sources.made_files import canonical

Network = Callable[[str], nn.Module]

PRESETS = {
    "V1": torchvision.models.ResNet50_Weights.IMAGENET1K_V1,
    "V2": torchvision.models.ResNet50_Weights.IMAGENET1K_V2,
}
DILATED = {32: None, 16: [False, False, True], 8: [False, True, True]}  # as torchvision takes it
strides = pytest.mark.parametrize("stride", [8, 16, 32])
versions = pytest.mark.parametrize("version", ["V1", "V2"])


def seeded(stride: int) -> nn.Module:
    network = resnet50.build(Options(output_stride=stride))
    initialise(network, 0)
    return network


def noise(rows: int) -> Tensor:
    return torch.randn(rows, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@versions
@pytest.mark.parametrize("size", [(48, 64), (300, 200), (720, 1280)])
def test_preprocessing_is_torchvisions_own_for_these_weights(
    version: str, size: tuple[int, int]
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    preset = PRESETS[version].transforms()
    expected = torch.stack([preset(torch.from_numpy(frame).permute(2, 0, 1)) for frame in frames])
    found = resnet50.preprocess(frames, Options(weights=version))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@versions
def test_a_crop_of_the_networks_size_is_taken_as_it_is(version: str) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    found = resnet50.preprocess(crops, Options(weights=version)).permute(0, 2, 3, 1).numpy()
    expected = (crops / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@strides
def test_features_are_those_of_torchvision_with_the_same_weights(stride: int) -> None:
    ours = seeded(stride)
    with torch.device("meta"):
        whole = torchvision.models.resnet50(replace_stride_with_dilation=DILATED[stride]).eval()
    missing, unexpected = whole.load_state_dict(ours.state_dict(), strict=False, assign=True)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    oracle = create_feature_extractor(whole, {"layer4": "res5", "flatten": "pooled"})
    with torch.inference_mode():
        expected, found = oracle(noise(1)), ours(noise(1))
    assert found["res5"].shape == (1, 2048, 224 // stride, 224 // stride)
    assert set(found) == set(expected)
    for name, values in expected.items():
        largest = values.abs().max().item()
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-5 * largest)


def test_between_its_new_places_the_dilated_map_is_the_map_as_published() -> None:
    maps = {}
    for stride in (8, 16, 32):
        with torch.inference_mode():
            maps[stride] = seeded(stride)(noise(1))["res5"]
    largest = maps[32].max().item()
    for stride, step in ((8, 4), (16, 2)):  # holes of a dilated kernel skip what is between
        every = maps[stride][..., ::step, ::step]
        torch.testing.assert_close(every, maps[32], rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("stride", [8, 16])
def test_rows_of_a_dilated_map_are_numbers_and_independent_of_each_other(stride: int) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    frames = np.stack([np.zeros_like(noisy), np.full_like(noisy, 255), noisy])
    inputs = resnet50.preprocess(frames)
    network = seeded(stride)
    with torch.inference_mode():
        together = network(inputs)["res5"]
        alone = torch.cat([network(inputs[row : row + 1])["res5"] for row in range(3)])
    assert torch.isfinite(together).all()
    assert together.max() < 10_000
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5 * together.max().item())


@strides
def test_the_keys_and_the_number_of_parameters_are_torchvisions(stride: int) -> None:
    with torch.device("meta"):
        ours = resnet50.build(Options(output_stride=stride))
        theirs = torchvision.models.resnet50(weights=None).state_dict()
    found = ours.state_dict()
    assert set(found) == set(theirs) - {"fc.weight", "fc.bias"}
    assert all(found[key].shape == theirs[key].shape for key in found)
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count + 2048 * 1000 + 1000 == PRESETS["V1"].meta["num_params"] == 25_557_032


@versions
def test_a_version_is_torchvisions_file(version: str) -> None:
    (source,) = resnet50.weights(Options(weights=version)).sources
    assert source.address == PRESETS[version].url
    assert f"-{source.sha256}.pth" in source.address


def test_options_say_what_is_kept_and_its_shape() -> None:
    options = options_of(resnet50, {"output_stride": 8, "keep": ["res5"]})
    assert resnet50.features(options) == {"res5": (2048, 28, 28)}
    assert resnet50.features(Options(output_stride=16))["res5"] == (2048, 14, 14)
    assert resnet50.FEATURES == {"res5": (2048, 7, 7), "pooled": (2048,)}
    network = resnet50.build(Options(keep=("pooled",)))
    with torch.inference_mode():
        assert list(network(noise(1)[..., :64, :64])) == ["pooled"]


def test_the_order_of_what_is_kept_says_nothing() -> None:
    assert options_of(resnet50, {"keep": ["pooled", "res5"]}) == Options()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "V3"}, "expected weights V1 or V2, found 'V3'"),
        ({"output_stride": 4}, "expected output_stride 8, 16 or 32, found 4"),
        ({"keep": ["res4"]}, "expected keep as a list of res5, pooled"),
        ({"keep": "res5"}, "keep: Input should be a valid array"),
        ({"keep": []}, "expected keep as a list"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options_of(resnet50, options)


@pytest.mark.weights
@versions
def test_torchvisions_file_fits(version: str, real_file: Callable[[str], Path]) -> None:
    path = real_file(resnet50.VERSIONS[version].file)
    with torch.device("meta"):
        expected = resnet50.build().state_dict()
    check_keys(canonical(resnet50.WEIGHTS.sources[0], path), expected, str(path))
