"""r3d101 beside torchvision's generic video ResNet, put together as Hara's 3D ResNet-101."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from torch import Tensor, nn
from torchvision.models.video import resnet

from features.backbones import r3d101
from features.backbones.r3d101 import Options, Release
from features.weights import seeding
from tests.parity import Certificate

PICTURE_112 = "a 112x112 window moving over skimage's astronaut, 1 snippet"
PICTURE_224 = "a 280x224 window moving over skimage's astronaut, 1 frame, 32 grey levels"


def certificates() -> Iterator[Certificate]:
    """Compare both releases' preprocessing, and the whole way from frames to features."""
    for release in ("2018", "2020"):
        yield _preprocessing(release)
    network = r3d101.build()
    seeding.initialise(network, 0)
    with torch.inference_mode():
        ours = network(r3d101.preprocess(moving(112, 112)))
        conv5 = oracle(network.state_dict())(_by_hand(moving(112, 112)[0], "2018"))
    assert conv5.shape == (1, 2048, 1, 4, 4)
    reference = {"conv5": conv5[:, :, 0], "pooled": conv5.flatten(2).mean(-1)}
    for name, values in reference.items():
        yield Certificate(
            backbone="r3d101",
            feature=name,
            oracle="torchvision VideoResNet of bottlenecks [3, 4, 23, 3], stem 7x7x7, max-pool",
            input=PICTURE_112,
            reference=values.numpy(),
            ours=ours[name].numpy(),
        )


def moving(height: int, width: int) -> NDArray[np.uint8]:
    """Return a snippet of a window that moves over a picture, (1, 16, height, width, 3)."""
    picture = astronaut()
    return np.stack([picture[5 * k :][:height, 80 + 9 * k :][:, :width] for k in range(16)])[None]


def oracle(weights: dict[str, Tensor]) -> nn.Module:
    """Return torchvision's network with the weights of ours, up to its last map."""

    class Stem(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(
                nn.Conv3d(3, 64, (7, 7, 7), stride=(1, 2, 2), padding=(3, 3, 3), bias=False),
                nn.BatchNorm3d(64),
                nn.ReLU(),
                nn.MaxPool3d((3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
            )

    with torch.device("meta"):
        convolutions = [resnet.Conv3DSimple] * 4
        whole = resnet.VideoResNet(resnet.Bottleneck, convolutions, [3, 4, 23, 3], Stem)
    whole.avgpool = whole.fc = nn.Identity()
    renamed = {}
    for key, value in weights.items():
        *stem, layer, kind = key.split(".")
        if layer.startswith("conv"):
            layer = f"{layer}.0" if stem else "stem.0"
        elif layer.startswith("bn"):
            layer = layer.replace("bn", "conv") + ".1" if stem else "stem.1"
        renamed[".".join([*stem, layer, kind])] = value
    whole.load_state_dict(renamed, strict=True, assign=True)
    layers = [whole.stem, whole.layer1, whole.layer2, whole.layer3, whole.layer4]
    return nn.Sequential(*layers).eval()


def _by_hand(snippet: NDArray[np.uint8], release: Release) -> Tensor:
    """Return frames that need no resizing as network input, (1, 3, 16, 112, 112), in float64."""
    pixels = snippet.astype(np.float64)
    if release == "2018":
        pixels -= [114.7748, 107.7354, 99.4750]
    else:
        pixels = (pixels / 255 - [0.4345, 0.4051, 0.3775]) / [0.2768, 0.2713, 0.2737]
    return torch.from_numpy(pixels).permute(3, 0, 1, 2)[None].float()


def _preprocessing(release: Release) -> Certificate:
    """Compare with Pillow's resizing of floats: that of bytes rounds twice.

    Halving eights has sums that are exact in float, so that no grey level is rounded differently.
    """
    frames = moving(224, 280) // 8 * 8
    frame = frames[0, 3]
    planes = [
        Image.fromarray(frame[..., channel].astype(np.float32)).resize(
            (140, 112), Image.Resampling.BILINEAR
        )
        for channel in range(3)
    ]
    resized = np.stack([np.asarray(plane)[:, 14:126] for plane in planes], -1)
    reference = _by_hand(np.rint(resized)[None].astype(np.uint8), release)[0, :, 0]
    ours = r3d101.preprocess(frames, Options(release=release))[0, :, 3]
    return Certificate(
        backbone="r3d101",
        feature=f"input, release {release}",
        oracle="Pillow's bilinear resize of float planes, centre crop, the release's normalisation",
        input=PICTURE_224,
        reference=reference.numpy(),
        ours=ours.numpy(),
    )
