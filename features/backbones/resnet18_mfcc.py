"""MFCC through a ResNet-18: the audio stream of VAANet, and the MFCC that go into it.

Papers: Zhao et al. 2020, "An end-to-end visual-audio attention network for emotion recognition in
user-generated videos", audio representation extraction; He et al. 2016, "Deep residual learning
for image recognition". Weights: torchvision ``ResNet18_Weights.IMAGENET1K_V1``; licence of code
and weights BSD-3-Clause.

In: a mono waveform at any rate; resampled to 44.1 kHz, 32 MFCC with librosa's defaults, brought
to q frames and cut into t segments.
Out: one row a segment. ``mfcc`` (q/t, 32): frame, coefficient; ``pooled`` (512,), the mean of the
last map (conv5). A row's time is that of its segment's first frame in the sound; where a short
sound is repeated, the time starts again with it, so that times need not ascend.

The network's first convolution is new: 7 frames of one coefficient in place of 7x7 pixels, so no
published file has it. It is drawn from the block's seed, the weights file says so under ``fresh``,
and everything behind it is ImageNet's. VAANet trains all of it with its head: ``pooled`` is what
that training starts from. A head that trains the network itself reads ``mfcc``, and starts from
these weights where its experiment names them (``weights``).

Differs from the paper: q is not in it, 4096 is the code's; nor is how a short sound "pads itself",
here by starting again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks.resnet18 import POOLED_DIM, ResNet18
from features.waveform import Waveform, resampled, spans
from features.weights.naming import Tensors, counted, without
from features.weights.record import Source, Weights

VIEW = "sound"


def convert(tensors: Tensors) -> dict[str, Tensor]:
    """Drop the first convolution of torchvision's file, which is for pictures, and the classifier.

    The one that takes its place is new, see ``fresh``.
    """
    return counted(without(tensors, "conv1", "fc"))


WEIGHTS = Weights(
    licence="BSD-3-Clause",
    notice="resnet18_mfcc: its first convolution is new and random, ImageNet's fill the others",
    sources=(
        Source(
            url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
            sha256="f37072fd",  # its first digits, in its name
            size_bytes=None,
            convert=convert,
        ),
    ),
    fresh=("conv1.weight",),
)

SAMPLE_RATE_HZ = 44_100
WINDOW = 2048  # samples: librosa's defaults, as the two below
HOP = 512  # samples, 0.0116 s
CENTRE = WINDOW // 2  # a frame's time is the middle of its window; zeros are put at both ends
MELS = 128  # bands, librosa's default
COEFFICIENTS = 32


CHUNK = 8192
"""Frames that are computed at a time: an hour of sound must not need its spectrum in memory."""

Pad = Literal["paper", "code"]


@dataclass(frozen=True)
class Options:
    """How a sound becomes rows.

    Attributes:
        segments: rows, t.
        frames: MFCC frames that all rows have together, q; 4096 are 47.6 s. A multiple of
            ``segments``.
        pad: which q frames. ``paper``: the middle of a longer sound; ``code``: its start. Both
            start a shorter sound again and again until there are enough.
    """

    segments: int = 16
    frames: int = 4096
    pad: Pad = "paper"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.pad not in get_args(Pad):
            raise ValueError(
                f"resnet18_mfcc options: pad: expected one of {', '.join(get_args(Pad))}, "
                f"found {self.pad!r}"
            )
        if self.segments < 1 or self.frames < 1 or self.frames % self.segments:
            raise ValueError(
                "resnet18_mfcc options: expected frames to be a multiple of segments, found "
                f"frames {self.frames}, segments {self.segments}"
            )

    @property
    def rows(self) -> int:
        """MFCC frames of one segment, q/t."""
        return self.frames // self.segments


def features(options: Options) -> dict[str, tuple[int, ...]]:
    """Return the features under ``options``, name -> shape without the time axis."""
    return {"mfcc": (options.rows, COEFFICIENTS), "pooled": (POOLED_DIM,)}


FEATURES = features(Options())
AXES = {"mfcc": "L D"}


def preprocess(
    waveform: Waveform, options: Options = Options()
) -> Iterator[tuple[Tensor, NDArray[np.float64]]]:
    """Yield all segments of MFCC at once, float32 (T, 1, q/t, 32), and their starts, seconds (T,).

    T is ``segments``. Nothing comes where there is no sound.

    Raises:
        ValueError: no mono waveform of finite numbers, or no rate.
    """
    if not waveform.samples:
        return
    chosen = taken(1 + length(waveform) // HOP, options)
    first = int(chosen.min())
    coefficients = mfcc(waveform, first, int(chosen.max()) + 1)[chosen - first]
    segments = torch.from_numpy(coefficients).view(-1, 1, options.rows, COEFFICIENTS)
    yield segments, (chosen[:: options.rows] * HOP).astype(np.float64) / SAMPLE_RATE_HZ


def taken(count: int, options: Options) -> NDArray[np.int64]:
    """Return the numbers of the q frames that are taken from a sound of ``count`` frames."""
    longer = max(0, count - options.frames)
    start = longer // 2 if options.pad == "paper" else 0
    return (start + np.arange(options.frames, dtype=np.int64)) % count


def length(waveform: Waveform) -> int:
    """Return how many samples librosa makes of a sound at 44.1 kHz."""
    if waveform.sample_rate_hz <= 0:
        raise ValueError(f"expected a rate above 0, found {waveform.sample_rate_hz} Hz")
    return int(np.ceil(waveform.samples * (SAMPLE_RATE_HZ / waveform.sample_rate_hz)))


def mfcc(waveform: Waveform, first: int, last: int) -> NDArray[np.float32]:
    """Return the MFCC of a sound's frames ``first`` to before ``last``: (last - first, 32).

    The same numbers as ``librosa.feature.mfcc(y=..., sr=44100, n_mfcc=32)`` gives for the whole
    sound at once, which has 1 + M // 512 frames of M samples at 44.1 kHz.
    """
    kept: list[NDArray[np.float32]] = []
    loudest = np.zeros((MELS, 1), np.float32)
    number = 0
    for span in spans(_centred(waveform), WINDOW, HOP, CHUNK):
        mel = librosa.feature.melspectrogram(
            y=span,
            sr=SAMPLE_RATE_HZ,
            n_fft=WINDOW,
            hop_length=HOP,
            center=False,  # done in _centred
            n_mels=MELS,
        )
        frame = int(mel.max(axis=0).argmax())
        if mel[:, frame].max() > loudest.max():
            loudest = mel[:, frame : frame + 1].copy()
        kept.append(mel[:, max(0, first - number) : max(0, last - number)].copy())
        number += mel.shape[1]
    # cut at 80 dB below the whole sound's loudest, which goes along
    decibel = librosa.power_to_db(np.concatenate([*kept, loudest], axis=1))[:, :-1]
    coefficients = librosa.feature.mfcc(S=decibel, n_mfcc=COEFFICIENTS)
    return np.ascontiguousarray(coefficients.T, np.float32)


def _centred(waveform: Waveform) -> Iterator[NDArray[np.float32]]:
    """Yield a sound as librosa has it: of its length at 44.1 kHz, zeros before and after it."""
    left = length(waveform)
    yield np.zeros(CENTRE, np.float32)
    for block in resampled(waveform.blocks, waveform.sample_rate_hz, SAMPLE_RATE_HZ):
        yield block[:left]
        left -= len(block[:left])
    yield np.zeros(left + CENTRE, np.float32)


def build(options: Options = Options()) -> nn.Module:
    """Return the network up to its last map, without its weights."""
    return ResNet18().eval()
