"""From rows to one vector a video: masked means, scores, score-weighted sums.

Every function takes `mask` (B, T) bool, true where the row is real. A masked row may hold any
value, NaN as well: it is replaced before any arithmetic and takes no part. T may be 0.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["sigmoid", "softplus", "softmax", "literal"]

# Below this, log(softplus(s)) is s to float32 precision and softplus(s) is close to underflow.
_SOFTPLUS_LINEAR = -20.0


def hide(rows: Tensor, mask: Tensor) -> Tensor:
    """Return `rows` (B, T, ...) with zeros where `mask` (B, T) is false, whatever stood there."""
    shape = mask.shape + (1,) * (rows.dim() - mask.dim())
    return torch.where(mask.reshape(shape), rows, rows.new_zeros(()))


def masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over time of the real rows: (B, T, ...) -> (B, ...).

    A video without a real row gets zeros: the caller puts its own vector for "absent" there.
    """
    count = mask.sum(dim=1).clamp(min=1).to(rows.dtype)
    total = hide(rows, mask).sum(dim=1)
    return total / count.reshape(count.shape + (1,) * (total.dim() - 1))


def attention_weights(scores: Tensor, mask: Tensor, activation: Activation) -> Tensor:
    """Return a(s_i) / sum_j a(s_j) over the real rows of a video, the factors of CAAN's eq. 4.

    Args:
        scores: (B, T) float, unbounded.
        mask: (B, T) bool.
        activation: a, one of `sigmoid`, `softplus`, `softmax` (the exponential) and `literal`
            (the score itself: weights may be negative, and explode where the sum nears 0).

    Returns:
        (B, T) float; 0 on masked rows; sums to 1, or to 0 in a video without a real row.
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
    return hide(torch.softmax(logs.masked_fill(~mask, lowest), dim=1), mask)


def weighted_sum(rows: Tensor, weights: Tensor) -> Tensor:
    """Return sum_i w_i x_i: rows (B, T, D) and weights (B, T) -> (B, D)."""
    return torch.bmm(weights.unsqueeze(1), rows).squeeze(1)


def unpack(packed: Tensor, mask: Tensor) -> Tensor:
    """Put packed rows back in their place: (N, ...) and mask (B, T), N trues -> (B, T, ...).

    The inverse of `rows[mask]`; the other rows are zero.
    """
    rows = packed.new_zeros(mask.shape + packed.shape[1:])
    rows[mask] = packed
    return rows
