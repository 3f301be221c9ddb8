"""Views as decode and faces leave them, made up: pictures of noise, a tone, faces anywhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.cache import arrays

FPS = 25
RATE_HZ = 8000


def noise(rows: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return pictures (rows, height, width, 3) that are sharp everywhere."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (rows, height, width, 3), np.uint8)


def write_view(
    view: str,
    video_id: str,
    frames: NDArray[np.uint8],
    pts_s: NDArray[np.float64],
    valid: NDArray[np.bool_] | None = None,
    root: Path = Path(),
) -> Path:
    """Write a view of frames below ``root``; a row past the clip has the time NaN."""
    known = np.isfinite(pts_s)
    index = np.where(known, np.rint(np.nan_to_num(pts_s) * FPS), -1).astype(np.int64)
    first = known if known.ndim == 1 else known[:, 0]
    path = root / "data" / "views" / view / f"{video_id}.h5"
    data = {"frames": frames, "index": index, "pts_s": pts_s}
    arrays.write(path, data | {"valid": first if valid is None else valid}, {})
    return path


def write_faces(
    video_id: str,
    pts_s: NDArray[np.float64],
    boxes: Mapping[int, Sequence[Sequence[float]]],
    *,
    shot: Sequence[int] | None = None,
    tracks: Mapping[int, Sequence[int]] | None = None,
    pretrained: str = "true",
    root: Path = Path(),
) -> Path:
    """Write the crops of a video and where its faces are.

    Args:
        video_id: of the video.
        pts_s: of the rows of the view `segments`.
        boxes: row -> x0 y0 x1 y1 of each face in it, in pixels; the first is the main person's.
        shot: of each row; one for all.
        tracks: row -> the track of each face; by their order.
        pretrained: what the detector's weights say.
        root: of the project.
    """
    rows = [row for row, found in boxes.items() for _ in found]
    flat = [box for found in boxes.values() for box in found]
    numbers = [
        track
        for row, found in boxes.items()
        for track in (tracks[row] if tracks else range(len(found)))
    ]
    count = len(pts_s)
    path = root / "data" / "views" / "faces" / f"{video_id}.h5"
    data = {
        "frames": noise(count, 224, 224, seed=1),
        "index": np.rint(pts_s * FPS).astype(np.int64),
        "pts_s": pts_s,
        "valid": np.array([bool(boxes.get(row)) for row in range(count)]),
        "shot": np.array(shot or [0] * count, np.int64),
        "det_row": np.array(rows, np.int64),
        "det_track": np.array(numbers, np.int64),
        "det_box": np.array(flat, np.float32).reshape(-1, 4),
    }
    arrays.write(path, data, {"weights": {"pretrained": pretrained}})
    return path


def write_sound(video_id: str, seconds: float, root: Path = Path()) -> Path:
    """Write a sound that swells."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = (np.sin(2 * np.pi * 440 * time_s) * time_s / max(seconds, 1e-9)).astype(np.float32)
    path = root / "data" / "views" / "sound" / f"{video_id}.h5"
    arrays.write(path, {"waveform": tone}, {"sample_rate_hz": RATE_HZ, "start_s": 0.0})
    return path
