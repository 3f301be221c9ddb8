import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from features.networks.resizing import resized_middle, size_of

MODES = {False: InterpolationMode.BILINEAR, True: InterpolationMode.BICUBIC}


def noise(height: int, width: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def oracle(frames: np.ndarray, size_px: tuple[int, ...], side_px: int, *, bicubic: bool) -> Tensor:
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    resized = transforms.resize(pixels, list(size_px), MODES[bicubic], antialias=True)
    return transforms.center_crop(resized, [side_px, side_px]).float()


@pytest.mark.parametrize("size_px", [(256,), (232,), (256, 256), (225, 301)])
@pytest.mark.parametrize(
    "frame_px", [(240, 427), (427, 240), (405, 720), (48, 64), (256, 455), (224, 224), (256, 256)]
)
def test_the_middle_is_torchvisions_where_a_picture_shrinks_a_little_or_grows(
    frame_px: tuple[int, int], size_px: tuple[int, ...]
) -> None:
    frames = noise(*frame_px)
    found, expected = resized_middle(frames, size_px, 224), oracle(frames, size_px, 224, bicubic=0)
    # another library for products may round a number that lies between two levels differently
    apart = (found - expected).abs()
    assert apart.max() <= 1 and apart.count_nonzero() <= 3
    assert found.dtype == torch.float32 and found.shape == (2, 3, 224, 224)


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("frame_px", [(600, 1000), (1080, 700)])
def test_the_middle_is_torchvisions_to_the_bit_where_many_pixels_are_summed(
    frame_px: tuple[int, int], bicubic: bool
) -> None:
    frames = noise(*frame_px, count=1)
    found = resized_middle(frames, (240,), 224, is_bicubic=bicubic)
    assert torch.equal(found, oracle(frames, (240,), 224, bicubic=bicubic))


def test_cubic_interpolation_stays_within_0_to_255() -> None:
    frames = (noise(200, 300) > 127).astype(np.uint8) * 255
    found = resized_middle(frames, (256,), 224, is_bicubic=True)
    assert (found.min(), found.max()) == (0, 255)


def test_the_longer_side_follows_the_shorter_unless_both_are_given() -> None:
    assert size_of((405, 720), (256,)) == (256, 455)
    assert size_of((720, 405), (256,)) == (455, 256)
    assert size_of((720, 405), (128, 171)) == (128, 171)


def test_a_frame_does_not_depend_on_those_beside_it() -> None:
    frames = noise(96, 170, count=4)
    together = resized_middle(frames, (112,), 112)
    for row in range(4):
        assert torch.equal(resized_middle(frames[row : row + 1], (112,), 112)[0], together[row])
