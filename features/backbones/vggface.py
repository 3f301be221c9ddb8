"""VGG-Face: VGG-16 trained to tell people apart, here for what a face shows.

Paper: Parkhi, Vedaldi and Zisserman 2015, "Deep face recognition". The faces of CAAN and HAMF.
Weights: the authors', as converted by pytorch-mcn (vgg_face_dag.pth); for non-commercial
research only.

In: RGB face crops, uint8 (T, 224, 224, 3); minus the mean of its training, not divided. The
file's own order is RGB: the Caffe original of the same weights is BGR, a usual mix-up.
Out: ``pool5`` (512, 7, 7), the last pooled map; ``fc6`` (4096,), after its ReLU.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks.vgg16 import CAFFE_LAYERS, Vgg16
from features.weights.naming import Tensors, renamed, without
from features.weights.record import ByHand, Source, Weights, WeightsError

VIEW = "faces"
FEATURES: dict[str, tuple[int, ...]] = {"pool5": (512, 7, 7), "fc6": (4096,)}
AXES = {"pool5": "C H W"}


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Give pytorch-mcn's tensors (Caffe's layer names) torchvision's; fc7 and fc8 are dropped."""
    return renamed(without(tensors, "fc7", "fc8"), CAFFE_LAYERS)


def convert_keras(tensors: Tensors) -> dict[str, Tensor]:
    """Give deepface's tensors (Keras, in the network's order) our keys; fc7 and fc8 are dropped.

    Its fully connected layers are convolutions: fc6 is one of 7x7. What its first layer takes for
    red is not known, see the notice of the file.
    """
    values = list(tensors.values())
    kernels, biases = values[::2], values[1::2]
    shapes = [tuple(kernel.shape) for kernel in kernels]
    if len(values) != 2 * (len(CAFFE_LAYERS) + 2) or any(len(shape) != 4 for shape in shapes):
        raise WeightsError(
            "expected 16 convolutions (VGG-Face, its last three fully connected), found layers of "
            f"the shapes {shapes}"
        )
    converted: dict[str, Tensor] = {}
    for layer, kernel_HWIO, bias in zip(CAFFE_LAYERS.values(), kernels, biases, strict=False):
        weight_OIHW = kernel_HWIO.permute(3, 2, 0, 1)
        is_linear = layer.startswith("classifier")
        weight = weight_OIHW.flatten(1) if is_linear else weight_OIHW  # C, H, W in this order
        converted[f"{layer}.weight"] = weight.contiguous()
        converted[f"{layer}.bias"] = bias
    return converted


WEIGHTS = Weights(
    licence="Oxford VGG terms (CC BY-NC 4.0)",
    notice="VGG-Face: weights for non-commercial research only; do not pass them on. "
    "Terms: https://www.robots.ox.ac.uk/~vgg/software/vgg_face/",
    sources=(
        Source(
            url="http://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/vgg_face_dag.pth",
            sha256=None,  # none published
            size_bytes=None,
            convert=convert,
        ),
        ByHand(  # not tried after the first: the order of its colours is not known for certain
            page="https://github.com/serengil/deepface_models/releases/tag/v1.0",
            filename="vgg_face_weights.h5",
            convert=convert_keras,
            reader="keras",
            sha256="759266b9614d0fd5d65b97bf716818b746cc77ab5944c7bffc937c6ba9455d8c",
            size_bytes=580_085_408,
            notice="deepface's file: nobody has stated in which order its first layer takes red, "
            "green and blue (deepface gives it blue first), so its features are not verified; "
            "here red comes first. Prefer vgg_face_dag.pth",
        ),
    ),
)

SIDE_PX = 224
MEAN = (129.186279296875, 104.76238250732422, 93.59396362304688)
"""R, G, B of the training faces, pixels 0..255. Source: ``meta`` in vgg_face_dag.py."""


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 224, 224), of RGB crops, uint8 (T, H, W, 3).

    Crops of another size are resized (bilinear, antialiased), without keeping their aspect.
    """
    from torchvision.transforms import (
        functional as transforms,  # slow to import, and most stages never need it
    )

    frames_TCHW = torch.from_numpy(np.array(frames, order="C")).permute(0, 3, 1, 2)
    if len(frames_TCHW) == 0:
        return torch.empty(0, 3, SIDE_PX, SIDE_PX)
    resized: Tensor = transforms.resize(frames_TCHW, [SIDE_PX, SIDE_PX], antialias=True)
    return resized.float() - torch.tensor(MEAN).view(1, 3, 1, 1)


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to fc6, without its weights."""
    return Vgg16().eval()
