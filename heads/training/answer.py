"""What a trained network answers of one video, by itself.

Videos side by side in a batch are not alone: a head that packs the real rows of all of them into
one product, or pads them to the longest, sums in another order, and the last bits of a video's
numbers are then its neighbours'. So a test video is answered alone, as a new one is, and both have
the same numbers bit for bit. Training and validation go by batches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.training.data import Batch
from heads.training.standardise import Standardised
from heads.training.targets import Target


@dataclass(frozen=True)
class Answer:
    """A network's answer to one video.

    Attributes:
        values: float32 (width,) of the target: a probability a class, which sum to 1; a probability
            a label; an estimate a dimension, within its range.
        attention: name -> float32 weights: (T,) or (T, ...) over rows, (M,) over roles.
    """

    values: NDArray[np.float32]
    attention: dict[str, NDArray[np.float32]]


@torch.no_grad()
def answer(network: Standardised, video: Batch) -> Answer:
    """Return what a network in eval mode answers.

    Args:
        network: as it was trained.
        video: a batch of one video, on the network's device.
    """
    output = network(video.features, video.mask)
    (values,) = told(network.network.target, output["logits"].cpu()).numpy()
    weights = {name: output[name][0].float().cpu().numpy() for name in network.network.attention}
    return Answer(values, {name: values.copy() for name, values in weights.items()})


def told(target: Target, logits: Tensor) -> Tensor:
    """Return what logits (N, width) tell, see `Answer.values`: (N, width)."""
    if target.kind == "class":
        return torch.softmax(logits, dim=1)
    if target.kind == "labels":
        return torch.sigmoid(logits)
    low, high = target.range or (-1.0, 1.0)
    return ((low + high) / 2 + (high - low) / 2 * logits).clamp(low, high)
