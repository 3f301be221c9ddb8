"""RetinaFace: the face detector for faces that are small, turned or many; heavy without a GPU.

Paper: Deng et al. 2020, "RetinaFace: single-shot multi-level face localisation in the wild";
ResNet-50. Weights: biubug6's, as facexlib publishes them, or ternaus's; licence MIT.
The keys of both are the same and the input is not, so each file carries the name of its origin in
the tensor ``origin``, and that decides how frames are prepared:

``facexlib``
    BGR, 0..255, minus (104, 117, 123); frames whose longer side is above ``max_size`` are shrunk.
    https://github.com/biubug6/Pytorch_Retinaface/blob/b984b4b/detect.py
``ternaus``
    RGB, 0..1, ImageNet's mean and deviation; the longer side is brought to ``max_size``, enlarged
    too. https://github.com/ternaus/retinaface/blob/b72317d/retinaface/predict_single.py
    The release 0.0.7 is older than that commit and pads the picture to a square: it is slower, and
    finds other faces in a frame that is none.

It has the WEIGHTS, Options and build of a backbone; its network is used through ``detect_batch``.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from retinaface.box_utils import decode, decode_landm
from retinaface.network import RetinaFace as Network
from retinaface.prior_box import priorbox
from torch import Tensor, nn
from torchvision.ops import nms

from features.faces import Detections
from features.weights.naming import Convert, Tensors, counted
from features.weights.record import Source, Weights, WeightsError

ONE_CORE = False
FREE_AXES = (2, 3)  # height and width

FILES = {
    "detection_Resnet50_Final": "facexlib",
    "Resnet50_Final": "facexlib",  # biubug6's own name for it
    "retinaface_resnet50_2020-07-20": "ternaus",
}
"""How the names of published weights begin, and whose they are."""


def convert_facexlib(tensors: Tensors) -> dict[str, Tensor]:
    """Give the tensors that facexlib publishes our keys, beside whose they are."""
    return _marked(tensors, "facexlib")


def convert_ternaus(tensors: Tensors) -> dict[str, Tensor]:
    """Give ternaus's tensors our keys, beside whose they are."""
    return _marked(tensors, "ternaus")


def convert_unknown(tensors: Tensors) -> dict[str, Tensor]:
    """Take tensors that say whose they are; of others it would be a guess, and none is made.

    Keys and shapes are the same in both, the input is not: a wrong guess would find faces, only
    fewer of them.
    """
    if "origin" in tensors:  # made by this project
        return dict(tensors)
    raise WeightsError(
        "expected a name that tells whose weights these are "
        f"({', '.join(f'{name}...' for name in FILES)}). ternaus's and facexlib's have the same "
        "keys and need different input: say which with `weights: ternaus` or `weights: facexlib` "
        "in the options of the detector's block"
    )


def convert_of(name: str) -> Convert:
    """Return how a file of one's own is converted: its name tells whose it is, or it says so."""
    whose = next((whose for start, whose in FILES.items() if name.startswith(start)), None)
    known = {"facexlib": convert_facexlib, "ternaus": convert_ternaus}
    return known[whose] if whose else convert_unknown


def _marked(tensors: Tensors, origin: str) -> dict[str, Tensor]:
    """Put the network under ``network.``, without ``DataParallel``'s prefix, beside ``origin``."""
    if "origin" in tensors:  # made by this project
        return dict(tensors)
    plain = {f"network.{key.removeprefix('module.')}": value for key, value in tensors.items()}
    mark = torch.frombuffer(bytearray(origin.encode()), dtype=torch.uint8)
    return {**counted(plain), "origin": mark}


ADDRESSES = {
    "facexlib": Source(
        url=(
            "https://github.com/xinntao/facexlib/releases/download/v0.1.0/"
            "detection_Resnet50_Final.pth"
        ),
        sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        size_bytes=109_497_761,
        convert=convert_facexlib,
    ),
    "ternaus": Source(
        url=(
            "https://github.com/ternaus/retinaface/releases/download/0.01/"
            "retinaface_resnet50_2020-07-20-f168fae3c.zip"
        ),
        sha256=None,  # of what the digits in its name are the checksum is not said
        size_bytes=None,
        convert=convert_ternaus,
    ),
}

LANDMARKS = ("right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner")
"""The points of a face, in order; right and left are the person's own."""

MIN_SIZES = [[16, 32], [64, 128], [256, 512]]  # sides of the anchors of each level, pixels
STEPS = [8, 16, 32]  # pixels between the anchors of a level
VARIANCE = [0.1, 0.2]  # scales of the offsets of centres and of sizes
CANDIDATES = 5000  # detections that are compared with each other, and
MOST_FACES = 750  # that are kept at most: biubug6's test_widerface.py
FARTHEST = 1e6  # pixels; random weights put some beyond all numbers

