"""QAN, the quality-aware network: a weighted mean of the frames of one role.

Paper: Y. Liu, J. Yan and W. Ouyang, "Quality Aware Network for Set to Set Recognition", CVPR 2017,
as HAMF (section 5.4), CAAN (section 5.4.1) and RDAM (section 4.3) use it for emotions, on whole
frames alone.

Roles: one, of any name, rows of one axis (fc6 of VGG16 on the whole frame, 4096); beside a role
`m` may stand its map `m_map`, rows (C, H, W): a middle layer of the same network (pool5, 512 x 7 x
7). The quality comes from the map, or without it from the row.

    m     x_i -> FC, ReLU = R_i -+-> classifier, a softmax a frame
                                 +-> R = sum mu_i R_i / sum mu_i -> triplet loss, classifier
    m_map M_i -> conv -> FC 1 -> sigmoid = mu_i

A frame counts where it has a row; where it has that and no map, a learned vector stands at every
place of the map. A video without a row has a learned vector in place of R.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- The paper recognises faces and persons: it compares sets and has no classes at test time. Here
  the classifier of frames is applied to R, and that output is trained as well (`video_weight`; 0
  is the paper's softmax and triplet losses alone).
- Trunk and branches are trained together there. Here features are read as they were extracted, and
  R_i is an FC layer of 1024 neurons on them, with ReLU (`embedding`; null for the row itself, so
  that the triplet loss trains the quality alone).
- The quality unit is a convolution (3 x 3 with padding, 128 channels, ReLU: `kernel`, `channels`)
  and one cell, as HAMF's L1, which follows it; without a map it is one cell on the row.
- Features are standardised (`train.standardise: none` for the raw activations).
- The paper's margin and mining fit its own data: margin 0.2 on normalised R with a hinge, over all
  triplets of a batch (`margin`, `mining`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heads import Reported, Rows
from heads.layers import losses
from heads.layers.aggregation import absent, attention_weights, unpack, weighted_sum
from heads.layers.checks import (
    check_at_least,
    check_odd,
    check_row,
    check_trains,
    check_weights,
)
from heads.layers.network import Network
from heads.layers.scores import MAP, map_score, row_score
from heads.training.targets import KINDS, Target

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()

# Whole frames in all of them, and so one role, which each paper calls otherwise (image, context).
REFERENCE: Sequence[Reported] = (
    Reported("HAMF", "Table 8", "MHED", "Quality-aware network", ("frame",), 0.4603),
    Reported("CAAN", "Table 4", "HEIV", "Quality-aware network", ("frame",), 0.4395),
    Reported("RDAM", "Table 5", "MHED", "Quality-aware network", ("frame",), 0.4603),
    Reported("RDAM", "Table 5", "HEIV", "Quality-aware network", ("frame",), 0.4395),
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of QAN.

    Attributes:
        embedding: size of R_i (not given for these features); null takes the row as it is.
        channels: of the convolution on a map (not given).
        kernel: its height and width, odd (not given).
        frame_weight: weight of the cross-entropy over frames.
        triplet_weight: weight of the triplet loss on R.
        video_weight: weight of the cross-entropy of R (paper: 0).
        margin: margin of the triplet loss, in squared distance.
        mining: which triplets of a batch count, `all` or the `hard` one of each anchor.
    """

    embedding: int | None = 1024
    channels: int = 128
    kernel: int = 3
    frame_weight: float = 1.0
    triplet_weight: float = 1.0
    video_weight: float = 1.0
    margin: float = 0.2
    mining: losses.Mining = "all"

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "embedding", "channels")
        check_odd(self, "kernel")
        check_weights(self, "frame_weight", "triplet_weight", "video_weight")


class QualityAware(Network):
    """Features and qualities of the frames of one role, and their weighted mean."""

    kinds = KINDS

    def __init__(
        self, params: Params, role: str, features: Mapping[str, tuple[int, ...]], classes: int
    ):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.params = params
        self.role = role
        self.map_role = role + MAP if role + MAP in features else None
        self.attention = {"quality": Rows(role)}
        (size,) = features[role]
        wide = params.embedding or size
        layers = [] if params.embedding is None else [nn.Linear(size, wide), nn.ReLU()]
        self.embed = nn.Sequential(*layers)
        self.absent = nn.ParameterDict({role: absent(wide)})
        if self.map_role is None:
            self.score = row_score(size, ())
        else:
            shape = features[self.map_role]
            self.absent[self.map_role] = absent(shape[0], 1, 1)
            self.score = map_score(shape, (params.channels,), kernel=params.kernel)
        self.classifier = nn.Linear(wide, classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, D), a map (B, T, C, H, W) with the same T.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes); `video` (B, embedding), R; `frame_logits` (B, T, classes);
            `frames_used` (B, T) bool; `quality` (B, T), mu_i / sum mu_j: 0 on a frame without a
            row, else summing to 1 in a video.
        """
        used = mask[self.role]
        rows = features[self.role][used]  # (N, D), N frames of the whole batch
        embedded = unpack(self.embed(rows), used)  # (B, T, embedding)
        if self.map_role is not None:
            present = mask[self.map_role][used]
            maps = features[self.map_role][used]
            rows = torch.where(present[:, None, None, None], maps, self.absent[self.map_role])
        quality = attention_weights(unpack(self.score(rows)[:, 0], used), used, "sigmoid")
        video = torch.where(
            used.any(dim=1, keepdim=True), weighted_sum(embedded, quality), self.absent[self.role]
        )
        return {
            "logits": self.classifier(video),
            "video": video,
            "frame_logits": self.classifier(embedded),
            "frames_used": used,
            "quality": quality,
        }

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the weighted sum of the frame, triplet and video losses, a scalar."""
        params = self.params
        frames = losses.frame_loss(
            self.target, output["frame_logits"], labels, output["frames_used"]
        )
        triplets = losses.target_triplet(
            self.target, output["video"], labels, margin=params.margin, mining=params.mining
        )
        video = losses.video_loss(self.target, output["logits"], labels)
        return (
            params.frame_weight * frames
            + params.triplet_weight * triplets
            + params.video_weight * video
        )

    def aim(self, target: Target) -> None:
        """Take what is to be told.

        Raises:
            ValueError: nothing but the triplet loss, which needs classes, would be trained.
        """
        check_trains(target, self.params, "frame_weight", "video_weight")
        super().aim(target)


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return QAN for this role, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: not one role, with or without its map, or a wrong shape.
    """
    maps = {role + MAP for role in features} & set(features)
    roles = sorted(set(features) - maps)
    if len(roles) != 1:
        raise ValueError(
            f"quality_aware takes one role, with its map or without, found {sorted(features)}: "
            "name a feature for one"
        )
    (role,) = roles
    check_row("quality_aware", role, features[role], axes=1)
    for name in maps:
        check_row("quality_aware", name, features[name], axes=3)
    return QualityAware(params, role, features, len(classes))
