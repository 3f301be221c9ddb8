"""VGG-16 trained on ImageNet: what a scene looks like.

Paper: Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image
recognition", configuration D. CAAN reads it as the context of a face.
Weights: torchvision ``VGG16_Weights.IMAGENET1K_V1``; licence of code and weights BSD-3-Clause.

In: RGB frames of any size, uint8; shorter side to 256 (bilinear, antialiased), centre crop 224,
0..1, ImageNet's mean and deviation: the preset that the weights were trained and rated with.
Out: ``pool5`` (512, 7, 7), the last pooled map; ``fc6`` (4096,), after its ReLU.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.imagenet import network_input
from features.weights import Source, Weights

VIEW = "segments"
FEATURES: dict[str, tuple[int, ...]] = {"pool5": (512, 7, 7), "fc6": (4096,)}
AXES = {"pool5": "C H W"}

WEIGHTS = Weights(
    licence="BSD-3-Clause",
    sources=(
        Source(
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            size_bytes=None,
            layout="vgg16",
        ),
    ),
)

SHORTER_SIDE_PX = 256  # before the cut

CHANNELS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool",
            512, 512, 512, "pool", 512, 512, 512, "pool")  # fmt: skip
FC6_DIM = 4096


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 224, 224), of RGB frames, uint8 (T, H, W, 3)."""
    return network_input(frames, (SHORTER_SIDE_PX,))


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to fc6, without its weights."""
    return Vgg16().eval()


class Vgg16(nn.Module):
    """Convolutions and the first fully connected layer; keys are torchvision's.

    Its average pool to 7x7 is left out: at 224 pixels it changes nothing. Weights lie channels
    last, in which convolution on a CPU is about a third faster.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in CHANNELS:
            if isinstance(width, int):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.classifier = nn.Sequential(nn.Linear(channels * 7 * 7, FC6_DIM), nn.ReLU(inplace=True))

    def forward(self, frames_TCHW: Tensor) -> dict[str, Tensor]:
        """Return ``pool5`` (T, 512, 7, 7) and ``fc6`` (T, 4096) of frames (T, 3, 224, 224)."""
        pool5_TCHW = self.features(frames_TCHW.contiguous(memory_format=torch.channels_last))
        return {"pool5": pool5_TCHW, "fc6": self.classifier(pool5_TCHW.flatten(1))}
