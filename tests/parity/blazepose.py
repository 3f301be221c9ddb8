"""blazepose beside MediaPipe's own landmarker; only where its model is at hand."""

import os
from collections.abc import Iterator
from pathlib import Path

import mediapipe
import numpy as np
import torch
from mediapipe.tasks.python import BaseOptions, vision
from skimage.data import astronaut

from features.backbones import blazepose
from features.networks.mediapipe_tasks import quiet
from features.sources import readers
from tests.parity import Certificate

MODEL = "pose_landmarker_full.task"


def certificates() -> Iterator[Certificate]:
    """Compare the landmarks of a person with MediaPipe's result objects, read field by field."""
    path = Path(os.environ.get("AFFECTLINE_WEIGHTS", "")) / MODEL
    if not path.is_file():
        return
    options = vision.PoseLandmarkerOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with quiet(), vision.PoseLandmarker.create_from_options(options) as landmarker:
        image = mediapipe.Image(mediapipe.ImageFormat.SRGB, astronaut())
        result = landmarker.detect(image)
    points, world = result.pose_landmarks[0], result.pose_world_landmarks[0]
    reference = {
        "landmarks": np.array([[[p.x, p.y, p.z] for p in points]], np.float32),
        "world": np.array([[[p.x, p.y, p.z] for p in world]], np.float32),
        "visibility": np.array([[p.visibility for p in points]], np.float32),
    }
    network = blazepose.build()
    network.model = readers.read("pose_task", [path])["model"]
    with torch.inference_mode():
        ours = network(blazepose.preprocess(astronaut()[None]))
    for name, values in reference.items():
        yield Certificate(
            backbone="blazepose",
            feature=name,
            oracle="MediaPipe's PoseLandmarker with its own defaults",
            input=f"skimage's astronaut, 512x512, model {MODEL}",
            reference=values,
            ours=ours[name].numpy(),
        )
