"""VGGish: what the sound track sounds like, one embedding for each 0.96 s.

Paper: Hershey et al. 2017, "CNN architectures for large-scale audio classification"; trained on
YouTube sound, released with AudioSet (Gemmeke et al. 2017). Weights: AudioSet's as converted by
torchvggish v0.1, PCA as published by AudioSet; licence Apache-2.0.

In: a mono waveform at any rate; the front end is :mod:`features.networks.mel`.
Out: ``embedding`` (128,), one row an example; a row's time is the example's start.

Published VGGish features differ in three ways, hence the options: torchvggish ends with a ReLU
and AudioSet's present code does not (here: not); AudioSet's own features are whitened by a PCA;
and those of YouTube-8M's kind are cut to 8 bits after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks import mel
from features.waveform import Waveform
from features.weights.naming import Tensors
from features.weights.record import Companion, Source, Weights, WeightsError

VIEW = "sound"
FEATURES: dict[str, tuple[int, ...]] = {"embedding": (128,)}

RELEASE = "https://github.com/harritaylor/torchvggish/releases/download/v0.1"

PCA_KEYS = {"pca_eigen_vectors": "pca.eigen_vectors", "pca_means": "pca.means"}
"""AudioSet's names of the arrays of its PCA, and our keys."""


def convert_pca(tensors: Tensors) -> dict[str, Tensor]:
    """Give AudioSet's PCA our keys, its means as one row."""
    if set(tensors) != set(PCA_KEYS):
        raise WeightsError(f"expected the arrays {sorted(PCA_KEYS)}, found {sorted(tensors)}")
    converted = {ours: tensors[theirs] for theirs, ours in PCA_KEYS.items()}
    return converted | {"pca.means": converted["pca.means"].reshape(-1)}


WEIGHTS = Weights(
    licence="Apache-2.0",
    sources=(
        Source(
            url=f"{RELEASE}/vggish-10086976.pth",
            sha256="10086976",  # its first digits, in its name
            size_bytes=None,  # its keys are ours
        ),
    ),
    companions=(
        Companion(
            prefix="pca.",
            sources=(
                Source(
                    url="https://storage.googleapis.com/audioset/vggish_pca_params.npz",
                    sha256="4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
                    size_bytes=73_020,
                    convert=convert_pca,
                    reader="numpy",
                ),
            ),
        ),
    ),
)

EMBEDDING_DIM = 128
CHANNELS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")
MAP_HW = (mel.EXAMPLE_FRAMES // 16, mel.BANDS // 16)  # 6, 4 after four pools
HIDDEN_DIM = 4096
QUANTISED_RANGE = 2.0  # PCA values beyond +-2 are cut (vggish_params.py: QUANTIZE_MAX_VAL)


@dataclass(frozen=True)
class Options:
    """What is done to the 128 numbers of the last layer.

    Attributes:
        relu: negative numbers become 0, as in torchvggish.
        pca: AudioSet's PCA with whitening, y = E (x - mean).
        quantise: whole numbers 0..255 for -2..2, rounded down, as AudioSet's code stores them.
    """

    relu: bool = False
    pca: bool = False
    quantise: bool = False

    def __post_init__(self) -> None:
        """Check that the options go together."""
        if self.quantise and not self.pca:
            raise ValueError(
                "vggish options: expected pca: true with quantise: true (the 8 bits cover the "
                "range after the PCA), found pca: false"
            )


def preprocess(
    waveform: Waveform, options: Options = Options()
) -> Iterator[tuple[Tensor, NDArray[np.float64]]]:
    """Yield log-mel examples, float32 (t, 1, 96, 64), and their starts in the sound, seconds (t,).

    There is none where the sound is shorter than one.
    """
    for examples, start_s in mel.examples(waveform):
        yield torch.from_numpy(examples).unsqueeze(1), start_s


def build(options: Options = Options()) -> nn.Module:
    """Return the network, without its weights."""
    return Vggish(options).eval()


class Vggish(nn.Module):
    """The network of VGGish with the keys of torchvggish, and its post-processing."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width in CHANNELS:
            if isinstance(width, int):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        # channels last is about a third faster on a CPU
        self.features = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.embeddings = nn.Sequential(
            nn.Linear(MAP_HW[0] * MAP_HW[1] * channels, HIDDEN_DIM),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN_DIM, EMBEDDING_DIM),
            *([nn.ReLU(inplace=True)] if options.relu else []),
        )
        self.pca = Pca() if options.pca else None
        self.quantise = options.quantise

    def forward(self, examples_TCHW: Tensor) -> dict[str, Tensor]:
        """Return ``embedding`` (T, 128) of examples (T, 1, 96, 64)."""
        map_TCHW = self.features(examples_TCHW)
        map_THWC = map_TCHW.permute(0, 2, 3, 1)  # the original flattens channels last
        embedding_TD = self.embeddings(map_THWC.flatten(1))
        if self.pca is not None:
            embedding_TD = self.pca(embedding_TD)
        if self.quantise:
            embedding_TD = quantised(embedding_TD)
        return {"embedding": embedding_TD}


class Pca(nn.Module):
    """AudioSet's PCA with whitening: y = E (x - mean). The identity until weights are loaded."""

    eigen_vectors: Tensor
    means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("eigen_vectors", torch.eye(EMBEDDING_DIM))
        self.register_buffer("means", torch.zeros(EMBEDDING_DIM))

    def forward(self, embedding_TD: Tensor) -> Tensor:
        """Return (T, 128) of (T, 128)."""
        return (embedding_TD - self.means) @ self.eigen_vectors.T


def quantised(values: Tensor) -> Tensor:
    """Map -2..2 to whole numbers 0..255, rounded down; values beyond are cut."""
    cut = values.clamp(-QUANTISED_RANGE, QUANTISED_RANGE)
    return ((cut + QUANTISED_RANGE) * (255.0 / (2 * QUANTISED_RANGE))).floor()
