"""resnet18_mfcc beside librosa, and beside VAANet's audio network written out by hand."""

from collections.abc import Iterator

import librosa
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from features.backbones import resnet18_mfcc
from features.backbones.resnet18_mfcc import Options
from features.waveform import Waveform
from features.weights import seeding
from tests.parity import Certificate

RATE_HZ = 22_050
SOUND = "5 s of rising tones and noise at 22.05 kHz, 16 segments"


def certificates() -> Iterator[Certificate]:
    """Compare MFCC, and the pooled map the whole way from the waveform."""
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).normal(size=len(time_s))
    sound = (
        0.3 * np.sin(2 * np.pi * (200 + 150 * time_s) * time_s) + 0.02 * noise * time_s
    ).astype(np.float32)
    # as load(sr=44100) and the rest of VAANet's loader: MFCC, tiled, the first 4096, 16 chunks
    resampled = librosa.resample(sound, orig_sr=RATE_HZ, target_sr=44_100)
    whole = librosa.feature.mfcc(y=resampled, sr=44_100, n_mfcc=32).T
    tiled = np.tile(whole, (4096 // len(whole) + 1, 1))[:4096]
    chunks = torch.stack(torch.from_numpy(tiled).chunk(16))

    network = resnet18_mfcc.build()
    seeding.initialise(network, 0)
    with torch.inference_mode():
        waveform = Waveform(len(sound), RATE_HZ, [sound])
        ((rows, _),) = resnet18_mfcc.preprocess(waveform, Options(pad="code"))
        ours = network(rows)
        pooled = by_hand(chunks[:, None], network.state_dict())
    for name, reference, oracle in (
        ("mfcc", chunks, "librosa.feature.mfcc(sr=44100, n_mfcc=32) of the whole sound, tiled"),
        ("pooled", pooled, "ResNet-18 with a 7x1 first convolution, layer by layer, AvgPool 8x2"),
    ):
        yield Certificate(
            backbone="resnet18_mfcc",
            feature=name,
            oracle=oracle,
            input=SOUND,
            reference=reference.numpy(),
            ours=ours[name].numpy(),
        )


def by_hand(rows: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Write the network of He et al. 2016, figure 3 in the size of 18 layers, out."""

    def norm(values: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            weights[f"{name}.{kind}"].view(1, -1, 1, 1)
            for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (values - mean) / (variance + 1e-5).sqrt() * scale + shift

    values = functional.conv2d(rows, weights["conv1.weight"], stride=(2, 1), padding=(3, 0))
    values = functional.max_pool2d(norm(values, "bn1").relu(), 3, stride=2, padding=1)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            shortcut = values
            if stride == 2:
                projection = weights[f"{name}.downsample.0.weight"]
                shortcut = functional.conv2d(values, projection, stride=2)
                shortcut = norm(shortcut, f"{name}.downsample.1")
            for step in (1, 2):
                kernel = weights[f"{name}.conv{step}.weight"]
                values = functional.conv2d(
                    values, kernel, stride=stride if step == 1 else 1, padding=1
                )
                values = norm(values, f"{name}.bn{step}")
                values = (values if step == 1 else values + shortcut).relu()
    assert values.shape[1:] == (512, 8, 2)
    return functional.avg_pool2d(values, (8, 2)).flatten(1)
