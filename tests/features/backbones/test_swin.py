from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from features.backbones import swin
from features.backbones.swin import Options
from features.options import options_of
from features.weights.file import check_keys
from features.weights.seeding import initialise
from tests.features.sources.made_files import canonical

PRESETS = {
    "t": torchvision.models.Swin_T_Weights.IMAGENET1K_V1,
    "s": torchvision.models.Swin_S_Weights.IMAGENET1K_V1,
    "b": torchvision.models.Swin_B_Weights.IMAGENET1K_V1,
}
sizes = pytest.mark.parametrize("size", ["t", "s", "b"])


@sizes
@pytest.mark.parametrize("shape", [(48, 64), (224, 224), (720, 1280)])
def test_preprocessing_is_torchvisions_own_for_these_weights(
    size: str, shape: tuple[int, int]
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    preset = PRESETS[size].transforms()
    expected = torch.stack([preset(torch.from_numpy(frame).permute(2, 0, 1)) for frame in frames])
    found = swin.preprocess(frames, Options(size))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@sizes
def test_features_are_those_of_torchvision_with_the_same_weights(size: str) -> None:
    ours = swin.build(Options(size))
    initialise(ours, 0)
    with torch.device("meta"):
        whole = torchvision.models.get_model(f"swin_{size}").eval()
    missing, unexpected = whole.load_state_dict(ours.state_dict(), strict=False, assign=True)
    assert (missing, unexpected) == (["head.weight", "head.bias"], [])
    whole.head = torch.nn.Identity()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    frames = np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise])
    inputs = swin.preprocess(frames, Options(size))
    with torch.inference_mode():
        together = ours(inputs)["pooled"]
        torch.testing.assert_close(ours(inputs[2:])["pooled"], together[2:], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole(inputs[2:]), together[2:], rtol=1e-4, atol=1e-5)
    assert together.shape[1:] == swin.features(Options(size))["pooled"]
    assert torch.isfinite(together).all()
    assert together.abs().max() < 100


@sizes
def test_the_keys_and_the_number_of_parameters_are_torchvisions(size: str) -> None:
    with torch.device("meta"):
        ours = swin.build(Options(size))
        theirs = torchvision.models.get_model(f"swin_{size}").state_dict()
    found = ours.state_dict()
    assert set(found) == set(theirs) - {"head.weight", "head.bias"}
    assert all(found[key].shape == theirs[key].shape for key in found)
    head = theirs["head.weight"].numel() + 1000
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count + head == PRESETS[size].meta["num_params"]


@sizes
def test_a_size_is_torchvisions_file(size: str) -> None:
    (source,) = swin.weights(Options(size)).sources
    assert source.address == PRESETS[size].url
    assert f"-{source.sha256}.pth" in source.address


def test_the_size_decides_the_shape() -> None:
    assert swin.FEATURES == {"pooled": (768,)}
    assert swin.features(options_of(swin, {"size": "b"})) == {"pooled": (1024,)}


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected size t, s or b, found 'l'"):
        options_of(swin, {"size": "l"})


@pytest.mark.weights
@sizes
def test_torchvisions_file_fits(size: str, real_file: Callable[[str], Path]) -> None:
    path = real_file(swin.SIZES[size].file)
    with torch.device("meta"):
        expected = swin.build(Options(size)).state_dict()
    check_keys(canonical(swin.WEIGHTS.sources[0], path), expected, str(path))
