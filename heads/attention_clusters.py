"""Attention clusters: for each modality some attentions over its rows, concatenated.

Paper: X. Long, C. Gan, G. de Melo, J. Wu, X. Liu and S. Wen, "Attention Clusters: Purely Attention
Based Local Feature Integration for Video Classification", CVPR 2018, and what HAMF (section 5.4),
CAAN (section 5.4.1) and RDAM (section 4.3) make of it for emotions.

Roles: any modalities, each with rows of its own; the papers have `face`, `scene` and `image`, or
`face` and `context` (fc6 of VGG networks, 4096 each).

    role x: rows x_i -> FC, one cell a unit -> softmax over time = a_i
            unit: v = sum a_i x_i -> shift: (alpha v + beta) / (sqrt(units) |alpha v + beta|)
    the units of all roles -> concatenation -> FC -> classes

The defaults are HAMF's simplification: one unit a modality (`units: 1`) without the shift
(`shifting: false`). `units: 64, shifting: true` or the like is the original.

A map (C, H, W) is averaged over its positions; a row of another number of axes is flattened. A
video without a row in a role has a learned vector in place of v, in every unit.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- Features are read as they were extracted and standardised (`train.standardise: none` for the raw
  activations).
- The original also tries an attention of two layers; this is the one with a single FC layer, the
  only one that HAMF names.
- HAMF does not say what is done to the output of the one cell: the softmax over the rows of the
  original (`activation`).
- "Concatenated according to the output of the attention network" is read as the weighted sum.
- alpha and beta, two numbers a unit, start from a normal distribution of variance 1 / sqrt(units),
  as in the release for PaddlePaddle; the paper does not say. Where they start at 1 and 0 the shift
  is a mere division by the length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads import Reported, Rows
from heads.layers.aggregation import (
    Activation,
    absent,
    attention_weights,
    hide,
    vector_size,
    vectors,
)
from heads.layers.checks import check_at_least
from heads.layers.network import Network

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()

_THREE = ("face", "scene", "image")
_SIMPLE = {"units": 1, "shifting": False}

# HAMF and RDAM describe the simplification, CAAN does not say. RDAM prints CAAN's number for HEIV,
# of two modalities, and writes of three: each stands here as its own paper has it.
REFERENCE: Sequence[Reported] = (
    Reported("HAMF", "Table 8", "MHED", "Attention clusters", _THREE, 0.5981, _SIMPLE),
    Reported("CAAN", "Table 4", "HEIV", "Attention clusters", ("face", "context"), 0.4963),
    Reported("RDAM", "Table 5", "MHED", "Attention clusters", _THREE, 0.5981, _SIMPLE),
    Reported("RDAM", "Table 5", "HEIV", "Attention clusters", _THREE, 0.4963, _SIMPLE),
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of attention clusters.

    Attributes:
        units: attentions of each role.
        shifting: shift and normalise what each unit gives.
        activation: what makes weights of scores, see `heads.layers.aggregation.attention_weights`.
    """

    units: int = 1
    shifting: bool = False
    activation: Activation = "softmax"

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "units")


class Cluster(nn.Module):
    """The attention units of one role: rows (B, T, D) -> (B, units * D) and their weights."""

    def __init__(self, size: int, params: Params):
        """Draw fresh weights for rows of this size."""
        super().__init__()
        self.activation: Activation = params.activation
        # What moves all scores of a softmax alike, a bias, would change nothing.
        self.score = nn.Linear(size, params.units, bias=params.activation != "softmax")
        self.absent = absent(size)
        self.shifting = params.shifting
        if params.shifting:
            spread = params.units**-0.25
            self.alpha = nn.Parameter(spread * torch.randn(params.units, 1))
            self.beta = nn.Parameter(spread * torch.randn(params.units, 1))

    def forward(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units' vectors, concatenated, and their weights (B, T, units)."""
        rows = hide(rows, mask)
        weights = attention_weights(self.score(rows), mask, self.activation)
        values = torch.bmm(weights.transpose(1, 2), rows)  # (B, units, D)
        values = torch.where(mask.any(dim=1)[:, None, None], values, self.absent)
        if self.shifting:
            shifted = functional.normalize(self.alpha * values + self.beta, dim=2)
            values = shifted / len(self.alpha) ** 0.5
        return values.flatten(1), weights


class AttentionClusters(Network):
    """A cluster a role, concatenated, and one fully connected layer."""

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.attention = {f"{role}_weights": Rows(role) for role in sorted(features)}
        sizes = {role: vector_size(features[role]) for role in sorted(features)}
        self.clusters = nn.ModuleDict({r: Cluster(size, params) for r, size in sizes.items()})
        self.classifier = nn.Linear(params.units * sum(sizes.values()), classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), T of its own in each role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes), and for each role `<role>_weights` (B, T, units), or (B, T)
            where there is one unit: 0 on masked rows, else each unit's sum to 1 in a video.
        """
        output, joined = {}, []
        for role, cluster in self.clusters.items():
            values, weights = cluster(vectors(features[role]), mask[role])
            joined.append(values)
            output[f"{role}_weights"] = weights.squeeze(2) if weights.shape[2] == 1 else weights
        return {"logits": self.classifier(torch.cat(joined, dim=1))} | output


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return attention clusters for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: no role at all.
    """
    if not features:
        raise ValueError(
            "attention_clusters needs at least one role, found none: name a feature for one"
        )
    return AttentionClusters(params, features, len(classes))
