"""MMF, multi-modality fusion of frames, sound and body pose.

Paper: X. Peng, K. Li, J. Li, G. Chen and D. Guo, "Multi-modality Fusion for Emotion Recognition in
Videos", MiGA at IJCAI 2023. Equation numbers below are its own. "The code" below is a public
repository that has this network with these sizes and is most probably the authors'.

Roles, each of them optional, T = 100 rows: `visual` (Swin, 768), `audio` (VGGish, 128), `skeleton`
(BlazePose, 33 landmarks of x, y, z: (33, 3) or (99,)). A row of two axes is flattened.

    visual   -> FC 512 -> transformer encoder -> NeXtVLAD -> V' (512) -+
    audio    -> FC 512 -> transformer encoder -> NeXtVLAD -> A' (512) -+-> F, eq. 1
    skeleton -> FC 512 -> transformer encoder -> NeXtVLAD -> S' (512) -+
    F1 = ReLU(BN(W1 F)) (512), eq. 2; F2 = sigmoid(W3 BN(ReLU(W2 F1))), eq. 3; F1 * F2, eq. 4
    -> MLP

NeXtVLAD is that of `heads/nextvlad.py`. Rows need not be the same frames. A row that is masked
(no person, no sound, padding) neither attends nor is attended to; a modality without any row in a
video has a learned vector in place of V', A' or S'.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- Features are read as they were extracted and standardised (`train.standardise: none` for the raw
  activations).
- The projection and its size are not in the text; 512 as in the code (`width`).
- "The Transformer encoder layer": the code has two of them, with 2048 neurons inside, dropout 0.1
  and a last layer normalisation (`layers: 1` to read it by the letter; `feedforward`, `dropout`,
  `final_norm`).
- Whether rows know their place is not said; sinusoids are added as in the code and as in the
  paper's [5] (`positions: none` for a set of rows). The code attends over the batch and not over
  time, and counts places along the batch, by a swapped axis: not followed.
- The code has 16 clusters; the paper found 4 best (`clusters`). The expansion of NeXtVLAD is not
  given: 2, as its authors have it (`expansion`). Its batch normalisation is over channels, as its
  authors have it, and its residuals are of length 1; the code normalises over frames and by the
  sum of magnitudes.
- The size of W2 F1 is not given: an eighth of F1, as in the code (`reduction`). W1, W2 and W3 have
  no bias, as in the equations.
- "A multi-layer perception": one hidden layer of 512 with ReLU (`hidden`; null for the single
  layer that the code has).
- Frames without a person, and rows after the end of a short video, are masked; the code has zeros
  for the one, and the last frame again, or zeros of sound, for the other.
- Learning rate 1e-4 in the text (Adam, 16 videos, 100 epochs), 1e-3 in the code: see
  `heads.training.loop`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor, nn

from heads import Reported, Rows
from heads.layers.aggregation import absent, normalise, unpack, vector_size, vectors
from heads.layers.checks import check_at_least, check_share
from heads.layers.network import Network
from heads.layers.vlad import NeXtVLAD, check_groups

MODALITIES = ("visual", "audio", "skeleton")

ROLES: frozenset[str] | None = frozenset(MODALITIES)
ALIGNED: frozenset[str] = frozenset()

# Mean of 10 runs. Tables 1 to 3 have their full network in common, with four clusters.
_OWN = {"clusters": 4}
REFERENCE: Sequence[Reported] = (
    Reported("MMF", "Table 1", "VideoEmotion-8", "Ours", MODALITIES, 0.432, _OWN),
    *(
        Reported("MMF", "Table 2", "VideoEmotion-8", f"w/o {lacking} branch", roles, accuracy, _OWN)
        for lacking, accuracy in (("visual", 0.374), ("audio", 0.399), ("skeleton", 0.385))
        for roles in (tuple(name for name in MODALITIES if name != lacking),)
    ),
    Reported("MMF", "Table 2", "VideoEmotion-8", "Ours", MODALITIES, 0.432, _OWN),
    *(
        Reported(
            "MMF",
            "Table 3",
            "VideoEmotion-8",
            f"alpha={clusters}",
            MODALITIES,
            accuracy,
            {"clusters": clusters},
        )
        for clusters, accuracy in ((2, 0.425), (4, 0.432), (8, 0.428), (16, 0.413))
    ),
)

# Longest wave of the sinusoids, in rows over 2 pi (Vaswani et al. 2017, section 3.5).
_LONGEST = 10_000.0


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of MMF.

    Attributes:
        width: size to which rows are projected, of the encoder (not given in the paper).
        positions: what tells the encoder where a row stands: `sinusoidal`, or `none`.
        layers: of the encoder (the paper's wording: 1; the code: 2).
        heads: of its attention (paper: 4).
        feedforward: neurons inside each of its layers (not given in the paper).
        dropout: in the encoder and of its input (not given in the paper).
        final_norm: layer normalisation after the encoder (not in the paper).
        expansion: lambda of NeXtVLAD (not given in the paper).
        groups: G of NeXtVLAD (paper: 8).
        clusters: K of NeXtVLAD, alpha of Table 3 (paper: 4; the code: 16).
        fusion: size of F1 (paper: 512).
        reduction: how many times smaller W2 F1 is than F1 (not given in the paper).
        hidden: neurons of the hidden layer of the MLP (not given in the paper); null for none.
    """

    width: int = 512
    positions: Literal["sinusoidal", "none"] = "sinusoidal"
    layers: int = 2
    heads: int = 4
    feedforward: int = 2048
    dropout: float = 0.1
    final_norm: bool = True
    expansion: int = 2
    groups: int = 8
    clusters: int = 4
    fusion: int = 512
    reduction: int = 8
    hidden: int | None = 512

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        sizes = ("width", "layers", "heads", "feedforward", "expansion", "groups", "clusters")
        check_at_least(self, 1, *sizes, "fusion", "reduction", "hidden")
        check_share(self, "dropout")
        if self.width % self.heads or self.width % 2:
            raise ValueError(
                f"width must be even and a multiple of heads ({self.heads}), found {self.width}"
            )
        check_groups("width", self.width, self.expansion, self.groups)
        if self.fusion < self.reduction:
            raise ValueError(
                f"fusion must be at least reduction ({self.reduction}), found {self.fusion}"
            )


