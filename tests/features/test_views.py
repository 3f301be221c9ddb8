import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.views import View, instants, on_screen

counts = st.integers(1, 60)
lengths = st.floats(0.01, 1e4)
starts = st.floats(0, 1e3)


@given(count=counts, start=starts, length=lengths, seed=st.text(max_size=8))
def test_each_segment_gives_exactly_one_instant(
    count: int, start: float, length: float, seed: str
) -> None:
    times = instants(View("segments", count, 64), start, start + length, seed)
    places = (times - start) / length * count
    assert len(times) == count
    assert np.all(places >= np.arange(count) - 1e-6)
    assert np.all(places <= np.arange(count) + 1 + 1e-6)


@given(count=counts, frames=st.integers(1, 300))
def test_uniform_instants_take_frame_i_n_over_count(count: int, frames: int) -> None:
    pts_s = np.arange(frames) / 25
    times = instants(View("uniform", count, 64), 0.0, frames / 25, "any")
    expected = np.unique([i * frames // count for i in range(count)])
    np.testing.assert_array_equal(on_screen(pts_s, times), expected)


@given(
    pts=st.lists(st.floats(0, 100), min_size=1, max_size=50, unique=True).map(sorted),
    wanted=st.lists(st.floats(0, 120), min_size=1, max_size=50).map(sorted),
)
def test_the_frame_on_screen_is_the_last_that_is_not_later(
    pts: list[float], wanted: list[float]
) -> None:
    numbers = on_screen(np.array(pts), np.array(wanted))
    expected = {max([i for i, p in enumerate(pts) if p <= t + 1e-6], default=0) for t in wanted}
    assert list(numbers) == sorted(expected)


def test_the_seed_moves_the_draws_and_only_the_seed() -> None:
    view = View("segments", 24, 64)
    first = instants(view, 0.0, 10.0, "a")
    np.testing.assert_array_equal(first, instants(view, 0.0, 10.0, "a"))
    assert not np.array_equal(first, instants(view, 0.0, 10.0, "b"))


def test_an_impossible_view_is_refused() -> None:
    with pytest.raises(ValueError, match="count >= 1"):
        View("uniform", 0, 64)
