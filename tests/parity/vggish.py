"""vggish beside a plain NumPy front end and the paper's network written out by hand."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from features.backbones import vggish
from features.waveform import Waveform
from features.weights import seeding
from tests.parity import Certificate

TONE = "3 s of a 1 kHz sine at 16 kHz"

GOLDEN = {  # numbers of AudioSet's own NumPy code (mel_features.py) on the tone
    "mean": -3.42961870, "deviation": 2.12657734, "least": -4.60116305, "most": 4.81111773,
    "band 0": -4.48313252, "band 1": -4.27083405, "band 2": -4.17064267,
    "band 18": 2.69300255, "band 19": 4.81111773, "band 20": 4.77504440,
}  # fmt: skip


def certificates() -> Iterator[Certificate]:
    """Compare the front end with golden numbers and plain code, and the embedding after it."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 16_000).astype(np.float32)
    ((ours, _),) = vggish.preprocess(Waveform(len(tone), 16_000, [tone]))
    frames = ours.flatten(0, 2).double()
    found = [frames.mean(), frames.std(correction=0), frames.min(), frames.max()]
    found += list(frames[0, [0, 1, 2, 18, 19, 20]])
    yield Certificate(
        backbone="vggish",
        feature="log-mel",
        oracle="AudioSet's mel_features.py: mean, deviation, extremes and six bands",
        input=TONE,
        reference=np.array(list(GOLDEN.values()), np.float32),
        ours=torch.stack(found).float().numpy(),
    )
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    ((ours, _),) = vggish.preprocess(Waveform(len(noise), 16_000, [noise]))
    examples = by_loops(noise)
    network = vggish.build()
    seeding.initialise(network, 0)
    with torch.inference_mode():
        embedding = by_hand(examples, network.state_dict())
        features = network(ours)
    for name, reference, values in (
        ("examples", examples, ours),
        ("embedding", embedding, features["embedding"]),
    ):
        yield Certificate(
            backbone="vggish",
            feature=name,
            oracle="short-time spectrum and mel bands in plain loops; the network layer by layer",
            input="2 s of noise at 16 kHz",
            reference=reference.numpy(),
            ours=values.numpy(),
        )


def by_loops(sound: NDArray[np.float32]) -> Tensor:
    """Return log-mel examples (n, 1, 96, 64) of a 16 kHz sound, from the definition."""
    bins = np.arange(257)
    edges = np.linspace(*(1127 * np.log(1 + np.array([125, 7500]) / 700)), 66)
    place = 1127 * np.log(1 + bins * 16_000 / 512 / 700)
    bands = np.zeros((64, 257))
    for band in range(64):
        low, centre, high = edges[band : band + 3]
        for k in bins[1:]:
            if low < place[k] <= centre:
                bands[band, k] = (place[k] - low) / (centre - low)
            elif centre < place[k] < high:
                bands[band, k] = (high - place[k]) / (high - centre)
    n = np.arange(400)
    transform = np.exp(-2j * np.pi * np.outer(bins, n) / 512) * (
        0.5 - 0.5 * np.cos(np.pi * n / 200)
    )
    frames = []
    for start in range(0, len(sound) - 399, 160):
        magnitude = np.abs(transform @ sound[start : start + 400].astype(np.float64))
        frames.append(np.log(bands @ magnitude + 0.01))
    count = len(frames) // 96
    return torch.from_numpy(np.array(frames[: 96 * count]).reshape(count, 1, 96, 64)).float()


def by_hand(examples: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Return the embedding (n, 128) of examples; the map is flattened row by row, channels last."""
    values = examples
    for number, pools in ((0, True), (3, True), (6, False), (8, True), (11, False), (13, True)):
        weight, bias = (weights[f"features.{number}.{kind}"] for kind in ("weight", "bias"))
        values = functional.conv2d(values, weight, bias, padding=1).relu()
        values = functional.max_pool2d(values, 2) if pools else values
    places = [values[:, :, y, x] for y in range(6) for x in range(4)]
    flat = torch.cat(places, dim=1)
    for number in (0, 2, 4):
        weight, bias = (weights[f"embeddings.{number}.{kind}"] for kind in ("weight", "bias"))
        flat = flat @ weight.T + bias
        flat = flat.relu() if number < 4 else flat
    return flat
