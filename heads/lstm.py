"""LSTM, temporal multimodal fusion: one LSTM a role, and a weighted mean of their scores.

Paper: V. Vielzeuf, S. Pateux and F. Jurie, "Temporal Multimodal Fusion for Video Emotion
Classification in the Wild", ICMI 2017, as HAMF describes the rival that it ran: faces pass an LSTM
behind VGG and one behind C3D, fused by a weighted mean. CAAN and RDAM, by the same authors, report
it without saying what they ran, and are taken to mean the same.

Roles: any, each with its own LSTM over its own rows in the order of time. A map (C, H, W) is
averaged over its positions; a row of another number of axes is flattened. The rival's own roles are
`face` (fc6 of VGG-Face) and `motion` (clips of the face through a 3D network).

    x_1, x_2, ... x_T -> LSTM -> h_T -> dropout -> classifier of the role -> p_m
    p = sum_m w_m p_m / sum_m w_m

The LSTM runs over the rows that are real, one after the other. A role without a row in a video
takes no part in the mean; a video without any row has learned scores.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- No size of the LSTM is given: 512 (`units`), one layer, dropout 0.5 (`dropout`).
- What of the LSTM is classified is not said: its last state (`read: mean` for the mean over time).
- How the weights of the mean are found is not said: they are learned on the training videos once
  the LSTMs are trained, in a phase of their own (`training: joint` learns all together, from the
  fused score alone); `weights` sets them instead, 1 for each role is the plain mean.
- The scores are probabilities (`scores: logits` averages what comes before the softmax). They are
  of classes: of labels and dimensions what the last layers give is averaged, with either.
- The original also fuses sound, and features beside scores (so CAAN of it); HAMF names the faces
  alone. Features are read as they were extracted, networks are not fine-tuned, and what they
  give is standardised (`train.standardise: none` for the raw activations).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads import Reported, Roles
from heads.layers import losses
from heads.layers.aggregation import (
    attention_weights,
    hide,
    masked_mean,
    unpack,
    vector_size,
    vectors,
    weighted_sum,
)
from heads.layers.checks import check_at_least, check_share
from heads.layers.network import Network
from heads.training.targets import KINDS

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()

_RIVAL = ("face", "motion")

# HAMF's table calls the row "Barros et al. [22]", which its text does not run; [22] is Vielzeuf et
# al. in CAAN, and the authors' third paper, RDAM, gives the same number to Vielzeuf et al.
REFERENCE: Sequence[Reported] = (
    Reported("HAMF", "Table 8", "MHED", "Barros et al. [22]", _RIVAL, 0.5373),
    Reported("CAAN", "Table 4", "HEIV", "Vielzeuf et al. [22]", _RIVAL, 0.4593),
    Reported("RDAM", "Table 5", "MHED", "Vielzeuf et al. [13]", _RIVAL, 0.5373),
    Reported("RDAM", "Table 5", "HEIV", "Vielzeuf et al. [13]", _RIVAL, 0.4593),
)

_MODALITIES, _FUSION = "modalities", "fusion"


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of the LSTMs and their fusion.

    Attributes:
        units: size of the state of each LSTM (not given in the papers).
        read: what is classified, the `last` state or the `mean` over time.
        dropout: of what is classified (not given in the papers).
        scores: what is averaged over roles, `probabilities` or `logits`.
        weights: role -> its weight in that mean, above 0; null learns them.
        training: `separate` trains each role on its own, then the weights; `joint` trains
            everything on the fused score.
    """

    units: int = 512
    read: Literal["last", "mean"] = "last"
    dropout: float = 0.5
    scores: Literal["probabilities", "logits"] = "probabilities"
    weights: Mapping[str, float] | None = None
    training: Literal["separate", "joint"] = "separate"

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "units")
        check_share(self, "dropout")
        if self.weights is not None and any(weight <= 0 for weight in self.weights.values()):
            raise ValueError(f"weights must be above 0, found {dict(self.weights)}")