class EncoderLayer(nn.Module):
    """One layer of the encoder of Vaswani et al. 2017, normalisation after each part.

    It works on packed rows, so that a masked row has no influence by construction; the answers in
    training (dropout aside) and in evaluation are the same numbers.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        """Draw fresh weights, as torch's own encoder layer does."""
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.query_key_value.weight)
        nn.init.zeros_(self.query_key_value.bias)
        nn.init.zeros_(self.attended.bias)
        self.attended_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return (N, D): what becomes of the N real rows (N, D) of `mask` (B, T)."""
        rows = self.attended_norm(rows + self.dropout(self._attend(rows, mask)))
        inside = self.dropout(torch.relu(self.expand(rows)))
        normalised: Tensor = self.norm(rows + self.dropout(self.contract(inside)))
        return normalised

    def _attend(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return (N, D): for each row, the values of its video's real rows, weighed."""
        videos, longest = mask.shape
        width = rows.shape[1]
        depth = width // self.heads
        projected = unpack(self.query_key_value(rows), mask)
        projected = projected.reshape(videos, longest, 3, self.heads, depth)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, T, depth) each
        scores = query @ key.transpose(2, 3) / depth**0.5  # (B, heads, T, T)
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~mask[:, None, None, :], lowest)
        weighed = self.dropout(torch.softmax(scores, dim=3)) @ value
        attended: Tensor = self.attended(weighed.transpose(1, 2)[mask].reshape(-1, width))
        return attended


