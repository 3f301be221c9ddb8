"""RetinaFace beside the package of ternaus's weights, and beside a composition in NumPy.

The package's release 0.0.7 pads each picture to a square, the last commit of its repository does
not, and neither do we. So the release is the oracle for squares, and for other frames the package's
transform and network without the padding.
"""

import os
import warnings
from collections.abc import Iterator

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the package index for news

import albumentations
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from retinaface import predict_single

from features.detectors import retinaface
from features.detectors.retinaface import Options, RetinaFace
from features.weights import seeding
from tests.parity import Certificate

Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

CALM = {"ternaus": 0.15, "facexlib": 0.002}
"""Random heads draw offsets of many anchors and scores of 1; so much of them is like real ones."""


def detector(options: Options) -> RetinaFace:
    """Return a detector with seeded weights that finds many a face, of many scores."""
    network = retinaface.build(options)
    assert isinstance(network, RetinaFace)
    seeding.initialise(network, 3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "Head" in name:
                parameter.mul_(CALM[options.weights or retinaface.SEEDED])
    return network


def published(network: RetinaFace, max_size: int) -> predict_single.Model:
    """Return the package's model with the weights of ``network``."""
    with warnings.catch_warnings():  # it builds its ResNet in a way that torchvision deprecates
        warnings.simplefilter("ignore", UserWarning)
        model = predict_single.Model(max_size=max_size)
    model.load_state_dict(network.network.state_dict())
    model.eval()
    return model


def biubug6_input(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return biubug6's input, (H, W, 3), of a frame that needs no resizing."""
    return frame[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)


def ternaus_input(frame: NDArray[np.uint8], max_size: int) -> NDArray[np.float32]:
    """Return what the package's own transform makes of a frame: (h, w, 3), before any padding."""
    transform = albumentations.Compose(
        [albumentations.LongestMaxSize(max_size=max_size, p=1), albumentations.Normalize(p=1)]
    )
    prepared: NDArray[np.float32] = transform(image=frame)["image"]
    return prepared


def composed(
    network: RetinaFace, inputs_HWC: NDArray[np.float32], min_score: float, most: float
) -> Found:
    """Detect on prepared input, as it is: boxes, scores, landmarks, in pixels of the input.

    Softmax, anchors, decoding and suppression are written out here. So do biubug6's detect.py and
    ternaus's predict_single.py at b72317d, which pads nothing.
    """
    with torch.no_grad():
        batch = torch.from_numpy(inputs_HWC.transpose(2, 0, 1)[None].copy())
        offsets, logits, points = (out[0].double().numpy() for out in network.network(batch))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = exponents[:, 1] / exponents.sum(axis=1)
    height, width = inputs_HWC.shape[:2]
    anchors = []
    for step, sides in zip((8, 16, 32), ((16, 32), (64, 128), (256, 512)), strict=True):
        for row in range(-(-height // step)):
            for column in range(-(-width // step)):
                for side in sides:
                    anchors.append(((column + 0.5) * step, (row + 0.5) * step, side, side))
    middle, size = np.split(np.array(anchors, float), 2, axis=1)
    centres = middle + 0.1 * offsets[:, :2] * size
    halves = size * np.exp(0.2 * offsets[:, 2:]) / 2
    boxes = np.hstack([centres - halves, centres + halves])
    landmarks = middle[:, None] + 0.1 * points.reshape(-1, 5, 2) * size[:, None]
    left = [n for n in np.argsort(-scores) if scores[n] > min_score]
    kept: list[int] = []
    while left:
        best, left = left[0], left[1:]
        kept.append(best)
        left = [n for n in left if _overlap(boxes[best], boxes[n]) <= most]
    kept = [n for n in kept if _is_seen(boxes[n], width, height)]
    return (
        boxes[kept].astype(np.float32),
        scores[kept].astype(np.float32),
        landmarks[kept].astype(np.float32),
    )


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return float(shared / (sum(areas) - shared))


def _is_seen(box: NDArray[np.float64], width: int, height: int) -> bool:
    return bool(box[0] < width and box[1] < height and box[2] > 0 and box[3] > 0)


def certificates() -> Iterator[Certificate]:
    """Yield the comparisons."""
    yield from _ternaus_as_released()
    yield from _ternaus()
    yield from _facexlib()


def _ternaus_as_released() -> Iterator[Certificate]:
    """Compare with the release on a square, where its padding adds nothing."""
    frame = skimage.data.astronaut()
    network = detector(Options(min_score=0.6, max_overlap=0.3, max_size=160))
    model = published(network, 160)
    inputs: list[torch.Tensor] = []
    model.model.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    suppress = predict_single.nms

    def nms(boxes: torch.Tensor, scores: torch.Tensor, most: float) -> torch.Tensor:
        keep = suppress(boxes, scores, most)
        seen.append((boxes[keep], scores[keep]))  # before they are rounded
        return keep

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_single, "nms", nms)
        model.predict_jsons(frame, confidence_threshold=0.6, nms_threshold=0.3)
    boxes, scores = (tensor.numpy() for tensor in seen[0])
    shown = [_is_seen(box, 160, 160) for box in boxes]
    found = network.detect(frame)
    pairs = {
        "input": (inputs[0].numpy(), network.prepare(frame[None]).numpy()),
        "boxes": (boxes[shown] * np.float32(512 / 160), found.boxes),
        "scores": (scores[shown], found.scores),
    }
    for name, (reference, ours) in pairs.items():
        yield Certificate(
            "retinaface",
            name,
            "retinaface-pytorch 0.0.7, `predict_jsons`",
            "astronaut, 512 x 512 at 160: a square, which it does not pad; ternaus's input",
            reference,
            ours,
        )


def _ternaus() -> Iterator[Certificate]:
    frame = skimage.data.astronaut()[:, :400]
    network = detector(Options(min_score=0.6, max_overlap=0.3, max_size=160))
    prepared = ternaus_input(frame, 160)
    boxes, scores, landmarks = composed(network, prepared, 0.6, 0.3)
    scale = np.float32(512 / 160)  # 512 x 400 becomes 160 x 125
    found = network.detect(frame)
    pairs = {
        "input": (prepared, network.prepare(frame[None])[0].permute(1, 2, 0).numpy()),
        "boxes": (boxes * scale, found.boxes),
        "scores": (scores, found.scores),
        "landmarks": (landmarks * scale, found.landmarks),
    }
    for name, (reference, ours) in pairs.items():
        yield Certificate(
            "retinaface",
            name,
            "ternaus's commit b72317d, which pads nothing: the package's transform and network, "
            "the rest written out in NumPy",
            "astronaut, 512 x 400 at 160; ternaus's input",
            reference,
            ours,
        )


def _facexlib() -> Iterator[Certificate]:
    frame = skimage.data.astronaut()[40:200, 120:330]
    network = detector(Options(min_score=0.6, max_overlap=0.3, weights="facexlib"))
    reference = composed(network, biubug6_input(frame), 0.6, 0.3)
    found = network.detect(frame)
    ours = (found.boxes, found.scores, found.landmarks)
    for name, other, own in zip(("boxes", "scores", "landmarks"), reference, ours, strict=True):
        yield Certificate(
            "retinaface",
            name,
            "the same network; the rest written out in NumPy",
            "astronaut, 160 x 210; biubug6's input",
            other,
            own,
        )
