from pathlib import Path

import numpy as np
import pytest

from features.cache import arrays
from stages.results.likeness import (
    LEAST_ALIKE,
    MOST_ROWS,
    SIDE_PX,
    Frames,
    least_alike,
    likeness,
    read_small,
)
from tests.stages.results.made_data import draw_clip


def frames(count: int, seed: int = 0) -> Frames:
    values = np.random.default_rng(seed).normal(size=(count, SIDE_PX**2)).astype(np.float32)
    return Frames(tuple(range(count)), values / np.linalg.norm(values, axis=1, keepdims=True))


def write_view(path: Path, clip: arrays.Array, valid: list[bool] | None = None) -> Path:
    shown = np.array(valid or [True] * len(clip))
    arrays.write(path, {"frames": clip, "valid": shown}, {"axes": {}})
    return path


def test_brightness_contrast_and_colour_change_nothing(tmp_path: Path) -> None:
    clip = draw_clip(0, 0, 6).astype(np.float64)
    other = np.clip(0.8 * clip * (1.0, 0.95, 1.05) + 20, 0, 255).astype(np.uint8)
    one = read_small(write_view(tmp_path / "one.h5", clip.astype(np.uint8)))
    two = read_small(write_view(tmp_path / "two.h5", other))
    assert one and two and likeness(one, two).value > 0.99
    assert one.values.shape == (6, SIDE_PX**2)
    assert np.linalg.norm(one.values, axis=1) == pytest.approx(np.ones(6), abs=1e-5)


def test_a_soft_light_that_two_videos_share_makes_them_no_copies(tmp_path: Path) -> None:
    light = np.linspace(-70, 70, 128)[:, None] * (1.0, 0.9, 0.8)
    found = [
        read_small(write_view(tmp_path / f"{n}.h5", np.clip(clip + light, 0, 255).astype(np.uint8)))
        for n, clip in enumerate(draw_clip(label, 0, 4) * 0.4 + 75.0 for label in (0, 1))
    ]
    assert found[0] and found[1] and likeness(found[0], found[1]).value < 0.5


def test_only_rows_that_show_something_count_and_the_rows_are_the_views(tmp_path: Path) -> None:
    clip = draw_clip(0, 0, 6)
    clip[2], clip[3] = 0, 200  # black, and white
    valid = [False, True, True, True, True, True]
    found = read_small(write_view(tmp_path / "one.h5", clip, valid))
    assert found and found.rows == (1, 4, 5)
    assert read_small(write_view(tmp_path / "black.h5", clip[2:4])) is None
    assert read_small(tmp_path / "none.h5") is None


def test_of_a_long_video_rows_are_compared_evenly(tmp_path: Path) -> None:
    clip = draw_clip(0, 0, 1).repeat(3 * MOST_ROWS, axis=0)
    found = read_small(write_view(tmp_path / "one.h5", clip))
    assert found and len(found.rows) == MOST_ROWS and found.rows[-1] == 3 * MOST_ROWS - 1
    assert set(np.diff(found.rows)) <= {3, 4}


def test_of_a_snippet_the_middle_frame_is_compared(tmp_path: Path) -> None:
    clip = draw_clip(0, 0, 12)
    snippets = read_small(write_view(tmp_path / "one.h5", clip.reshape(4, 3, *clip.shape[1:])))
    middle = read_small(write_view(tmp_path / "two.h5", clip[1::3]))
    assert snippets and middle and np.array_equal(snippets.values, middle.values)


def test_all_frames_of_a_part_are_in_the_whole() -> None:
    whole = frames(20)
    part = Frames((4, 5, 6), whole.values[4:7])
    for found in (likeness(part, whole), likeness(whole, part)):
        assert found.value == pytest.approx(1) and not found.mirrored
    assert likeness(frames(20), frames(20, seed=1)).value < 0.3


def test_a_mirrored_video_is_told_and_so_are_the_rows_that_are_most_alike() -> None:
    whole = frames(5)
    flipped = whole.values.reshape(-1, SIDE_PX, SIDE_PX)[..., ::-1].reshape(5, -1)
    noisy = flipped + np.random.default_rng(1).normal(0, 0.02, flipped.shape)
    noisy[3] = flipped[3]
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    found = likeness(whole, Frames((9, 8, 7, 6, 5), noisy.astype(np.float32)))
    assert found.mirrored and found.rows == (3, 6) and 0.7 < found.value < 0.99


def test_copies_have_to_be_more_alike_where_all_videos_are() -> None:
    base = frames(1).values[0]

    def near(noise: float, count: int) -> dict[str, Frames]:
        rng = np.random.default_rng(0)
        made = {}
        for number in range(count):
            values = base + rng.normal(0, noise / SIDE_PX, base.shape)
            unit = (values / np.linalg.norm(values)).astype(np.float32)
            made[str(number)] = Frames((0,), unit[None])
        return made

    some = near(0.2, 20)  # alike to 1 / (1 + 0.2**2)
    least = least_alike(some)
    assert (1 + 1 / 1.04) / 2 == pytest.approx(least, abs=0.005)
    assert least_alike(near(3.0, 20)) == LEAST_ALIKE
    assert least_alike({}) == least_alike(near(0.2, 2)) == LEAST_ALIKE


@pytest.mark.parametrize("copies", [2, 3])
def test_copies_among_the_videos_that_tell_do_not_hide_each_other(copies: int) -> None:
    some = {str(n): frames(4, seed=n) for n in range(12)}
    some |= {f"copy {n}": frames(4, seed=n) for n in range(copies)}
    assert least_alike(some) == LEAST_ALIKE