CHUNK = 4
"""Frames that go through the network at once on a GPU; each takes half a gigabyte at 960 x 960."""


@dataclass(frozen=True)
class Preparation:
    """How frames become network input.

    Attributes:
        channels: order of the frame's R, G, B.
        mean: subtracted from each channel (0..255), in that order.
        std: divides it.
        enlarges: a smaller frame is enlarged until its longer side is ``max_size``.
    """

    channels: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    enlarges: bool


PREPARATIONS = {
    "facexlib": Preparation((2, 1, 0), (104.0, 117.0, 123.0), (1.0, 1.0, 1.0), enlarges=False),
    "ternaus": Preparation(
        (0, 1, 2),
        (0.485 * 255, 0.456 * 255, 0.406 * 255),
        (0.229 * 255, 0.224 * 255, 0.225 * 255),
        enlarges=True,
    ),
}
"""By origin of the weights."""

SEEDED = "ternaus"
"""Whose input a network takes that has no weights of anybody."""


@dataclass(frozen=True)
class Options:
    """What counts as a face, and whose weights find it.

    Attributes:
        min_score: a detection's score is above this, 0..1.
        max_overlap: of detections whose intersection over union is above this, one is kept.
        max_size: longest side of a frame in the network, pixels; what is smaller than about 10
            pixels there is not found.
        weights: ``facexlib`` or ``ternaus``. None downloads facexlib's; of a file of one's own it
            takes the origin that its name tells, and asks where it tells none.
    """

    min_score: float = 0.7  # ternaus's defaults
    max_overlap: float = 0.4
    max_size: int = 960
    weights: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (0 <= self.min_score <= 1 and 0 <= self.max_overlap <= 1):
            raise ValueError(f"retinaface options: expected shares in 0..1, found {self}")
        if not 32 <= self.max_size <= 8192:
            raise ValueError(
                f"retinaface options: expected max_size in 32..8192, found {self.max_size}"
            )
        if self.weights is not None and self.weights not in PREPARATIONS:
            raise ValueError(
                f"retinaface options: expected weights: {' or '.join(PREPARATIONS)}, "
                f"found {self.weights!r}"
            )


def weights(options: Options) -> Weights:
    """Return where the weights that ``options`` names come from."""
    if options.weights is None:
        return Weights(licence="MIT", sources=(ADDRESSES["facexlib"],), convert_of=convert_of)
    return Weights(licence="MIT", sources=(ADDRESSES[options.weights],))


WEIGHTS = weights(Options())


def build(options: Options = Options()) -> nn.Module:
    """Return the detector, without its weights."""
    return RetinaFace(options).eval()


