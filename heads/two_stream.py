"""Emotion recognition in context: a person and what is around, fused frame by frame.

Paper: R. Kosti, J. M. Alvarez, A. Recasens and A. Lapedriza, "Emotion Recognition in Context", CVPR
2017, for still images; HAMF (section 5.4) and CAAN (section 5.4.2) average its fused features over
a video.

Roles: a person, `face` or `person`, and the whole frame, `context`, `image`, `frame` or `scene`
(fc6 of VGG networks, 4096 each). Two of these or more; their rows are the same frames.

    person  x_i -+
                 +-> concatenation -> FC 256 = f_i -> mean over the frames -> FC -> classes
    context c_i -+

A frame counts where it has a row of any role; a learned vector stands in for each role that it
lacks: a frame without a face is not dropped. A video without a row has one frame in which every
role is absent. A map (C, H, W) is averaged over its positions, as both modules of the paper end; a
row of another number of axes is flattened.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- The modules are trained with the fusion network there; here features are read as they were
  extracted and standardised (`train.standardise: none` for the raw activations). The fusion
  network is the original's: one layer of 256 neurons, with ReLU (`fusion`).
- The original has a second output, of continuous dimensions, which emotions of a video lack.
- The original's loss is of single images. HAMF's description ends in a video: the loss is of the
  averaged feature (`loss: frame` for the mean over its frames). As the last layer is linear, the
  answer is the mean of the frames' logits with either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from heads import Reported
from heads.layers import losses
from heads.layers.aggregation import absent, pool_rows, unpack, vector_size, vectors
from heads.layers.checks import check_at_least
from heads.layers.network import Network
from heads.training.targets import KINDS

STREAMS = ("person", "face", "frame", "context", "image", "scene")

ROLES: frozenset[str] | None = frozenset(STREAMS)
ALIGNED: frozenset[str] = frozenset(STREAMS)

# HAMF takes the region of the person and the entire image; of its modalities these are face and
# image. The authors' RDAM does not compare with it.
REFERENCE: Sequence[Reported] = (
    Reported("HAMF", "Table 8", "MHED", "Kosti et al.", ("face", "image"), 0.5607),
    Reported("CAAN", "Table 4", "HEIV", "Kosti et al.", ("face", "context"), 0.4642),
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of the two streams.

    Attributes:
        fusion: neurons of the fusion layer (original: 256).
        loss: cross-entropy of each `video`, or of each `frame`.
    """

    fusion: int = 256
    loss: Literal["video", "frame"] = "video"

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "fusion")


class TwoStream(Network):
    """Aligned rows of all roles, fused frame by frame, averaged over a video."""

    kinds = KINDS

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.roles = [role for role in STREAMS if role in features]
        self.loss_of = params.loss
        sizes = {role: vector_size(features[role]) for role in self.roles}
        self.absent = nn.ParameterDict({role: absent(size) for role, size in sizes.items()})
        self.fusion = nn.Linear(sum(sizes.values()), params.fusion)
        self.classifier = nn.Linear(params.fusion, classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), the same T in every role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes); `frame_logits` (B, T, classes); `frames_used` (B, T) bool.
        """
        used = torch.stack([mask[role] for role in self.roles]).any(dim=0)
        joined = []
        for role in self.roles:
            rows, present = vectors(features[role])[used], mask[role][used]
            joined.append(torch.where(present.unsqueeze(1), rows, self.absent[role]))
        fused = unpack(torch.relu(self.fusion(torch.cat(joined, dim=1))), used)
        nothing = torch.relu(self.fusion(torch.cat([self.absent[role] for role in self.roles])))
        return {
            "logits": self.classifier(pool_rows(fused, used, nothing, "mean")),
            "frame_logits": self.classifier(fused),
            "frames_used": used,
        }

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the cross-entropy of videos or of frames, a scalar."""
        if self.loss_of == "video":
            return losses.video_loss(self.target, output["logits"], labels)
        return losses.frame_loss(self.target, output["frame_logits"], labels, output["frames_used"])


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return the two streams for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: less than two of the roles that there are.
    """
    if sum(role in features for role in STREAMS) < 2:
        raise ValueError(
            f"two_stream needs at least two of the roles {', '.join(STREAMS)}, found "
            f"{sorted(features)}: name features for a person and for the frame around"
        )
    return TwoStream(params, features, len(classes))
