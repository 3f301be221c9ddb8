"""The sound of the sample: room tone, and for each class a figure of its own pitch and rhythm.

Everything is float32 mono at SAMPLE_RATE_HZ. A figure has a root mean square of FIGURE_RMS over
its length and lies within [-1, 1]; room tone is some 25 dB below.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, sosfilt

Wave = npt.NDArray[np.float64]
Figure = Callable[[int, np.random.Generator], Wave]

SAMPLE_RATE_HZ = 44_100
FIGURE_RMS = 0.1
ROOM_RMS = 0.006
NEUTRAL = "neutral"


def make_sound(kind: str, samples: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Make the sound of a class, or "neutral": the tone of an empty room; float32 (samples,).

    Raises:
        ValueError: no sound has that name.
    """
    if kind not in _FIGURES:
        raise ValueError(f"no sound is called {kind!r}; there are: {', '.join(_FIGURES)}")
    wave = _FIGURES[kind](samples, rng)
    level = ROOM_RMS if kind == NEUTRAL else FIGURE_RMS
    wave = wave * (level / np.sqrt(np.mean(wave**2)))
    return np.asarray(np.clip(wave, -1, 1), dtype=np.float32)


def _room(samples: int, rng: np.random.Generator) -> Wave:
    """Mains hum with two overtones and soft noise."""
    mains_hz = rng.uniform(49.5, 50.5)
    hum = sum(_sine(np.full(samples, mains_hz * n), rng) / n for n in (1, 2, 3))
    return 0.6 * hum + 1.0 * _band(rng.normal(size=samples), 80, 1500)


def _pounding(samples: int, rng: np.random.Generator) -> Wave:
    """Anger: low distorted saw tone, struck fast, with bursts of noise."""
    beat_s, root_hz = rng.uniform(0.17, 0.21), rng.uniform(70, 90)
    steps = rng.choice([1.0, 1.0, 1.06, 0.94], size=_count(samples, beat_s))
    pitch_hz = root_hz * np.repeat(steps, _samples(beat_s))[:samples]
    saw = sum(_sine(pitch_hz * n, rng) / n for n in range(1, 16))
    growl = np.tanh(3.0 * saw * (1 + 0.5 * _sine(np.full(samples, 31.0), rng)))
    hits = _band(rng.normal(size=samples), 800, 6000)
    return growl * _pulses(samples, beat_s, 0.12) + 0.9 * hits * _pulses(samples, 2 * beat_s, 0.05)


def _gurgle(samples: int, rng: np.random.Generator) -> Wave:
    """Disgust: wet blobs whose pitch falls, over a slow wobble."""
    wave = np.zeros(samples)
    for start in _onsets(samples, 0.13, 0.06, rng):
        length = _samples(rng.uniform(0.09, 0.18))
        share = np.linspace(0, 1, length)
        pitch_hz = rng.uniform(260, 520) * 2 ** (-1.8 * share)
        bubbling_hz = pitch_hz * (1 + 0.3 * np.sin(2 * np.pi * 5 * share))
        blob = _sine(bubbling_hz, rng) * np.sin(np.pi * share) ** 2
        _add(wave, blob + 0.4 * _band(rng.normal(size=length), 200, 900) * (1 - share), start)
    wobble_hz = 110 * 2 ** (0.5 * _sine(np.full(samples, rng.uniform(1.6, 2.4)), rng))
    return wave + 0.25 * _sine(wobble_hz, rng)


def _trembling(samples: int, rng: np.random.Generator) -> Wave:
    """Fear: a high trembling cluster that slides up, over a heartbeat."""
    slide = 2 ** np.linspace(0, rng.uniform(0.4, 0.7), samples)
    root_hz = rng.uniform(820, 980)
    cluster = sum(_sine(root_hz * ratio * slide, rng) for ratio in (1.0, 1.06, 1.125, 1.42))
    tremble = 0.55 + 0.45 * _sine(np.full(samples, rng.uniform(11, 14)), rng)
    wave = 0.35 * cluster * tremble
    for start in range(0, samples, _samples(rng.uniform(0.55, 0.7))):
        for delay_s, force in ((0.0, 1.6), (0.19, 1.1)):
            _add(wave, force * _ring(58.0, 0.05, 0.2, rng), start + _samples(delay_s))
    return wave


def _dance(samples: int, rng: np.random.Generator) -> Wave:
    """Joy: plucked notes that climb a major chord, quick and even, over a bass on the beat."""
    beat_s, root_hz = rng.uniform(0.12, 0.15), rng.choice([523.25, 587.33, 659.26])
    ladder = np.array([0, 4, 7, 12, 16, 12, 7, 4]) + rng.choice([0, 0, 2], size=8)
    wave = np.zeros(samples)
    for step in range(_count(samples, beat_s)):
        start = step * _samples(beat_s)
        pitch_hz = root_hz * 2 ** (ladder[step % len(ladder)] / 12)
        for n in (1, 2, 3):
            _add(wave, _ring(pitch_hz * n, 0.11 / n, 0.4, rng) / n, start)
        if step % 4 == 0:
            _add(wave, 0.8 * _ring(root_hz / 4, 0.12, 0.4, rng), start)
    return wave


