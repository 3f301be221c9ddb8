"""VGG-16 (Simonyan and Zisserman 2015) up to fc6, what three backbones share."""

import torch
from torch import Tensor, nn

CHANNELS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool",
            512, 512, 512, "pool", 512, 512, 512, "pool")  # fmt: skip

FC6_DIM = 4096

CAFFE_LAYERS = {
    "conv1_1": "features.0", "conv1_2": "features.2",
    "conv2_1": "features.5", "conv2_2": "features.7",
    "conv3_1": "features.10", "conv3_2": "features.12", "conv3_3": "features.14",
    "conv4_1": "features.17", "conv4_2": "features.19", "conv4_3": "features.21",
    "conv5_1": "features.24", "conv5_2": "features.26", "conv5_3": "features.28",
    "fc6": "classifier.0",
}  # fmt: skip
"""Caffe's names of the layers, in order, and torchvision's, which are ours.

Source: module names of https://github.com/albanie/pytorch-mcn (vgg_face_dag.py) beside
torchvision 0.29 models/vgg.py, configuration D.
"""


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
