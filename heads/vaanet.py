"""VAANet, the visual-audio attention network with a loss that knows of polarity.

Paper: S. Zhao, Y. Ma, Y. Gu, J. Yang, T. Xing, P. Xu, R. Hu, H. Chai and K. Keutzer, "An
End-to-End Visual-Audio Attention Network for Emotion Recognition in User-Generated Videos", AAAI
2020. Equation numbers below are its own. The authors' code is https://github.com/maysonma/VAANet.

Roles: `visual` (the last map of a 3D ResNet on snippets, conv5: (2048, 4, 4) of `r3d101`, or
(C, L, H, W), of which every position is one of the m) and `audio`: rows of one axis are taken as
they are (`pooled` of `resnet18_mfcc`, 512), rows of two axes (`mfcc` of the same, 256 frames x 32
coefficients) go through a ResNet-18 that is trained with the head. Both, or one of them.

    visual F (t, m, n) -> spatial -> channel-wise -> mean over m -> P -> temporal -> E^V -+
                                                                                          +-> FC
    audio  F^A (t, n') -----------------------------------------------> temporal -> E^A --+

An attention that is switched off has the weight 1 everywhere. `spatial` has the shape of a row's
map and sums to 1 over it, `channel` sums to 1 over the n channels; `temporal` and
`audio_temporal` are the ReLU's weights, from 0 upwards without a bound. Where it shuts every
segment of a video (a short one, most likely), E is 0, and they are.

The temporal matrices are t x t for a t that is fixed when the network is built (`segments`,
`audio_segments`): row j of a video is segment j. Rows that are absent, or that a video has fewer
than t, add nothing to eqs. 8 to 11. A video without a row in a role has a learned vector in
place of E^V or E^A.

Differs from the paper, or fills what it leaves open (every choice is a field of `Params`):

- The equations and the authors' code are not the same network. `form: paper` is eqs. 2 to 11
  literally, `form: code`, the default, is the code: a BatchNorm and a tanh between the two layers
  of every attention, softmax weights times their number (m, n), means in place of the sums of
  eqs. 9 and 11, a bias in the temporal layers, the visual one 1 at the start. We take the code
  for the network of the tables: with both softmaxes the equations make a map m n times smaller
  (8,192 times for 16 places and 512 channels), and nothing behind them makes up for it.
- Before the attention the code has a convolution 2048 -> 512 and, for the audio, a layer
  512 -> 256, both new and trained, of which the paper says nothing (`conv0`, `audio_fc`).
- Eq. 4 transposes F^V, and then nothing would read F^S of eq. 3. As in Figure 2 ("stacked") and in
  the code, the channel-wise attention reads F^S.
- A bias in front of a BatchNorm, which the code has here and there, does nothing and is left out.
- Mean (`pool`): over the rows that a video has, where the code's videos have all t.
- t: 10 for the images; for the sound the paper has the same t, the code 16, and so has
  `resnet18_mfcc` (`audio_segments`).
- The penalty lambda of eq. 13 is not given: 0.5, the code's (`penalty`).
- Where logits are tied, eq. 14 does not say which class is the answer: the first of them in the
  order of the classes, in the loss as in the accuracy.
- The 3D ResNet is not fine-tuned, as in the code and unlike "end-to-end" in the text; there is one
  snippet a segment, drawn once, and no augmentation. Neither is ResNet-18 with `pooled`. With
  `mfcc` it is trained as in the paper: from ImageNet's weights where the experiment says `weights:
  {audio: resnet18_mfcc}`, all but the new first convolution, which that file has from its seed.
- Features are standardised (`train.standardise: none` for the raw maps, as in the code). The
  paper trains with Adam at 0.0002, 32 videos a batch, 150 epochs; rate and batch are settings.
- Polarity is the paper's for its eight emotions; another class has to be listed in `positive` or
  `negative`, or `penalty` must be 0. It must be 0, too, for labels and dimensions, which the paper
  does not tell: they are trained by the target's own loss.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.networks import resnet18
from heads import Reported, Rows
from heads.layers import losses
from heads.layers.aggregation import absent, hide, normalise, unpack, weighted_sum
from heads.layers.checks import check_at_least
from heads.layers.network import Network
from heads.training.targets import KINDS, Target

ROLES: frozenset[str] | None = frozenset({"visual", "audio"})
ALIGNED: frozenset[str] = frozenset()
STARTS: Mapping[str, str] = {"audio": "resnet18_mfcc"}

Form = Literal["code", "paper"]
Pool = Literal["mean", "sum"]

# What null stands for in a form.
_RESCALE: dict[Form, bool] = {"code": True, "paper": False}
_POOL: dict[Form, Pool] = {"code": "mean", "paper": "sum"}
_CONV0: dict[Form, int] = {"code": 512, "paper": 0}
_AUDIO_FC: dict[Form, int] = {"code": 256, "paper": 0}

_PENALTY = 0.5  # lambda of the code, and so of what the tables call PCCE
_TEMPORAL_BIAS = 1.0  # of the visual stream, before training

_VISUAL, _AUDIO, _ALL = ("visual",), ("audio",), ("audio", "visual")
_SPATIAL = {"spatial": True, "channel": False, "temporal": False}
_CHANNEL = _SPATIAL | {"channel": True}
_TEMPORAL = _CHANNEL | {"temporal": True}
_SOUND = {"audio_temporal": True}
_DATA = ("VideoEmotion-8", "Ekman-6")

# Tables 3 and 4, class by class in %, in the order of the alphabet.
_CLASSES: Sequence[Sequence[str]] = (
    ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust"),
    ("Anger", "Disgust", "Fear", "Joy", "Sadness", "Surprise"),
)
_BY_CLASS: Mapping[str, Sequence[Sequence[float]]] = {
    "AT": (
        (11.3, 3.0, 19.1, 46.1, 46.1, 42.4, 74.7, 10.7),
        (32.4, 14.1, 38.5, 28.1, 63.9, 46.5),
    ),
    "VS": (
        (45.4, 27.9, 44.8, 59.5, 49.1, 51.0, 65.1, 35.6),
        (59.9, 44.8, 49.7, 46.2, 35.3, 62.5),
    ),
    "VS+VCW": (
        (46.2, 25.9, 42.8, 63.2, 50.9, 40.2, 67.5, 45.2),
        (58.4, 52.6, 49.2, 46.3, 44.0, 65.1),
    ),
    "VS+VCW+VT": (
        (55.6, 30.8, 37.5, 60.4, 57.7, 50.0, 65.2, 34.6),
        (57.1, 53.1, 48.0, 57.0, 38.7, 65.0),
    ),
    "VS+VCW+VT+AT": (
        (48.2, 24.1, 33.3, 55.9, 55.9, 52.5, 77.1, 35.6),
        (55.1, 50.6, 45.7, 53.7, 50.3, 68.9),
    ),
}


def _by_class(name: str, data: int) -> dict[str, float]:
    """Return class -> accuracy of a row of Table 3 (`data` 0) or 4 (1); nothing of the others."""
    if name not in _BY_CLASS:
        return {}
    pairs = zip(_CLASSES[data], _BY_CLASS[name][data], strict=True)
    return {label: round(per_cent / 100, 3) for label, per_cent in pairs}


# Tables 1 to 5: accuracy over all test videos (what Tables 3 and 4 call "Average" is not the mean
# of their classes). By Table 5, PCCE gains 1.7 points on VideoEmotion-8 with visual attention; the
# text says 1.5.
REFERENCE: Sequence[Reported] = tuple(
    Reported(
        "VAANet",
        f"Table {table}",
        _DATA[at],
        name,
        roles,
        accuracies[at],
        {**params, "penalty": penalty},
        _by_class(name, at),
    )
    for tables, name, roles, params, penalty, accuracies in (
        (("1", "2"), "VAANet", _ALL, _TEMPORAL | _SOUND, _PENALTY, (0.545, 0.553)),
        (("3", "4"), "AT", _AUDIO, _SOUND, _PENALTY, (0.414, 0.372)),
        (("3", "4"), "VS", _VISUAL, _SPATIAL, _PENALTY, (0.517, 0.508)),
        (("3", "4"), "VS+VCW", _VISUAL, _CHANNEL, _PENALTY, (0.526, 0.534)),
        (("3", "4"), "VS+VCW+VT", _VISUAL, _TEMPORAL, _PENALTY, (0.536, 0.545)),
        (("3", "4"), "VS+VCW+VT+AT", _ALL, _TEMPORAL | _SOUND, _PENALTY, (0.545, 0.553)),
        (("5", "5"), "VS+VCW+VT, CE", _VISUAL, _TEMPORAL, 0.0, (0.519, 0.520)),
        (("5", "5"), "VS+VCW+VT, PCCE", _VISUAL, _TEMPORAL, _PENALTY, (0.536, 0.545)),
        (("5", "5"), "VS+VCW+VT+AT, CE", _ALL, _TEMPORAL | _SOUND, 0.0, (0.539, 0.546)),
        (("5", "5"), "VS+VCW+VT+AT, PCCE", _ALL, _TEMPORAL | _SOUND, _PENALTY, (0.545, 0.553)),
    )
    for at, table in enumerate(tables)
)


@dataclass(frozen=True)
class Params:
    """Hyper-parameters of VAANet.

    Attributes:
        form: the authors' `code`, or the equations of the `paper`.
        spatial: weigh the positions of a map, eqs. 2 and 3.
        channel: weigh its channels, eqs. 5 and 6.
        temporal: weigh the segments, eqs. 8 and 9.
        audio_temporal: weigh the segments of the sound, eqs. 10 and 11.
        segments: most rows of `visual` that a video may have, t.
        audio_segments: most rows of `audio` that a video may have (paper: t as well).
        rescale: multiply the weights of eqs. 2 and 5 by their number, so that their mean is 1;
            null for what the form has: code yes, paper no.
        pool: mean or sum over segments in eqs. 9 and 11; null: code mean, paper sum.
        conv0: channels of a 1 x 1 convolution with BatchNorm and ReLU before the visual attention,
            0 for none; null: code 512, paper 0.
        audio_fc: neurons of a layer with BatchNorm and tanh before the audio attention, 0 for
            none; null: code 256, paper 0.
        penalty: lambda of eq. 13; 0 is cross-entropy.
        positive: names of the positive emotions, case aside; more than the data set has will do.
        negative: names of the negative ones.
    """

    form: Form = "code"
    spatial: bool = True
    channel: bool = True
    temporal: bool = True
    audio_temporal: bool = True
    segments: int = 10
    audio_segments: int = 16
    rescale: bool | None = None
    pool: Pool | None = None
    conv0: int | None = None
    audio_fc: int | None = None
    penalty: float = _PENALTY
    positive: tuple[str, ...] = ("anticipation", "joy", "surprise", "trust")
    negative: tuple[str, ...] = ("anger", "disgust", "fear", "sadness")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of its range."""
        check_at_least(self, 1, "segments", "audio_segments")
        check_at_least(self, 0, "conv0", "audio_fc", "penalty")
        both = set(_folded(self.positive)) & set(_folded(self.negative))
        if both:
            raise ValueError(f"a class is either positive or negative, found both: {sorted(both)}")

    def resolved(self, roles: Collection[str]) -> "Params":
        """Return these settings with what null stands for in their form; `roles` change nothing."""
        form = self.form
        return replace(
            self,
            rescale=_RESCALE[form] if self.rescale is None else self.rescale,
            pool=_POOL[form] if self.pool is None else self.pool,
            conv0=_CONV0[form] if self.conv0 is None else self.conv0,
            audio_fc=_AUDIO_FC[form] if self.audio_fc is None else self.audio_fc,
        )


