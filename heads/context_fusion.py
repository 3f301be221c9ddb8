"""Emotion in context: pooled features of several networks, and a context fusion network.

Paper: C. Chen, Z. Wu and Y.-G. Jiang, "Emotion in Context: Deep Semantic Feature Fusion for Video
Emotion Recognition", ACM Multimedia 2016, as HAMF (section 5.4), CAAN (section 5.4.2) and RDAM
(section 4.3) use it.

Roles: any, each with rows of its own; the papers have `event`, `object` and `scene`, or `face` and
`context` (fc6 of VGG networks, 4096 each).

    role m: rows -> mean over time -> FC 1024 -+
    ...                                        +-> concatenation -> FC 2048 -> FC 1024 -> classes

A map (C, H, W) is averaged over its positions; a row of another number of axes is flattened. A
video without a row in a role has a learned vector in place of the mean.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- Features are read as they were extracted and standardised (`train.standardise: none` for the raw
  activations).
- The papers say no more of the network than that it fuses; CAAN's, "inspired by" it, brings each
  modality to 1024 neurons, fuses them in 2048 "for absorbing all the information", and has one
  higher-level layer before its softmax. Those layers are taken here, with ReLU (`embedding`,
  `fusion`, `hidden`; null leaves that layer out).
- HAMF's text says both "average" and "max/average pooling" (`pool`).
- The original's features are outputs of classifiers of events, objects and scenes; the papers take
  fc6 of the networks that classify them. Here a role is whatever the experiment names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heads import Reported
from heads.layers.aggregation import Pool, absent, pool_rows, vector_size, vectors
from heads.layers.checks import check_at_least
from heads.layers.network import Network

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()

_THREE = ("event", "object", "scene")
_TWO = ("face", "context")

# HAMF, CAAN and VAANet (as CFN, whose Table 1 ticks visual, audio and attributes) repeat the
# original's accuracies on Ekman-6 and VideoEmotion-8. RDAM does not name
# the modalities: its numbers are HAMF's on MHED and CAAN's on HEIV, and so are the roles here.
REFERENCE: Sequence[Reported] = (
    Reported("HAMF", "Table 8", "MHED", "Chen et al.", _THREE, 0.5560),
    Reported("HAMF", "Table 9", "Ekman-6", "Emotion in context", _THREE, 0.518),
    Reported("HAMF", "Table 9", "VideoEmotion-8", "Emotion in context", _THREE, 0.506),
    Reported("CAAN", "Table 4", "HEIV", "Chen et al.", _TWO, 0.4617),
    Reported("CAAN", "Table 6", "Ekman-6", "Emotion in context", _THREE, 0.518),
    Reported("CAAN", "Table 6", "VideoEmotion-8", "Emotion in context", _THREE, 0.506),
    Reported("RDAM", "Table 5", "MHED", "Chen et al.", _THREE, 0.5560),
    Reported("RDAM", "Table 5", "HEIV", "Chen et al.", _TWO, 0.4617),
    Reported("VAANet", "Table 1", "VideoEmotion-8", "CFN", _THREE, 0.504),
    Reported("VAANet", "Table 2", "Ekman-6", "CFN", _THREE, 0.518),
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of the context fusion network.

    Attributes:
        pool: what is taken over time, the `mean` or the `max` of each dimension.
        embedding: neurons of the FC layer of each role; null for none.
        fusion: neurons of the fusion layer.
        hidden: neurons of the layer after it; null for none.
    """

    pool: Pool = "mean"
    embedding: int | None = 1024
    fusion: int = 2048
    hidden: int | None = 1024

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "embedding", "fusion", "hidden")


class ContextFusion(Network):
    """Pooled rows of every role, embedded and fused."""

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.pool: Pool = params.pool
        self.embed = nn.ModuleDict()
        self.absent = nn.ParameterDict()
        joined = 0
        for role in sorted(features):
            size = vector_size(features[role])
            self.absent[role] = absent(size)
            self.embed[role] = _layer(size, params.embedding)
            joined += params.embedding or size
        self.fusion = _layer(joined, params.fusion)
        self.hidden = _layer(params.fusion, params.hidden)
        self.classifier = nn.Linear(params.hidden or params.fusion, classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), T of its own in each role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes).
        """
        joined = [
            embed(pool_rows(vectors(features[role]), mask[role], self.absent[role], self.pool))
            for role, embed in self.embed.items()
        ]
        fused = self.hidden(self.fusion(torch.cat(joined, dim=1)))
        return {"logits": self.classifier(fused)}


def _layer(inputs: int, neurons: int | None) -> nn.Sequential:
    """Return an FC layer with ReLU, or nothing for null."""
    return nn.Sequential(*([] if neurons is None else [nn.Linear(inputs, neurons), nn.ReLU()]))


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return the context fusion network for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: less than two roles.
    """
    if len(features) < 2:
        raise ValueError(
            f"context_fusion needs at least two roles to fuse, found {sorted(features)}: name "
            "features for more, or take the head 'pooling'"
        )
    return ContextFusion(params, features, len(classes))
