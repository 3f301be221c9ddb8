"""CAAN, the context-aware attention network.

Paper: X. Liu and M. Wang, "Context-Aware Attention Network for Human Emotion Recognition in
Video", Advances in Multimedia, vol. 2020, article 8843413. Equation numbers below are its own.

Roles: `face` (fc6 of VGG-Face on the face crop, 4096) and `context` (fc6 of VGG16 on the whole
frame, 4096). Both: the fusion network. One of them: the single-modality network; with its
`face_map` or `context_map` (pool5 of the same network, 512 x 7 x 7) the emotion score comes from
convolutions on that map, as in section 5.1, and without it from g_i, as in the fusion network.

    face    x_i -> FC 1024 -+
                            +-> r_i (2048) -> g_i (1024) -+-> classifier, a softmax a frame
    context c_i -> FC 1024 -+                             +-> s_i -> R_V = sum g_i s_i / sum s_i

Rows are frames. A network uses the frames that have a face (`frames: with_face`); a video in which
none has one uses all its frames, with a learned vector in place of the face. Where a modality has
no row at all for a frame in use, or a video has no row, the same learned vectors stand in.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- The backbones are not fine-tuned on the data set: features are read as they were extracted, and
  standardised (`train.standardise: none` for the raw activations). No optimiser, rate or number
  of epochs is given; `affectline preset` takes those of the authors' HAMF.
- Eq. 3 gives a score without bounds and eq. 4 divides by the sum of scores. Here the score passes
  a sigmoid first, so that weights are positive (`score_activation: literal` for none).
- "A fusion layer with 2048 neurons" is read as ReLU(FC 1024) of each modality, concatenated, then
  FC 2048 with ReLU (`fusion_layer: false`: the concatenation alone).
- The size of g_i is not given: 1024 (`feature`). The score is taken from g_i as eq. 3 has it; the
  text also says "from r_i" (`score_input: r`).
- Hidden sizes of the 2FC and 3FC scores are not given: 512, and 512 with 128; ReLU between them.
  The convolutions before a single modality's score are 3 x 3 with 128 channels, padding 1, each
  with a ReLU, as in the authors' later HAMF (`score_kernel`, `score_channels`).
  `score_layers: null` is the paper's own default: 3,
  and 1 for the face alone.
- What lies between the features of a single modality and R_V is not said: here its FC 1024 with
  ReLU and the layer of g_i, two layers as in the fusion network (`single_embedding: false` for the
  layer of g_i alone).
- The triplet loss gives no margin, no mining and no hinge: margin 0.2 on normalised R_V with a
  hinge, over all triplets of a batch (`triplet_hinge`, `triplet_normalise`, `mining`, `margin`).
- The paper trains the softmax on frames and the triplet loss on R_V, and does not say how a video
  is classified. Here the frame classifier is applied to R_V, and that output is trained as well
  (`video_weight`; 0 is the paper's two losses), for otherwise nothing ties scores to classes.
- A video without any face is not dropped (the paper's data has a face in every video).
- The paper tells one of several classes. Of labels and dimensions the frames and R_V are trained by
  the target's own loss, and the triplet loss, which needs classes, is left out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads import Reported, Rows
from heads.layers import losses
from heads.layers.aggregation import (
    Activation,
    absent,
    attention_weights,
    hide,
    unpack,
    weighted_sum,
)
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

MODALITIES = ("face", "context")
MAPS = {name: name + MAP for name in MODALITIES}

ROLES: frozenset[str] | None = frozenset({*MODALITIES, *MAPS.values()})
ALIGNED: frozenset[str] = frozenset({*MODALITIES, *MAPS.values()})

# Top-1 accuracy. Table 2 varies the number of layers; the others have the paper's own, "the default
# in all subsequent experiments". Table 9 of the authors' HAMF repeats Table 6.
_OWN = {"score_layers": None}
REFERENCE: Sequence[Reported] = (
    *(
        Reported("CAAN", "Table 2", "HEIV", f"{name}, {layers}FC", roles, accuracy, params)
        for name, roles, accuracies in (
            ("face", ("face",), (0.4889, 0.4444, 0.4790)),
            ("context", ("context",), (0.4272, 0.4346, 0.4395)),
            ("fusion", MODALITIES, (0.5037, 0.5111, 0.5185)),
        )
        for layers, accuracy in enumerate(accuracies, start=1)
        for params in ({"score_layers": layers},)
    ),
    Reported("CAAN", "Table 3", "HEIV", "face, attention", ("face",), 0.4889, _OWN),
    Reported("CAAN", "Table 3", "HEIV", "context, attention", ("context",), 0.4395, _OWN),
    Reported("CAAN", "Table 3", "HEIV", "fusion, attention", MODALITIES, 0.5185, _OWN),
    Reported("CAAN", "Table 4", "HEIV", "Ours", MODALITIES, 0.5185, _OWN),
    *(
        Reported(paper, table, data, name, MODALITIES, accuracy, _OWN)
        for paper, table, name in (("CAAN", "Table 6", "CAAN"), ("HAMF", "Table 9", "CAAN [37]"))
        for data, accuracy in (("Ekman-6", 0.5623), ("VideoEmotion-8", 0.525))
    ),
)

_MAX_SCORE_LAYERS = 3


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of CAAN.

    Attributes:
        embedding: neurons of the FC layer of each modality (paper: 1024).
        fusion: neurons of the fusion layer, size of r_i, where there are two modalities
            (paper: 2048).
        fusion_layer: put an FC layer on the concatenated embeddings; false takes them as r_i.
        feature: size of g_i, eq. 2 (not given in the paper).
        score_input: what the score network reads, `g` (eq. 3) or `r` (text of section 4.2), where
            it has no map.
        score_layers: layers of the score network, 1 to 3 (1FC to 3FC, Table 2); null is 3, and 1
            for the face alone.
        score_hidden: neurons of the first and second hidden layer of the score network, where it
            has no map (not given in the paper).
        score_channels: channels of the convolutions on a map (not given in the paper).
        score_kernel: height and width of their kernels, odd (not given in the paper).
        single_embedding: a single modality passes FC and ReLU before eq. 2; false leaves them out.
        score_activation: what s_i passes before eq. 4; `literal` for nothing.
        frames: `with_face` uses the frames that have a face (paper), `all` every frame, with the
            learned vector where there is no face.
        frame_weight: weight of the cross-entropy over frames.
        triplet_weight: weight of the triplet loss on R_V.
        video_weight: weight of the cross-entropy of R_V (paper: 0).
        margin: margin of the triplet loss, in squared distance.
        mining: which triplets of a batch count, `all` or the `hard` one of each anchor.
        triplet_hinge: bound each triplet at 0 from below.
        triplet_normalise: compare R_V at length 1.
    """

    embedding: int = 1024
    fusion: int = 2048
    fusion_layer: bool = True
    feature: int = 1024
    score_input: Literal["g", "r"] = "g"
    score_layers: int | None = None
    score_hidden: tuple[int, int] = (512, 128)
    score_channels: int = 128
    score_kernel: int = 3
    single_embedding: bool = True
    score_activation: Activation = "sigmoid"
    frames: Literal["with_face", "all"] = "with_face"
    frame_weight: float = 1.0
    triplet_weight: float = 1.0
    video_weight: float = 1.0
    margin: float = 0.2
    mining: losses.Mining = "all"
    triplet_hinge: bool = True
    triplet_normalise: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        check_at_least(self, 1, "embedding", "fusion", "feature", "score_hidden", "score_channels")
        if self.score_layers is not None and not 1 <= self.score_layers <= _MAX_SCORE_LAYERS:
            raise ValueError(f"score_layers must be 1, 2, 3 or null, found {self.score_layers}")
        check_odd(self, "score_kernel")
        check_weights(self, "frame_weight", "triplet_weight", "video_weight")

    def layers_of(self, roles: Collection[str]) -> int:
        """Return the layers of the score network of these roles."""
        if self.score_layers is not None:
            return self.score_layers
        return 1 if "face" in roles and "context" not in roles else _MAX_SCORE_LAYERS

    def resolved(self, roles: Collection[str]) -> "Params":
        """Return these settings with the number of layers that null stands for."""
        return replace(self, score_layers=self.layers_of(roles))


