"""The published networks name what a picture shows: an end check with the real weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from skimage import data
from torch.nn import functional

from features import backbones
from features.weights.record import weights_of
from tests.features.sources.made_files import canonical

CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat
CUPS = {504, 967, 968}  # coffee mug, espresso, cup

CASES = {  # module -> the feature that its classifier reads, the classifier's layers in the file
    "vgg16": ("fc6", ["classifier.3", "classifier.6"]),
    "resnet50": ("pooled", ["fc"]),
    "swin": ("pooled", ["head"]),
}


@pytest.mark.weights
@pytest.mark.parametrize("name", CASES)
def test_the_features_lead_to_what_the_picture_shows(
    name: str, real_file: Callable[[str], Path]
) -> None:
    module = backbones.load(name)
    source = weights_of(module, module.Options()).sources[0]
    path = real_file(source.filename)
    network = module.build()
    network.load_state_dict(canonical(source, path))
    whole = torch.load(path, weights_only=True)
    feature, layers = CASES[name]
    for picture, classes in ((data.chelsea(), CATS), (data.coffee(), CUPS)):
        with torch.inference_mode():
            values = network(module.preprocess(picture[None]))[feature]
            for number, layer in enumerate(layers):
                inputs = values.relu() if number else values
                weight, bias = whole[f"{layer}.weight"], whole[f"{layer}.bias"]
                values = functional.linear(inputs, weight, bias)
        assert int(values.argmax()) in classes
