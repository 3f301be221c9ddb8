"""Seeding: random weights for a network that has no pretrained ones at hand.

A pipeline can be tried, tested and timed with them. They are drawn so that activations stay in
the range of the input through many layers and differ between inputs (He et al. 2015,
"Delving deep into rectifiers", equation 10).
"""

import torch
from torch import nn

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)
OTHER_STD = 0.02
"""Standard deviation of parameters of no known layer (tables, tokens)."""


def initialise(module: nn.Module, seed: int) -> None:
    """Set every parameter of ``module`` from ``seed``; buffers of norms to their first state.

    Weights of convolutions and linear layers: normal, variance 2 / fan-in; biases: 0. Norms: the
    identity. The random state of the caller is left as it was.
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
