"""RDAM, the region dual attention-based method.

Paper: X. Liu, H. Xu and M. Wang, "Region Dual Attention-Based Video Emotion Recognition",
Computational Intelligence and Neuroscience, vol. 2022, article 6096325. Equation numbers below are
its own.

Roles: `face` (res5 of ResNet-50 on the face crop) and `frame` (the same on the whole frame), rows
of (2048, H, W): 28 x 28 for a frame of 224 pixels where the down-sampling is taken out of the last
two stages as in the paper, 7 x 7 in the network as published. One of them is the network of
Tables 1 to 4, both are its two streams.

              +-> location x (H x W) ----> M x ------> conv, tanh -+
    frame M --+                                                    +-> pool, FC -> f_i -> alpha_i
              +-> relation S (HW x HW) --> M + S M --> conv, tanh -+
    video:  F_V = sum alpha_i f_i / sum alpha_i
    face F_V, frame F_V -> concatenation -> FC -> classifier

Each stream has its own rows, its own weights and takes every row that it has. A video without a
row in a stream has a learned vector in place of that stream's F_V.

The relation is of rank one before its softmax: s_ij = b_i c_j of two maps B and C, the outputs
`<role>_relation_query` and `<role>_relation_key`, from which `relation_matrix` gives S exactly.
`<role>_relation` is what each position receives, the mean over i of s_ij. `<role>_location` is x
of eq. 2. Both sum to 1 over the positions of a frame.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- ResNet-50 is not fine-tuned on the data set: maps are read as they were extracted, and
  standardised channel by channel (`train.standardise: none` for the raw ones). Number of frames,
  optimiser, rate and epochs are not given; `affectline preset` takes those of the authors' HAMF.
- Eq. 1 multiplies by M, the map itself, where it must be W: positions are counted row by row.
- Eq. 3 makes the map as many times smaller as it has positions, and has no residual that would
  make up for it; here it is multiplied by their number H W (`location_rescale`).
- Eq. 4 is a softmax over all pairs of positions, and eq. 5 divides each row of it by its sum. Both
  together are a softmax over each row, and this is what is computed: the same numbers, without
  the underflow of a softmax over 614,656 numbers.
- Kernels are not given. All convolutions are 1 x 1, which lets those of eqs. 6 and 7 go before
  the sums of eqs. 3 and 5, on fewer channels, with the same result (a wider kernel would
  have to stand behind the sums, on all 2048, and is no setting); their channels are not given
  either: 512 (`channels`). What moves all scores of a softmax alike has no bias.
- "The fusion features f_n are obtained through a full connection layer" (512, `feature`, without
  activation) says nothing of a pooling. Here that layer reads the mean over positions (`pool:
  none` for the whole map: 400,000 inputs at 28 x 28).
- Eq. 10 has X_i where it must be f_i, and one W a frame where they must share it. It is called
  linear and made of two FC layers; here there is a ReLU between them (`score_relu`), and 128
  neurons in the first (`score_hidden`).
- Eq. 11 divides by a sum of scores without bounds. Here they pass a sigmoid first, so that weights
  are positive (`frame_activation: literal` for none).
- With `attention: none` the map passes the convolution of eq. 6 as it is; `frame_attention: false`
  beside it is the same network without any attention. The paper's "ResNet-50 + average
  aggregation" has not even that convolution and stands in heads/pooling.py.
- "These two features are fused" is all of the two streams: F_V of both, concatenated, then an FC
  layer with 512 neurons and ReLU (`fusion`; null for the concatenation alone).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from heads import Reported, Rows
from heads.layers.aggregation import (
    Activation,
    absent,
    attention_weights,
    masked_mean,
    unpack,
    weighted_sum,
)
from heads.layers.checks import check_at_least, check_row
from heads.layers.network import Network
from heads.layers.scores import row_score

STREAMS = ("face", "frame")

ROLES: frozenset[str] | None = frozenset(STREAMS)
ALIGNED: frozenset[str] = frozenset()

RegionAttention = Literal["none", "location", "relation", "dual"]

# Top-1 accuracy. The bodies of Tables 2, 4 and 6 are missing from the text that we have; they are
# section 4.2's and 4.3's words: a benchmark and gains over it, a related work and a gain over it.
# That Table 6 has two streams as Table 5 is not said. In Table 3 the text has a gain of 3.47 where
# the table has 3.46. Table 7 does not say which streams it has: both, as "ours" of Table 5. The
# benchmark of Tables 1 to 4 stands in heads/pooling.py.
_ABLATION: Sequence[RegionAttention] = ("location", "relation", "dual")
REFERENCE: Sequence[Reported] = (
    *(
        Reported("RDAM", table, data, f"{role}, {attention}", (role,), accuracy, params)
        for table, data, role, accuracies in (
            ("Table 1", "MHED", "frame", (0.4673, 0.4626, 0.4743)),
            ("Table 2", "MHED", "face", (0.5888, 0.5841, 0.5981)),
            ("Table 3", "HEIV", "frame", (0.4469, 0.4419, 0.4568)),
            ("Table 4", "HEIV", "face", (0.4938, 0.4914, 0.5012)),
        )
        for attention, accuracy in zip(_ABLATION, accuracies, strict=True)
        for params in ({"attention": attention, "frame_attention": True},)
    ),
    *(
        Reported("RDAM", table, data, "face and frame, dual", STREAMS, accuracy, params)
        for table, data, accuracy in (
            ("Table 5", "MHED", 0.6589),
            ("Table 5", "HEIV", 0.5309),
            ("Table 6", "Ekman-6", 0.5807),
            ("Table 6", "VideoEmotion-8", 0.5422),
            ("Table 7", "SFEW", 0.6341),
        )
        for params in ({"attention": "dual", "frame_attention": True},)
    ),
)

# Numbers of the relation matrices that are in memory at one time: 32 MiB, 13 frames of 28 x 28.
_RELATION_NUMBERS = 2**23


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of RDAM.

    Attributes:
        attention: over the regions of a frame, `location` (eqs. 1 to 3), `relation` (eqs. 4 and
            5), `dual` for both (paper) or `none`.
        location_rescale: multiply eq. 3 by the number of positions; false as it is written.
        channels: of the convolutions of eqs. 6 and 7 (not given in the paper).
        pool: what the layer of f_i reads, the `average` over positions or, with `none`, the map.
        feature: size of f_i and F_V (not given in the paper).
        frame_attention: weigh the frames of a video, eqs. 10 and 11; false for their mean.
        frame_activation: what alpha_i passes before eq. 11; `literal` for nothing.
        score_hidden: neurons of the first of the two layers of eq. 10 (not given in the paper).
        score_relu: put a ReLU between them; false makes alpha_i linear in f_i, as eq. 10 says.
        fusion: neurons of the layer on the concatenated F_V of two streams (not given in the
            paper); null for none.
    """

    attention: RegionAttention = "dual"
    location_rescale: bool = True
    channels: int = 512
    pool: Literal["average", "none"] = "average"
    feature: int = 512
    frame_attention: bool = True
    frame_activation: Activation = "sigmoid"
    score_hidden: int = 128
    score_relu: bool = True
    fusion: int | None = 512

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "channels", "feature", "score_hidden", "fusion")


