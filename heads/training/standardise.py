"""A head behind the standardisation of its rows: (x - mean) / std, from the training videos."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.options import PLACES
from heads import Head
from heads.layers.network import Network
from heads.training.data import Features
from heads.training.settings import Standardise
from heads.training.targets import Target

# A dimension that hardly varies over the training rows is not blown up to unit deviation: no
# deviation counts as less than this share of the feature's mean deviation.
_STD_FLOOR = 0.1


class Standardised(nn.Module):
    """A head behind (x - mean) / std of each role; the statistics are part of its state."""

    def __init__(
        self, network: Network, shapes: Mapping[str, tuple[int, ...]], axes: Mapping[str, str]
    ):
        """Wrap `network`; role -> shape and axes of a row. Statistics start as 0 and 1."""
        super().__init__()
        self.network = network
        self.mean = nn.ParameterDict()
        self.std = nn.ParameterDict()
        for role, shape in shapes.items():
            wide = _statistics_shape(shape, axes[role])
            self.mean[role] = nn.Parameter(torch.zeros(wide), requires_grad=False)
            self.std[role] = nn.Parameter(torch.ones(wide), requires_grad=False)

    def forward(self, features: dict[str, Tensor], mask: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the head's output on the standardised rows; arguments as the head's."""
        output: dict[str, Tensor] = self.network(self.standardise(features), mask)
        return output

    def standardise(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the standardised rows, float32 (B, T, ...), of rows in any dtype."""
        return {
            role: _standardised(x, self.mean[role], self.std[role]) for role, x in features.items()
        }


def _standardised(rows: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (rows - mean) / std: video by video, which stays in the processor's cache."""
    standardised = torch.empty(rows.shape, device=rows.device)
    for video, values in zip(standardised, rows, strict=True):
        video.copy_(values).sub_(mean).div_(std)
    return standardised


def build_network(
    head: Head,
    params: Any,
    shapes: dict[str, tuple[int, ...]],
    axes: Mapping[str, str],
    target: Target,
    seed: int,
) -> Standardised:
    """Return the head with fresh weights, drawn from `seed` alone, statistics still 0 and 1.

    Args:
        head: a head module.
        params: its hyper-parameters.
        shapes: role -> shape of a row, without the time axis.
        axes: role -> its axes, see `Features.axes`.
        target: what is told.
        seed: any non-negative integer.

    Raises:
        ValueError: a role that the head does not know, or a target that it does not take.
    """
    name = head.__name__.rpartition(".")[2]
    unknown = sorted(set(shapes) - head.ROLES) if head.ROLES is not None else []
    if unknown:
        raise ValueError(
            f"{name} has no role {', '.join(unknown)}: its roles are {sorted(head.ROLES or ())}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Network = head.build(params, shapes, target.names)
    try:
        network.aim(target)
    except ValueError as error:
        raise ValueError(f"head {name!r}: {error}") from None
    return Standardised(network, shapes, axes)


def input_statistics(
    dataset: Features, train: Sequence[int], mode: Standardise
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return role -> (mean, std) over the valid rows of the training videos, float32.

    Their shape is a row's, with 1 along the axes that are places.

    Args:
        dataset: all videos.
        train: positions of the training videos.
        mode: see `Training.standardise`; `none` gives 0 and 1.

    Raises:
        ValueError: a role without a valid row in any training video.
    """
    statistics = {}
    for role, shape in dataset.shapes.items():
        wide = _statistics_shape(shape, dataset.axes[role])
        over = (
            0,
            *(n for n, axis in enumerate(dataset.axes[role].split(), start=1) if axis in PLACES),
        )
        count, total, squares = 0, np.zeros(wide), np.zeros(wide)
        for position in train:
            sample = dataset[position]
            rows = sample.features[role][sample.mask[role]].astype(np.float64)
            count += rows.size // total.size
            total += rows.sum(axis=over).reshape(wide)
            squares += np.square(rows, out=rows).sum(axis=over).reshape(wide)
        if count == 0:
            backbone, feature = dataset.sources[role]
            raise ValueError(
                f"role '{role}' ({backbone}/{feature}): none of the {len(train)} training videos "
                "has a valid row: remove the role from the experiment, or see why its stage found "
                "nothing"
            )
        mean, square = total / count, squares / count
        if mode == "dimension":
            std = np.sqrt(np.maximum(square - np.square(mean), 0.0))
            std = np.maximum(std, _STD_FLOOR * std.mean())
        else:
            rms = np.sqrt(square.mean()) if mode == "scale" else 1.0
            mean, std = np.zeros_like(mean), np.full_like(mean, rms)
        std[std == 0] = 1.0
        statistics[role] = (
            torch.from_numpy(mean.astype(np.float32)),
            torch.from_numpy(std.astype(np.float32)),
        )
    return statistics


def _statistics_shape(shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """Return the shape of a row's statistics: 1 along the axes that are places."""
    return tuple(1 if axis in PLACES else n for n, axis in zip(shape, axes.split(), strict=True))
