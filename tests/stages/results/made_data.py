"""Clips, their views and their features as the stages leave them, of a network made for the test.

Work in an empty folder: the files lie at the project's own paths.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from features.cache import arrays, tables
from features.video import decode
from features.video.views import View
from features.weights.seeding import initialise
from stages.engine.params import Backbone
from stages.engine.paths import FEATURES, INDEX, VIEWS, index_of
from stages.results.extracted import Extracted, extracted

Clip = NDArray[np.uint8]

SIZE = (96, 128)
"""Height and width of the clips."""

NETWORK = Backbone(module="vgg16", view="segments", source="seeded", seed=1)


def draw_clip(label: int, number: int, frames: int = 36) -> Clip:
    """Return a clip: the room of its class, things of its own, and one of them that moves."""
    room = _texture(np.random.default_rng([label, 99]), 5.0)
    rng = np.random.default_rng([label, number])
    things = 0.8 * room + 0.4 * _texture(rng, 5.0)
    down, right = np.mgrid[: SIZE[0], : SIZE[1]]
    start, speed = rng.uniform(20, 70, 2), rng.uniform(-0.9, 0.9, 2)
    colour = rng.uniform(-60, 60, 3)
    drawn = []
    for at in range(frames):
        y, x = start + speed * at
        blob = np.exp(-((down - y) ** 2 + (right - x) ** 2) / 150)[..., None]
        drawn.append(np.clip(128 + 45 * things + blob * colour, 0, 255))
    return np.stack(drawn).astype(np.uint8)


def _texture(rng: np.random.Generator, grain: float) -> NDArray[np.float64]:
    noise = gaussian_filter(rng.normal(size=(*SIZE, 3)), (grain, grain, 0))
    return np.asarray(noise / noise.std())


def encode(clip: Clip, path: Path, crf: int = 23) -> bytes:
    """Write a clip as H.264 and return the file's bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(12))
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": str(crf), "threads": "1"}
        for frame in clip:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path.read_bytes()


def copies_of(clip: Clip) -> dict[str, tuple[Clip, int]]:
    """Return copies of a clip by what was done to them, and how strongly they are to be packed."""
    return {
        "encoded": (clip, 38),
        "trimmed": (clip[len(clip) // 6 : -len(clip) // 6], 23),
        "mirrored": (clip[:, :, ::-1], 28),
        "small": (clip[:, ::2, ::2], 28),
    }


class Network(nn.Module):
    """A small network of convolutions with the weights of a seeded one: a map and a vector."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, wider in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7))
        initialise(self, seed)

    def forward(self, frames: Clip) -> dict[str, arrays.Array]:
        """Return the features of frames (T, H, W, 3)."""
        with torch.inference_mode():
            inputs = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
            resized = nn.functional.interpolate(inputs, (112, 112), mode="bilinear", antialias=True)
            maps = self.layers(resized).half().numpy()
        return {"map": maps, "vector": maps.mean(axis=(2, 3))}


@dataclass(frozen=True)
class Made:
    """A video to be written: its file's bytes, and which run does what with it."""

    path: Path
    splits: Mapping[str, str | None]


def write_data(videos: Mapping[str, Made], seed: int = 1, rows: int = 12) -> list[tables.Row]:
    """Write the view `segments`, features of `network` and all indices; return the index's rows."""
    network = Network(seed)
    index: list[tables.Row] = []
    for video, made in videos.items():
        digest = hashlib.sha256(made.path.read_bytes()).hexdigest()
        views = {"segments": View("segments", rows, 720)}
        decoded = decode.decode(made.path, views, seed=f"0 {digest}").views["segments"]
        data = decode.padded(decoded, rows)
        arrays.write(VIEWS / "segments" / f"{video}.h5", data, {"axes": {}})
        valid = {name: data[name] for name in ("index", "pts_s", "valid")}
        write_features("network", video, network(data["frames"]) | valid)
        index.append(row_of(video) | {"sha256": digest} | dict(made.splits))
    write_indices(index, "network")
    return index


def row_of(video: str, **more: object) -> tables.Row:
    """Return a usable video's row of the index."""
    headers = {
        "width": SIZE[1], "height": SIZE[0], "fps": 12.0, "duration_s": 3.0, "interlaced": False,
        "video_codec": "h264", "container": "mov", "audio_codec": "aac", "sample_rate_hz": 44100,
        "channels": 1,
    }  # fmt: skip
    label = video.split("/")[0]
    return {"video_id": video, "label": label, "status": "ok", "reason": None} | headers | more


AXES = {"map": "T C H W", "vector": "T D", "index": "T", "pts_s": "T", "valid": "T"}


def write_features(
    backbone: str,
    video: str,
    data: Mapping[str, arrays.Array],
    axes: Mapping[str, str] = AXES,
    view: str = "segments",
) -> None:
    """Write a video's features."""
    weights = {"source": "seeded", "seed": "1", "licence": "", "sha256": "", "notice": ""}
    about = {
        "axes": {name: axes[name] for name in data},
        "ingredients": {"view": view, "options": {}},
        "weights": weights,
        "device": "cpu",
    }
    arrays.write(FEATURES / backbone / f"{video}.h5", data, about, arrays.COMPACT)


def write_indices(index: Sequence[tables.Row], *backbones: str) -> None:
    """Write the index of the videos, that of the view and those of the features."""
    tables.write(index_of(INDEX), index, pa.Table.from_pylist(list(index)).schema)
    for folder in (VIEWS / "segments", *(FEATURES / name for name in backbones)):
        rows = [_item_row(row, folder) for row in index]
        schema = {name: pa.string() for name in rows[0]} | {"rows_valid": pa.int32()}
        tables.write(index_of(folder), rows, pa.schema(list(schema.items())))


def _item_row(row: tables.Row, folder: Path) -> tables.Row:
    common = {name: row[name] for name in ("video_id", "label", "status", "reason")}
    path = folder / f"{row['video_id']}.h5"
    content = arrays.content_sha256(path) if path.is_file() else None
    name = f"{row['video_id']}.h5" if path.is_file() else None
    return common | {"path": name, "content": content, "rows_valid": 1}


def source(backbone: str = "network") -> Extracted:
    """Return what is here of a backbone."""
    found = extracted(backbone)
    assert found
    return found
