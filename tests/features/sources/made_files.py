"""Files as weights are published in, small, and how a backbone takes them."""

import os
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import torch

from features.sources import readers
from features.weights.record import Origin

DAG_ORDER = (
    "conv1_1 conv1_2 conv2_1 conv2_2 conv3_1 conv3_2 conv3_3 conv4_1 conv4_2 conv4_3 "
    "conv5_1 conv5_2 conv5_3 fc6 fc7 fc8"
).split()  # the order in which the module names stand in vgg_face_dag.py


def canonical(source: Origin, *files: Path) -> dict[str, torch.Tensor]:
    """Return what a module takes of the files of one of its sources."""
    return readers.converted(source.convert, readers.read(source.reader, files), files[0])


def numbered(stems: list[str]) -> OrderedDict[str, torch.Tensor]:
    """Return a small tensor for each weight and bias, each with a number of its own."""
    keys = [f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")]
    return OrderedDict((key, torch.tensor([float(n)])) for n, key in enumerate(keys))


class Bomb:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


KERAS_WIDTHS = (2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5)
KERAS_FC = 6


def keras_layers() -> list[tuple[str, np.ndarray, np.ndarray]]:  # type: ignore[type-arg]
    """Return name, kernel (H, W, in, out) and bias of a narrow VGG-Face's layers, in order."""
    draw = np.random.default_rng(0)
    layers, width = [], 3
    for number, out in enumerate(KERAS_WIDTHS, start=1):
        layers.append((f"conv2d_{number}", (3, 3, width, out)))
        width = out
    layers += [("conv2d_14", (7, 7, width, KERAS_FC)), ("conv2d_15", (1, 1, KERAS_FC, KERAS_FC))]
    layers += [("conv2d_16", (1, 1, KERAS_FC, 9))]
    return [(name, draw.normal(size=s), draw.normal(size=s[-1])) for name, s in layers]


def write_keras(
    path: Path,
    layers: list[tuple[str, np.ndarray, np.ndarray]],
    under: str = "/",  # type: ignore[type-arg]
) -> Path:
    """Write layers as Keras 2's ``save_weights`` does; its groups stand in another order."""
    with h5py.File(path, "w") as file:
        group = file.require_group(under)
        names = ["zero_padding2d_1", *(name for name, _, _ in layers), "dropout_1"]
        group.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group.require_group(name).attrs["weight_names"] = np.array([], "S1")
        for name, kernel, bias in layers:
            weights = [f"{name}/kernel:0", f"{name}/bias:0"]
            group[name].attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in zip(weights, (kernel, bias), strict=True):
                group[name].create_dataset(weight, data=array.astype(np.float32))
    return path
