"""The sound: level, and that each class has a figure of its own."""

from itertools import pairwise

import numpy as np
import pytest

from sample import sound
from sample.clips import LABELS

SECONDS = 2
SAMPLES = SECONDS * sound.SAMPLE_RATE_HZ


def make(kind: str, seed: int) -> np.ndarray:
    return sound.make_sound(kind, SAMPLES, np.random.default_rng(seed))


def level(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))


@pytest.mark.parametrize("kind", LABELS)
def test_a_figure_has_the_stated_level_and_is_the_same_each_time(kind: str) -> None:
    wave = make(kind, 1)
    assert wave.shape == (SAMPLES,) and wave.dtype == np.float32
    assert np.abs(wave).max() <= 1
    assert level(wave) == pytest.approx(sound.FIGURE_RMS, rel=0.02)
    np.testing.assert_array_equal(wave, make(kind, 1))
    assert np.abs(wave - make(kind, 2)).max() > 0.01


def test_the_room_is_quiet() -> None:
    wave = make(sound.NEUTRAL, 1)
    assert level(wave) == pytest.approx(sound.ROOM_RMS, rel=0.02)
    assert np.abs(wave).max() < sound.FIGURE_RMS


@pytest.mark.parametrize("samples", [2_000, 12_345])
@pytest.mark.parametrize("kind", (sound.NEUTRAL, *LABELS))
def test_a_short_sound_is_finite(kind: str, samples: int) -> None:
    wave = sound.make_sound(kind, samples, np.random.default_rng(0))
    assert wave.shape == (samples,)
    assert np.isfinite(wave).all()


def test_the_nearest_sound_in_spectrum_has_the_same_class() -> None:
    edges = np.geomspace(50, 12_000, 25)
    hz = np.fft.rfftfreq(2048, 1 / sound.SAMPLE_RATE_HZ)

    def spectra(seed: int) -> np.ndarray:
        rows = []
        for kind in LABELS:
            blocks = make(kind, seed)[: SAMPLES // 2048 * 2048].reshape(-1, 2048)
            power = (np.abs(np.fft.rfft(blocks * np.hanning(2048))) ** 2).mean(0)
            bands = [power[(hz >= lo) & (hz < hi)].sum() for lo, hi in pairwise(edges)]
            rows.append(np.log10(np.array(bands) + 1e-3))
        return np.stack(rows)

    known, asked = spectra(20), spectra(21)
    distance = np.linalg.norm(asked[:, None] - known[None], axis=2)
    assert distance.argmin(1).tolist() == list(range(len(LABELS)))


def test_an_unknown_sound_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'boredom'.*neutral, anger, disgust"):
        sound.make_sound("boredom", 10, np.random.default_rng(0))
