"""Seeding: random weights for a network that has no pretrained ones at hand.

A pipeline can be tried, tested and timed with them. They are drawn so that activations stay in
the range of the input through many layers and differ between inputs (He et al. 2015,
"Delving deep into rectifiers", equation 10).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)
OTHER_STD = 0.02
"""Standard deviation of parameters of no known layer (tables, tokens)."""

RESIDUAL_GAIN = 0.2
"""Weight of the norm that ends the branch of a residual block.

A branch as large as its shortcut doubles the variance at every block, 2^33 in a ResNet-101.
"""


def initialise(module: nn.Module, seed: int) -> None:
    """Set every parameter of ``module`` from ``seed``; buffers of norms to their first state.

    Weights of convolutions and linear layers: normal, variance 2 / fan-in; biases: 0. Norms: the
    identity, but RESIDUAL_GAIN at the end of a residual block's branch. The random state of the
    caller is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in module.modules():
            if isinstance(part, LAYERS):
                drawn = torch.empty(part.weight.shape)  # memory format must not reorder the draws
                part.weight.copy_(nn.init.kaiming_normal_(drawn, nonlinearity="relu"))
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
            elif isinstance(part, NORMS):
                part.reset_parameters()
            else:
                for parameter in part.parameters(recurse=False):
                    nn.init.normal_(parameter, std=OTHER_STD)
        for norm in _branch_ends(module):
            nn.init.constant_(norm.get_parameter("weight"), RESIDUAL_GAIN)


def _branch_ends(module: nn.Module) -> list[nn.Module]:
    """Return the last norm of each residual block: by ResNet's name of its shortcut's layers."""
    ends: list[nn.Module] = []
    for block in module.modules():
        if hasattr(block, "downsample"):
            branch = [child for name, child in block.named_children() if name != "downsample"]
            norms = [
                part for child in branch for part in child.modules() if isinstance(part, NORMS)
            ]
            ends += norms[-1:]
    return ends


def drawn(shapes: Mapping[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """Return weights of single layers by name, distributed as :func:`initialise` draws them."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="relu", generator=generator)
        for name, shape in shapes.items()
    }
