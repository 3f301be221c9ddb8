"""Average aggregation, the baselines FAA, CAA and FFAA of CAAN's section 5.2, for any roles.

Paper: X. Liu and M. Wang, "Context-Aware Attention Network for Human Emotion Recognition in
Video", Advances in Multimedia, vol. 2020, article 8843413.

One role (FAA with the face, CAA with the context): the mean of the features over time, then two
fully connected layers and a softmax. Several roles (FFAA with face and context): every row passes
an FC layer with 1024 neurons, the modalities are fused by concatenation, averaged over time, and
passed through two fully connected layers. Rows of roles need not be the same frames: the mean of
concatenated rows is the concatenation of the means, so each role is averaged over its own rows.

A row of more than one axis (a map) is flattened. A video without a valid row in a role gets a
learned vector in place of that role's mean.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- The backbones are not fine-tuned on the data set; features are standardised, see `heads.training`.
- Where FFAA averages is not said. By its name it averages the fused features (`pool: embeddings`);
  `pool: features` averages the input first, as FAA and CAA do.
- The first of the two FC layers has no given size: 1024, with ReLU (`hidden`).
- Frames without a face are left out of the face's mean; the context's mean takes every frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from heads import Network, Reported
from heads.aggregation import masked_mean, unpack

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()
# CAAN, Table 3, column "average aggregate accuracy".
REFERENCE: Sequence[Reported] = (
    Reported("CAAN", "Table 3", "HEIV", "face, average", ("face",), 0.4346),
    Reported("CAAN", "Table 3", "HEIV", "context, average", ("context",), 0.4173),
    Reported("CAAN", "Table 3", "HEIV", "fusion, average", ("face", "context"), 0.4691),
)

# As in heads/caan.py: small beside the rows they replace, and not zero.
_ABSENT_STD = 0.02


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of the average baselines.

    Attributes:
        embedding: neurons of the FC layer of each role, where there are several (paper: 1024).
        hidden: neurons of the first of the two last FC layers (not given in the paper).
        pool: with several roles, average the `embeddings` or the input `features`.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "allow_inf_nan": False}

    embedding: int = 1024
    hidden: int = 1024
    pool: Literal["embeddings", "features"] = "embeddings"

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        for name in ("embedding", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")


class Pooling(Network):
    """Masked means of every role, fused, then two fully connected layers."""

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.roles = sorted(features)
        self.pool = params.pool
        several = len(self.roles) > 1
        self.embed = nn.ModuleDict()
        self.absent = nn.ParameterDict()
        joined = 0
        for role in self.roles:
            size = prod(features[role])
            if several:
                self.embed[role] = nn.Linear(size, params.embedding)
            averaged = params.embedding if several and params.pool == "embeddings" else size
            self.absent[role] = nn.Parameter(_ABSENT_STD * torch.randn(averaged))
            joined += params.embedding if several else size
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
        fused = torch.cat([self._average(r, features[r], mask[r]) for r in self.roles], dim=1)
        return {"logits": self.classifier(torch.relu(self.hidden(fused)))}

    def _average(self, role: str, rows: Tensor, mask: Tensor) -> Tensor:
        """Return float (B, size): the mean of one role over its valid rows, embedded."""
        rows = rows.flatten(2) if rows.dim() > 2 else rows.unsqueeze(2)
        present = mask.any(dim=1, keepdim=True)
        embed = self.embed[role] if role in self.embed else None
        if embed is not None and self.pool == "embeddings":
            embedded = unpack(torch.relu(embed(rows[mask])), mask)
            return torch.where(present, masked_mean(embedded, mask), self.absent[role])
        means = torch.where(present, masked_mean(rows, mask), self.absent[role])
        return means if embed is None else torch.relu(embed(means))


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
