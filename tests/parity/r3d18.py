"""r3d18 beside torchvision's own network and preset."""

from collections.abc import Iterator

import torch
from torch import nn
from torchvision.models import video

from features.backbones import r3d18
from features.weights import seeding
from tests.parity import Certificate
from tests.parity.r3d101 import moving


def certificates() -> Iterator[Certificate]:
    """Compare the input, and both features the whole way from frames."""
    network = r3d18.build()
    seeding.initialise(network, 0)
    with torch.device("meta"):
        whole = video.r3d_18(weights=None)
    whole.load_state_dict(network.state_dict(), strict=False, assign=True)
    whole.avgpool, whole.fc = nn.Identity(), nn.Identity()
    frames = moving(128, 160)
    preset = video.R3D_18_Weights.KINETICS400_V1.transforms()
    with torch.inference_mode():
        inputs = preset(torch.from_numpy(frames).permute(0, 1, 4, 2, 3))
        conv5 = whole.eval()(inputs).view(1, 512, 2, 7, 7)
        ours = {"input": r3d18.preprocess(frames)}
        ours |= network(ours["input"])
    reference = {"input": inputs, "conv5": conv5, "pooled": conv5.flatten(2).mean(-1)}
    for name, values in reference.items():
        yield Certificate(
            backbone="r3d18",
            feature=name,
            oracle="torchvision r3d_18 and the preset of R3D_18_Weights.KINETICS400_V1",
            input="a 160x128 window moving over skimage's astronaut, 1 snippet",
            reference=values.numpy(),
            ours=ours[name].numpy(),
        )
