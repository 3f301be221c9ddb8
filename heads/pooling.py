"""Mean and max pooling: what the papers compare their attention with, for any roles.

Papers: X. Liu and M. Wang, "Context-Aware Attention Network for Human Emotion Recognition in
Video", Advances in Multimedia, vol. 2020, article 8843413 (CAAN), section 5.2: FAA and CAA (one
role), FFAA (face and context). X. Liu, S. Li and M. Wang, "Hierarchical Attention-Based Multimodal
Fusion Network for Video Emotion Recognition", Computational Intelligence and Neuroscience, vol.
2021, article 5585041 (HAMF), section 5.2: IAF (one role), MF (face, scene and image). X. Liu, H.
Xu and M. Wang, "Region Dual Attention-Based Video Emotion Recognition", 2022 (RDAM), Tables 1 to
4: "average aggregation" of ResNet-50.

Roles: any, each with rows of its own. Pooling concatenated rows is concatenating pooled rows, so
that rows of different roles need not be the same frames.

    one role:  rows -> mean over time -> FC, FC -> classes
    several:   rows of each -> FC 1024 -> mean over time -+
               ...                                        +-> concatenation -> FC, FC -> classes

That is FAA, CAA and IAF, and FFAA; with `embedding: null` the means themselves are concatenated
(MF). A map (C, H, W) is averaged over its positions, as ResNet-50 ends; a row of another number of
axes is flattened. A video without a row in a role has a learned vector in place of the mean.

Differs from the papers, or fills what they leave open (every choice is a field of `Params`):

- The backbones are not fine-tuned on the data set; features are standardised, see
`heads.training.standardise`.
- Where FFAA averages is not said. By its name it averages the fused features (`pooled:
  embeddings`); `pooled: features` averages the input first, as FAA and CAA do.
- The first of the two FC layers has no given size: 1024, with ReLU (`hidden`). HAMF's "tiny fully
  connected network" and RDAM's unnamed classifier are read as the same two layers.
- Max pooling (`pool: max`) is named by the papers' introductions as what others do; they report
  nothing of it.
- Frames without a face are left out of the face's mean; other roles take every frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from heads import Reported
from heads.layers.aggregation import Pool, absent, pool_rows, unpack, vector_size, vectors
from heads.layers.checks import check_at_least
from heads.layers.network import Network

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()

_MF = {"embedding": None}
_MHED_ROLES = ("face", "scene", "image")
_CONTEXT_ROLES = ("event", "object", "scene")

# CAAN's Table 3, column "average aggregate"; HAMF's Tables 5 to 7, "no attention", where the two
# data sets of Table 5 may be swapped (its other numbers are multiples of 1/367 under Ekman, and of
# 1/818 under VideoEmotion-8); RDAM's Tables 1 and 3, and for 2 and 4 what the text says of them.
REFERENCE: Sequence[Reported] = (
    Reported("CAAN", "Table 3", "HEIV", "face, average", ("face",), 0.4346),
    Reported("CAAN", "Table 3", "HEIV", "context, average", ("context",), 0.4173),
    Reported("CAAN", "Table 3", "HEIV", "fusion, average", ("face", "context"), 0.4691),
    Reported("HAMF", "Table 7", "MHED", "face, no attention", ("face",), 0.5187),
    Reported("HAMF", "Table 7", "MHED", "scene, no attention", ("scene",), 0.4416),
    Reported("HAMF", "Table 7", "MHED", "image, no attention", ("image",), 0.4392),
    Reported("HAMF", "Table 7", "MHED", "fusion, no attention", _MHED_ROLES, 0.6005, _MF),
    *(
        Reported("HAMF", "Table 5", data, f"{role}, no attention", (role,), accuracy)
        for data, accuracies in (
            ("Ekman-6", (0.4245, 0.3643, 0.4095)),
            ("VideoEmotion-8", (0.4810, 0.4645, 0.4633)),
        )
        for role, accuracy in zip(_CONTEXT_ROLES, accuracies, strict=True)
    ),
    Reported("HAMF", "Table 6", "Ekman-6", "no attention fusion", _CONTEXT_ROLES, 0.479, _MF),
    Reported(
        "HAMF", "Table 6", "VideoEmotion-8", "no attention fusion", _CONTEXT_ROLES, 0.493, _MF
    ),
    Reported("RDAM", "Table 1", "MHED", "frame, average", ("frame",), 0.4416),
    Reported("RDAM", "Table 2", "MHED", "face, average", ("face",), 0.5234),
    Reported("RDAM", "Table 3", "HEIV", "frame, average", ("frame",), 0.4222),
    Reported("RDAM", "Table 4", "HEIV", "face, average", ("face",), 0.4494),
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of the pooling baselines.

    Attributes:
        pool: what is taken over time, the `mean` (paper) or the `max` of each dimension.
        embedding: neurons of the FC layer of each role, where there are several (CAAN: 1024);
            null for none (HAMF).
        pooled: with several roles and an embedding, pool the `embeddings` or the input `features`.
        hidden: neurons of the first of the two last FC layers (not given in the papers).
    """

    pool: Pool = "mean"
    embedding: int | None = 1024
    pooled: Literal["embeddings", "features"] = "embeddings"
    hidden: int = 1024

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "embedding", "hidden")


class Pooling(Network):
    """Rows of every role pooled over time, fused, then two fully connected layers."""

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.roles = sorted(features)
        self.pool: Pool = params.pool
        self.pooled = params.pooled
        self.embed = nn.ModuleDict()
        self.absent = nn.ParameterDict()
        joined = 0
        for role in self.roles:
            size = pooled = vector_size(features[role])
            if len(self.roles) > 1 and params.embedding is not None:
                self.embed[role] = nn.Linear(size, params.embedding)
                size = params.embedding
                pooled = size if params.pooled == "embeddings" else pooled
            self.absent[role] = absent(pooled)
            joined += size
        self.hidden = nn.Linear(joined, params.hidden)
        self.classifier = nn.Linear(params.hidden, classes)

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
        fused = torch.cat([self._pool(r, features[r], mask[r]) for r in self.roles], dim=1)
        return {"logits": self.classifier(torch.relu(self.hidden(fused)))}

    def _pool(self, role: str, rows: Tensor, mask: Tensor) -> Tensor:
        """Return float (B, size): one role pooled over its real rows, embedded before or after."""
        rows = vectors(rows)
        if role not in self.embed:
            return pool_rows(rows, mask, self.absent[role], self.pool)
        embed = self.embed[role]
        if self.pooled == "embeddings":
            embedded = unpack(torch.relu(embed(rows[mask])), mask)
            return pool_rows(embedded, mask, self.absent[role], self.pool)
        return torch.relu(embed(pool_rows(rows, mask, self.absent[role], self.pool)))


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return the baseline for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: no role at all.
    """
    if not features:
        raise ValueError("pooling needs at least one role, found none: name a feature for one")
    return Pooling(params, features, len(classes))