def _lament(samples: int, rng: np.random.Generator) -> Wave:
    """Sadness: long low notes with vibrato that go down a minor scale, dull and soft."""
    note_s, root_hz = rng.uniform(0.75, 0.95), rng.uniform(205, 235)
    scale = [0, -2, -4, -5, -7, -9, -12]
    notes = [root_hz * 2 ** (scale[n % len(scale)] / 12) for n in range(_count(samples, note_s))]
    pitch_hz = np.repeat(notes, _samples(note_s))[:samples]
    pitch_hz = uniform_filter1d(pitch_hz, _samples(0.08), mode="nearest")  # glides between notes
    pitch_hz = pitch_hz * (1 + 0.012 * _sine(np.full(samples, 5.2), rng))
    tone = sum(_sine(pitch_hz * n, rng) / n**1.6 for n in range(1, 7))
    swell = 0.55 + 0.45 * np.sin(np.pi * ((np.arange(samples) / _samples(note_s)) % 1))
    return np.asarray(tone * swell)


def _gasp(samples: int, rng: np.random.Generator) -> Wave:
    """Surprise: a swoop up two octaves, a bright stroke of bells, a short silence; again."""
    wave = np.zeros(samples)
    cycle_s = rng.uniform(0.85, 1.05)
    for start in range(0, samples, _samples(cycle_s)):
        rise = np.linspace(0, 1, _samples(0.35))
        swoop = _sine(rng.uniform(320, 400) * 2 ** (2.2 * rise**1.5), rng)
        _add(wave, 0.7 * swoop * rise * (1 + 0.3 * np.sign(swoop)), start)
        stroke = start + len(rise)
        for ratio in (1.0, 1.5, 2.76, 4.07):
            _add(wave, 0.4 * _ring(1500 * ratio, 0.12, 0.4, rng), stroke)
        splash = _band(rng.normal(size=_samples(0.3)), 4000, 12000)
        _add(wave, 0.8 * splash * np.exp(-np.arange(len(splash)) / _samples(0.07)), stroke)
    return wave


_FIGURES: dict[str, Figure] = {
    NEUTRAL: _room,
    "anger": _pounding,
    "disgust": _gurgle,
    "fear": _trembling,
    "joy": _dance,
    "sadness": _lament,
    "surprise": _gasp,
}


def _samples(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE_HZ))


def _count(samples: int, step_s: float) -> int:
    """Return how many steps it takes to cover so many samples."""
    return -(-samples // _samples(step_s))


def _sine(pitch_hz: Wave, rng: np.random.Generator) -> Wave:
    """Return a sine wave of changing pitch, from a random phase."""
    phase = 2 * np.pi * (rng.random() + np.cumsum(pitch_hz) / SAMPLE_RATE_HZ)
    return np.asarray(np.sin(phase), dtype=np.float64)


def _ring(pitch_hz: float, decay_s: float, length_s: float, rng: np.random.Generator) -> Wave:
    """Return a struck note: 3 ms of attack, then it dies away."""
    time_s = np.arange(_samples(length_s)) / SAMPLE_RATE_HZ
    envelope = np.minimum(time_s / 0.003, 1) * np.exp(-time_s / decay_s)
    return envelope * _sine(np.full(len(time_s), pitch_hz), rng)


def _pulses(samples: int, every_s: float, decay_s: float) -> Wave:
    """Return an envelope that jumps to 1 at each beat and dies away."""
    since_s = (np.arange(samples) % _samples(every_s)) / SAMPLE_RATE_HZ
    return np.asarray(np.minimum(since_s / 0.004, 1) * np.exp(-since_s / decay_s))


def _onsets(
    samples: int, every_s: float, spread_s: float, rng: np.random.Generator
) -> Sequence[int]:
    """Return uneven starts: about one each `every_s`, off by up to `spread_s`."""
    even = np.arange(0, samples, _samples(every_s))
    uneven = even + rng.integers(0, _samples(spread_s), len(even))
    return [int(start) for start in uneven]


def _band(wave: Wave, low_hz: float, high_hz: float) -> Wave:
    """Keep what lies between two frequencies (Butterworth, second order)."""
    sections = butter(2, (low_hz, high_hz), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sections, wave), dtype=np.float64)


def _add(wave: Wave, part: Wave, start: int) -> None:
    """Add a part to a wave in place; what reaches past the end is dropped."""
    part = part[: max(0, len(wave) - start)]
    wave[start : start + len(part)] += part
