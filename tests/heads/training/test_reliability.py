import numpy as np
import pytest

from heads.training.reliability import BINS, reliability


def sure(*confidences: float) -> np.ndarray:
    """Return answers of the first of two classes, so and so sure."""
    return np.array([(each, 1 - each) for each in confidences], dtype=np.float32)


def test_the_error_is_as_worked_out_by_hand() -> None:
    # Bins are 1/15 wide: 0.62 and 0.65 lie in (9/15, 10/15], 0.95 and 0.99 in the last.
    found = reliability(np.array([0, 1, 0, 0, 1]), sure(0.62, 0.65, 0.95, 0.99, 0.97))
    assert found.videos.tolist() == [0] * 9 + [2] + [0] * 4 + [3]
    assert found.confidence[[9, 14]] == pytest.approx([0.635, 0.97])
    assert found.accuracy[[9, 14]] == pytest.approx([1 / 2, 2 / 3])
    assert np.isnan(found.confidence[:9]).all() and np.isnan(found.accuracy[10:14]).all()
    # (2 |0.635 - 0.5| + 3 |0.97 - 2/3|) / 5
    assert found.ece == pytest.approx((2 * 0.135 + 3 * (0.97 - 2 / 3)) / 5)


def test_too_sure_and_too_unsure_do_not_cancel_between_bins() -> None:
    # All wrong at 0.7, all right at 0.75: as often right as sure on the whole, and yet far off.
    found = reliability(np.array([1, 1, 0, 0]), sure(0.7, 0.7, 0.75, 0.75))
    assert found.ece == pytest.approx((0.7 + 0.25) / 2)


def test_a_confidence_between_two_bins_is_in_the_lower_one() -> None:
    # 0.6 = 9/15 as float32 lies above it, 0.75 is none; 1 is in the last bin.
    edges = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], dtype=np.float64)
    assert reliability(np.array([0, 0]), edges).videos.tolist() == [0] * 7 + [1] + [0] * 6 + [1]
    third = np.full((1, 3), 1 / 3)  # 5/15, the end of the fifth bin
    assert np.flatnonzero(reliability(np.array([0]), third).videos).tolist() == [4]
    assert BINS == 15


def test_what_is_right_as_often_as_it_is_sure_has_no_error() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    assert reliability(labels, sure(*[0.8] * 10)).ece == pytest.approx(0, abs=1e-7)


def test_without_an_answer_there_is_no_curve() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        reliability(np.zeros(0, np.int64), np.zeros((0, 2), np.float32))
