"""Log-mel examples: VGGish's front end, the same numbers as AudioSet's original.

Source: Hershey et al. 2017, "CNN architectures for large-scale audio classification"; constants
and their order of operations from tensorflow/models, research/audioset/vggish (vggish_params.py,
mel_features.py): magnitude and not power, triangles linear in mel and not in Hz, no area
normalisation, no padding at either end.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.waveform import Waveform, resampled, spans

SAMPLE_RATE_HZ = 16_000
WINDOW = 400  # samples, 0.025 s
HOP = 160  # samples, 0.010 s
FFT = 512  # samples, the next power of two
BINS = FFT // 2 + 1

BANDS = 64
MIN_HZ = 125.0
MAX_HZ = 7500.0
LOG_OFFSET = 0.01  # silence is ln(0.01)

EXAMPLE_FRAMES = 96
EXAMPLE_S = EXAMPLE_FRAMES * HOP / SAMPLE_RATE_HZ
"""An example's hop and its nominal length, 0.96 s; its last window reaches 0.015 s further."""

EXAMPLE_SAMPLES = (EXAMPLE_FRAMES - 1) * HOP + WINDOW

CHUNK = 64
"""Examples that are computed at a time: an hour of sound must not need its spectrum in memory."""


def examples(waveform: Waveform) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Cut a waveform into log-mel examples; another rate than 16 kHz is resampled.

    Yields:
        Examples (t, 96, 64): t at a time, frame, band; and their starts in seconds (t,), counted
        from the waveform's first sample. There is none where the sound is shorter than one
        (15,600 samples at 16 kHz).

    Raises:
        ValueError: no mono waveform of finite numbers, or no rate.
    """
    samples = resampled(waveform.blocks, waveform.sample_rate_hz, SAMPLE_RATE_HZ)
    first = 0
    for span in spans(samples, EXAMPLE_SAMPLES, EXAMPLE_FRAMES * HOP, CHUNK):
        part = log_mel(span).reshape(-1, EXAMPLE_FRAMES, BANDS).astype(np.float32)
        yield part, np.arange(first, first + len(part), dtype=np.float64) * EXAMPLE_S
        first += len(part)


def log_mel(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ln(mel + 0.01) of a 16 kHz waveform (N,), N >= 400: (1 + (N - 400) // 160, 64)."""
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)  # periodic
    magnitude = np.abs(np.fft.rfft(windows * hann, FFT))
    return np.log(magnitude @ mel_matrix() + LOG_OFFSET)


def mel_matrix() -> NDArray[np.float64]:
    """Return the weights (257, 64) that sum FFT bins into mel bands."""
    bins_mel = _hz_to_mel(np.linspace(0, SAMPLE_RATE_HZ / 2, BINS))[:, None]
    edges_mel = np.linspace(_hz_to_mel(MIN_HZ), _hz_to_mel(MAX_HZ), BANDS + 2)
    low, centre, high = edges_mel[:-2], edges_mel[1:-1], edges_mel[2:]
    rising = (bins_mel - low) / (centre - low)
    falling = (high - bins_mel) / (high - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of the signal
    return weights


def _hz_to_mel(frequency_hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """HTK's mel scale."""
    return 1127.0 * np.log1p(np.asarray(frequency_hz) / 700.0)
