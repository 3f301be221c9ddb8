"""VGG-16 of ImageNet beside torchvision's own, with the preset of its weights."""

from collections.abc import Iterator

import numpy as np
import torch
import torchvision
from skimage import data
from torchvision.models import VGG16_Weights

from features.backbones import vgg16
from features.weights.seeding import initialise
from tests.parity import Certificate

ORACLE = "torchvision `vgg16()` after `VGG16_Weights.IMAGENET1K_V1.transforms()`"
INPUT = "a picture and noise, 320x480"


def certificates() -> Iterator[Certificate]:
    """Compare both features, from the frame on."""
    noise = np.random.default_rng(0).integers(0, 256, (320, 480, 3), np.uint8)
    frames = np.stack([data.astronaut()[:320, :480], noise])
    network = vgg16.build()
    initialise(network, 0)
    with torch.device("meta"):
        oracle = torchvision.models.vgg16(weights=None).eval()
    own = {key: value.clone().contiguous() for key, value in network.state_dict().items()}
    oracle.load_state_dict(own, strict=False, assign=True)  # other kernels than ours
    with torch.inference_mode():
        found = network(vgg16.preprocess(frames))
        preset = VGG16_Weights.IMAGENET1K_V1.transforms()
        inputs = preset(torch.from_numpy(frames).permute(0, 3, 1, 2)).contiguous()
        pool5 = oracle.avgpool(oracle.features(inputs))
        expected = {"pool5": pool5, "fc6": oracle.classifier[:2](pool5.flatten(1))}
    for name, values in expected.items():
        yield Certificate("vgg16", name, ORACLE, INPUT, values.numpy(), found[name].numpy())
