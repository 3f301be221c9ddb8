"""Sound in blocks is the same sound; what resampling leaves and takes away is held to numbers."""

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.waveform import resampled, spans


def tone(hz: float, rate_hz: int, seconds: float = 1.0) -> NDArray[np.float32]:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * hz * time_s).astype(np.float32)


def whole(samples: NDArray[np.float32], rate_hz: int, wanted_hz: int) -> NDArray[np.float32]:
    return np.concatenate(list(resampled([samples], rate_hz, wanted_hz)))


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), [(48_000, 16_000), (44_100, 16_000), (8, 11)])
@pytest.mark.parametrize("block", [1, 777, 30_000])
def test_resampling_in_blocks_is_soxrs_hq_of_the_whole(
    rate_hz: int, wanted_hz: int, block: int
) -> None:
    noise = np.random.default_rng(0).normal(size=3_000 if block == 1 else 100_000)
    sound = noise.astype(np.float32)
    blocks = (sound[first : first + block] for first in range(0, len(sound), block))
    found = np.concatenate(list(resampled(blocks, rate_hz, wanted_hz)))
    np.testing.assert_array_equal(found, soxr.resample(sound, rate_hz, wanted_hz, quality="HQ"))


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), [(48_000, 16_000), (22_050, 44_100)])
def test_resampling_keeps_what_fits_and_nothing_else(rate_hz: int, wanted_hz: int) -> None:
    """Up to 0.9 of the lower rate's half a tone is kept to 0.01 dB; what folds is 100 dB down."""
    kept_hz = 0.9 * min(rate_hz, wanted_hz) / 2
    middle = slice(wanted_hz // 4, 3 * wanted_hz // 4)
    found = whole(tone(kept_hz, rate_hz), rate_hz, wanted_hz)[middle]
    np.testing.assert_allclose(found, tone(kept_hz, wanted_hz)[middle], atol=1e-3)
    if wanted_hz < rate_hz:
        folding = whole(tone(1.2 * wanted_hz / 2, rate_hz), rate_hz, wanted_hz)[middle]
        assert np.abs(folding).max() < 1e-5


def test_the_same_rate_changes_nothing() -> None:
    sound = tone(440, 8_000)
    np.testing.assert_array_equal(whole(sound, 8_000, 8_000), sound)


@given(
    lengths=st.lists(st.integers(0, 40), max_size=12),
    window=st.integers(1, 20),
    overlap=st.integers(0, 19),
    count=st.integers(1, 5),
)
def test_spans_have_each_window_once_and_nothing_behind_the_last(
    lengths: list[int], window: int, overlap: int, count: int
) -> None:
    hop = max(1, window - overlap)
    sound = np.arange(sum(lengths), dtype=np.float32)
    blocks = np.split(sound, np.cumsum(lengths)[:-1]) if lengths else []
    expected = [sound[at : at + window] for at in range(0, len(sound) - window + 1, hop)]
    found, sizes = [], []
    for span in spans(blocks, window, hop, count):
        starts = range(0, len(span) - window + 1, hop)
        assert len(span) == starts[-1] + window
        found += [span[at : at + window] for at in starts]
        sizes.append(len(starts))
    np.testing.assert_array_equal(np.array(found), np.array(expected))
    assert sizes == [count] * (len(expected) // count) + [n for n in [len(expected) % count] if n]