class CAAN(Network):
    """The attention fusion network, or its single-modality form where one modality is given.

    Input rows are float32 of any scale; see `heads.training.standardise` for their standardisation.
    """

    kinds = KINDS

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.params = params
        self.modalities = [name for name in MODALITIES if name in features]
        single = len(self.modalities) == 1
        self.attention = {"frame_scores": Rows(self.modalities[0])}
        self.map_role = MAPS[self.modalities[0]] if single else None
        if self.map_role not in features:
            self.map_role = None
        self.frames = params.frames
        self.score_activation: Activation = params.score_activation
        self.score_input = params.score_input
        self.embed = nn.ModuleDict()
        self.absent = nn.ParameterDict()
        sizes = {name: features[name][0] for name in self.modalities}
        if params.single_embedding or not single:
            for name, size in sizes.items():
                self.embed[name] = nn.Linear(size, params.embedding)
            sizes = dict.fromkeys(sizes, params.embedding)
        for name, size in sizes.items():
            self.absent[name] = absent(size)
        joined = sum(sizes.values())
        # A single modality has nothing to fuse: its embedding is r_i.
        fused = params.fusion_layer and not single
        self.fusion = nn.Linear(joined, params.fusion) if fused else None
        r_size = params.fusion if fused else joined
        self.feature = nn.Linear(r_size, params.feature)
        layers = params.layers_of(features)
        if self.map_role is not None:
            shape = features[self.map_role]
            self.absent[self.map_role] = absent(shape[0], 1, 1)
            self.score = map_score(
                shape, layers * (params.score_channels,), kernel=params.score_kernel
            )
        else:
            size = params.feature if params.score_input == "g" else r_size
            self.score = row_score(size, params.score_hidden[: layers - 1])
        self.classifier = nn.Linear(params.feature, classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, D), a map (B, T, C, H, W); the same T in every role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes); `video` (B, feature), R_V; `frame_logits` (B, T, classes);
            `frames_used` (B, T) bool; `frame_scores` (B, T), s_i / sum s_j of eq. 4: 0 where a
            frame is not used, else summing to 1 in a video (to 0 in a video without any row).
        """
        used = self._frames_used(mask)
        # One more row, at the end, in which everything is absent: for a video that has no other.
        used = torch.cat([used, ~used.any(dim=1, keepdim=True)], dim=1)  # (B, T + 1)
        embedded = [self._embed(name, features[name], mask[name], used) for name in self.modalities]
        r = torch.cat(embedded, dim=1)  # (N, joined), N frames in use of the whole batch
        if self.fusion is not None:
            r = torch.relu(self.fusion(r))  # eq. 1
        g = self.feature(r)  # eq. 2
        if self.map_role is not None:
            rows, present = _take(features[self.map_role], mask[self.map_role], used)
            rows = torch.where(present[:, None, None, None], rows, self.absent[self.map_role])
            scores = self.score(rows)
        else:
            scores = self.score(g if self.score_input == "g" else r)  # eq. 3
        weights = attention_weights(unpack(scores[:, 0], used), used, self.score_activation)
        g = unpack(g, used)  # (B, T + 1, feature)
        video = weighted_sum(g, weights)  # eq. 4
        return {
            "logits": self.classifier(video),
            "video": video,
            "frame_logits": self.classifier(g[:, :-1]),
            "frames_used": used[:, :-1],
            "frame_scores": weights[:, :-1],
        }

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the weighted sum of the frame, triplet and video losses, a scalar."""
        params = self.params
        frames = losses.frame_loss(
            self.target, output["frame_logits"], labels, output["frames_used"]
        )
        triplets = losses.target_triplet(
            self.target,
            output["video"],
            labels,
            margin=params.margin,
            mining=params.mining,
            hinge=params.triplet_hinge,
            normalise=params.triplet_normalise,
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

    def _frames_used(self, mask: Mapping[str, Tensor]) -> Tensor:
        """Return bool (B, T): the frames that take part in a video."""
        present = torch.stack([mask[name] for name in self.modalities]).any(dim=0)
        if self.frames == "all" or "face" not in mask:
            return present
        faces = mask["face"]
        return torch.where(faces.any(dim=1, keepdim=True), faces, present)

    def _embed(self, name: str, rows: Tensor, mask: Tensor, used: Tensor) -> Tensor:
        """Return float (N, embedding): FC and ReLU of the rows in use, or the absent vector.

        Without `single_embedding` (N, D), the rows themselves.
        """
        taken, present = _take(rows, mask, used)
        embedded = torch.relu(self.embed[name](taken)) if name in self.embed else taken
        return torch.where(present.unsqueeze(1), embedded, self.absent[name])


def _take(rows: Tensor, mask: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Return the N rows in use, zeros where masked, and bool (N,), whether each is real.

    `rows` (B, T, ...) and `mask` (B, T) lack the last column of `used` (B, T + 1).
    """
    mask = functional.pad(mask, (0, 1), value=False)
    rows = torch.cat([rows, rows.new_zeros((rows.shape[0], 1, *rows.shape[2:]))], dim=1)
    present = mask[used]
    return hide(rows[used].unsqueeze(0), present.unsqueeze(0)).squeeze(0), present


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return CAAN for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: roles that do not go together, or a wrong shape.
    """
    modalities = [name for name in MODALITIES if name in features]
    if not modalities:
        raise ValueError(
            f"caan needs the role 'face', 'context' or both, found {sorted(features)}: "
            "name a feature for one of them in the experiment's roles"
        )
    for role in modalities:
        check_row("caan", role, features[role], axes=1)
    for modality, role in MAPS.items():
        if role not in features:
            continue
        if modalities != [modality]:
            raise ValueError(
                f"role '{role}' of caan belongs to a network with '{modality}' alone, "
                f"found {modalities} beside it: remove it"
            )
        check_row("caan", role, features[role], axes=3)
    return CAAN(params, features, len(classes))