class Recurrent(nn.Module):
    """An LSTM over the real rows of a video, and a classifier."""

    def __init__(self, params: Params, size: int, classes: int):
        """Draw fresh weights; `size` is that of a row."""
        super().__init__()
        self.read = params.read
        self.lstm = nn.LSTM(size, params.units, batch_first=True)
        self.dropout = nn.Dropout(params.dropout)
        self.classifier = nn.Linear(params.units, classes)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return logits (B, classes) of rows (B, T, ...), zeros for a video without a real row."""
        count = mask.sum(dim=1)
        longest = int(count.max())
        if longest == 0:
            return rows.new_zeros(len(rows), self.classifier.out_features)
        # Real rows move to the front: an LSTM only looks back, so what follows them is harmless.
        front = torch.arange(longest, device=mask.device) < count.unsqueeze(1)
        states, _ = self.lstm(unpack(vectors(rows)[mask], front))
        if self.read == "last":
            videos = torch.arange(len(rows), device=mask.device)
            state = states[videos, (count - 1).clamp(min=0)]
        else:
            state = masked_mean(states, front)
        return hide(self.classifier(self.dropout(state)), count > 0)


class TemporalFusion(Network):
    """One `Recurrent` a role, and the weighted mean of their scores."""

    kinds = KINDS

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.roles = sorted(features)
        self.scores = params.scores
        self.joint = params.training == "joint"
        self.parts = nn.ModuleDict(
            {role: Recurrent(params, vector_size(features[role]), classes) for role in self.roles}
        )
        # Scores of a video of which nothing is known; logarithms of the weights of the mean.
        self.absent = nn.ParameterDict({"logits": nn.Parameter(torch.zeros(classes))})
        self.fusion = nn.ParameterDict()
        self.log_weights: Tensor
        if params.weights is not None:
            fixed = torch.tensor([params.weights[role] for role in self.roles])
            self.register_buffer("log_weights", fixed.log())
        elif len(self.roles) > 1:
            self.fusion["log_weights"] = nn.Parameter(torch.zeros(len(self.roles)))
            self.attention = {"role_weights": Roles(tuple(self.roles))}

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...) in the order of time, T of its own in each role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes), the logarithm of the mean probabilities, or the mean logits;
            `role_logits` (B, M, classes), zeros where a role is absent, and `present` (B, M) bool,
            roles sorted by name; `role_weights` (B, M), the weights of the mean: 0 where a role
            is absent, else summing to 1 in a video.
        """
        return self.resume(self._parts(features, mask))

    def frozen(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor], phase: str
    ) -> dict[str, Tensor]:
        """Return `role_logits` and `present`, see `forward`, in the phase of the mean's weights."""
        return self._parts(features, mask) if phase == _FUSION else {}

    def _parts(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return what the roles' own networks give: `role_logits` and `present`."""
        parts = [self.parts[role](features[role], mask[role]) for role in self.roles]
        present = torch.stack([mask[role].any(dim=1) for role in self.roles], dim=1)
        return {"role_logits": torch.stack(parts, dim=1), "present": present}

    def resume(self, frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of `forward`."""
        logits, present = frozen["role_logits"], frozen["present"]
        weights = attention_weights(self._log_weights(present), present, "softmax")
        if self.scores == "logits" or self.target.kind != "class":
            fused = weighted_sum(logits, weights)
        else:
            # log sum w p, without the underflow of p.
            logs = weights.masked_fill(~present, 1.0).log().unsqueeze(2)
            logs = logs + functional.log_softmax(logits, dim=2)
            lowest = torch.finfo(logs.dtype).min
            fused = torch.logsumexp(logs.masked_fill(~present.unsqueeze(2), lowest), dim=1)
        anything = present.any(dim=1, keepdim=True)
        return {
            "logits": torch.where(anything, fused, self.absent["logits"]),
            "role_logits": logits,
            "present": present,
            "role_weights": weights,
        }

    def _log_weights(self, present: Tensor) -> Tensor:
        """Return (B, M), the logarithms of the weights of the roles, up to a constant."""
        if "log_weights" in self.fusion:
            learned: Tensor = self.fusion["log_weights"]
            return learned.expand(present.shape)
        if len(self.roles) == 1:
            return torch.zeros(present.shape, device=present.device)
        return self.log_weights.expand(present.shape)

    def phases(self) -> dict[str, Sequence[nn.Module]]:
        """Return the roles' own networks, then the weights of the mean if they are learned."""
        if self.joint:
            return {"all": [self]}
        phases: dict[str, Sequence[nn.Module]] = {_MODALITIES: [self.parts, self.absent]}
        return phases | ({_FUSION: [self.fusion]} if len(self.fusion) else {})

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the cross-entropy of the fused scores, or in `modalities` of each role's own.

        That is the sum over roles of the mean over the videos that have the role, and that of the
        videos that have none.
        """
        if phase != _MODALITIES:
            return losses.video_loss(self.target, output["logits"], labels)
        present = output["present"]
        none = ~present.any(dim=1, keepdim=True)
        total = losses.frame_loss(self.target, output["logits"].unsqueeze(1), labels, none)
        for n in range(len(self.roles)):
            logits, real = output["role_logits"][:, n : n + 1], present[:, n : n + 1]
            total = total + losses.frame_loss(self.target, logits, labels, real)
        return total


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return the LSTMs for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: no role at all, or weights of other roles than these.
    """
    if not features:
        raise ValueError("lstm needs at least one role, found none: name a feature for one")
    if params.weights is not None and set(params.weights) != set(features):
        raise ValueError(
            f"weights of lstm must name the roles {sorted(features)}, found "
            f"{sorted(params.weights)}: give each role a weight, or null to learn them"
        )
    return TemporalFusion(params, features, len(classes))
