"""Swin Transformer trained on ImageNet: what a frame shows, as one vector.

Paper: Liu et al. 2021, "Swin Transformer: hierarchical vision transformer using shifted windows".
The visual stream of Peng et al. (size t).
Weights: torchvision ``Swin_T_Weights``, ``Swin_S_Weights``, ``Swin_B_Weights`` ``.IMAGENET1K_V1``;
licence of code and weights BSD-3-Clause.

In: RGB frames of any size, uint8; shorter side to 232 (t), 246 (s) or 238 (b) pixels, bicubic,
antialiased, centre crop 224, 0..1, ImageNet's mean and deviation: the preset of each size.
Out: ``pooled`` (768,), of size b (1024,): the mean over the 7 x 7 places, after the last norm.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks.imagenet import network_input
from features.weights.naming import Tensors, without
from features.weights.record import Source, Weights

VIEW = ("uniform", "segments")


@dataclass(frozen=True)
class Size:
    """One of the sizes: its file, the start of its sha256, resize in pixels, numbers of a row."""

    file: str
    sha256: str
    shorter_side_px: int
    dim: int


SIZES = {
    "t": Size("swin_t-704ceda3.pth", "704ceda3", 232, 768),  # 108.19 MiB
    "s": Size("swin_s-5e29d889.pth", "5e29d889", 246, 768),  # 189.786 MiB
    "b": Size("swin_b-68c6b09e.pth", "68c6b09e", 238, 1024),  # 335.364 MiB
}
"""Source: ``Swin_T_Weights`` and so on in torchvision 0.29 models/swin_transformer.py."""


@dataclass(frozen=True)
class Options:
    """How large a network.

    Attributes:
        size: ``t``, ``s`` or ``b``: 28, 50 or 88 million parameters.
    """

    size: str = "t"

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size not in SIZES:
            raise ValueError(f"swin options: expected size t, s or b, found {self.size!r}")


def features(options: Options) -> dict[str, tuple[int, ...]]:
    """Return the features under ``options``, name -> shape without the time axis."""
    return {"pooled": (SIZES[options.size].dim,)}


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Drop the classifier of torchvision's file; its keys are ours."""
    return without(tensors, "head")


def weights(options: Options) -> Weights:
    """Return where the weights under ``options`` come from."""
    size = SIZES[options.size]
    url = f"https://download.pytorch.org/models/{size.file}"
    return Weights(
        licence="BSD-3-Clause",
        sources=(Source(url=url, sha256=size.sha256, size_bytes=None, convert=convert),),
    )


FEATURES = features(Options())
WEIGHTS = weights(Options())


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 224, 224), of RGB frames, uint8 (T, H, W, 3)."""
    return network_input(frames, (SIZES[options.size].shorter_side_px,), is_bicubic=True)


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to its pooled vector, without its weights."""
    return Swin(options).eval()


class Swin(nn.Sequential):
    """Torchvision's Swin Transformer without its classifier; keys are torchvision's."""

    def __init__(self, options: Options) -> None:
        import torchvision  # slow to import, and most stages never need it

        whole = torchvision.models.get_model(f"swin_{options.size}", weights=None)
        layers = OrderedDict(whole.named_children())  # in the order in which they are computed
        del layers["head"]
        super().__init__(layers)

    def forward(self, frames_TCHW: Tensor) -> dict[str, Tensor]:
        """Return ``pooled`` (T, 768 or 1024) of frames (T, 3, 224, 224)."""
        values = frames_TCHW
        for layer in self:
            values = layer(values)
        return {"pooled": values}
