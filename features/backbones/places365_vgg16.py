"""VGG-16 trained on Places365: what kind of place a scene is.

Papers: Zhou et al. 2018, "Places: a 10 million image database for scene recognition"; Simonyan
and Zisserman 2015, configuration D. The scene stream of HAMF.
Weights: as converted for network dissection (Bau et al. 2020); licence of that code MIT, of the
Places365 networks CC BY.

In: RGB frames of any size, uint8; 256 x 256 (bilinear, antialiased, the aspect not kept), centre
crop 224, 0..1, ImageNet's mean and deviation. Source: ``load_dataset`` in
https://github.com/davidbau/dissect/blob/9421eaa/experiment/setting.py, which rates this file so.
The Caffe original of Places365 is another file with another input (BGR, 0..255, its own mean).
Out: ``pool5`` (512, 7, 7), the last pooled map; ``fc6`` (4096,), after its ReLU.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks.imagenet import network_input
from features.networks.vgg16 import CAFFE_LAYERS, Vgg16
from features.weights.naming import Tensors, renamed, without
from features.weights.record import Source, Weights

VIEW = "segments"
FEATURES: dict[str, tuple[int, ...]] = {"pool5": (512, 7, 7), "fc6": (4096,)}
AXES = {"pool5": "C H W"}


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Give network dissection's tensors our keys: Caffe's layer names in torchvision's parts.

    Its fc7 and fc8a are dropped.
    """
    layers = {f"{ours.partition('.')[0]}.{caffe}": ours for caffe, ours in CAFFE_LAYERS.items()}
    return renamed(without(tensors, "classifier.fc7", "classifier.fc8a"), layers)


WEIGHTS = Weights(
    licence="MIT (conversion), CC BY (Places365)",
    sources=(
        Source(
            url="https://dissect.csail.mit.edu/models/vgg16_places365-0bafbc55.pth",
            sha256="0bafbc55",  # its first digits, in its name
            size_bytes=None,
            convert=convert,
        ),
    ),
)

SIZE_PX = (256, 256)  # height, width before the cut


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 224, 224), of RGB frames, uint8 (T, H, W, 3)."""
    return network_input(frames, SIZE_PX)


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to fc6, without its weights."""
    return Vgg16().eval()
