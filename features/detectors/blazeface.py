"""BlazeFace: the default face detector, for faces that are not far from the camera.

Paper: Bazarevsky et al. 2019, "BlazeFace: sub-millisecond neural face detection on mobile GPUs".
Weights: MediaPipe's short-range model; licence Apache-2.0. It looks at the whole frame at
128x128, so a face of less than about a tenth of the frame's width is not found.

It has the WEIGHTS, Options and build of a backbone; its network is used through ``detect_batch``.
"""

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.faces import Detections
from features.networks.mediapipe_tasks import base_options, quiet, rgb_image
from features.weights.record import Source, Weights, Wheel

if TYPE_CHECKING:
    from mediapipe.tasks.python import vision

ONE_CORE = True

MODELS = "https://storage.googleapis.com/mediapipe-models/face_detector"

WEIGHTS = Weights(
    licence="Apache-2.0",
    can_seed=False,
    sources=(
        Source(
            url=f"{MODELS}/blaze_face_short_range/float16/1/blaze_face_short_range.tflite",
            sha256="b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
            size_bytes=None,
            reader="tflite",
        ),
        Wheel(
            requirement="mediapipe==0.10.21",
            members=(
                (
                    "mediapipe/modules/face_detection/face_detection_short_range.tflite",
                    "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
                ),
            ),
            reader="tflite",
        ),
    ),
)

LANDMARKS = ("right eye", "left eye", "nose tip", "mouth", "right ear", "left ear")
"""The points of a face, in order; right and left are the person's own."""


@dataclass(frozen=True)
class Options:
    """What counts as a face.

    Attributes:
        min_score: least score of a detection, 0..1.
        max_overlap: of detections whose intersection over union is above this, one is kept.
    """

    min_score: float = 0.7  # at MediaPipe's own 0.5, clocks and cats are faces too
    max_overlap: float = 0.3  # MediaPipe's own

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (0 <= self.min_score <= 1 and 0 <= self.max_overlap <= 1):
            raise ValueError(f"blazeface options: expected shares in 0..1, found {self}")


def build(options: Options = Options()) -> nn.Module:
    """Return the detector, without its weights."""
    return BlazeFace(options).eval()


class BlazeFace(nn.Module):
    """MediaPipe's face detector; its model lies as bytes in the buffer ``model``."""

    model: Tensor
    points = len(LANDMARKS)

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.register_buffer("model", torch.empty(0, dtype=torch.uint8))
        self.options = options
        self._detector: vision.FaceDetector | None = None  # made in the process that uses it

    def detect_batch(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """Find the faces of each of some RGB frames, uint8 (N, H, W, 3); see :meth:`detect`."""
        return [self.detect(frame) for frame in frames]

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Find the faces of an RGB frame, uint8 (H, W, 3).

        Returns:
            The faces, the best score first, in pixels from the upper left corner. Boxes may reach
            out of the frame; landmarks are in the order of LANDMARKS.
        """
        height, width = frame.shape[:2]
        with quiet():
            if self._detector is None:
                self._detector = self._open()
            faces = self._detector.detect(rgb_image(frame)).detections
        faces.sort(key=lambda face: -face.categories[0].score)
        corners = [
            (b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height)
            for b in (face.bounding_box for face in faces)
        ]
        points = [[(p.x * width, p.y * height) for p in face.keypoints] for face in faces]
        return Detections(
            np.array(corners, np.float32).reshape(-1, 4),
            np.array([face.categories[0].score for face in faces], np.float32),
            np.array(points, np.float32).reshape(-1, self.points, 2),
        )

    def _open(self) -> "vision.FaceDetector":
        from mediapipe.tasks.python import vision

        options = vision.FaceDetectorOptions(
            base_options=base_options(self.model),
            running_mode=vision.RunningMode.IMAGE,
            min_detection_confidence=self.options.min_score,
            min_suppression_threshold=self.options.max_overlap,
        )
        detector = vision.FaceDetector.create_from_options(options)
        weakref.finalize(self, _close, detector)
        return detector


def _close(detector: "vision.FaceDetector") -> None:
    with quiet():
        detector.close()