class _Scores(nn.Module):
    """The two layers of every attention, W^1 (W^2 X^T)^T: `each` is the inner, `mix` the outer."""

    def __init__(
        self, size: int, places: int, form: Form, bias: bool = False, kaiming: bool = True
    ):
        """Score `places` vectors of a given size.

        Args:
            size: of a vector.
            places: how many there are.
            form: of the network.
            bias: of the outer layer.
            kaiming: the code draws the inner layers of its visual stream by Kaiming, and leaves
                that of its sound as torch draws it: deviation 0.036 of 256, not 1.41.
        """
        super().__init__()
        self.collapse = nn.Linear(size, 1, bias=False)
        self.mix = nn.Linear(places, places, bias=bias)
        self.norm = None
        if form == "code":
            self.norm = nn.BatchNorm1d(1)
        if form == "code" and kaiming:
            nn.init.kaiming_normal_(self.collapse.weight, mode="fan_out")

    def each(self, vectors: Tensor) -> Tensor:
        """Return a number a vector: (N, L, size) -> (N, L)."""
        scores: Tensor = self.collapse(vectors).squeeze(2)
        if self.norm is None:
            return scores
        return torch.tanh(normalise(self.norm, scores.unsqueeze(1)).squeeze(1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the softmax over places: (N, places, size) -> (N, places)."""
        return torch.softmax(self.mix(self.each(vectors)), dim=1)


class _Segments(nn.Module):
    """Temporal attention and what it pools: eqs. 8 and 9, or 10 and 11."""

    def __init__(self, size: int, places: int, params: Params, weigh: bool, *, visual: bool):
        """Weigh at most `places` segments, `visual` ones or those of the sound."""
        super().__init__()
        self.scores = None
        if weigh:
            has_bias = params.form == "code"
            self.scores = _Scores(size, places, params.form, has_bias, kaiming=visual)
            if visual and has_bias:
                nn.init.constant_(self.scores.mix.bias, _TEMPORAL_BIAS)
        self.pool = _POOL[params.form] if params.pool is None else params.pool
        self.places = places
        self.absent = absent(size)

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return E (B, size) and A (B, T) of packed vectors (N, size) with their mask (B, T)."""
        weights = self.weights(vectors, mask)
        embedding = weighted_sum(unpack(vectors, mask), weights)
        if self.pool == "mean":
            embedding = embedding / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.where(mask.any(dim=1, keepdim=True), embedding, self.absent), weights

    def weights(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return A (B, T): 1 for every real row where there is no attention."""
        if self.scores is None:
            return mask.to(vectors.dtype)
        each = unpack(self.scores.each(vectors.unsqueeze(1)).squeeze(1), mask)
        rows = mask.shape[1]
        # Columns are added, or taken away where no video has a row, to make it t.
        mixed = torch.relu(self.scores.mix(functional.pad(each, (0, self.places - rows))))
        return hide(functional.pad(mixed, (0, rows - self.places)), mask)


class _Visual(nn.Module):
    """The visual stream behind the 3D ResNet."""

    def __init__(self, params: Params, shape: tuple[int, ...]):
        """Draw fresh weights for rows (C, ...) of the given shape."""
        super().__init__()
        self.shape = shape
        self.size, self.places = shape[0], prod(shape[1:])  # n, m
        self.rescale = _RESCALE[params.form] if params.rescale is None else params.rescale
        width = _CONV0[params.form] if params.conv0 is None else params.conv0
        self.conv0 = self.norm0 = None
        if width:
            self.conv0 = nn.Conv1d(self.size, width, kernel_size=1, bias=False)
            nn.init.kaiming_normal_(self.conv0.weight, mode="fan_out")
            self.norm0 = nn.BatchNorm1d(width)
            self.size = width
        m, n, form = self.places, self.size, params.form
        self.spatial = _Scores(n, m, form) if params.spatial else None
        self.channel = _Scores(m, n, form) if params.channel else None
        self.segments = _Segments(n, params.segments, params, params.temporal, visual=True)

    def forward(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return E^V (B, n) of eq. 9, and the attentions by name."""
        maps = rows[mask].flatten(2)  # (N, C, m)
        if self.conv0 is not None and self.norm0 is not None:
            maps = torch.relu(normalise(self.norm0, self.conv0(maps)))
        outputs = {}
        maps = maps.transpose(1, 2)  # F_i, (N, m, n), eq. 1
        if self.spatial is not None:
            weights = self.spatial(maps)  # eq. 2
            outputs["spatial"] = unpack(weights.unflatten(1, self.shape[1:]), mask)
            scale = self.places if self.rescale else 1
            maps = maps * (scale * weights.unsqueeze(2))  # eq. 3
        if self.channel is not None:
            weights = self.channel(maps.transpose(1, 2))  # eqs. 4 and 5
            outputs["channel"] = unpack(weights, mask)
            scale = self.size if self.rescale else 1
            maps = maps * (scale * weights.unsqueeze(1))  # eq. 6
        embedding, weights = self.segments(maps.mean(dim=1), mask)  # eqs. 7 to 9
        return embedding, outputs | {"temporal": weights}


class _Audio(nn.Module):
    """The audio stream, with its ResNet-18 where rows are MFCC."""

    def __init__(self, params: Params, shape: tuple[int, ...]):
        """Draw fresh weights for rows of one axis, or of two: frame, coefficient."""
        super().__init__()
        self.resnet = resnet18.ResNet18() if len(shape) == 2 else None
        self.size = shape[0] if self.resnet is None else resnet18.POOLED_DIM
        width = _AUDIO_FC[params.form] if params.audio_fc is None else params.audio_fc
        self.fc = self.norm = None
        if width:
            self.fc = nn.Linear(self.size, width, bias=False)
            self.norm = nn.BatchNorm1d(width)
            self.size = width
        self.segments = _Segments(
            self.size, params.audio_segments, params, params.audio_temporal, visual=False
        )

    def forward(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return E^A (B, n') of eq. 11, and the attention by name."""
        vectors = rows[mask]
        if self.resnet is not None:
            vectors = self.pooled(self.resnet, vectors)
        if self.fc is not None and self.norm is not None:
            vectors = torch.tanh(normalise(self.norm, self.fc(vectors)))
        embedding, weights = self.segments(vectors, mask)
        return embedding, {"audio_temporal": weights}

    def pooled(self, resnet: nn.Module, chunks: Tensor) -> Tensor:
        """Return (N, 512) of N chunks of MFCC (N, frames, coefficients)."""
        if not len(chunks):
            return chunks.new_zeros(0, resnet18.POOLED_DIM)
        # One chunk has no statistics of a batch: those of training so far stand in.
        resnet.train(self.training and len(chunks) > 1)
        outputs: dict[str, Tensor] = resnet(chunks.unsqueeze(1))
        resnet.train(self.training)
        return outputs["pooled"]


class VAANet(Network):
    """Both streams, or one of them, and the polarity-consistent loss."""

    kinds = KINDS
    positive: Tensor

    def __init__(
        self, params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
    ):
        """Draw fresh weights. `features` is role -> shape of a row, without the time axis."""
        super().__init__()
        self.penalty = params.penalty
        positive, negative = _folded(params.positive), _folded(params.negative)
        known = _folded(classes)
        both = {*positive, *negative}
        self.unknown = [n for n, key in zip(classes, known, strict=True) if key not in both]
        self.most = {"visual": params.segments, "audio": params.audio_segments}
        self.visual = _Visual(params, features["visual"]) if "visual" in features else None
        self.audio = _Audio(params, features["audio"]) if "audio" in features else None
        if self.audio is not None and self.audio.resnet is not None:
            self.starts = {"audio": self.audio.resnet}
        streams = [stream for stream in (self.visual, self.audio) if stream is not None]
        self.classifier = nn.Linear(sum(stream.size for stream in streams), len(classes))
        is_positive = torch.tensor([key in positive for key in known])
        self.register_buffer("positive", is_positive, persistent=False)
        named = {
            "spatial": ("visual", params.spatial),
            "channel": ("visual", params.channel),
            "temporal": ("visual", params.temporal),
            "audio_temporal": ("audio", params.audio_temporal),
        }
        self.attention = {
            name: Rows(role) for name, (role, on) in named.items() if on and role in features
        }

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), T its own in each role.
            mask: role -> bool (B, T), false where there is no such row.

        Returns:
            `logits` (B, classes), and those of these that are switched on: `spatial` (B, T, H, W),
            or with one more axis as a row of `visual` has it; `channel` (B, T, n); `temporal`
            (B, T); `audio_temporal` (B, T of the audio). All are 0 on absent rows.

        Raises:
            ValueError: a video has more rows than t.
        """
        embeddings: list[Tensor] = []
        outputs: dict[str, Tensor] = {}
        for role, stream in (("visual", self.visual), ("audio", self.audio)):
            if stream is not None:
                self._check_rows(role, mask[role])
                embedding, weights = stream(features[role], mask[role])
                embeddings.append(embedding)
                outputs |= weights
        logits = self.classifier(torch.cat(embeddings, dim=1))
        return {"logits": logits} | {name: outputs[name] for name in self.attention}

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the polarity-consistent cross-entropy, eq. 13; of others the target's loss."""
        if self.target.kind != "class":
            return super().loss(output, labels, phase)
        return losses.polarity_cross_entropy(
            output["logits"],
            labels,
            positive=self.positive,
            penalty=self.penalty,
            weights=losses.class_weights(self.target, output["logits"]),
        )

    def aim(self, target: Target) -> None:
        """Take what is to be told.

        Raises:
            ValueError: the loss is to be polarity-consistent, and there are no classes, or one of
                which the polarity is not known.
        """
        if target.kind != "class" and self.penalty > 0:
            raise ValueError(
                "its polarity-consistent loss (eq. 13) needs one of several classes, found the "
                f"target {target.name!r} of kind {target.kind}: set `penalty` to 0 for that "
                "target's plain loss"
            )
        if target.kind == "class" and self.penalty > 0 and self.unknown:
            raise ValueError(
                "its loss needs the polarity of every class, found "
                f"{', '.join(self.unknown)} in neither `positive` nor `negative`: list it in one, "
                "or set `penalty` to 0 for plain cross-entropy"
            )
        super().aim(target)

    def _check_rows(self, role: str, mask: Tensor) -> None:
        """Raise ValueError where a video has a real row behind the last of t."""
        most = self.most[role]
        if mask.shape[1] > most and mask[:, most:].any():
            param = "segments" if role == "visual" else "audio_segments"
            raise ValueError(
                f"role '{role}' of vaanet takes at most {most} rows a video, found "
                f"{mask.shape[1]}: set {param} to the largest number of rows that a video has"
            )


def _folded(names: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def build(
    params: Params, features: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Network:
    """Return VAANet for these roles, with fresh weights.

    Args:
        params: hyper-parameters.
        features: role -> shape of a row, without the time axis.
        classes: names of the emotions, see `Params.positive`.

    Raises:
        ValueError: no role, or a row of a wrong shape.
    """
    wanted = {
        "visual": ((3, 4), "a map (C, H, W) or (C, L, H, W), as 'r3d101/conv5' has"),
        "audio": ((1, 2), "one axis, as 'resnet18_mfcc/pooled' has, or two, as '.../mfcc'"),
    }
    if not set(wanted) & set(features):
        raise ValueError(
            f"vaanet needs the role 'visual', 'audio' or both, found {sorted(features)}: "
            "name a feature for one of them in the experiment's roles"
        )
    for role, (axes, expected) in wanted.items():
        if role in features and len(features[role]) not in axes:
            raise ValueError(
                f"role '{role}' of vaanet takes rows of {expected}, found the shape "
                f"{features[role]}: name another feature for it"
            )
    return VAANet(params, features, classes)
