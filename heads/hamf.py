"""HAMF, the hierarchical attention-based multimodal fusion network.

Paper: X. Liu, S. Li and M. Wang, "Hierarchical Attention-Based Multimodal Fusion Network for Video
Emotion Recognition", Computational Intelligence and Neuroscience, vol. 2021, article 5585041.
Equation numbers below are its own.

Roles: any modalities, each a role with rows of one axis; the paper has `face` (fc6 of VGG-Face on
the face crop), `scene` (fc6 of VGG16, Places365) and `image` (fc6 of VGG16, ImageNet), 4096 each.
Beside a role `m` may stand its map `m_map`, rows (C, H, W): pool5 of the same network, 512 x 7 x 7.
Rows of different modalities need not be the same frames. One modality is the single-modality
network of Tables 3, 5 and 7: local attention, then the classifier.

    local, of each modality m:
        m_map M_j -> convolutions L1, L2 or L3 -> one cell s_j -+
        m     x_j ----------------------------------------------+-> X_m = sum s_j x_j / sum s_j
              x_j -> tiny FC network, a softmax a frame
    global:
        X_m -> FC layers G1, G2 or G3, one cell alpha_m -> softmax over m -+
        X_m ---------------------------------------------------------------+-> F -> FC, FC -> class

Without its map, a modality's score comes from the fc6 row x_j by as many fully connected layers,
with ReLU, and one cell.

A frame counts for a modality where it has a row of it; where it has that and no map, a learned
vector stands at every place of the map. A modality that a video lacks is left out of the softmax;
a video that lacks all has a learned vector in place of F.

Phases: `local` trains the frame networks and the scores of all modalities, `global` the rest on
what the frozen local networks give, once (`training: joint` for both at once). The accuracy of the
phase `local` is that of a classifier that is not trained yet.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- The backbones are not fine-tuned on the data set: features are read as they were extracted, and
  standardised (`train.standardise: none` for the raw activations). The per-frame softmax, which
  the paper fine-tunes them with, trains the tiny FC network alone.
- So that this network matters, it also classifies the aggregated X_m, and that trains the scores
  beside the triplet loss (`video_weight`; 0 is the paper).
- Kernel and channels of the local convolutions are not given: 3 x 3 with padding and 128
  (`local_kernel`, `local_channels`); nor is the width of the FC layers that stand for them without
  a map, 512 (`local_hidden`).
- Eq. 3 has no activation after the second convolution of L2; in L3 a bracket is out of place, so
  that b_2 and b_3 go together into the second activation, b_0 into the last, and the cell has no
  bias. Here every convolution has its bias and a ReLU, and the cell its own (`literal_eq3: true`
  for eq. 3 as printed).
- Scores of eq. 2 have no bounds and eq. 4 is a plain sum. Here they pass a sigmoid and are divided
  by their sum, as in QAN, which the paper builds on, and in the authors' CAAN
  (`frame_normalise: none` for eq. 4 as printed).
- The triplet loss has no hinge, no mining, and a "very small" delta: margin 0.2 on normalised X_m
  with a hinge, over all triplets of a batch (`margin`, `mining`, `triplet_hinge`,
  `triplet_normalise`). The losses of the modalities are added.
- alpha of eqs. 7 and 8 is not normalised, but the scores of Figure 5 sum to 1: a softmax over the
  modalities (`modality_normalise: none` for alpha itself).
- W_i^g has the index of a modality and b has none, yet "permuting the rows of the matrix cannot
  affect the results": here each modality has weights and biases of its own (`global_shared:
  biases` for the index as printed, `all` for the sentence).
- Eq. 9 multiplies X with G(X), which has X in it already: F = sum alpha_i X_i (`fusion: sum`).
  `fusion: product` is eq. 9 as printed, the M x M products of X_i and alpha_k X_k;
  `fusion: concat` is eq. 6 as F, and with `global_attention: none` the MF of Table 7 but for the
  factor 1/M.
- Hidden sizes of G2 and G3, of the tiny FC network and of the classifier are not given, nor is
  dropout (`global_hidden`, `frame_hidden`, `hidden`, `dropout`).
- The paper takes as many frames of a video as there are faces. Here each modality takes all rows
  that it has.
- The paper's modalities have the same size. A smaller one passes a linear layer to the largest
  size before the global attention; this one belongs to its modality even with `global_shared`.
- The paper tells one of several classes. Of labels and dimensions everything is trained by the
  target's own loss, and the triplet loss, which needs classes, is left out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from heads import Attention, Reported, Roles, Rows
from heads.layers import losses
from heads.layers.aggregation import (
    Activation,
    absent,
    attention_weights,
    hide,
    masked_mean,
    unpack,
    weighted_sum,
)
from heads.layers.checks import check_at_least, check_odd, check_row, check_share, check_trains
from heads.layers.network import Network
from heads.layers.scores import MAP, map_score, row_score
from heads.training.targets import KINDS, Target

Local = Literal["L1", "L2", "L3", "none"]
Global = Literal["G1", "G2", "G3", "none"]

ROLES: frozenset[str] | None = None
ALIGNED: frozenset[str] = frozenset()

_MHED = ("face", "scene", "image")
_OTHERS = ("event", "object", "scene")
_PAPERS = {"local_attention": None, "global_attention": "G2", "fusion": "sum"}

# Top-1 accuracy, as printed. The paper contradicts itself: the text gives 60.08 where Table 7 has
# 63.08; the scene alone is 44.62 in Table 3 and 45.09 in Table 7. In Table 5 every accuracy with
# attention under "Ekman" is a multiple of 1/367, the test videos of VideoEmotion-8, and every one
# under "VideoEmotion-8" of 1/818, those of Ekman-6: those columns look swapped. So do the rows G1
# and G3 of Table 6, but not its G2. Tables 6 and 9 do not name their modalities: Table 5 has event,
# object and scene, and the method of section 4, to which "ours" of Table 9 refers, face, scene and
# image. What the tables have without attention stands in heads/pooling.py.
REFERENCE: Sequence[Reported] = (
    *(
        Reported("HAMF", "Table 3", "MHED", f"{role}, {local}", (role,), accuracy, params)
        for local, accuracies in (
            ("L1", (0.5514, 0.4439, 0.4603)),
            ("L2", (0.5794, 0.4462, 0.4299)),
            ("L3", (0.5467, 0.4392, 0.4462)),
        )
        for role, accuracy in zip(_MHED, accuracies, strict=True)
        for params in ({"local_attention": local},)
    ),
    *(
        Reported("HAMF", "Table 4", "MHED", layers, _MHED, accuracy, params)
        for layers, accuracy in (("G1", 0.6215), ("G2", 0.6308), ("G3", 0.6192))
        for params in ({"local_attention": None, "global_attention": layers},)
    ),
    *(
        Reported("HAMF", "Table 5", data, f"{role}, {local}", (role,), accuracy, params)
        for local, accuracies in (
            ("L1", (0.4414, 0.4142, 0.4441, 0.5134, 0.4988, 0.4914)),
            ("L2", (0.4578, 0.4114, 0.4469, 0.5318, 0.4963, 0.4939)),
            ("L3", (0.4523, 0.4033, 0.4360, 0.5281, 0.4890, 0.4902)),
        )
        for (data, role), accuracy in zip(
            ((data, role) for data in ("Ekman-6", "VideoEmotion-8") for role in _OTHERS),
            accuracies,
            strict=True,
        )
        for params in ({"local_attention": local},)
    ),
    *(
        Reported("HAMF", "Table 6", data, name, _OTHERS, accuracy, params)
        for name, accuracies, params in (
            ("G1", (0.5668, 0.5269), _PAPERS | {"global_attention": "G1"}),
            ("G2", (0.577, 0.5313), _PAPERS),
            ("G3", (0.5531, 0.5171), _PAPERS | {"global_attention": "G3"}),
        )
        for data, accuracy in zip(("Ekman-6", "VideoEmotion-8"), accuracies, strict=True)
    ),
    *(
        Reported(
            "HAMF",
            "Table 7",
            "MHED",
            f"{role}, attention",
            (role,),
            accuracy,
            {"local_attention": None},
        )
        for role, accuracy in zip(_MHED, (0.5794, 0.4509, 0.4603), strict=True)
    ),
    Reported("HAMF", "Table 7", "MHED", "fusion, attention", _MHED, 0.6308, _PAPERS),
    Reported("HAMF", "Table 8", "MHED", "ours", _MHED, 0.6308, _PAPERS),
    Reported("HAMF", "Table 9", "Ekman-6", "ours", _MHED, 0.577, _PAPERS),
    Reported("HAMF", "Table 9", "VideoEmotion-8", "ours", _MHED, 0.5313, _PAPERS),
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of HAMF.

    Attributes:
        local_attention: score network of a frame, `L1` to `L3` (eqs. 2 and 3) or `none` (every
            frame counts the same): one for all modalities, or a mapping that names every modality;
            null is the paper's choice, L1 for `image` and L2 for every other.
        local_channels: channels of its convolutions (not given in the paper).
        local_kernel: height and width of their kernels, odd (not given in the paper).
        local_hidden: neurons of each FC layer in place of a convolution, where there is no map.
        literal_eq3: L2 and L3 exactly as eq. 3 is printed.
        frame_normalise: what becomes of the scores of a video's frames before eq. 4: `sigmoid_sum`
            is a sigmoid, divided by the sum; `softmax`; `none` is eq. 4 as printed.
        frame_hidden: neurons of the tiny FC network (not given in the paper).
        frame_weight: weight of its cross-entropy over frames.
        triplet_weight: weight of the triplet loss on X_m.
        video_weight: weight of the cross-entropy of the tiny FC network on X_m (paper: 0).
        margin: margin of the triplet loss, in squared distance.
        mining: which triplets of a batch count, `all` or the `hard` one of each anchor.
        triplet_hinge: bound each triplet at 0 from below (eq. 1 has no bound).
        triplet_normalise: compare X_m at length 1 (eq. 1 does not say).
        global_attention: score network of a modality, `G1` to `G3` (eqs. 7 and 8), or `none`
            (every modality counts the same).
        global_hidden: neurons of its first and second hidden layer (not given in the paper).
        global_shared: what the modalities share of it: `none`, the `biases`, or `all`, so that
            the order of the modalities means nothing.
        modality_normalise: what becomes of alpha: `softmax` over the modalities that a video has,
            or `none`.
        fusion: F as the `sum` of alpha_i X_i, their concatenation (`concat`), or the `product` of
            eq. 9 as printed.
        hidden: neurons of the first of the two last FC layers (not given in the paper).
        dropout: share of the hidden neurons that are dropped in training, of the last FC layers
            and of the tiny FC network (not given in the paper).
        training: `separate` local and global phases (paper), or one `joint` phase.
    """

    local_attention: Local | dict[str, Local] | None = None
    local_channels: int = 128
    local_kernel: int = 3
    local_hidden: int = 512
    literal_eq3: bool = False
    frame_normalise: Literal["sigmoid_sum", "softmax", "none"] = "sigmoid_sum"
    frame_hidden: int = 512
    frame_weight: float = 1.0
    triplet_weight: float = 1.0
    video_weight: float = 1.0
    margin: float = 0.2
    mining: losses.Mining = "all"
    triplet_hinge: bool = True
    triplet_normalise: bool = True
    global_attention: Global = "G2"
    global_hidden: tuple[int, int] = (512, 128)
    global_shared: Literal["none", "biases", "all"] = "none"
    modality_normalise: Literal["softmax", "none"] = "softmax"
    fusion: Literal["sum", "concat", "product"] = "sum"
    hidden: int = 1024
    dropout: float = 0.5
    training: Literal["separate", "joint"] = "separate"

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        sizes = ("local_channels", "local_hidden", "frame_hidden", "global_hidden", "hidden")
        check_at_least(self, 1, *sizes)
        check_at_least(self, 0, "frame_weight", "triplet_weight", "video_weight")
        check_odd(self, "local_kernel")
        check_share(self, "dropout")
        if self.training == "separate" and max(self.triplet_weight, self.video_weight) == 0:
            raise ValueError(
                "triplet_weight or video_weight must be above 0, for nothing else trains the local "
                "attention when training is 'separate', found 0 for both"
            )

    def local_of(self, modality: str) -> Local:
        """Return the score network of a modality's frames."""
        if self.local_attention is None:
            return "L1" if modality == "image" else "L2"
        if isinstance(self.local_attention, dict):
            return self.local_attention[modality]
        return self.local_attention

    def resolved(self, roles: Collection[str]) -> "Params":
        """Return these settings with the score network of every modality among `roles` named."""
        named = {name: self.local_of(name) for name in _modalities(roles)}
        return replace(self, local_attention=named)


