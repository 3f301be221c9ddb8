import itertools

import numpy as np
import pytest
import skimage.data
import skimage.measure
import skimage.transform
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.detectors import blazeface, retinaface
from features.faces import TEMPLATE, Detections, align, crop, link, main_person, overlap, shots


def faces(
    *boxes: tuple[float, float, float, float], scores: list[float] | None = None
) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(scores or [0.9] * n, np.float32),
        np.zeros((n, 6, 2), np.float32),
    )


def one_shot(rows: list[Detections]) -> NDArray[np.int64]:
    return np.zeros(len(rows), np.int64)


coordinates = st.integers(0, 40)
boxes = st.tuples(coordinates, coordinates, st.integers(1, 30), st.integers(1, 30))


@given(boxes, boxes)
def test_overlap_counts_pixels(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    masks = np.zeros((2, 80, 80), bool)
    for mask, (x, y, w, h) in zip(masks, (one, other), strict=True):
        mask[y : y + h, x : x + w] = True
    expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    arrays = [np.array([[x, y, x + w, y + h]], np.float32) for x, y, w, h in (one, other)]
    np.testing.assert_allclose(overlap(*arrays), [[expected]], rtol=1e-5)


def test_two_people_who_move_slowly_keep_their_tracks() -> None:
    rows = [faces((n, 0, n + 20, 20), (100 - n, 0, 130 - n, 30)) for n in range(10)]
    rows[4] = faces((104 - 8, 0, 126, 30), (4, 0, 24, 20))  # found in the other order
    tracks = link(rows, one_shot(rows), min_overlap=0.3, max_gap=1)
    assert all(list(numbers) == [0, 1] for n, numbers in enumerate(tracks) if n != 4)
    assert list(tracks[4]) == [1, 0]


def test_a_track_outlives_a_gap_but_not_a_longer_one() -> None:
    face, none = faces((0, 0, 20, 20)), faces()
    short, long = [face, none, face], [face, none, none, face]
    numbers = link(short, one_shot(short), min_overlap=0.3, max_gap=1)
    assert [list(t) for t in numbers] == [[0], [], [0]]
    numbers = link(long, one_shot(long), min_overlap=0.3, max_gap=1)
    assert [list(t) for t in numbers] == [[0], [], [], [1]]


def test_a_track_ends_with_its_shot() -> None:
    face, none = faces((0, 0, 20, 20)), faces()
    rows = [face, face, none, face, face]
    numbers = link(rows, np.array([0, 0, 1, 1, 2]), min_overlap=0.3, max_gap=3)
    assert [list(t) for t in numbers] == [[0], [0], [], [1], [2]]


def test_the_main_person_is_who_is_shown_most_and_others_fill_the_gaps() -> None:
    large, small = (0.0, 0.0, 40.0, 40.0), (60.0, 0.0, 70.0, 10.0)
    rows = [faces(small, large), faces(large, small), faces(small), faces()]
    chosen = main_person(rows, link(rows, one_shot(rows), min_overlap=0.3, max_gap=1))
    assert list(chosen) == [1, 0, 0, -1]


def test_a_confident_face_beats_a_doubtful_one_of_its_size() -> None:
    row = faces((0, 0, 20, 20), (50, 0, 70, 20), scores=[0.5, 0.9])
    tracks = link([row], one_shot([row]), min_overlap=0.3, max_gap=1)
    assert list(main_person([row], tracks)) == [1]


# ---------------------------------------------------------------------------------- shots


def moving(shift: int, brightness: float = 1.0) -> NDArray[np.uint8]:
    """Return a window on a photograph, ``shift`` pixels further, in a light of its own."""
    window = skimage.data.astronaut()[100:340, 40 + shift : 360 + shift]
    return (window * brightness).astype(np.uint8)


def scene(first: tuple[int, int, int], second: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a frame of two colours, a quarter of the pixels in the second."""
    frame = np.full((40, 60, 3), first, np.uint8)
    frame[:20, :30] = second
    return frame


ALL = np.ones(24, bool)


def test_a_shot_begins_where_the_picture_becomes_another() -> None:
    coffee = np.ascontiguousarray(skimage.data.coffee()[:240, :320])
    frames = np.stack([moving(0), moving(10), coffee, coffee[:, ::-1], moving(20)])
    assert shots(frames, ALL[:5], cut=0.2).tolist() == [0, 0, 1, 1, 2]
    assert shots(frames, ALL[:5], cut=None).tolist() == [0] * 5


def test_what_moves_and_flickers_is_one_shot() -> None:
    """A pan by a third of the picture in 24 rows, in a light that rises and falls by a fifth."""
    frames = np.stack([moving(5 * n, 0.9 + 0.1 * np.cos(n)) for n in range(24)])
    assert not shots(frames, ALL, cut=0.2).any()


def test_a_cut_in_the_dark_counts_as_one_in_the_light() -> None:
    """Two stages of few and low values, as lamps leave them."""
    frames = np.stack([scene((3, 2, 2), (20, 14, 9)), scene((26, 10, 2), (2, 9, 30))])
    assert shots(frames, ALL[:2], cut=0.2).tolist() == [0, 1]


def test_cut_is_a_share_of_the_pixels() -> None:
    frames = np.stack([scene((9, 9, 9), (9, 9, 9)), scene((9, 9, 9), (200, 0, 0))])
    assert shots(frames, ALL[:2], cut=0.24).tolist() == [0, 1]
    assert shots(frames, ALL[:2], cut=0.25).tolist() == [0, 0]


def test_a_row_that_shows_no_frame_is_no_cut() -> None:
    frames = np.stack([moving(0), np.zeros_like(moving(0)), moving(10), 0 * moving(0)])
    assert shots(frames, np.array([True, False, True, False]), cut=0.2).tolist() == [0] * 4
    assert shots(frames[:0], ALL[:0], cut=0.2).tolist() == []


def near(level: int) -> dict[int, int]:
    """Return level -> how much a pixel of ``level`` counts for it; past the ends it is mirrored."""
    counts = {near: 0 for near in range(16)}
    for far, weight in zip(range(-2, 3), (1, 2, 3, 2, 1), strict=True):
        place = level + far
        counts[-1 - place if place < 0 else min(place, 31 - place)] += weight
    return counts


def test_difference_of_two_frames_is_that_of_their_pixels_counted_one_by_one() -> None:
    draw = np.random.default_rng(2)
    frames = np.stack([draw.integers(0, high, (9, 16, 3), np.uint8) for high in (256, 120)])
    frames[0, 0, :2] = [[0, 255, 0], [255, 0, 255]]
    counts = np.zeros((2, 16, 16, 16), int)
    for frame, cells in zip(frames, counts, strict=True):
        for pixel in frame.reshape(-1, 3).tolist():
            levels = [near(int(value**0.5)) for value in pixel]
            red, green, blue = (np.array([each[n] for n in range(16)]) for each in levels)
            cells += red[:, None, None] * green[:, None] * blue
    difference = np.abs(counts[1] - counts[0]).sum() / (2 * counts[0].sum())
    assert 0.1 < difference < 0.9
    assert shots(frames, ALL[:2], cut=difference - 1e-9).tolist() == [0, 1]
    assert shots(frames, ALL[:2], cut=difference + 1e-9).tolist() == [0, 0]


# ---------------------------------------------------------------------------------- crops


def test_a_crop_is_the_square_around_the_box() -> None:
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[100:150, 200:240] = 255  # a box 40 wide and 50 high
    picture = crop(frame, np.array([200, 100, 240, 150], np.float32), margin=0.5)
    assert picture.shape == (224, 224, 3)
    white = np.argwhere(picture[..., 0] > 128)
    # the square's side is 100: the box is the middle half of it in height, 0.4 of it in width
    np.testing.assert_allclose(white.min(axis=0), [56, 67.2], atol=2)
    np.testing.assert_allclose(white.max(axis=0), [168, 156.8], atol=2)


UPRIGHT = np.array([TEMPLATE[name] for name in retinaface.LANDMARKS], np.float32) / 112
"""Where the landmarks of an upright face lie in its box, as shares of it."""


def cut_out(frame: NDArray[np.uint8], side: int, how: str) -> NDArray[np.uint8]:
    """Return a face that fills the middle of a frame, cut out or aligned."""
    height, width = frame.shape[:2]
    left, top = (width - side) / 2, (height - side) / 2
    box = np.array([left, top, left + side, top + side], np.float32)
    if how == "crop":
        return crop(frame, box, margin=0)
    landmarks = (UPRIGHT * side + [left, top]).astype(np.float32)
    return align(frame, box, landmarks, retinaface.LANDMARKS, margin=0)


@pytest.mark.parametrize("how", ["crop", "align"])
def test_a_face_that_is_made_smaller_is_the_mean_of_its_pixels(how: str) -> None:
    """Black and white pixels by turns are grey; picked one by one they would be black or white."""
    frame = np.zeros((700, 700, 3), np.uint8)
    frame[::2, ::2] = frame[1::2, 1::2] = 255
    inner = cut_out(frame, 660, how)[4:-4, 4:-4]
    assert np.abs(inner.astype(float) - 127.5).max() < 45


@pytest.mark.parametrize("how", ["crop", "align"])
def test_a_face_that_is_made_larger_rises_evenly(how: str) -> None:
    """Between 14 pixels that are 16 grey levels apart there is one level a pixel."""
    frame = np.repeat(np.arange(16, dtype=np.uint8)[None, :, None] * 16, 16, axis=0)
    rows = cut_out(np.repeat(frame, 3, axis=2), 14, how)[112, 10:-10, 0].astype(int)
    assert np.diff(rows).min() >= 0 and np.diff(rows).max() <= 2


def test_past_the_edge_the_last_pixels_are_repeated() -> None:
    frame = np.full((100, 100, 3), 200, np.uint8)
    for corner in itertools.product((-20, 80), repeat=2):
        box = np.array([*corner, corner[0] + 40, corner[1] + 40], np.float32)
        assert (crop(frame, box, margin=0.25) == 200).all()


@pytest.mark.parametrize("side", [900.0, 1e5, 1e30])
def test_a_box_far_beyond_the_frame_does_not_fill_the_memory(side: float) -> None:
    frame = np.full((48, 64, 3), 200, np.uint8)
    assert (crop(frame, np.array([-side, -side, side, side], np.float32), margin=2) == 200).all()


def test_a_square_that_lies_outside_shows_the_nearest_edge() -> None:
    frame = np.zeros((50, 100, 3), np.uint8)
    frame[:, -1] = 200
    assert (crop(frame, np.array([5e5, 10, 5e5 + 20, 30], np.float32), margin=0) == 200).all()


# ----------------------------------------------------------------------------- alignment

FIVE = np.array([TEMPLATE[name] for name in retinaface.LANDMARKS]) * 2
"""The template in a picture of 224, in the order of ArcFace."""


def box_of(side: float) -> NDArray[np.float32]:
    """Return a box whose longer side is given; where it stands does not matter to ``align``."""
    return np.array([7, 9, 7 + side, 9 + side / 2], np.float32)


turns = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 3)
shifts = st.tuples(st.floats(-50, 300), st.floats(-50, 300))


def spots(points: NDArray[np.float64], size: tuple[int, int], sigma: float) -> NDArray[np.uint8]:
    """Return a frame with a soft spot at each point."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    light = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points)
    return np.repeat((255 * np.clip(light, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)


def centre_of(picture: NDArray[np.uint8], near: NDArray[np.float64], reach: int) -> NDArray[float]:
    """Return the centre of the light within ``reach`` pixels of a place."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    light = picture[..., 0] * (np.hypot(x - near[0], y - near[1]) < reach)
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def test_a_face_that_stands_as_the_template_does_is_cut_out_unchanged() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    landmarks = (FIVE + [100, 60]).astype(np.float32)
    found = align(frame, box_of(224), landmarks, retinaface.LANDMARKS, margin=0)
    difference = found.astype(int) - frame[60:284, 100:324]
    assert found.shape == (224, 224, 3)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("angle", [-2.5, -0.4, 0.0, 0.3, 1.6])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_landmarks_come_to_lie_on_the_template(angle: float, scale: float, margin: float) -> None:
    turned = skimage.transform.SimilarityTransform(
        scale=scale, rotation=angle, translation=(300, 310)
    )
    points = turned(FIVE - 112)
    picture = align(
        spots(points, (600, 640), 5 * scale),
        box_of(224 * scale),
        points.astype(np.float32),
        retinaface.LANDMARKS,
        margin=margin,
    )
    for place in (FIVE - 112) / (1 + 2 * margin) + 112:
        np.testing.assert_allclose(centre_of(picture, place, 12), place, atol=0.35)


@given(turns, scales, shifts, st.integers(0, 2**32 - 1))
def test_the_similarity_is_the_one_of_least_squares(
    angle: float, scale: float, shift: tuple[float, float], seed: int
) -> None:
    """Beside scikit-image's estimate (Umeyama), on a frame whose colours are its coordinates.

    The box is as large as the estimate says, so that all three, turn, place and size, are compared.
    """
    noise = np.random.default_rng(seed).normal(0, 6, FIVE.shape)
    exact = skimage.transform.SimilarityTransform(scale=scale, rotation=angle, translation=shift)
    points = exact(FIVE + noise).astype(np.float32)
    estimate = skimage.transform.SimilarityTransform.from_estimate(points, FIVE)
    assert estimate
    y, x = np.mgrid[:256, :256].astype(np.uint8)
    box = box_of(224 / estimate.scale)
    found = align(np.stack([x, y, y], axis=-1), box, points, retinaface.LANDMARKS, margin=0)
    at = np.stack(np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5), axis=-1).reshape(-1, 2)
    expected = estimate.inverse(at) - 0.5
    edge = 2 + 2 * scale  # there the last pixels are repeated
    inside = ((expected > edge) & (expected < 255 - edge)).all(axis=1)
    difference = found[..., :2].reshape(-1, 2)[inside] - expected[inside]
    assert np.abs(difference).max(initial=0) < 1.6


def test_of_other_landmarks_only_those_of_the_template_count() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    six = (
        np.array([TEMPLATE.get(name, (0, 0)) for name in blazeface.LANDMARKS], np.float32) * 2 + 20
    )
    found = [
        align(frame, box_of(224), np.vstack([six[:4], ears]), blazeface.LANDMARKS, margin=0)
        for ears in (np.zeros((2, 2), np.float32), np.full((2, 2), 200, np.float32))
    ]
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0].astype(int) - frame[20:244, 20:244]).max() <= 1


def test_the_mouth_is_between_its_corners() -> None:
    corners = np.mean([TEMPLATE["right mouth corner"], TEMPLATE["left mouth corner"]], axis=0)
    np.testing.assert_allclose(TEMPLATE["mouth"], corners, atol=1e-4)


def test_every_detector_has_landmarks_of_the_template() -> None:
    for module in (blazeface, retinaface):
        assert len(set(module.LANDMARKS) & set(TEMPLATE)) >= 4


def test_landmarks_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="landmarks that lie apart"):
        frame = np.zeros((30, 30, 3), np.uint8)
        align(frame, box_of(9), np.full((5, 2), 7, np.float32), retinaface.LANDMARKS, margin=0)


def test_an_aligned_face_past_the_edge_repeats_the_last_pixels() -> None:
    frame = np.full((50, 60, 3), 90, np.uint8)
    for shift in (-1e5, -100, 40, 1e5):
        landmarks = (FIVE + shift).astype(np.float32)
        assert (align(frame, box_of(224), landmarks, retinaface.LANDMARKS, margin=0.5) == 90).all()
