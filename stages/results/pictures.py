"""Pictures of what the networks saw: rows of a view, small, with faces as the page may show them.

The files of views are read where they are: a page can be made of the results alone. Of a video and
a view all pictures stand in one file side by side, a sprite, which several experiments show.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.cache import arrays
from features.video.views import FRAME_ARRAYS
from stages.engine.items import item_path
from stages.engine.paths import VIEWS
from stages.results.hidden import hidden

Frame = NDArray[np.uint8]

HEIGHT_PX = 96
"""Of a small picture; frames are made smaller, never larger."""

WIDEST = 2.5
"""Most width of a small picture, in heights: wider frames get less high."""

MOST_PICTURES = 32
"""Of one video: where it has more rows, each picture stands for a few neighbouring ones."""

QUALITY = 60
"""Of WebP, 0..100: 1.5 to 3 kB a small picture."""

KIND = "image/webp"

Faces = Literal["show", "blur", "leave out"]


class NotHere(ValueError):
    """A file that a picture is made of is missing or damaged; the message says which and why."""


@dataclass(frozen=True)
class Rows:
    """Which frame each row of a view is.

    Attributes:
        index: (T,) or (T, L) int64, number of the frame, -1 where there is none.
        pts_s: likewise float64, its time in seconds, NaN where there is none.
        valid: (T,) bool, whether the networks saw it.
    """

    index: NDArray[np.int64]
    pts_s: NDArray[np.float64]
    valid: NDArray[np.bool_]

    @property
    def time_s(self) -> NDArray[np.float64]:
        """(T,) time of each row's picture: of a snippet the frame in its middle."""
        return self.pts_s if self.pts_s.ndim == 1 else self.pts_s[:, self.pts_s.shape[1] // 2]


@dataclass(frozen=True)
class Sprite:
    """Pictures of one size, side by side in one file.

    Attributes:
        data: the file, WebP.
        rows: of the view, a picture each.
        size: width and height of one in pixels.
        frame: height and width of the frames as the view has them.
    """

    data: bytes
    rows: tuple[int, ...]
    size: tuple[int, int]
    frame: tuple[int, int]


def view_file(view: str, video_id: str) -> Path:
    """Return where a video's view lies.

    Raises:
        NotHere: there is no such file, or none can be.
    """
    folder = VIEWS / view
    try:
        path = folder / item_path(video_id)
    except ValueError as error:
        raise NotHere(f"{folder}: {error}") from None
    if not path.is_file():
        raise NotHere(f"{folder}: no file of {video_id}")
    return path


def read_rows(view: str, video_id: str) -> Rows:
    """Return which frames the rows of a view are.

    Raises:
        NotHere: its file is missing, or damaged.
    """
    path = view_file(view, video_id)
    try:
        found, _ = arrays.read(path, FRAME_ARRAYS)
    except arrays.ArrayFileError as error:
        raise NotHere(str(error)) from None
    return Rows(
        found["index"].astype(np.int64),
        found["pts_s"].astype(np.float64),
        found["valid"].astype(np.bool_),
    )


def groups(rows: Rows) -> list[list[int]]:
    """Return neighbouring rows that one picture stands for, MOST_PICTURES groups at most.

    Rows behind the last that has a time, or a weight, are in none.
    """
    real = np.flatnonzero(np.isfinite(rows.time_s) | rows.valid)
    count = int(real[-1]) + 1 if len(real) else 0
    each = max(1, -(-count // MOST_PICTURES))
    return [list(range(at, min(at + each, count))) for at in range(0, count, each)]


def pictured(rows: Rows, group: Sequence[int]) -> int | None:
    """Return the row of a group that is its picture: of those seen the one nearest its middle."""
    middle = group[len(group) // 2]
    shown = [row for row in group if rows.valid[row]]
    return min(shown, key=lambda row: (abs(row - middle), row), default=None)


def read_frames(view: str, video_id: str, rows: Sequence[int]) -> list[Frame]:
    """Return rows of a view, (H, W, 3) uint8 each; of a snippet the frame in its middle.

    The file goes through memory a block at a time.

    Raises:
        NotHere: the file is missing, damaged, or has no such rows.
    """
    path = view_file(view, video_id)
    frames: dict[int, Frame] = {}
    wanted = set(rows)
    try:
        with arrays.streamed(path, ["frames"]) as (found, _):
            for number, frame in enumerate(_one_by_one(found["frames"])):
                if number in wanted:
                    frames[number] = frame.copy()
    except arrays.ArrayFileError as error:
        raise NotHere(str(error)) from None
    if lacking := wanted - frames.keys():
        raise NotHere(f"{path}: no rows {sorted(lacking)}")
    return [frames[row] for row in rows]


def _one_by_one(frames: arrays.Blocks) -> Iterator[Frame]:
    for block in frames.parts:
        pixels = block.astype(np.uint8, copy=False)
        yield from pixels if pixels.ndim == 4 else pixels[:, pixels.shape[1] // 2]


def sprite(
    view: str, video_id: str, rows: Sequence[int], faces: Faces, height_px: int = HEIGHT_PX
) -> Sprite:
    """Return rows of a view as small pictures side by side.

    Args:
        view: its name.
        video_id: of the video.
        rows: of the view, at least one.
        faces: how faces are shown.
        height_px: of the pictures, at most.

    Raises:
        NotHere: the view's file is missing or damaged.
        ValueError: faces are to be left out, and so is every picture.
    """
    if faces == "leave out":
        raise ValueError("report.faces is `leave out`: no picture is to be made")
    frames = read_frames(view, video_id, rows)
    small = [resized(frame, height_px) for frame in frames]
    if faces == "blur":
        hiding = hidden(view, video_id, rows, read_rows(view, video_id).time_s)
        small = [hiding[row].applied(part) for row, part in zip(rows, small, strict=True)]
    height, width, _ = small[0].shape
    data = encoded(np.concatenate(small, axis=1))
    return Sprite(data, tuple(rows), (width, height), frames[0].shape[:2])


def resized(frame: Frame, height_px: int) -> Frame:
    """Return a frame made so small that it has at most so many rows, and is not too wide."""
    height, width = frame.shape[:2]
    scale = min(1.0, height_px / height, WIDEST * height_px / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS, reducing_gap=3))


def encoded(picture: Frame) -> bytes:
    """Return a picture as a WebP file, the same bytes each time."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()