class HAMF(Network):
    """Local attention over the rows of each modality, global attention over modalities.

    Input rows are float32 of any scale; see `heads.training.standardise` for their standardisation.
    """

    kinds = KINDS

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.params = params
        self.modalities = _modalities(features)
        self.attended = [name for name in self.modalities if params.local_of(name) != "none"]
        self.score, self.frames = nn.ModuleDict(), nn.ModuleDict()
        self.absent_map = nn.ParameterDict()
        for name in self.attended:
            size = features[name][0]
            shape = features.get(name + MAP)
            self.score[name] = _local_score(shape or (size,), params.local_of(name), params)
            if shape is not None:
                self.absent_map[name] = absent(shape[0], 1, 1)
            if params.frame_weight or params.video_weight:
                self.frames[name] = _two_layers(size, params.frame_hidden, classes, params.dropout)
        sizes = {name: features[name][0] for name in self.modalities}
        size, several = max(sizes.values()), len(sizes)
        self.project = nn.ModuleDict(
            {name: nn.Linear(own, size) for name, own in sizes.items() if own != size}
        )
        single = several == 1
        self.importance = (
            None
            if single or params.global_attention == "none"
            else _Importance(size, several, params)
        )
        self.fusion = "sum" if single else params.fusion
        fused = {"sum": size, "concat": several * size, "product": several**2}[self.fusion]
        self.absent = nn.ParameterDict({"video": absent(fused)})
        self.classifier = _two_layers(fused, params.hidden, classes, params.dropout)
        attention: dict[str, Attention] = {f"{name}_scores": Rows(name) for name in self.attended}
        if self.importance is not None:
            attention["modality_scores"] = Roles(tuple(self.modalities))
        self.attention = attention

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, D), a map (B, T, C, H, W); T of its own in each
                modality, the same in its map.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes); `fused` (B, size), F; with several modalities and a global
            attention `modality_scores` (B, M), alpha after its normalisation, 0 for a modality
            that the video lacks. Of each modality `m`: `m_video` (B, D), X_m, zeros where the
            video lacks it; and where it has local attention `m_scores` (B, T), s_j after their
            normalisation, 0 on masked rows, `m_mask` (B, T), and, with a tiny FC network,
            `m_frame_logits` (B, T, classes) and `m_video_logits` (B, classes).
        """
        output: dict[str, Tensor] = {}
        for name in self.modalities:
            output |= self._aggregate(name, features, mask)
            if name in self.frames:
                rows = self.frames[name](features[name][mask[name]])
                output[f"{name}_frame_logits"] = unpack(rows, mask[name])
                output[f"{name}_video_logits"] = self.frames[name](output[f"{name}_video"])
        return output | self.resume(output | {"present": self._present(mask)})

    def frozen(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor], phase: str
    ) -> dict[str, Tensor]:
        """Return every `m_video` (B, D) and `present` (B, M) bool in `global`, else nothing."""
        if phase != "global":
            return {}
        outputs = {"present": self._present(mask)}
        for name in self.modalities:
            video = f"{name}_video"
            outputs[video] = self._aggregate(name, features, mask)[video]
        return outputs

    def resume(self, frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `fused`, `modality_scores` and `logits`, see `forward`."""
        output: dict[str, Tensor] = {}
        present = frozen["present"]  # (B, M)
        x = torch.stack([self._project(name, frozen) for name in self.modalities], dim=1)
        x = hide(x, present)  # (B, M, D), eq. 5
        if self.importance is None:
            weights = present.to(x.dtype) / present.sum(dim=1, keepdim=True).clamp(min=1)
        else:
            alpha = self.importance(x)  # eqs. 7, 8
            if self.params.modality_normalise == "softmax":
                weights = attention_weights(alpha, present, "softmax")
            else:
                weights = hide(alpha, present)
            output["modality_scores"] = weights
        fused = self._fuse(x, weights)
        fused = torch.where(present.any(dim=1, keepdim=True), fused, self.absent["video"])
        return output | {"fused": fused, "logits": self.classifier(fused)}

    def aim(self, target: Target) -> None:
        """Take what is to be told.

        Raises:
            ValueError: nothing but the triplet loss, which needs classes, would train the local
                attention.
        """
        if self.attended and self.params.training == "separate":
            check_trains(target, self.params, "video_weight")
        super().aim(target)

    def phases(self) -> dict[str, Sequence[nn.Module]]:
        """Return `local`, then `global`, see this module's docstring.

        Without local attention, or with joint training, there is one phase.
        """
        if not self.attended:
            return {"global": [self]}
        if self.params.training == "joint":
            return {"joint": [self]}
        final = [self.project, self.absent, self.classifier]
        if self.importance is not None:
            final.append(self.importance)
        return {"local": [self.score, self.frames, self.absent_map], "global": final}

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the loss of a phase; of `joint`, the sum of both.

        In `local` that is the weighted sum of the frame, triplet and video losses, added over the
        modalities; in `global` the cross-entropy of `logits`.
        """
        terms = []
        if phase != "local":
            terms.append(losses.video_loss(self.target, output["logits"], labels))
        if phase != "global":
            terms += [self._local_loss(name, output, labels) for name in self.attended]
        return torch.stack(terms).sum()

    def _local_loss(self, name: str, output: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """Return the loss of one modality over the videos that have it, a scalar."""
        params, mask = self.params, output[f"{name}_mask"]
        present = mask.any(dim=1)
        video, labels_present = output[f"{name}_video"][present], labels[present]
        loss = params.triplet_weight * losses.target_triplet(
            self.target,
            video,
            labels_present,
            margin=params.margin,
            mining=params.mining,
            hinge=params.triplet_hinge,
            normalise=params.triplet_normalise,
        )
        if params.frame_weight:
            logits = output[f"{name}_frame_logits"]
            loss = loss + params.frame_weight * losses.frame_loss(self.target, logits, labels, mask)
        if params.video_weight:
            # The mean over the videos that have the modality, 0 where none has.
            logits = output[f"{name}_video_logits"].unsqueeze(1)
            present = present.unsqueeze(1)
            loss = loss + params.video_weight * losses.frame_loss(
                self.target, logits, labels, present
            )
        return loss

    def _present(self, mask: Mapping[str, Tensor]) -> Tensor:
        """Return (B, M) bool: which modalities each video has."""
        return torch.stack([mask[name].any(dim=1) for name in self.modalities], dim=1)

    def _aggregate(
        self, name: str, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return X_m of one modality and the weights that made it."""
        real = mask[name]
        rows = hide(features[name], real)
        if name not in self.score:
            return {f"{name}_video": masked_mean(rows, real)}
        scored = features[name][real]  # (N, D), N real rows of the whole batch
        if name in self.absent_map:
            seen = mask[name + MAP][real].reshape(-1, 1, 1, 1)
            scored = torch.where(seen, features[name + MAP][real], self.absent_map[name])
        scores = unpack(self.score[name](scored)[:, 0], real)  # (B, T), eqs. 2, 3
        if self.params.frame_normalise == "none":
            weights = scores
        else:
            names: dict[str, Activation] = {"sigmoid_sum": "sigmoid", "softmax": "softmax"}
            weights = attention_weights(scores, real, names[self.params.frame_normalise])
        video = weighted_sum(rows, weights)  # eq. 4
        return {f"{name}_video": video, f"{name}_scores": weights, f"{name}_mask": real}

    def _project(self, name: str, videos: Mapping[str, Tensor]) -> Tensor:
        """Return X_m in the size that all modalities have: (B, size)."""
        video = videos[f"{name}_video"]
        return self.project[name](video) if name in self.project else video

    def _fuse(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return F from X (B, M, D) and alpha (B, M): (B, size), eqs. 6 and 9."""
        if self.fusion == "sum":
            return weighted_sum(x, weights)
        weighted = x * weights.unsqueeze(2)  # G(X), eq. 6
        if self.fusion == "concat":
            return weighted.flatten(1)
        return torch.bmm(x, weighted.transpose(1, 2)).flatten(1)


class _Importance(nn.Module):
    """G1, G2 or G3, eqs. 7 and 8, of all modalities at once: (B, M, D) -> alpha (B, M)."""

    def __init__(self, size: int, modalities: int, params: Params):
        super().__init__()
        hidden = params.global_hidden[: int(params.global_attention[1]) - 1]
        own = 1 if params.global_shared == "all" else modalities
        own_biases = modalities if params.global_shared == "none" else 1
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for width in (*hidden, 1):
            # The bounds of nn.Linear.
            bound = 1 / sqrt(size)
            self.weights.append(nn.Parameter(torch.empty(own, width, size).uniform_(-bound, bound)))
            # The softmax cancels a last bias that is the same for all.
            last = len(self.weights) == len(hidden) + 1
            if not (last and own_biases == 1 and params.modality_normalise == "softmax"):
                bias = torch.empty(own_biases, width).uniform_(-bound, bound)
                self.biases.append(nn.Parameter(bias))
            size = width

    def forward(self, x: Tensor) -> Tensor:
        for layer, weight in enumerate(self.weights):
            if layer:
                x = torch.relu(x)
            x = torch.einsum("bmi,moi->bmo", x, weight.expand(x.shape[1], -1, -1))
            if layer < len(self.biases):
                x = x + self.biases[layer]
        return x.squeeze(2)


def _local_score(shape: tuple[int, ...], local: Local, params: Params) -> nn.Sequential:
    """Return L1, L2 or L3, eqs. 2 and 3: rows of `shape`, (N, C, H, W) or (N, D) -> (N, 1)."""
    layers = int(local[1])
    last_relu = not (params.literal_eq3 and local == "L2")
    # As printed, L3's cell has no bias; and a softmax over frames cancels it.
    bias = not (params.literal_eq3 and local == "L3") and params.frame_normalise != "softmax"
    if len(shape) == 1:
        hidden = layers * (params.local_hidden,)
        return row_score(shape[0], hidden, last_relu=last_relu, bias=bias)
    return map_score(
        shape,
        layers * (params.local_channels,),
        kernel=params.local_kernel,
        last_relu=last_relu,
        bias=bias,
    )


def _two_layers(size: int, hidden: int, classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
    )


def _modalities(roles: Collection[str]) -> list[str]:
    return sorted(role for role in roles if not role.endswith(MAP))


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return HAMF for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: roles that do not go together, a wrong shape, or a `local_attention` that does
            not name the modalities.
    """
    modalities = _modalities(features)
    if not modalities:
        raise ValueError(
            f"hamf needs a role with rows of one axis, found {sorted(features)}: "
            "name a feature for one in the experiment's roles"
        )
    if "modality" in modalities:
        raise ValueError("hamf calls its global attention 'modality': name that role otherwise")
    for role in modalities:
        todo = f"a map is a role '<modality>{MAP}' beside its modality"
        check_row("hamf", role, features[role], 1, todo)
    if isinstance(params.local_attention, dict) and sorted(params.local_attention) != modalities:
        raise ValueError(
            f"local_attention must name the modalities {modalities}, "
            f"found {sorted(params.local_attention)}"
        )
    for role in sorted(set(features) - set(modalities)):
        owner = role.removesuffix(MAP)
        if owner not in modalities:
            raise ValueError(
                f"role '{role}' of hamf is the map of a modality '{owner}', found {modalities}: "
                "add it, or rename the map"
            )
        check_row("hamf", role, features[role], axes=3)
        if params.local_of(owner) == "none":
            raise ValueError(
                f"role '{role}' of hamf is read by the local attention of '{owner}', found "
                "local_attention 'none': remove the role"
            )
    return HAMF(params, features, len(classes))