class RetinaFace(nn.Module):
    """The network, from frames to faces; whose weights it has is in the buffer ``origin``."""

    origin: Tensor
    points = len(LANDMARKS)
    computed_by: Callable[[Tensor], Mapping[str, Tensor]] | None = None

    def __init__(self, options: Options) -> None:
        super().__init__()
        with warnings.catch_warnings():  # it builds its ResNet in a way that torchvision deprecates
            warnings.simplefilter("ignore", UserWarning)
            self.network = Network(
                name="Resnet50",
                pretrained=False,
                return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
                in_channels=256,
                out_channels=256,
            )
        self.register_buffer("origin", torch.empty(0, dtype=torch.uint8))
        self.options = options
        self.preparation = PREPARATIONS[options.weights or SEEDED]
        self.register_load_state_dict_post_hook(_take_origin)  # type: ignore[no-untyped-call]

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Find the faces of an RGB frame, uint8 (H, W, 3); see :meth:`detect_batch`."""
        return self.detect_batch(frame[None])[0]

    def detect_batch(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """Find the faces of each of some RGB frames, uint8 (N, H, W, 3).

        Returns:
            The faces of each frame, the best score first, in pixels of the frame from its upper
            left corner. Boxes may reach out of the frame. No bit depends on the other frames.
        """
        detections: list[Detections] = []
        size = at_once(self.origin.device)
        for start in range(0, len(frames), size):
            chunk = frames[start : start + size]
            full = chunk[np.arange(size) % len(chunk)]  # one shape: the same numbers for a frame
            detections.extend(self._detect_chunk(full)[: len(chunk)])
        return detections

    @torch.inference_mode()
    def _detect_chunk(self, frames_NHWC: NDArray[np.uint8]) -> list[Detections]:
        inputs = self.prepare(frames_NHWC)
        size = (frames_NHWC.shape[1], frames_NHWC.shape[2])
        priors = _priors((inputs.shape[2], inputs.shape[3])).to(inputs.device)
        outputs = (self.computed_by or self)(inputs)
        scores = torch.softmax(outputs["logits"], dim=-1)[..., 1]  # class 0 is no face
        rows = zip(outputs["boxes"], scores, outputs["landmarks"], strict=True)
        return [self._select(row, priors, size) for row in rows]

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return what the network says of each of P anchors on its input, (N, 3, h, w).

        Returns:
            ``boxes`` (N, P, 4), ``logits`` (N, P, 2) and ``landmarks`` (N, P, 10), all float32:
            offsets from the anchor, in its own sizes; logits of no face and of a face.
        """
        boxes, logits, landmarks = self.network(inputs)
        return {"boxes": boxes, "logits": logits, "landmarks": landmarks}

    def prepare(self, frames_NHWC: NDArray[np.uint8]) -> Tensor:
        """Return network input, float32 (N, 3, h, w), of RGB frames, uint8 (N, H, W, 3)."""
        how = self.preparation
        height, width = frames_NHWC.shape[1:3]
        scale = self.options.max_size / max(height, width)
        if not how.enlarges:
            scale = min(scale, 1.0)
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
        resized = frames_NHWC
        if (new_height, new_width) != (height, width):
            size = (new_width, new_height)
            resized = np.stack([cv2.resize(frame, size) for frame in frames_NHWC])  # bilinear
        device = self.origin.device
        pixels = torch.from_numpy(np.array(resized, order="C")).to(device).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (how.mean, how.std))
        return (pixels[:, list(how.channels)].float() - mean) / std

    def _select(
        self,
        output: tuple[Tensor, Tensor, Tensor],
        priors: Tensor,
        size: tuple[int, int],
    ) -> Detections:
        """Return the faces of one frame of (height, width) from the output for each prior."""
        offsets, all_scores, point_offsets = output
        order = torch.argsort(all_scores, descending=True, stable=True)
        order = order[all_scores[order] > self.options.min_score][:CANDIDATES]
        extent = torch.tensor(size[::-1], device=priors.device)  # of what the network sees, shares
        scores = all_scores[order]
        boxes = decode(offsets[order], priors[order], VARIANCE) * extent.repeat(2)
        landmarks = decode_landm(point_offsets[order], priors[order], VARIANCE)
        landmarks = landmarks.view(-1, self.points, 2) * extent
        keep = nms(boxes, scores, self.options.max_overlap)[:MOST_FACES]
        return _in_frame(boxes[keep], scores[keep], landmarks[keep], size)


def at_once(device: torch.device) -> int:
    """Return how many frames go through the network at once: on a CPU more gain nothing."""
    return 1 if device.type == "cpu" else CHUNK


def _in_frame(
    boxes: Tensor, scores: Tensor, landmarks: Tensor, size: tuple[int, int]
) -> Detections:
    """Drop the faces that are nowhere in a frame of (height, width)."""
    corners, points = boxes.cpu().numpy().reshape(-1, 2, 2), landmarks.cpu().numpy()
    frame = np.array(size[::-1], np.float32)
    shown = (np.minimum(corners[:, 1], frame) > np.maximum(corners[:, 0], 0)).all(axis=1)
    everything = np.concatenate([corners, points], axis=1)
    shown &= (np.abs(everything) < FARTHEST).all(axis=(1, 2))
    return Detections(corners.reshape(-1, 4)[shown], scores.cpu().numpy()[shown], points[shown])


@lru_cache(maxsize=8)
def _priors(size: tuple[int, int]) -> Tensor:
    """Return the anchors (P, 4) of an input of (height, width): centre and size, as shares."""
    priors: Tensor = priorbox(min_sizes=MIN_SIZES, steps=STEPS, clip=False, image_size=size)
    return priors


def _take_origin(module: nn.Module, _keys: object) -> None:
    """Prepare frames as the weights that were just loaded demand."""
    assert isinstance(module, RetinaFace)
    origin = _text(module.origin.tolist())
    if origin not in PREPARATIONS:
        raise WeightsError(
            f"retinaface: expected weights whose tensor `origin` says {' or '.join(PREPARATIONS)}, "
            f"found {origin!r}. Run the detector's weights stage again"
        )
    if module.options.weights not in (None, origin):
        raise WeightsError(
            f"retinaface: options ask for the weights of {module.options.weights}, these are "
            f"{origin}'s. Change the option, or run the detector's weights stage again"
        )
    module.preparation = PREPARATIONS[origin]


def _text(codes: Sequence[int]) -> str:
    return bytes(codes).decode("utf-8", "replace")
