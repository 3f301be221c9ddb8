"""R3D-18 trained on Kinetics: what happens in sixteen frames, from weights that download.

Paper: Tran et al. 2018, "A closer look at spatiotemporal convolutions for action recognition".
Not VAANet's network, but the only 3D ResNet on Kinetics with an address and a checksum: a smaller
stand-in for :mod:`features.backbones.r3d101`. Weights: torchvision
``R3D_18_Weights.KINETICS400_V1``; licence of code and weights BSD-3-Clause.

In: snippets of 16 RGB frames of any size, uint8; resized to 128x171 whatever their aspect
(bilinear, not antialiased), centre crop 112, 0..1, Kinetics' mean and deviation: the preset that
the weights were trained and rated with.
Out: ``conv5`` (512, 2, 7, 7), the last map: channel, time, height, width; ``pooled`` (512,), its
mean.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import relu

from features.weights.naming import Tensors, counted, without
from features.weights.record import Source, Weights

VIEW = "snippets"
FEATURES: dict[str, tuple[int, ...]] = {"conv5": (512, 2, 7, 7), "pooled": (512,)}
AXES = {"conv5": "C L H W"}


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Drop the classifier of torchvision's file; its keys are ours."""
    return counted(without(tensors, "fc"))


WEIGHTS = Weights(
    licence="BSD-3-Clause",
    sources=(
        Source(
            url="https://download.pytorch.org/models/r3d_18-b3b3357e.pth",
            sha256="b3b3357e",  # its first digits, in its name
            size_bytes=None,
            convert=convert,
        ),
    ),
)

FRAMES = 16  # of a snippet
RESIZE_HW_PX = (128, 171)
CROP_PX = 112
MEAN = (0.43216, 0.394666, 0.37645)  # R, G, B of Kinetics, pixels 0..1
STD = (0.22803, 0.22145, 0.216989)

WIDTHS = (64, 128, 256, 512)  # of layer1 to layer4
BLOCKS = 2  # of each layer


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 16, 112, 112), of snippets, uint8 (T, 16, H, W, 3).

    Raises:
        ValueError: no snippets of 16 frames.
    """
    from torchvision.transforms import (
        functional as transforms,  # slow to import, and most stages never need it
    )

    if frames.ndim != 5 or frames.shape[1] != FRAMES:
        raise ValueError(f"r3d18: expected snippets (T, {FRAMES}, H, W, 3), found {frames.shape}")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    inputs = torch.empty(len(frames), 3, FRAMES, CROP_PX, CROP_PX)
    for row, snippet in enumerate(frames):
        snippet_LCHW = torch.from_numpy(np.array(snippet, order="C")).permute(0, 3, 1, 2)
        resized = transforms.resize(snippet_LCHW, list(RESIZE_HW_PX), antialias=False)
        cropped = transforms.center_crop(resized, [CROP_PX, CROP_PX])
        inputs[row] = ((cropped / 255 - mean) / std).transpose(0, 1)  # to C, L, H, W
    return inputs


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to its last map, without its weights."""
    return R3d18().eval()


class R3d18(nn.Module):
    """torchvision's R3D-18 without its classifier; keys are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 64, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(64),
            nn.ReLU(inplace=True),
        )
        channels = 64
        for number, width in enumerate(WIDTHS, 1):
            layer = nn.Sequential()
            for block in range(BLOCKS):
                halves = number > 1 and block == 0  # time, height and width
                layer.append(Block(channels, width, stride=2 if halves else 1))
                channels = width
            self.add_module(f"layer{number}", layer)

    def forward(self, clips_TCLHW: Tensor) -> dict[str, Tensor]:
        """Return ``conv5`` (T, 512, 2, 7, 7) and ``pooled`` (T, 512) of (T, 3, 16, 112, 112)."""
        conv5_TCLHW = self.stem(clips_TCLHW)
        for number in range(1, len(WIDTHS) + 1):
            conv5_TCLHW = self.get_submodule(f"layer{number}")(conv5_TCLHW)
        return {"conv5": conv5_TCLHW, "pooled": conv5_TCLHW.mean(dim=(2, 3, 4))}


class Block(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv3d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width)
        )
        self.downsample: nn.Module | None = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm3d(width)
            )

    def forward(self, values: Tensor) -> Tensor:
        """Return (T, width, L, H, W) of (T, channels, L, H, W)."""
        shortcut = values if self.downsample is None else self.downsample(values)
        return relu(self.conv2(self.conv1(values)) + shortcut)
