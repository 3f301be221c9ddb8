"""The person: the cut-out, and expressions that move what they should move."""

from itertools import combinations

import numpy as np
import pytest
from skimage import data

from sample import portrait
from sample.expressions import EXPRESSIONS, LANDMARKS, NEUTRAL

CHANGED = [name for name in EXPRESSIONS if name != NEUTRAL]


@pytest.fixture(scope="module")
def person() -> portrait.Portrait:
    return portrait.load_portrait()


def in_box(left: int, top: int, right: int, bottom: int) -> tuple[slice, slice]:
    """Return the part of the face box that lies between points of the photograph."""
    y0, x0 = portrait.FACE_TOP_PX, portrait.FACE_LEFT_PX
    return slice(top - y0, bottom - y0), slice(left - x0, right - x0)


def test_a_spline_without_moves_changes_nothing() -> None:
    source = portrait._bend({})
    y, x = np.mgrid[: source.shape[0], : source.shape[1]]
    np.testing.assert_allclose(source, np.stack([x, y], axis=2), atol=1e-3)


def test_a_spline_takes_each_landmark_from_where_it_was() -> None:
    moves = {"mouth_l": (-4.0, 2.0)}
    source = portrait._bend(moves)
    y0, x0 = portrait.FACE_TOP_PX, portrait.FACE_LEFT_PX
    assert LANDMARKS["mouth_l"] == (203, 140)
    np.testing.assert_allclose(source[142 - y0, 199 - x0], (203 - x0, 140 - y0), atol=0.05)


def test_moves_name_landmarks_that_exist() -> None:
    for moves in EXPRESSIONS.values():
        assert set(moves) <= set(LANDMARKS)


def test_the_cut_out_holds_the_person_and_nothing_of_the_flag_and_the_shuttle(
    person: portrait.Portrait,
) -> None:
    alpha = person.person_HWC[..., 3]
    for x, y in ((224, 120), (180, 90), (270, 60), (150, 300), (390, 440)):  # face, hair, suit
        assert alpha[y, x] == 255
    for x, y in ((60, 100), (20, 300), (410, 100), (440, 250), (330, 150), (224, 4)):
        assert alpha[y, x] == 0
    assert (person.person_HWC[..., :3] <= alpha[..., None] + 1e-3).all()  # colour times alpha


def test_no_expression_at_strength_zero(person: portrait.Portrait) -> None:
    neutral = portrait.draw_face(person, NEUTRAL, 1.0)
    for name in CHANGED:
        np.testing.assert_array_equal(portrait.draw_face(person, name, 0.0), neutral)


def test_every_two_faces_differ_and_the_hair_stays(person: portrait.Portrait) -> None:
    faces = {name: portrait.draw_face(person, name, 1.0) for name in EXPRESSIONS}
    middle, hair = in_box(190, 86, 260, 180), in_box(180, 69, 270, 76)
    for one, other in combinations(faces, 2):
        difference = np.abs(faces[one] - faces[other]).mean(2)
        assert difference[middle].mean() > 4, (one, other)
        assert difference[hair].mean() < difference[middle].mean() / 2, (one, other)


def test_brows_go_down_in_anger_and_up_in_surprise(person: portrait.Portrait) -> None:
    inner_brows = in_box(208, 86, 240, 98)
    y = np.mgrid[86:98, 208:240][0] - portrait.FACE_TOP_PX
    comes_from = {name: person.source_HW2[name][inner_brows][..., 1] - y for name in CHANGED}
    for name in ("anger", "disgust"):
        assert comes_from[name].mean() < -2  # from above: the brows went down
    for name in ("surprise", "fear", "sadness"):
        assert comes_from[name].mean() > 2


def test_the_mouth_is_dark_in_surprise_white_in_joy_and_closed_otherwise(
    person: portrait.Portrait,
) -> None:
    mouth = in_box(208, 138, 240, 162)
    faces = {n: portrait.draw_face(person, n, 1.0)[mouth].mean(2) for n in EXPRESSIONS}
    dark = {name: int((face < 60).sum()) for name, face in faces.items()}
    assert dark["surprise"] > 100
    assert max(count for name, count in dark.items() if name != "surprise") < 40
    bright = {name: float(np.percentile(face, 95)) for name, face in faces.items()}
    assert bright["joy"] > bright[NEUTRAL] + 15


def test_the_person_is_drawn_where_the_stance_says(person: portrait.Portrait) -> None:
    stance = portrait.Stance(face_x=150.0, face_y=90.0, scale=0.5, angle_deg=0.0)
    drawn = portrait.draw_person(person, "joy", 0.0, stance, 320, 240)
    alpha = drawn[..., 3] > 128
    # The head reaches from y 16 to about y 188 of the photograph, its centre being y 122.
    assert np.flatnonzero(alpha[:, 150])[0] == pytest.approx(90 - 0.5 * (122 - 17), abs=2)
    hair = np.flatnonzero(alpha[90 - 16])  # at y 90 of the photograph: x 155..300
    assert (hair[0], hair[-1]) == pytest.approx((150 - 0.5 * 69, 150 + 0.5 * 76), abs=3)


def test_another_photograph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "astronaut", lambda: np.zeros((256, 256, 3), np.uint8))
    with pytest.raises(ValueError, match="astronaut.*expected .*512.*found .*256"):
        portrait.load_portrait()
