"""ResNet-50 trained on ImageNet: maps of what is where in a frame or on a face, fine if asked for.

Papers: He et al. 2016, "Deep residual learning for image recognition"; the dilated form is Yu et
al. 2017, "Dilated residual networks". Both streams of RDAM, which takes the down-sampling out of
the last two stages (``output_stride`` 8).
Weights: torchvision ``ResNet50_Weights.IMAGENET1K_V1`` or ``_V2``; licence of code and weights
BSD-3-Clause. They serve every output stride: dilation changes no parameter.

In: RGB frames of any size, uint8; shorter side to 256 (V2: 232), bilinear, antialiased, centre
crop 224; frames of 224 x 224, as crops of faces are, are taken as they are. Then 0..1, ImageNet's
mean and deviation.
Out: ``res5`` (2048, 7, 7), the last map after its ReLU, (2048, 14, 14) at output stride 16 and
(2048, 28, 28) at 8; ``pooled`` (2048,), its mean.

A frame's ``res5`` takes 0.2, 0.8 or 3.2 MB in float16, before compression: ``keep`` says which of
the features are stored.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks.imagenet import CROP_PX, network_input
from features.weights.naming import Tensors, counted, without
from features.weights.record import Source, Weights

VIEW = ("segments", "faces")

CHANNELS = 2048
DILATED_STAGES = {32: (False, False, False), 16: (False, False, True), 8: (False, True, True)}
"""Output stride -> which of the stages 3, 4, 5 are dilated instead of down-sampled."""


@dataclass(frozen=True)
class Version:
    """One of torchvision's trainings: the file, the start of its sha256, resize in pixels."""

    file: str
    sha256: str
    shorter_side_px: int


VERSIONS = {
    "V1": Version("resnet50-0676ba61.pth", "0676ba61", 256),  # 97.781 MiB
    "V2": Version("resnet50-11ad3fa6.pth", "11ad3fa6", 232),  # 97.79 MiB
}
"""Source: ``ResNet50_Weights`` in torchvision 0.29 models/resnet.py."""

NAMES = ("res5", "pooled")


@dataclass(frozen=True)
class Options:
    """Which training, how fine, and what is kept.

    Attributes:
        weights: ``V1``, the paper's recipe, or ``V2``, torchvision's later one.
        output_stride: pixels of the input for one of ``res5``: 32 as published, 16 or 8 dilated.
        keep: the features that are stored, in any order.
    """

    weights: str = "V1"
    output_stride: int = 32
    keep: tuple[str, ...] = NAMES

    def __post_init__(self) -> None:
        """Check the values; ``keep`` may be a list and gets one order."""
        if self.weights not in VERSIONS:
            raise ValueError(f"resnet50 options: expected weights V1 or V2, found {self.weights!r}")
        if self.output_stride not in DILATED_STAGES:
            raise ValueError(
                f"resnet50 options: expected output_stride 8, 16 or 32, found {self.output_stride}"
            )
        if not self.keep or not set(self.keep) <= set(NAMES):
            raise ValueError(
                f"resnet50 options: expected keep as a list of {', '.join(NAMES)}, "
                f"found {self.keep!r}"
            )
        object.__setattr__(self, "keep", tuple(name for name in NAMES if name in self.keep))


def features(options: Options) -> dict[str, tuple[int, ...]]:
    """Return the features under ``options``, name -> shape without the time axis."""
    side = CROP_PX // options.output_stride
    shapes: dict[str, tuple[int, ...]] = {"res5": (CHANNELS, side, side), "pooled": (CHANNELS,)}
    return {name: shapes[name] for name in options.keep}


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Drop the classifier of torchvision's file; its keys are ours."""
    return counted(without(tensors, "fc"))


def weights(options: Options) -> Weights:
    """Return where the weights under ``options`` come from."""
    version = VERSIONS[options.weights]
    url = f"https://download.pytorch.org/models/{version.file}"
    return Weights(
        licence="BSD-3-Clause",
        sources=(Source(url=url, sha256=version.sha256, size_bytes=None, convert=convert),),
    )


FEATURES = features(Options())
AXES = {"res5": "C H W"}
WEIGHTS = weights(Options())


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 224, 224), of RGB frames, uint8 (T, H, W, 3)."""
    is_ready = frames.shape[1:3] == (CROP_PX, CROP_PX)
    size_px = None if is_ready else (VERSIONS[options.weights].shorter_side_px,)
    return network_input(frames, size_px)


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to res5, without its weights."""
    return ResNet50(options).eval()


class ResNet50(nn.Sequential):
    """Torchvision's ResNet-50 without its classifier; keys are torchvision's.

    Weights lie channels last: convolution on a CPU is then a third faster, dilated three times.
    """

    def __init__(self, options: Options) -> None:
        import torchvision  # slow to import, and most stages never need it

        dilated = DILATED_STAGES[options.output_stride]
        whole = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=dilated)
        layers = OrderedDict(whole.named_children())  # in the order in which they are computed
        del layers["avgpool"], layers["fc"]
        super().__init__(layers)
        self.keep = options.keep
        self.to(memory_format=torch.channels_last)

    def forward(self, frames_TCHW: Tensor) -> dict[str, Tensor]:
        """Return the features kept of frames (T, 3, 224, 224)."""
        res5_TCHW = frames_TCHW.contiguous(memory_format=torch.channels_last)
        for layer in self:
            res5_TCHW = layer(res5_TCHW)
        outputs = {"res5": res5_TCHW, "pooled": res5_TCHW.mean((2, 3))}
        return {name: outputs[name] for name in self.keep}
