"""From rows to one vector a video: masked means and maxima, scores, score-weighted sums.

Also what becomes of rows on the way: vectors of maps, packed rows, their batch normalisation.

`mask` is (B, T) bool, true where the row is real. A masked row may hold any value, NaN as well: it
is replaced before any arithmetic and takes no part. T may be 0.
"""

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Pool = Literal["mean", "max"]
Activation = Literal["sigmoid", "softplus", "softmax", "literal"]

# Below this, log(softplus(s)) is s to float32 precision and softplus(s) is close to underflow.
_SOFTPLUS_LINEAR = -20.0

# Standard deviation of what stands for an absent row, before training: small beside the rows that
# it replaces, and not zero, which a ReLU layer also gives for a real row.
_ABSENT_STD = 0.02

_MAP_AXES = 3


def absent(*shape: int) -> nn.Parameter:
    """Return a fresh learned tensor that stands where a row, or every row of a role, is absent."""
    return nn.Parameter(_ABSENT_STD * torch.randn(shape))


def vector_size(shape: tuple[int, ...]) -> int:
    """Return the size of what `vectors` makes of a row of this shape."""
    return shape[0] if len(shape) == _MAP_AXES else prod(shape)


def vectors(rows: Tensor) -> Tensor:
    """Return rows of any shape as vectors: (B, T, ...) -> (B, T, D).

    A map (C, H, W) is averaged over its positions, as the last layer of a ResNet does; a row of
    another number of axes is flattened.
    """
    if rows.dim() == 2 + _MAP_AXES:
        return rows.mean(dim=(3, 4))
    return rows.flatten(2) if rows.dim() > 2 else rows.unsqueeze(2)


def _beside(mask: Tensor, rows: Tensor) -> Tensor:
    """Return `mask` with as many axes as `rows`, of size 1 behind its own."""
    return mask.reshape(mask.shape + (1,) * (rows.dim() - mask.dim()))


def hide(rows: Tensor, mask: Tensor) -> Tensor:
    """Return `rows` (B, T, ...) with zeros where `mask` (B, T) is false, whatever stood there."""
    return torch.where(_beside(mask, rows), rows, rows.new_zeros(()))


def masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over time of the real rows: (B, T, ...) -> (B, ...).

    A video without a real row gets zeros: the caller puts its own vector for "absent" there.
    """
    count = mask.sum(dim=1).clamp(min=1).to(rows.dtype)
    total = hide(rows, mask).sum(dim=1)
    return total / count.reshape(count.shape + (1,) * (total.dim() - 1))


def masked_max(rows: Tensor, mask: Tensor) -> Tensor:
    """Return the greatest of the real rows in each dimension: (B, T, ...) -> (B, ...).

    A video without a real row gets zeros: the caller puts its own vector for "absent" there.
    """
    if mask.shape[1] == 0:
        return rows.sum(dim=1)  # zeros
    lowest = torch.where(_beside(mask, rows), rows, torch.finfo(rows.dtype).min)
    return hide(lowest.amax(dim=1), mask.any(dim=1))


def pool_rows(rows: Tensor, mask: Tensor, instead: Tensor, pool: Pool) -> Tensor:
    """Return the mean or maximum over time of the real rows: (B, T, D) -> (B, D).

    A video without a real row gets `instead` (D,).
    """
    pooled = masked_mean(rows, mask) if pool == "mean" else masked_max(rows, mask)
    return torch.where(mask.any(dim=1, keepdim=True), pooled, instead)


def attention_weights(scores: Tensor, mask: Tensor, activation: Activation) -> Tensor:
    """Return a(s_i) / sum_j a(s_j) over the real rows of a video, the factors of CAAN's eq. 4.

    Args:
        scores: (B, T) float, unbounded; or (B, T, ...), each of the last axes on its own.
        mask: (B, T) bool.
        activation: a, one of `sigmoid`, `softplus`, `softmax` (the exponential) and `literal`
            (the score itself: weights may be negative, and explode where the sum nears 0).

    Returns:
        Float, as `scores`; 0 on masked rows; sums to 1 over time, or to 0 in a video without a
        real row.
    """
    scores = hide(scores, mask)
    if activation == "literal":
        total = scores.sum(dim=1, keepdim=True)
        return scores / torch.where(total == 0, torch.ones_like(total), total)
    # a(s) / sum a(s) = softmax(log a(s)): the same numbers, and no underflow of sum a(s).
    if activation == "sigmoid":
        logs = functional.logsigmoid(scores)
    elif activation == "softplus":
        bounded = scores.clamp(min=_SOFTPLUS_LINEAR)
        logs = torch.where(scores < _SOFTPLUS_LINEAR, scores, functional.softplus(bounded).log())
    else:
        logs = scores
    lowest = torch.finfo(logs.dtype).min
    return hide(torch.softmax(logs.masked_fill(~_beside(mask, logs), lowest), dim=1), mask)


def weighted_sum(rows: Tensor, weights: Tensor) -> Tensor:
    """Return sum_i w_i x_i: rows (B, T, D) and weights (B, T) -> (B, D)."""
    return torch.bmm(weights.unsqueeze(1), rows).squeeze(1)


def normalise(layer: nn.BatchNorm1d, rows: Tensor) -> Tensor:
    """Return `layer` of packed rows (N, D) or (N, D, L); with its running statistics where N < 2.

    A single row has no deviation, and no row no mean: training goes on with what is known.
    """
    if not layer.training or len(rows) > 1:
        normalised: Tensor = layer(rows)
        return normalised
    return functional.batch_norm(
        rows, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
    )


def unpack(packed: Tensor, mask: Tensor) -> Tensor:
    """Put packed rows back in their place: (N, ...) and mask (B, T), N trues -> (B, T, ...).

    The inverse of `rows[mask]`; the other rows are zero.
    """
    rows = packed.new_zeros(mask.shape + packed.shape[1:])
    rows[mask] = packed
    return rows
