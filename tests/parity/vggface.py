"""VGG-Face beside a network composed layer by layer with the names of vgg_face_dag.py."""

from collections.abc import Iterator

import numpy as np
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional

from features.backbones import vggface
from features.networks.vgg16 import CAFFE_LAYERS
from features.weights.seeding import initialise
from tests.parity import Certificate

ORACLE = "functional calls by the layer names of `vgg_face_dag`, R G B 0..255 less the mean"
INPUT = "a face and noise, 224x224"
MEAN = np.array([129.186279296875, 104.76238250732422, 93.59396362304688])


def dag(weights: dict[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
    """Return pool5 and fc6 from tensors named as in vgg_face_dag.pth."""
    x = inputs
    for block, layers in enumerate((2, 2, 3, 3, 3), start=1):
        for layer in range(1, layers + 1):
            name = f"conv{block}_{layer}"
            x = functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
            x = x.clamp(min=0)
        x = functional.max_pool2d(x, 2, 2)
    fc6 = functional.linear(x.flatten(1), weights["fc6.weight"], weights["fc6.bias"])
    return {"pool5": x, "fc6": fc6.clamp(min=0)}


def certificates() -> Iterator[Certificate]:
    """Compare both features, from the crop on."""
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    crops = np.stack([data.astronaut()[:224, 110:334], noise])
    network = vggface.build()
    initialise(network, 0)
    own = network.state_dict()
    stems = {ours: name for name, ours in CAFFE_LAYERS.items()}
    named = {}
    for key, value in own.items():
        stem, _, kind = key.rpartition(".")
        named[f"{stems[stem]}.{kind}"] = value.contiguous()
    less = (crops.astype(np.float64) - MEAN).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        found = network(vggface.preprocess(crops))
        expected = dag(named, torch.from_numpy(np.ascontiguousarray(less)))
    for name, values in expected.items():
        yield Certificate("vggface", name, ORACLE, INPUT, values.numpy(), found[name].numpy())
