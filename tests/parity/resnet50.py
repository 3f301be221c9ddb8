"""ResNet-50 beside torchvision's, at each output stride, in both versions and on face crops."""

from collections.abc import Iterator

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from skimage import data
from torch import Tensor
from torchvision import transforms
from torchvision.models.feature_extraction import create_feature_extractor

from features.backbones import resnet50
from features.backbones.resnet50 import Options
from features.weights.seeding import initialise
from tests.parity import Certificate

NORMALISE = transforms.Compose(
    [
        transforms.ConvertImageDtype(torch.float32),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
DILATED = {32: None, 16: [False, False, True], 8: [False, True, True]}


def certificates() -> Iterator[Certificate]:
    """Compare both features, from the frame on; of dilated networks the map alone."""
    frame = data.astronaut()[None, :320, :480]
    pixels = torch.from_numpy(frame.copy()).permute(0, 3, 1, 2)
    v1 = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    v2 = torchvision.models.ResNet50_Weights.IMAGENET1K_V2
    for stride in (32, 16, 8):
        options = Options(output_stride=stride, keep=("res5", "pooled")[: 2 if stride == 32 else 1])
        yield from _compare(frame, v1.transforms()(pixels), options, f"preset {v1}", "320x480")
    options = Options("V2", keep=("pooled",))
    yield from _compare(frame, v2.transforms()(pixels), options, f"preset {v2}", "320x480")
    crop = frame[:, :224, 100:324]
    options = Options(keep=("pooled",))
    inputs = NORMALISE(pixels[:, :, :224, 100:324])
    yield from _compare(crop, inputs, options, "`Normalize` alone", "as a face's crop, 224x224")


def _compare(
    frame: NDArray[np.uint8], inputs: Tensor, options: Options, preset: str, size: str
) -> Iterator[Certificate]:
    network = resnet50.build(options)
    initialise(network, 0)
    with torch.device("meta"):
        whole = torchvision.models.resnet50(
            replace_stride_with_dilation=DILATED[options.output_stride]
        ).eval()
    own = {key: value.clone() for key, value in network.state_dict().items()}
    whole.load_state_dict(own, strict=False, assign=True)
    whole.double()  # so that the difference is what float32 costs us
    oracle = create_feature_extractor(whole, {"layer4": "res5", "flatten": "pooled"})
    with torch.inference_mode():
        found, expected = network(resnet50.preprocess(frame, options)), oracle(inputs.double())
    dilated = DILATED[options.output_stride]
    dilation = f"(replace_stride_with_dilation={dilated})" if dilated else ""
    for name in options.keep:
        yield Certificate(
            "resnet50",
            name,
            f"torchvision `resnet50{dilation}`, {preset}; float64",
            f"a picture, {size}; output stride {options.output_stride}",
            expected[name].float().numpy(),
            found[name].numpy(),
        )
