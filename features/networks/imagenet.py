"""ImageNet's input: frames as the networks that were trained on ImageNet's pictures expect them.

Resized, the middle cut out, 0..1, minus the mean, divided by the deviation: the presets that
torchvision publishes with its weights. They differ in the size before the cut, and in how it is
resampled.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.networks.resizing import resized_middle

CROP_PX = 224
MEAN = (0.485, 0.456, 0.406)  # R, G, B of ImageNet, pixels 0..1
STD = (0.229, 0.224, 0.225)


def network_input(
    frames: NDArray[np.uint8], size_px: tuple[int, ...] | None, *, is_bicubic: bool = False
) -> Tensor:
    """Return network input, float32 (T, 3, 224, 224), of RGB frames, uint8 (T, H, W, 3).

    Args:
        frames: the frames.
        size_px: size before the cut: (shorter side,), with the aspect kept, or (height, width),
            without; None where the frames are of the network's size already.
        is_bicubic: resampled by cubic instead of linear interpolation; both antialiased.
    """
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    inputs = torch.empty(len(frames), 3, CROP_PX, CROP_PX)
    for row, frame in enumerate(frames):  # one by one: in float32 a clip is large
        if size_px is None:
            pixels_CHW = torch.from_numpy(np.array(frame, order="C")).permute(2, 0, 1)
        else:
            pixels_CHW = resized_middle(frame[None], size_px, CROP_PX, is_bicubic=is_bicubic)[0]
        torch.div(pixels_CHW, 255, out=inputs[row]).sub_(mean).div_(std)
    return inputs