class Encoder(nn.Module):
    """The encoder of one modality: places, layers and a last normalisation."""

    def __init__(self, params: Params):
        """Draw fresh weights."""
        super().__init__()
        self.sinusoidal = params.positions == "sinusoidal"
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(params.width, params.heads, params.feedforward, params.dropout)
            for _ in range(params.layers)
        )
        self.norm = nn.LayerNorm(params.width) if params.final_norm else nn.Identity()

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return (N, D): what becomes of the N real rows (N, D) of `mask` (B, T)."""
        if self.sinusoidal:
            places = sinusoids(mask.shape[1], rows.shape[1], rows.device).to(rows.dtype)
            rows = rows + places.expand(len(mask), *places.shape)[mask]
        rows = self.dropout(rows)
        for layer in self.layers:
            rows = layer(rows, mask)
        normalised: Tensor = self.norm(rows)
        return normalised


def sinusoids(longest: int, width: int, device: torch.device) -> Tensor:
    """Return the encoding of places of Vaswani et al. 2017, section 3.5: float64 (T, D), D even."""
    time = torch.arange(longest, dtype=torch.float64, device=device).unsqueeze(1)
    steps = torch.arange(0, width, 2, dtype=torch.float64, device=device)
    rates = torch.exp(steps * (-log(_LONGEST) / width))
    return torch.stack([torch.sin(time * rates), torch.cos(time * rates)], dim=2).flatten(1)


class MMF(Network):
    """Encoder and NeXtVLAD a modality, fusion by squeeze and excitation, and an MLP."""

    def __init__(self, params: Params, features: Mapping[str, tuple[int, ...]], classes: int):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.modalities = [name for name in MODALITIES if name in features]
        self.attention = {f"{name}_weights": Rows(name) for name in self.modalities}
        self.project = nn.ModuleDict()
        self.encode = nn.ModuleDict()
        self.aggregate = nn.ModuleDict()
        self.absent = nn.ParameterDict()
        joined = 0
        for name in self.modalities:
            self.project[name] = nn.Linear(vector_size(features[name]), params.width)
            self.encode[name] = Encoder(params)
            vlad = NeXtVLAD(
                params.width,
                expansion=params.expansion,
                groups=params.groups,
                clusters=params.clusters,
            )
            self.aggregate[name] = vlad
            self.absent[name] = absent(vlad.size)
            joined += vlad.size
        middle = params.fusion // params.reduction
        self.w1 = nn.Linear(joined, params.fusion, bias=False)
        self.w1_norm = nn.BatchNorm1d(params.fusion)
        self.w2 = nn.Linear(params.fusion, middle, bias=False)
        self.w2_norm = nn.BatchNorm1d(middle)
        self.w3 = nn.Linear(middle, params.fusion, bias=False)
        size = params.fusion
        self.hidden = None
        if params.hidden is not None:
            self.hidden = nn.Linear(size, params.hidden)
            size = params.hidden
        self.classifier = nn.Linear(size, classes)

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), T of its own in each role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes); `fused` (B, fusion), eq. 4; `<role>_weights` (B, T), the group
            attention of NeXtVLAD averaged over groups: in (0, 1), 0 on masked rows, not
            normalised.
        """
        output: dict[str, Tensor] = {}
        descriptors = []
        for name in self.modalities:
            real = mask[name]
            rows = self.project[name](vectors(features[name])[real])
            rows = self.encode[name](rows, real)
            pooled, output[f"{name}_weights"] = self.aggregate[name](rows, real)
            present = real.any(dim=1, keepdim=True)
            descriptors.append(torch.where(present, pooled, self.absent[name]))
        fused = self._fuse(torch.cat(descriptors, dim=1))  # eq. 1
        hidden = fused if self.hidden is None else torch.relu(self.hidden(fused))
        return output | {"fused": fused, "logits": self.classifier(hidden)}

    def _fuse(self, joined: Tensor) -> Tensor:
        """Return (B, fusion), eq. 4, of the concatenated descriptors F."""
        f1 = torch.relu(normalise(self.w1_norm, self.w1(joined)))  # eq. 2
        f2 = torch.sigmoid(self.w3(normalise(self.w2_norm, torch.relu(self.w2(f1)))))  # eq. 3
        return f1 * f2  # eq. 4


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return MMF for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions.

    Raises:
        ValueError: no role that it knows.
    """
    if not any(name in features for name in MODALITIES):
        raise ValueError(
            f"mmf needs one of the roles {', '.join(MODALITIES)} or more, found "
            f"{sorted(features)}: name a feature for one of them in the experiment's roles"
        )
    return MMF(params, features, len(classes))
