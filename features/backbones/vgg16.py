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
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks.imagenet import network_input
from features.networks.vgg16 import Vgg16
from features.weights.naming import Tensors, without
from features.weights.record import Source, Weights

VIEW = "segments"
FEATURES: dict[str, tuple[int, ...]] = {"pool5": (512, 7, 7), "fc6": (4096,)}
AXES = {"pool5": "C H W"}


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Drop fc7 and fc8 of torchvision's file; its keys are ours."""
    return without(tensors, "classifier.3", "classifier.6")


WEIGHTS = Weights(
    licence="BSD-3-Clause",
    sources=(
        Source(
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            size_bytes=None,
            convert=convert,
        ),
    ),
)

SHORTER_SIDE_PX = 256  # before the cut


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 224, 224), of RGB frames, uint8 (T, H, W, 3)."""
    return network_input(frames, (SHORTER_SIDE_PX,))


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to fc6, without its weights."""
    return Vgg16().eval()
