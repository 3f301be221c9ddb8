import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.faces import Detections, crop, link, main_person, overlap


def faces(
    *boxes: tuple[float, float, float, float], scores: list[float] | None = None
) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(scores or [0.9] * n, np.float32),
        np.zeros((n, 6, 2), np.float32),
    )


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
    tracks = link(rows, min_overlap=0.3, max_gap=1)
    assert all(list(numbers) == [0, 1] for n, numbers in enumerate(tracks) if n != 4)
    assert list(tracks[4]) == [1, 0]


def test_a_track_outlives_a_gap_but_not_a_longer_one() -> None:
    face, none = faces((0, 0, 20, 20)), faces()
    assert [list(t) for t in link([face, none, face], min_overlap=0.3, max_gap=1)] == [[0], [], [0]]
    numbers = link([face, none, none, face], min_overlap=0.3, max_gap=1)
    assert [list(t) for t in numbers] == [[0], [], [], [1]]


def test_the_main_person_is_who_is_shown_most_and_others_fill_the_gaps() -> None:
    large, small = (0.0, 0.0, 40.0, 40.0), (60.0, 0.0, 70.0, 10.0)
    rows = [faces(small, large), faces(large, small), faces(small), faces()]
    chosen = main_person(rows, link(rows, min_overlap=0.3, max_gap=1))
    assert list(chosen) == [1, 0, 0, -1]


def test_a_confident_face_beats_a_doubtful_one_of_its_size() -> None:
    row = faces((0, 0, 20, 20), (50, 0, 70, 20), scores=[0.5, 0.9])
    assert list(main_person([row], link([row], min_overlap=0.3, max_gap=1))) == [1]


def test_a_crop_is_the_square_around_the_box() -> None:
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[100:150, 200:240] = 255  # a box 40 wide and 50 high
    picture = crop(frame, np.array([200, 100, 240, 150], np.float32), margin=0.5)
    assert picture.shape == (224, 224, 3)
    white = np.argwhere(picture[..., 0] > 128)
    # the square's side is 100: the box is the middle half of it in height, 0.4 of it in width
    np.testing.assert_allclose(white.min(axis=0), [56, 67.2], atol=2)
    np.testing.assert_allclose(white.max(axis=0), [168, 156.8], atol=2)


def test_past_the_edge_the_last_pixels_are_repeated() -> None:
    frame = np.full((100, 100, 3), 200, np.uint8)
    for corner in itertools.product((-20, 80), repeat=2):
        box = np.array([*corner, corner[0] + 40, corner[1] + 40], np.float32)
        assert (crop(frame, box, margin=0.25) == 200).all()
