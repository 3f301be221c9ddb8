"""VGG-16 of Places365 beside torchvision's VGG-16 of 365 classes."""

from collections.abc import Iterator

import numpy as np
import torch
import torchvision
from skimage import data
from torchvision import transforms

from features.backbones import places365_vgg16
from features.weights.seeding import initialise
from tests.parity import Certificate

TRANSFORM = transforms.Compose(
    [
        transforms.Resize((256, 256)),
        transforms.CenterCrop(224),
        transforms.ConvertImageDtype(torch.float32),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
ORACLE = "torchvision `vgg16(num_classes=365)` after `Resize((256, 256))`, `CenterCrop(224)`"
INPUT = "a picture and noise, 320x480"


def certificates() -> Iterator[Certificate]:
    """Compare both features, from the frame on."""
    noise = np.random.default_rng(0).integers(0, 256, (320, 480, 3), np.uint8)
    frames = np.stack([data.astronaut()[:320, :480], noise])
    network = places365_vgg16.build()
    initialise(network, 0)
    with torch.device("meta"):
        oracle = torchvision.models.vgg16(weights=None, num_classes=365).eval()
    own = {key: value.clone().contiguous() for key, value in network.state_dict().items()}
    oracle.load_state_dict(own, strict=False, assign=True)  # other kernels than ours
    with torch.inference_mode():
        found = network(places365_vgg16.preprocess(frames))
        inputs = TRANSFORM(torch.from_numpy(frames).permute(0, 3, 1, 2)).contiguous()
        pool5 = oracle.avgpool(oracle.features(inputs))
        expected = {"pool5": pool5, "fc6": oracle.classifier[:2](pool5.flatten(1))}
    for name, values in expected.items():
        yield Certificate(
            "places365_vgg16", name, ORACLE, INPUT, values.numpy(), found[name].numpy()
        )
