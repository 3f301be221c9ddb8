"""Pictures of what was seen: the right frame in the right place, small, and as the page may be."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.results.pictures import (
    HEIGHT_PX,
    MOST_PICTURES,
    WIDEST,
    NotHere,
    Rows,
    groups,
    pictured,
    read_rows,
    resized,
    sprite,
)
from tests.stages.results.made_views import noise, write_view


def shades(rows: int, height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """Return frames of one grey each, 10 times their number."""
    greys = (10 * np.arange(rows)).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (rows, height, width, 3)).copy()


def greys(data: bytes, count: int) -> list[int]:
    """Return the grey of each picture of a sprite."""
    parts = np.split(np.asarray(Image.open(io.BytesIO(data)).convert("L")), count, axis=1)
    return [round(float(part.mean()) / 10) for part in parts]


def test_a_sprite_has_the_rows_that_are_asked_for_in_their_order(in_folder: Path) -> None:
    write_view("segments", "joy/a", shades(20), np.arange(20) / 2)
    found = sprite("segments", "joy/a", [3, 11, 17], "show")
    assert greys(found.data, 3) == [3, 11, 17]
    assert (found.size, found.frame) == ((128, HEIGHT_PX), (120, 160))
    assert found.data == sprite("segments", "joy/a", [3, 11, 17], "show").data


def test_of_a_snippet_the_frame_in_its_middle_is_shown(in_folder: Path) -> None:
    frames = shades(24).reshape(3, 8, 120, 160, 3)
    write_view("snippets", "joy/a", frames, np.arange(24.0).reshape(3, 8))
    assert greys(sprite("snippets", "joy/a", [0, 2], "show").data, 2) == [4, 20]
    assert read_rows("snippets", "joy/a").time_s.tolist() == [4, 12, 20]


def test_frames_are_made_smaller_and_never_larger() -> None:
    assert resized(noise(1, 480, 640)[0], HEIGHT_PX).shape == (96, 128, 3)
    assert resized(noise(1, 40, 50)[0], HEIGHT_PX).shape == (40, 50, 3)
    wide = resized(noise(1, 100, 2000)[0], HEIGHT_PX)
    assert wide.shape[1] <= WIDEST * HEIGHT_PX and wide.shape[0] == 12


def test_no_picture_is_made_where_people_are_left_out(in_folder: Path) -> None:
    write_view("segments", "joy/a", shades(2), np.arange(2.0))
    with pytest.raises(ValueError, match="leave out"):
        sprite("segments", "joy/a", [0], "leave out")


def test_without_a_file_of_faces_blurred_frames_have_no_detail(in_folder: Path) -> None:
    write_view("segments", "joy/a", noise(1, 96, 128), np.zeros(1))
    shown = np.asarray(Image.open(io.BytesIO(sprite("segments", "joy/a", [0], "blur").data)))
    clear = np.asarray(Image.open(io.BytesIO(sprite("segments", "joy/a", [0], "show").data)))
    steps = [np.abs(np.diff(each.astype(float), axis=1)).mean() for each in (shown, clear)]
    assert steps[0] < 2 < 20 < steps[1]


@pytest.mark.parametrize("video", ["joy/none", "../etc/passwd", "a/b/c", "joy/.."])
def test_a_file_that_is_not_here_is_told_by_name(in_folder: Path, video: str) -> None:
    with pytest.raises(NotHere, match="data/views/segments: "):
        sprite("segments", video, [0], "show")


def test_a_damaged_file_is_told_by_name(in_folder: Path) -> None:
    path = write_view("segments", "joy/a", noise(2, 64, 64), np.arange(2.0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(NotHere, match=r"data/views/segments/joy/a\.h5"):
        sprite("segments", "joy/a", [0, 1], "show")


def test_many_rows_share_pictures_and_what_follows_the_clip_is_in_none() -> None:
    times = np.arange(100.0)
    times[90:] = np.nan
    rows = Rows(np.arange(100), times, np.isfinite(times))
    parts = groups(rows)
    assert [row for part in parts for row in part] == list(range(90))
    assert len(parts) <= MOST_PICTURES and {len(part) for part in parts} == {3}
    assert pictured(rows, [3, 4, 5]) == 4


def test_the_picture_of_a_group_is_a_row_that_was_seen() -> None:
    rows = Rows(np.arange(4), np.arange(4.0), np.array([True, False, False, False]))
    assert pictured(rows, [0, 1, 2]) == 0
    assert pictured(rows, [1, 2, 3]) is None
    none = Rows(np.full(3, -1), np.full(3, np.nan), np.zeros(3, bool))
    assert groups(none) == []
