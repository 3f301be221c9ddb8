"""Score networks: from a frame, its row or its map, to one unbounded number.

What CAAN, HAMF, the quality-aware network and RDAM weigh frames with; `heads.layers.aggregation`
makes weights of the scores.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

MAP = "_map"
"""What the role of a map has behind the name of the role that it belongs to."""


def row_score(
    size: int, hidden: Sequence[int], *, last_relu: bool = True, bias: bool = True
) -> nn.Sequential:
    """Return fully connected layers with ReLU and one cell: (N, size) -> (N, 1).

    Args:
        size: of a row.
        hidden: neurons of the layers before the cell; none for the cell alone.
        last_relu: false leaves out the ReLU right before the cell.
        bias: of the cell.
    """
    sizes = [size, *hidden]
    layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
    return nn.Sequential(*_activated(layers, last_relu), nn.Linear(sizes[-1], 1, bias=bias))


def map_score(
    shape: tuple[int, ...],
    channels: Sequence[int],
    *,
    kernel: int = 3,
    last_relu: bool = True,
    bias: bool = True,
) -> nn.Sequential:
    """Return convolutions with ReLU and one cell on all positions: (N, C, H, W) -> (N, 1).

    Args:
        shape: (C, H, W) of a map.
        channels: of the convolutions, one after the other; padding keeps H and W.
        kernel: their height and width, odd.
        last_relu: false leaves out the ReLU right before the cell.
        bias: of the cell.
    """
    size, height, width = shape
    sizes = [size, *channels]
    layers = [nn.Conv2d(*pair, kernel, padding=kernel // 2) for pair in pairwise(sizes)]
    return nn.Sequential(
        *_activated(layers, last_relu),
        nn.Flatten(),
        nn.Linear(sizes[-1] * height * width, 1, bias=bias),
    )


def _activated(layers: Sequence[nn.Module], last_relu: bool) -> list[nn.Module]:
    """Return the layers, each followed by a ReLU, the last one only with `last_relu`."""
    parts: list[nn.Module] = []
    for layer in layers:
        parts += [layer, nn.ReLU()]
    if parts and not last_relu:
        parts[-1] = nn.Identity()
    return parts
