"""The numbers are those of AudioSet's NumPy code on the same signal."""

import numpy as np
import pytest
import scipy.signal
import soxr
from numpy.typing import NDArray

from features.networks import mel
from features.networks.mel import BANDS, CHUNK, MAX_HZ, MIN_HZ, SAMPLE_RATE_HZ, log_mel, mel_matrix
from tests.conftest import waveform


def examples(samples: NDArray[np.float32], rate_hz: int) -> tuple[NDArray, NDArray]:
    """Return all examples of a sound and their starts."""
    parts = list(mel.examples(waveform(samples, rate_hz)))
    rows = [np.zeros((0, 96, BANDS), np.float32), *(part[0] for part in parts)]
    return np.concatenate(rows), np.concatenate([np.zeros(0), *(part[1] for part in parts)])


def tone(seconds: float, rate_hz: int = SAMPLE_RATE_HZ, hz: float = 1000) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def test_log_mel_of_a_tone_is_the_reference() -> None:
    found = log_mel(np.sin(2 * np.pi * 1000 * np.arange(48_000) / 16_000))
    assert found.shape == (298, 64)
    assert found.mean() == pytest.approx(-3.42961870, abs=1e-6)
    assert found.std() == pytest.approx(2.12657734, abs=1e-6)
    assert found.min() == pytest.approx(-4.60116305, abs=1e-6)
    assert found.max() == pytest.approx(4.81111773, abs=1e-6)
    assert set(found.argmax(axis=1)) == {19}
    np.testing.assert_allclose(found[0, :3], [-4.48313252, -4.27083405, -4.17064267], atol=1e-6)
    np.testing.assert_allclose(found[0, 18:21], [2.69300255, 4.81111773, 4.77504440], atol=1e-6)
    np.testing.assert_allclose(found, found[:1].repeat(298, axis=0), atol=1e-4)


def test_the_mel_matrix_is_the_reference() -> None:
    matrix = mel_matrix()
    assert matrix.shape == (257, 64)
    assert matrix.sum() == pytest.approx(230.9135991608, abs=1e-9)
    assert matrix.max() == pytest.approx(0.9961910175, abs=1e-9)
    assert np.count_nonzero(matrix) == 461
    sums = matrix.sum(axis=0)
    np.testing.assert_allclose(
        sums[:4], [0.94769046, 0.98541588, 1.02745995, 1.13030124], atol=1e-8
    )
    np.testing.assert_allclose(sums[-3:], [8.33104159, 8.64865170, 8.94418329], atol=1e-8)
    assert not matrix[0].any()


def test_band_edges_are_the_reference() -> None:
    edges = np.linspace(1127 * np.log1p(MIN_HZ / 700), 1127 * np.log1p(MAX_HZ / 700), BANDS + 2)
    assert (edges[0], edges[-1]) == (pytest.approx(185.16954), pytest.approx(2773.33185))
    assert np.diff(edges) == pytest.approx(39.81788)
    edges_hz = 700 * np.expm1(edges / 1127)
    np.testing.assert_allclose(edges_hz[:4], [125, 154.66899, 185.40495, 217.24625], atol=1e-4)
    np.testing.assert_allclose(edges_hz[-3:], [6940.57170, 7215.34509, 7500], atol=1e-4)
    bins_hz = np.linspace(0, 8000, 257)
    for band, column in enumerate(mel_matrix().T):
        inside = bins_hz[column > 0]
        assert inside.min() > edges_hz[band]
        assert inside.max() < edges_hz[band + 2]


def test_log_mel_agrees_with_scipys_spectrum() -> None:
    noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1
    transform = scipy.signal.ShortTimeFFT(
        scipy.signal.windows.hann(400, sym=False), hop=160, fs=16_000, mfft=512, phase_shift=None
    )
    spectrum = np.abs(transform.stft(noise, p0=0, k_offset=200))  # no padding at the start
    expected = np.log(spectrum.T @ mel_matrix() + 0.01)
    found = log_mel(noise)
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-6)


def test_silence_is_the_logarithm_of_the_offset() -> None:
    found, _ = examples(np.zeros(16_000, np.float32), 16_000)
    np.testing.assert_allclose(found, -4.60517, atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "count"),
    [(0, 0), (1, 0), (399, 0), (15_599, 0), (15_600, 1), (16_000, 1), (48_000, 3), (160_000, 10)],
)
def test_only_whole_examples_count(samples: int, count: int) -> None:
    found, start_s = examples(np.zeros(samples, np.float32), 16_000)
    assert found.shape == (count, 96, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(start_s, np.arange(count) * 0.96)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_a_tone_sounds_the_same_at_every_rate(rate_hz: int) -> None:
    found, _ = examples(tone(2.0, rate_hz), rate_hz)
    expected, _ = examples(tone(2.0), 16_000)
    assert found.shape == expected.shape
    loud = expected[0, 48] > 0
    np.testing.assert_allclose(found[0, 48][loud], expected[0, 48][loud], atol=0.01)


def test_no_sound_at_another_rate_is_no_example() -> None:
    found, start_s = examples(np.zeros(0, np.float32), 44_100)
    assert (len(found), len(start_s)) == (0, 0)


@pytest.mark.parametrize("block", [999, 1 << 20])
def test_examples_are_those_of_the_sound_as_a_whole(block: int) -> None:
    """What came out before sound was read in blocks: to the last bit."""
    count = CHUNK + 3
    noise = np.random.default_rng(0).normal(size=count * 46_080 + 720).astype(np.float32)
    parts = list(mel.examples(waveform(noise, 48_000, block)))
    assert [len(part) for part, _ in parts] == [CHUNK, 3]
    whole = soxr.resample(noise, 48_000, 16_000, quality="HQ")
    for part, start_s in parts:
        first = round(start_s[0] * 16_000)
        expected = log_mel(whole[first : first + (len(part) * 96 - 1) * 160 + 400])
        np.testing.assert_array_equal(part, expected.reshape(-1, 96, 64).astype(np.float32))


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [(np.zeros((10, 2)), 16_000), (np.zeros(10), 0), (np.full(9, np.nan), 8)],
)
def test_what_is_no_mono_waveform_is_refused(samples: NDArray[np.float64], rate_hz: int) -> None:
    with pytest.raises(ValueError, match="expected a mono waveform"):
        examples(samples.astype(np.float32), rate_hz)
