"""What was heard: the shape of a sound, and a player's file that anyone can decode."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from stages.results.hearing import COLUMNS, LONGEST_S, PLAYED_HZ, heard
from stages.results.pictures import NotHere
from tests.stages.results.made_views import write_sound


def decoded(data: bytes) -> np.ndarray:
    """Return an MP3's samples."""
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].rate == PLAYED_HZ
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(parts, axis=1)[0]


def test_the_shape_is_what_swells_and_the_player_sounds_like_it(in_folder: Path) -> None:
    write_sound("joy/a", 2.0)
    found = heard("joy/a")
    assert found and found.seconds == 2.0 and len(found.high) == COLUMNS
    middle = np.arange(COLUMNS) / COLUMNS
    np.testing.assert_allclose(found.high, middle, atol=0.05)
    np.testing.assert_allclose(found.low, -middle, atol=0.05)
    samples = decoded(found.played)
    assert len(samples) == pytest.approx(2 * PLAYED_HZ, abs=3000)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * PLAYED_HZ / len(samples) == pytest.approx(440, abs=5)


def test_the_same_sound_has_the_same_bytes_and_no_tag(in_folder: Path) -> None:
    write_sound("joy/a", 1.0)
    first, second = heard("joy/a"), heard("joy/a")
    assert first and second and first.played == second.played
    assert not first.played.startswith(b"ID3") and b"Lavf" not in first.played


def test_of_a_long_sound_the_player_has_the_start_and_the_shape_all(in_folder: Path) -> None:
    write_sound("joy/a", LONGEST_S + 10)
    found = heard("joy/a")
    assert found and found.seconds == LONGEST_S + 10
    assert len(decoded(found.played)) == pytest.approx(LONGEST_S * PLAYED_HZ, rel=0.01)
    assert found.high[-1] > 0.9


def test_silence_is_heard_and_no_sound_is_none(in_folder: Path) -> None:
    write_sound("joy/none", 0.0)
    assert heard("joy/none") is None
    with pytest.raises(NotHere, match="data/views/sound: no file of joy/a"):
        heard("joy/a")
