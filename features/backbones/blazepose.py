"""BlazePose: where the body of the one person found first is, as 33 landmarks a frame.

Paper: Bazarevsky et al. 2020, "BlazePose: on-device real-time body pose tracking"; the body
stream of Peng et al. Weights: MediaPipe's pose landmarker in one of three sizes; licence
Apache-2.0. MediaPipe's package on the package index carries the middle one (full) as well.

In: RGB frames of any size, uint8. Each frame is taken for itself, with no memory of the last, so
that neither a cut nor another video can leak into it.
Out: ``landmarks`` (33, 3): x and y as shares of the frame's width and height (outside 0..1 where
a limb is out of the picture), z on the scale of x, 0 at the hips, smaller is nearer;
``world`` (33, 3): metres, origin between the hips; ``visibility`` (33,), 0..1. Rows without a
pose are zeros and not ``valid``. Order: :class:`mediapipe.tasks.python.vision.PoseLandmark`.
"""

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.networks.mediapipe_tasks import base_options, quiet, rgb_image
from features.weights.record import Source, Weights, Wheel

if TYPE_CHECKING:
    from mediapipe.tasks.python import vision

VIEW = "uniform"
FEATURES: dict[str, tuple[int, ...]] = {"landmarks": (33, 3), "world": (33, 3), "visibility": (33,)}
AXES = {"landmarks": "K D", "world": "K D"}
DTYPES = {name: "float32" for name in FEATURES}
ONE_CORE = True

Size = Literal["lite", "full", "heavy"]

MODELS = "https://storage.googleapis.com/mediapipe-models/pose_landmarker"

SHA256: dict[Size, str] = {
    "lite": "59929e1d1ee95287735ddd833b19cf4ac46d29bc7afddbbf6753c459690d574a",
    "full": "5134a3aad27a58b93da0088d431f366da362b44e3ccfbe3462b3827a839011b1",
    "heavy": "64437af838a65d18e5ba7a0d39b465540069bc8aae8308de3e318aad31fcbc7b",
}
"""Of version 1 of each bundle; ``latest`` in the address is another file."""

PACKAGE = Wheel(
    requirement="mediapipe==0.10.21",
    members=(
        (
            "mediapipe/modules/pose_detection/pose_detection.tflite",
            "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        ),
        (
            "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        ),
    ),
    reader="pose_pair",
)
"""The full model; lite and heavy the package downloads itself, when it is asked for them."""


@dataclass(frozen=True)
class Options:
    """Which model, and what counts as a pose.

    Attributes:
        size: ``lite``, ``full`` or ``heavy``: the larger, the slower and the more accurate.
            MediaPipe's own choice is ``full``. A bundle named as ``file`` is taken as it is.
        min_detection: least score of the person detector, 0..1.
        min_presence: least score of the landmark model, 0..1.
    """

    size: Size = "full"
    min_detection: float = 0.5  # MediaPipe's own defaults
    min_presence: float = 0.5

    def __post_init__(self) -> None:
        """Check the size and the ranges."""
        if self.size not in get_args(Size):
            raise ValueError(
                f"blazepose options: size: expected one of {', '.join(get_args(Size))}, "
                f"found {self.size!r}"
            )
        if not (0 <= self.min_detection <= 1 and 0 <= self.min_presence <= 1):
            raise ValueError(f"blazepose options: expected scores in 0..1, found {self}")


def weights(options: Options) -> Weights:
    """Return where the model of this size comes from."""
    name = f"pose_landmarker_{options.size}"
    bundle = Source(
        url=f"{MODELS}/{name}/float16/1/{name}.task",
        sha256=SHA256[options.size],
        size_bytes=None,
        reader="pose_task",
    )
    sources = (bundle, PACKAGE) if options.size == "full" else (bundle,)
    return Weights(licence="Apache-2.0", can_seed=False, sources=sources)


WEIGHTS = weights(Options())


def preprocess(frames: NDArray[np.uint8], options: Options = Options()) -> Tensor:
    """Return the frames as they are, uint8 (T, H, W, 3) RGB: MediaPipe scales and crops itself."""
    return torch.from_numpy(np.array(frames, order="C"))


def build(options: Options = Options()) -> nn.Module:
    """Return the network, without its weights."""
    return BlazePose(options).eval()


class BlazePose(nn.Module):
    """MediaPipe's pose landmarker; its model lies as bytes in the buffer ``model``."""

    model: Tensor

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.register_buffer("model", torch.empty(0, dtype=torch.uint8))
        self.options = options
        self._landmarker: vision.PoseLandmarker | None = None  # made in the process that uses it

    def forward(self, frames_THWC: Tensor) -> dict[str, Tensor]:
        """Return the FEATURES and ``valid`` (T,) of frames, uint8 (T, H, W, 3) RGB."""
        images = np.ascontiguousarray(frames_THWC.cpu().numpy())
        arrays = {
            name: np.zeros((len(images), *shape), np.float32) for name, shape in FEATURES.items()
        }
        valid = np.zeros(len(images), np.bool_)
        for row, image in enumerate(images):
            result = self._detect(image)
            if result.pose_landmarks:
                points = result.pose_landmarks[0]
                world = result.pose_world_landmarks[0]
                arrays["landmarks"][row] = [(p.x, p.y, p.z) for p in points]
                arrays["world"][row] = [(p.x, p.y, p.z) for p in world]
                arrays["visibility"][row] = [p.visibility for p in points]
                valid[row] = True
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {**tensors, "valid": torch.from_numpy(valid)}

    def _detect(self, image_HWC: NDArray[np.uint8]) -> "vision.PoseLandmarkerResult":
        with quiet():
            if self._landmarker is None:
                self._landmarker = self._open()
            return self._landmarker.detect(rgb_image(image_HWC))

    def _open(self) -> "vision.PoseLandmarker":
        from mediapipe.tasks.python import vision

        options = vision.PoseLandmarkerOptions(
            base_options=base_options(self.model),
            running_mode=vision.RunningMode.IMAGE,
            num_poses=1,
            min_pose_detection_confidence=self.options.min_detection,
            min_pose_presence_confidence=self.options.min_presence,
        )
        landmarker = vision.PoseLandmarker.create_from_options(options)
        weakref.finalize(self, _close, landmarker)
        return landmarker


def _close(landmarker: "vision.PoseLandmarker") -> None:
    with quiet():
        landmarker.close()
