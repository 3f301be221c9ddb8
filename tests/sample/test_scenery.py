"""The backgrounds: size, motion, and that each class has one of its own."""

import numpy as np
import pytest

from sample import scenery
from sample.clips import LABELS

KINDS = (scenery.NEUTRAL, *LABELS)


def draw(kind: str, seed: int, time_s: float) -> np.ndarray:
    return scenery.build_scene(kind, np.random.default_rng(seed))(time_s)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_is_a_picture_and_the_same_each_time(kind: str) -> None:
    picture = draw(kind, 3, 0.7)
    assert picture.shape == (scenery.HEIGHT_PX, scenery.WIDTH_PX, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0 and picture.max() <= 255
    np.testing.assert_array_equal(picture, draw(kind, 3, 0.7))
    assert np.abs(picture - draw(kind, 4, 0.7)).mean() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_time_may_be_asked_in_any_order(kind: str) -> None:
    scene = scenery.build_scene(kind, np.random.default_rng(0))
    early = scene(0.2)
    scene(3.0)
    np.testing.assert_array_equal(scene(0.2), early)


@pytest.mark.parametrize("kind", LABELS)
def test_scenes_of_classes_move(kind: str) -> None:
    assert np.abs(draw(kind, 0, 0.5) - draw(kind, 0, 1.5)).max() > 20


def test_the_room_does_not_move_and_can_be_drawn_upon() -> None:
    room = scenery.build_scene(scenery.NEUTRAL, np.random.default_rng(0))
    first = room(0.0).copy()
    room(0.0)[:] = 0
    np.testing.assert_array_equal(room(2.0), first)


def test_the_nearest_scene_in_mean_colour_has_the_same_class() -> None:
    def colours(seed: int) -> np.ndarray:
        blocks = [draw(kind, seed, 1.0).reshape(4, 60, 4, 80, 3).mean((1, 3)) for kind in KINDS]
        return np.stack(blocks).reshape(len(KINDS), -1)

    known, asked = colours(10), colours(11)
    distance = np.linalg.norm(asked[:, None] - known[None], axis=2)
    assert distance.argmin(1).tolist() == list(range(len(KINDS)))


def test_noise_has_no_seam_from_bottom_to_top() -> None:
    noise = scenery._noise(np.random.default_rng(0), 22)
    steps = np.abs(np.diff(noise, axis=0)).max(1)
    assert np.abs(noise[0] - noise[-1]).max() <= 2.5 * steps.max()


def test_an_unknown_scene_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'boredom'.*neutral, anger, disgust"):
        scenery.build_scene("boredom", np.random.default_rng(0))
