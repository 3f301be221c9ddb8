import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.video.views import View, choose, instants, on_screen

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
    with pytest.raises(ValueError, match="count and length >= 1"):
        View("uniform", 0, 64)
    with pytest.raises(ValueError, match="expected length 1 for segments"):
        View("segments", 24, 64, 16)


@given(frames=st.integers(1, 400), count=st.integers(1, 12), length=st.integers(2, 20))
def test_a_snippet_is_consecutive_frames_that_start_in_its_segment(
    frames: int, count: int, length: int
) -> None:
    view = View("snippets", count, 64, length)
    pts_s = np.arange(frames) / 25
    numbers = choose(view, pts_s, frames / 25, "s")
    assert numbers.shape == (count, length)
    assert numbers.min() >= 0 and numbers.max() < frames
    steps = np.diff(numbers, axis=1) % frames
    assert np.all(steps == 1 % frames)
    if frames >= count * length:  # then every snippet lies within its segment, to a frame
        place = numbers * count / frames
        assert np.all(place[:, 0] > np.arange(count) - 1e-6)
        assert np.all(place[:, -1] < np.arange(count) + 1 + count / frames)
    np.testing.assert_array_equal(numbers, choose(view, pts_s, frames / 25, "s"))


@given(start=starts, fps=st.sampled_from([10, 25, 30_000 / 1001]))
def test_each_frame_and_each_start_of_a_segment_is_drawn_from_its_first_to_its_last(
    start: float, fps: float
) -> None:
    pts_s, end_s = start + np.arange(20) / fps, start + 20 / fps
    seeds = [str(number) for number in range(150)]
    single = np.array([choose(View("segments", 2, 64), pts_s, end_s, seed) for seed in seeds])
    assert [sorted(set(column)) for column in single.T] == [[*range(10)], [*range(10, 20)]]
    view = View("snippets", 2, 64, 7)
    snippets = np.array([choose(view, pts_s, end_s, seed)[:, 0] for seed in seeds])
    assert [sorted(set(column)) for column in snippets.T] == [[*range(4)], [*range(10, 14)]]
