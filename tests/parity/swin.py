"""Swin Transformers beside torchvision's, each after the preset of its weights."""

from collections.abc import Iterator

import torch
import torchvision
from skimage import data

from features.backbones import swin
from features.backbones.swin import Options
from features.weights.seeding import initialise
from tests.parity import Certificate

PRESETS = {
    "t": torchvision.models.Swin_T_Weights.IMAGENET1K_V1,
    "s": torchvision.models.Swin_S_Weights.IMAGENET1K_V1,
    "b": torchvision.models.Swin_B_Weights.IMAGENET1K_V1,
}


def certificates() -> Iterator[Certificate]:
    """Compare the pooled vector of each size, from the frame on."""
    frame = data.astronaut()[None, :320, :480]
    pixels = torch.from_numpy(frame.copy()).permute(0, 3, 1, 2)
    for size, preset in PRESETS.items():
        network = swin.build(Options(size))
        initialise(network, 0)
        with torch.device("meta"):
            oracle = torchvision.models.get_model(f"swin_{size}").eval()
        own = {key: value.clone() for key, value in network.state_dict().items()}
        oracle.load_state_dict(own, strict=False, assign=True)
        oracle.double()  # so that the difference is what float32 costs us
        oracle.head = torch.nn.Identity()
        with torch.inference_mode():
            found = network(swin.preprocess(frame, Options(size)))["pooled"]
            expected = oracle(preset.transforms()(pixels).double())
        yield Certificate(
            "swin",
            "pooled",
            f"torchvision `swin_{size}`, preset {preset}; float64",
            "a picture, 320x480",
            expected.float().numpy(),
            found.numpy(),
        )
