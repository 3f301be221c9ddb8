"""3D ResNet-101 trained on Kinetics: what happens in sixteen frames.

Paper: Hara, Kataoka and Satoh 2018, "Can spatiotemporal 3D CNNs retrace the history of 2D CNNs
and ImageNet?"; the visual stream of VAANet, which reads its conv5. Weights: the authors', from
https://github.com/kenshohara/3D-ResNets-PyTorch; licence MIT. They lie in folders of Google
Drive, which has neither plain addresses nor checksums: fetch the file with a browser and name it
as ``file`` of the block.

In: snippets of 16 RGB frames of any size, uint8; shorter side to 112 (bilinear, antialiased),
centre crop 112, then the normalisation of the release: see ``release``.
Out: ``conv5`` (2048, 4, 4), the last map, whose one time step is dropped; ``pooled`` (2048,),
its mean over the 4x4 places, which is what the original's classifier reads.

VAANet's code feeds the 2018 weights (x - 100) / 255 and leaves their batch norms in training
mode, which adapt to it. Features are computed once here, in evaluation mode, and so with the
normalisation that the weights were trained with.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import relu

from features.networks.resizing import resized_middle
from features.weights.naming import Tensors, counted, without
from features.weights.record import ByHand, Weights

VIEW = "snippets"
FEATURES: dict[str, tuple[int, ...]] = {"conv5": (2048, 4, 4), "pooled": (2048,)}
AXES = {"conv5": "C H W"}

Release = Literal["2018", "2020"]

DRIVE = "https://drive.google.com/drive/folders"


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Drop the classifier of a file of the authors'; its keys are ours."""
    return counted(without(tensors, "fc"))


FILES: dict[Release, ByHand] = {
    "2018": ByHand(
        page=f"{DRIVE}/1zvl89AgFAApbH0At-gMuZSeQB_LpNP-M",
        filename="resnet-101-kinetics.pth",
        convert=convert,
    ),
    "2020": ByHand(
        page=f"{DRIVE}/1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4",
        filename="r3d101_K_200ep.pth",
        convert=convert,
    ),
}
"""Kinetics-400 in the first, Kinetics-700 in the second. Folders: README of either branch."""

NORMALISATION: dict[Release, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "2018": (1.0, (114.7748, 107.7354, 99.4750), (1.0, 1.0, 1.0)),
    "2020": (255.0, (0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)),
}
"""Pixels 0..255 are divided by the first, less the mean, divided by the deviation (R, G, B).

Source: opts.py and mean.py of branch CVPR2018 (norm_value 1, ActivityNet's mean, std_norm off) and
of master (value_scale 1, Kinetics' mean and deviation).
"""

FRAMES = 16  # of a snippet
SIDE_PX = 112
BLOCKS = (3, 4, 23, 3)  # of layer1 to layer4
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # channels that leave a bottleneck, to its width


@dataclass(frozen=True)
class Options:
    """Which weights.

    Attributes:
        release: ``2018`` (resnet-101-kinetics.pth, VAANet's; pixels 0..255 less the mean, not
            scaled) or ``2020`` (r3d101_K_200ep.pth; pixels 0..1, mean and deviation).
    """

    release: Release = "2018"

    def __post_init__(self) -> None:
        """Check the release."""
        if self.release not in get_args(Release):
            raise ValueError(
                f"r3d101 options: release: expected one of {', '.join(get_args(Release))} "
                f"(in quotes), found {self.release!r}"
            )


def weights(options: Options) -> Weights:
    """Return where the weights of the release come from."""
    return Weights(licence="MIT", sources=(FILES[options.release],))


WEIGHTS = weights(Options())


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return network input, float32 (T, 3, 16, 112, 112), of snippets, uint8 (T, 16, H, W, 3).

    Raises:
        ValueError: no snippets of 16 frames.
    """
    if frames.ndim != 5 or frames.shape[1] != FRAMES:
        raise ValueError(f"r3d101: expected snippets (T, {FRAMES}, H, W, 3), found {frames.shape}")
    scale, *rest = NORMALISATION[options.release]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in rest)
    inputs = torch.empty(len(frames), 3, FRAMES, SIDE_PX, SIDE_PX)
    for row, snippet in enumerate(frames):
        pixels_LCHW = resized_middle(snippet, (SIDE_PX,), SIDE_PX)
        values_LCHW = pixels_LCHW.div_(scale).sub_(mean).div_(std)
        inputs[row] = values_LCHW.transpose(0, 1)
    return inputs


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to its last map, without its weights."""
    return R3d101().eval()


class R3d101(nn.Module):
    """Hara's 3D ResNet-101 with shortcuts of type B; keys are the original's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        channels = 64
        for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True), 1):
            layer = nn.Sequential()
            for block in range(blocks):
                halves = number > 1 and block == 0  # time, height and width
                layer.append(Bottleneck(channels, width, stride=2 if halves else 1))
                channels = width * EXPANSION
            self.add_module(f"layer{number}", layer)

    def forward(self, clips_TCLHW: Tensor) -> dict[str, Tensor]:
        """Return ``conv5`` (T, 2048, 4, 4) and ``pooled`` (T, 2048) of (T, 3, 16, 112, 112)."""
        values = self.maxpool(relu(self.bn1(self.conv1(clips_TCLHW))))
        for number in range(1, len(BLOCKS) + 1):
            values = self.get_submodule(f"layer{number}")(values)
        conv5_TCHW = values.squeeze(2)  # 16 frames, halved four times
        return {"conv5": conv5_TCHW, "pooled": conv5_TCHW.mean(dim=(2, 3))}


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 and 1x1x1 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        leaving = width * EXPANSION
        self.conv1 = nn.Conv3d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, leaving, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(leaving)
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != leaving:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, leaving, 1, stride=stride, bias=False), nn.BatchNorm3d(leaving)
            )

    def forward(self, values: Tensor) -> Tensor:
        """Return (T, 4 * width, L, H, W) of (T, channels, L, H, W)."""
        shortcut = values if self.downsample is None else self.downsample(values)
        values = relu(self.bn1(self.conv1(values)))
        values = relu(self.bn2(self.conv2(values)))
        return relu(self.bn3(self.conv3(values)) + shortcut)
