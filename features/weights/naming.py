"""Naming: how the tensors of a published file come to be named as in the network that is built.

What the conversions of several backbones share; a conversion itself lies beside the WEIGHTS that
it is for. What a file holds beyond what is built is dropped by name, never by default.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import, and who only asks where weights come from has no tensors
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]
"""Tensors by their names in a file; floating-point ones are float32."""

Convert = Callable[[Tensors], dict[str, "Tensor"]]
"""Tensors by their names in a file -> by the keys of the built module's ``state_dict``.

Raises :class:`features.weights.record.WeightsError` where the file is another one than expected.
"""


def unchanged(tensors: Tensors) -> "dict[str, Tensor]":
    """Leave the names as they are: those in the file are the network's."""
    return dict(tensors)


def without(tensors: Tensors, *layers: str) -> "dict[str, Tensor]":
    """Drop the tensors of layers, ``fc`` that of ``fc.weight`` and ``fc.bias``."""
    return {key: value for key, value in tensors.items() if key.rpartition(".")[0] not in layers}


def renamed(tensors: Tensors, layers: Mapping[str, str]) -> "dict[str, Tensor]":
    """Give layers other names; those that ``layers`` has no name for keep theirs."""
    converted = {}
    for key, tensor in tensors.items():
        layer, dot, kind = key.rpartition(".")
        converted[f"{layers.get(layer, layer)}{dot}{kind}"] = tensor
    return converted


def counted(tensors: Tensors) -> "dict[str, Tensor]":
    """Add the batch counters of norms, which PyTorch 0.4 and older did not save; they start at 0.

    They count training steps and have no part in any feature.
    """
    import torch

    counters = {
        key.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for key in tensors
        if key.endswith(".running_mean")
    }
    return {**counters, **tensors}
