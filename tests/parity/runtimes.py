"""OpenVINO beside torch: every network of torch in both runtimes, with the same weights.

The three of VGG-16 up to fc6 are one network; vgg16 stands for them. The detector that is a network
of torch, RetinaFace, goes through one graph for frames of all sizes.
"""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
from skimage import data
from torch import Tensor

from features import backbones
from features.detectors import retinaface
from features.networks import runtimes
from features.weights.seeding import initialise
from tests.conftest import waveform
from tests.parity import Certificate
from tests.parity.retinaface import detector

SAME = ("places365_vgg16", "vggface")
ROWS = 2

ORACLE = "torch; ours by OpenVINO (`engine.runtime`)"


def certificates() -> Iterator[Certificate]:
    """Compare the features of two rows."""
    for name in backbones.names():
        module = backbones.load(name)
        if name in SAME or getattr(module, "ONE_CORE", False):
            continue
        network = module.build()
        initialise(network, 1)
        inputs = rows(module)
        with torch.inference_mode():
            reference = {key: value.numpy() for key, value in network.eval()(inputs).items()}
        ours = runtimes.forward_of(*runtimes.converted(network, inputs))(inputs)
        for feature, values in reference.items():
            yield Certificate(
                backbone=name,
                feature=feature,
                oracle=ORACLE,
                input="two rows of a picture" if module.VIEW != "sound" else "two rows of noise",
                reference=values,
                ours=ours[feature].numpy(),
            )
    yield from _faces()


def _faces() -> Iterator[Certificate]:
    """Compare the faces of a frame of another size than the one that the graph was made with."""
    network = detector(retinaface.Options(min_score=0.6, max_overlap=0.3, max_size=160))
    frame = data.astronaut()[:, :400]
    reference = network.detect(frame)
    rows = network.prepare(data.astronaut()[None, :300])
    network.computed_by = runtimes.forward_of(
        *runtimes.converted(network, rows, retinaface.FREE_AXES)
    )
    ours = network.detect(frame)
    for feature in ("boxes", "scores", "landmarks"):
        yield Certificate(
            backbone="retinaface",
            feature=feature,
            oracle=ORACLE,
            input="astronaut, 512 x 400 at 160",
            reference=getattr(reference, feature),
            ours=getattr(ours, feature),
        )


def rows(module: ModuleType) -> Tensor:
    """Return two rows of network input."""
    if module.VIEW == "sound":
        noise = np.random.default_rng(0).uniform(-1, 1, 32_000).astype(np.float32)
        ((inputs, _),) = module.preprocess(waveform(noise, 16_000))
        return inputs[:ROWS].contiguous()  # type: ignore[no-any-return]
    picture = data.astronaut()
    frames = np.stack([picture[:256, row * 64 : row * 64 + 256] for row in range(ROWS)])
    if "snippets" in module.VIEW:
        frames = frames[:, None].repeat(16, axis=1)
    return module.preprocess(frames)  # type: ignore[no-any-return]