def relation_matrix(query: Tensor, key: Tensor) -> Tensor:
    """Return S of eq. 5, s_ij / sum_j s_ij with s_ij = exp(b_i c_j): what i takes from j.

    Args:
        query: B, (..., H, W) float, the output `<role>_relation_query` or a frame of it.
        key: C, the same shape, `<role>_relation_key`.

    Returns:
        (..., H W, H W) float; each row sums to 1. Position (h, w) is number h W + w, eq. 1 from 0.
        Its mean over rows is `<role>_relation`. On a masked frame it means nothing.
    """
    rows, columns = query.flatten(-2), key.flatten(-2)
    return torch.softmax(rows.unsqueeze(-1) * columns.unsqueeze(-2), dim=-1)


def relate(query: Tensor, key: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum_j s_ij m_j, the sum of eq. 5, and the mean over i of s_ij.

    Matrices are made for a few frames at a time, and made again for the gradient.

    Args:
        query: B, (N, H, W) float, N frames.
        key: C, (N, H, W).
        maps: (N, D, H, W).

    Returns:
        (N, D, H, W) and (N, H, W).
    """
    positions = maps.shape[2] * maps.shape[3]
    frames = max(_RELATION_NUMBERS // positions**2, 1)
    parts = [
        checkpoint(_relate, *few, use_reentrant=False, preserve_rng_state=False)
        for few in zip(*(torch.split(x, frames) for x in (query, key, maps)), strict=True)
    ]
    related, received = zip(*parts, strict=True)
    return torch.cat(related), torch.cat(received)


def _relate(query: Tensor, key: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    relation = relation_matrix(query, key)  # (N, HW, HW)
    related = torch.bmm(maps.flatten(2), relation.transpose(1, 2))
    return related.reshape(maps.shape), relation.mean(dim=1).reshape(query.shape)


class Stream(nn.Module):
    """One sequence of frames or of faces: from the maps of a video to its F_V."""

    def __init__(self, params: Params, shape: tuple[int, ...]):
        """Draw fresh weights. `shape` is that of a row, (C, H, W)."""
        super().__init__()
        size, height, width = shape
        self.location = params.attention in ("location", "dual")
        self.relation = params.attention in ("relation", "dual")
        self.location_rescale = params.location_rescale
        self.pool = params.pool
        self.frame_activation: Activation = params.frame_activation
        self.outputs = {"location": 1} if self.location else {}
        if self.relation:
            self.outputs |= {"query": 1, "key": 1, "related": params.channels}
        if params.attention != "relation":
            self.outputs["located"] = params.channels
        # Every convolution on M is 1 x 1: side by side they are one.
        self.convolutions = nn.Conv2d(size, sum(self.outputs.values()), 1, bias=False)
        self.biases = nn.ParameterDict()
        for name in ("query", "related", "located"):
            if name in self.outputs:
                self.biases[name] = nn.Parameter(torch.empty(self.outputs[name], 1, 1))
                nn.init.uniform_(self.biases[name], -(size**-0.5), size**-0.5)  # as nn.Conv2d
        positions = 1 if params.pool == "average" else height * width
        self.feature = nn.Linear(params.channels * positions, params.feature)
        self.score: nn.Module | None = None
        if params.frame_attention:
            self.score = row_score(
                params.feature, (params.score_hidden,), last_relu=params.score_relu
            )
        self.absent = absent(params.feature)

    def forward(self, maps: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return `video` (B, feature), F_V, and the stream's attention, see `RDAM`.

        Args:
            maps: M, float32 (B, T, C, H, W).
            mask: bool (B, T), false where there is no such row: it costs nothing.
        """
        fused, over_regions = self._attend(maps[mask])
        pooled = fused.mean(dim=(2, 3)) if self.pool == "average" else fused.flatten(1)
        packed = self.feature(pooled)  # f_i, (N, feature)
        frames = unpack(packed, mask)
        attention = {name: unpack(values, mask) for name, values in over_regions.items()}
        if self.score is None:
            video = masked_mean(frames, mask)
        else:
            scores = unpack(self.score(packed)[:, 0], mask)  # eq. 10
            weights = attention_weights(scores, mask, self.frame_activation)
            video = weighted_sum(frames, weights)  # eq. 11
            attention["frame_scores"] = weights
        present = mask.any(dim=1, keepdim=True)
        return attention | {"video": torch.where(present, video, self.absent)}

    def _attend(self, maps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of eqs. 6 and 7, and the attention over regions.

        From M (N, C, H, W), the N real frames of the batch, to (N, channels, H, W) and (N, H, W).
        """
        projected = torch.split(self.convolutions(maps), list(self.outputs.values()), dim=1)
        by_name = dict(zip(self.outputs, projected, strict=True))
        attention: dict[str, Tensor] = {}
        branches: list[Tensor] = []
        if "located" in by_name:
            located = by_name["located"]
            if self.location:
                scores = by_name["location"]  # (N, 1, H, W)
                weights = torch.softmax(scores.flatten(1), dim=1).reshape(scores.shape)  # eq. 2
                positions = scores.shape[2] * scores.shape[3]
                rescale = positions if self.location_rescale else 1
                located = located * (rescale * weights)  # eq. 3
                attention["location"] = weights.squeeze(1)
            branches.append(torch.tanh(located + self.biases["located"]))  # eq. 6
        if self.relation:
            query = (by_name["query"] + self.biases["query"]).squeeze(1)
            key = by_name["key"].squeeze(1)
            related, received = relate(query, key, by_name["related"])  # eq. 4
            related = by_name["related"] + related  # eq. 5
            branches.append(torch.tanh(related + self.biases["related"]))  # eq. 7
            attention |= {"relation_query": query, "relation_key": key, "relation": received}
        return torch.stack(branches).sum(dim=0), attention


class RDAM(Network):
    """One stream, or two that are fused. Input maps are float32 of any scale."""

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.streams = nn.ModuleDict(
            {role: Stream(params, features[role]) for role in STREAMS if role in features}
        )
        names = ["location"] if params.attention in ("location", "dual") else []
        if params.attention in ("relation", "dual"):
            names += ["relation", "relation_query", "relation_key"]
        if params.frame_attention:
            names += ["frame_scores"]
        self.attention = {f"{role}_{name}": Rows(role) for role in self.streams for name in names}
        size = len(self.streams) * params.feature
        # A single stream has nothing to fuse.
        fused = params.fusion if len(self.streams) > 1 else None
        self.fusion = nn.Linear(size, fused) if fused is not None else None
        self.classifier = nn.Linear(fused or size, classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, C, H, W), T of its own in each role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes) and for each stream, as its attention has them, 0 on masked rows:
            `<role>_video` (B, feature), F_V; `<role>_location` (B, T, H, W), x of eq. 2;
            `<role>_relation`, `<role>_relation_query`, `<role>_relation_key` (B, T, H, W), see
            the module; `<role>_frame_scores` (B, T), alpha_i / sum alpha_j of eq. 11, summing to
            1 in a video (to 0 in one without any row).
        """
        output: dict[str, Tensor] = {}
        for role, stream in self.streams.items():
            outputs = stream(features[role], mask[role])
            output |= {f"{role}_{name}": value for name, value in outputs.items()}
        video = torch.cat([output[f"{role}_video"] for role in self.streams], dim=1)
        if self.fusion is not None:
            video = functional.relu(self.fusion(video))
        return {"logits": self.classifier(video)} | output


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return RDAM for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: neither of the roles, or a wrong shape.
    """
    streams = [role for role in STREAMS if role in features]
    if not streams:
        raise ValueError(
            f"rdam needs the role 'face', 'frame' or both, found {sorted(features)}: "
            "name a map for one of them in the experiment's roles"
        )
    for role in streams:
        check_row("rdam", role, features[role], 3, "name a map such as resnet50/res5")
    return RDAM(params, features, len(classes))
