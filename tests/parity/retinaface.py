"""RetinaFace beside the package of ternaus's weights, and beside a composition in NumPy."""

import os
import warnings
from collections.abc import Iterator

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the package index for news

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from retinaface import predict_single

from features import retinaface, seeding
from features.retinaface import Options, RetinaFace
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


def composed(network: RetinaFace, frame: NDArray[np.uint8], min_score: float, most: float) -> Found:
    """Detect as biubug6 does, on a frame that needs no resizing: boxes, scores, landmarks.

    Softmax, anchors, decoding and suppression are written out here.
    """
    bgr = frame[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    with torch.no_grad():
        batch = torch.from_numpy(bgr.transpose(2, 0, 1)[None].copy())
        offsets, logits, points = (out[0].double().numpy() for out in network.network(batch))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = exponents[:, 1] / exponents.sum(axis=1)
    height, width = frame.shape[:2]
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
    yield from _ternaus()
    yield from _facexlib()


def _ternaus() -> Iterator[Certificate]:
    frame = skimage.data.astronaut()[:, :400]
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
    boxes = (boxes - np.tile([(160 - 125) // 2, 0], 2)) * 512 / 160  # 512 x 400 becomes 160 x 125
    shown = [_is_seen(box, 400, 512) for box in boxes]
    found = network.detect(frame)
    about = {
        "oracle": "retinaface-pytorch 0.0.7, `predict_jsons`",
        "input": "astronaut, 512 x 400 at 160; input as for ternaus's weights",
    }
    prepared = network.prepare(frame[None])[0].numpy()
    pairs = {
        "input": (inputs[0].numpy(), prepared),
        "boxes": (boxes[shown].astype(np.float32), found.boxes),
        "scores": (scores[shown], found.scores),
    }
    for name, (reference, ours) in pairs.items():
        yield Certificate("retinaface", name, reference=reference, ours=ours, **about)


def _facexlib() -> Iterator[Certificate]:
    frame = skimage.data.astronaut()[40:200, 120:330]
    network = detector(Options(min_score=0.6, max_overlap=0.3, weights="facexlib"))
    reference = composed(network, frame, 0.6, 0.3)
    found = network.detect(frame)
    ours = (found.boxes, found.scores, found.landmarks)
    for name, other, own in zip(("boxes", "scores", "landmarks"), reference, ours, strict=True):
        yield Certificate(
            "retinaface",
            name,
            "the same network; the rest written out in NumPy",
            "astronaut, 160 x 210; input as for biubug6's weights",
            other,
            own,
        )
