"""NeXtVLAD, aggregation by soft assignment to clusters, with its gated classifier.

Paper: R. Lin, J. Xiao and J. Fan, "NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level
Features for Large-scale Video Classification", ECCV 2018 Workshops; the authors' published code
(YouTube-8M) settles what the paper leaves open. X. Peng et al., "Multi-modality Fusion for Emotion
Recognition in Videos", MiGA at IJCAI 2023, has it as a rival and as a part, see `heads/mmf.py`.

Roles: any, each with its own NeXtVLAD over its own rows. A map (C, H, W) is averaged over its
positions; a row of another number of axes is flattened.

    x_t (D) -> FC lambda D -+-> G groups of d = lambda D / G ---------------------+
                            +-> sigmoid(FC G)                     attention a_tg -+-> sum of
                            +-> softmax over K of BN(FC G K)     assignment a_tgk +   residuals
                                                                                  |
        BN <- flatten d K <- each of the K columns divided by its length  <- (d, K)

    descriptors of all roles, concatenated -> dropout -> FC hidden, BN = h
    h * sigmoid(FC(ReLU(BN(FC h)))) -> classifier

A video without a row in a role has a learned vector in place of its descriptor.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- Features are read as they were extracted and standardised (`train.standardise: none` for the raw
  activations).
- Batch normalisation of the assignment sees real rows alone; the authors' code masks the attention
  but lets padded rows into the statistics. Epsilon and momentum are torch's, as an epoch has
  a few dozen batches here and many thousand there.
- The authors give audio half the clusters and half the groups; Peng's paper gives one number for
  all modalities, and so does `Params`.
- Rows are first projected to `projection` numbers, as the code behind Peng's paper does: 99
  coordinates do not divide into 8 groups. With `projection: null` rows are taken as they are.
- Peng's row "NeXtVLAD" says nothing of its head. Clusters and groups are those of that paper, the
  rest is the authors' of NeXtVLAD (`clusters: 64` was theirs, for millions of videos).
- One emotion is true of a video: softmax and cross-entropy, not one logistic unit a class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heads import Reported, Rows
from heads.layers.aggregation import absent, normalise, vector_size, vectors
from heads.layers.checks import check_at_least, check_share
from heads.layers.network import Network
from heads.layers.vlad import NeXtVLAD, check_groups, scale_variance

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()

REFERENCE: Sequence[Reported] = (
    Reported(
        "MMF", "Table 1", "VideoEmotion-8", "NeXtVLAD", ("visual", "audio", "skeleton"), 0.302
    ),
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of NeXtVLAD and its head.

    Attributes:
        projection: size to which rows of each role are projected first; null for none.
        expansion: lambda, by how much rows are widened (NeXtVLAD's paper: 2).
        groups: G, into which a widened row is divided (both papers: 8).
        clusters: K (Peng: 4; NeXtVLAD's paper: 64 to 128).
        hidden: size of h (NeXtVLAD's paper: 1024 or 2048).
        reduction: how many times smaller the middle of the gate is (NeXtVLAD's paper: 8 or 16).
        dropout: of the concatenated descriptors (NeXtVLAD's code: 0.5).
    """

    projection: int | None = 512
    expansion: int = 2
    groups: int = 8
    clusters: int = 4
    hidden: int = 1024
    reduction: int = 8
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "expansion", "groups", "clusters", "hidden", "reduction")
        check_share(self, "dropout")
        if self.hidden < self.reduction:
            raise ValueError(
                f"hidden must be at least reduction ({self.reduction}), found {self.hidden}"
            )
        if self.projection is not None:
            check_groups("projection", self.projection, self.expansion, self.groups)


class GatedNeXtVLAD(Network):
    """One NeXtVLAD a role, their descriptors concatenated, context gating and a classifier."""

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.roles = sorted(features)
        self.attention = {f"{role}_weights": Rows(role) for role in self.roles}
        self.project = nn.ModuleDict()
        self.aggregate = nn.ModuleDict()
        self.absent = nn.ParameterDict()
        joined = 0
        for role in self.roles:
            size = vector_size(features[role])
            if params.projection is not None:
                self.project[role] = nn.Linear(size, params.projection)
                size = params.projection
            vlad = NeXtVLAD(
                size,
                expansion=params.expansion,
                groups=params.groups,
                clusters=params.clusters,
            )
            self.aggregate[role] = vlad
            self.absent[role] = absent(vlad.size)
            joined += vlad.size
        middle = params.hidden // params.reduction
        self.dropout = nn.Dropout(params.dropout)
        self.hidden = nn.Linear(joined, params.hidden, bias=False)
        self.hidden_norm = nn.BatchNorm1d(params.hidden)
        self.squeeze = nn.Linear(params.hidden, middle, bias=False)
        self.squeeze_norm = nn.BatchNorm1d(middle)
        self.excite = nn.Linear(middle, params.hidden, bias=False)
        for layer in (self.hidden, self.squeeze, self.excite):
            scale_variance(layer)
        self.classifier = nn.Linear(params.hidden, classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), T of its own in each role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes); `<role>_weights` (B, T), the group attention of each row
            averaged over groups: in (0, 1), 0 on masked rows, not normalised.
        """
        output: dict[str, Tensor] = {}
        descriptors = []
        for role in self.roles:
            real = mask[role]
            rows = vectors(features[role])[real]
            if role in self.project:
                rows = self.project[role](rows)
            pooled, output[f"{role}_weights"] = self.aggregate[role](rows, real)
            present = real.any(dim=1, keepdim=True)
            descriptors.append(torch.where(present, pooled, self.absent[role]))
        joined = self.dropout(torch.cat(descriptors, dim=1))
        hidden = normalise(self.hidden_norm, self.hidden(joined))
        gate = torch.relu(normalise(self.squeeze_norm, self.squeeze(hidden)))
        output["logits"] = self.classifier(hidden * torch.sigmoid(self.excite(gate)))
        return output


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return NeXtVLAD for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: no role at all, or rows that do not divide into groups.
    """
    if not features:
        raise ValueError("nextvlad needs at least one role, found none: name a feature for one")
    if params.projection is None:
        for role, shape in features.items():
            name = f"without a projection, the row size of role '{role}'"
            check_groups(name, vector_size(shape), params.expansion, params.groups)
    return GatedNeXtVLAD(params, features, len(classes))
