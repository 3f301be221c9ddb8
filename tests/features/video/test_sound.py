"""Sound against what was put into generated clips, and against FFmpeg's own downmix."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from features.video import decode, sound
from features.video.opening import VideoError
from features.video.views import View
from tests.conftest import MakeClip

RATE_HZ = 48_000
FRAME = 1152  # samples of an MPEG layer 2 frame

Wave = NDArray[np.float32]


def decoded(clip: Path) -> tuple[Wave, int, float]:
    """Return the waveform of a clip, its rate and its start."""
    with sound.decoded(clip, clip.parent) as waveform:
        blocks = list(waveform.blocks)
        assert max((len(block) for block in blocks), default=0) <= sound.BLOCK
        samples = np.concatenate([np.zeros(0, np.float32), *blocks])
        assert len(samples) == waveform.samples
        return samples, waveform.sample_rate_hz, waveform.start_s


def tone(hz: float, seconds: float, rate_hz: int = RATE_HZ) -> Wave:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def packets(
    wave: Wave, codec: str, rate_hz: int = RATE_HZ, layout: str = "mono"
) -> Iterator[av.Packet]:
    """Encode a sound, the same in all channels if it has one axis only."""
    context = av.AudioCodecContext.create(codec, "w")
    context.sample_rate, context.layout = rate_hz, layout
    context.format = {"pcm_f32le": "flt", "mp2": "s16"}[codec]
    context.time_base = Fraction(1, rate_hz)
    channels = np.atleast_2d(wave)
    count = av.AudioLayout(layout).nb_channels
    packed = np.broadcast_to(channels, (count, channels.shape[1])).T.reshape(1, -1)
    whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), format="flt", layout=layout)
    whole.sample_rate, whole.pts = rate_hz, 0
    cutter = av.AudioResampler(context.format.name, layout, rate_hz, FRAME)
    for frame in [*cutter.resample(whole), *cutter.resample(None)]:
        yield from context.encode(frame)
    yield from context.encode(None)


def write(
    path: Path,
    pieces: Sequence[tuple[float, Sequence[av.Packet] | Iterator[av.Packet]]],
    *,
    codec: str = "pcm_f32le",
    layout: str = "mono",
    picture_s: Sequence[float] = (0.0, 0.5),
) -> Path:
    """Write a clip whose packets of sound begin when each of the pieces says, in seconds."""
    as_given = {"avoid_negative_ts": "disabled"}
    with av.open(str(path), "w", options=as_given) as container:
        pictures = container.add_stream("mpeg2video", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 25)
        stream = container.add_stream(codec, rate=RATE_HZ, layout=layout)
        muxed: list[tuple[float, av.Packet]] = []
        for time_s in picture_s:
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = round(time_s * 25), Fraction(1, 25)
            muxed += [(float(p.pts * p.time_base), p) for p in pictures.encode(frame)]
        muxed += [(float(p.pts * p.time_base), p) for p in pictures.encode(None)]
        for start_s, piece in pieces:
            for packet in piece:
                at_s = start_s + float(packet.pts * packet.time_base)
                packet.stream = stream
                packet.pts = packet.dts = round(at_s / packet.time_base)
                muxed.append((at_s, packet))
        for _time, packet in sorted(muxed, key=lambda pair: pair[0]):
            container.mux(packet)
    return path


def pcm(wave: Wave, layout: str = "mono") -> Iterator[av.Packet]:
    return packets(wave, "pcm_f32le", layout=layout)


def noise(seconds: float, seed: int = 0) -> Wave:
    size = round(seconds * RATE_HZ)
    return np.random.default_rng(seed).uniform(0.1, 0.9, size).astype(np.float32)


# -------------------------------------------------------------------------------------- time


def test_sound_that_starts_late_and_has_a_gap_is_heard_when_it_is_heard(tmp_path: Path) -> None:
    first, second = noise(0.48), noise(0.24, 1)
    clip = write(tmp_path / "late.mkv", [(1.5, pcm(first)), (3.0, pcm(second))])
    found, rate_hz, start_s = decoded(clip)
    assert (rate_hz, start_s) == (RATE_HZ, 0.0)
    expected = np.zeros(round(3.24 * RATE_HZ), np.float32)
    expected[72_000 : 72_000 + len(first)] = first
    expected[144_000:] = second
    np.testing.assert_array_equal(found, expected)


def test_sound_and_pictures_have_one_time_line_where_a_container_begins_late(
    tmp_path: Path,
) -> None:
    """A flash and a beep 2 s after the start of a transport stream that begins at an hour."""
    beep = np.concatenate([np.zeros(2 * RATE_HZ, np.float32), tone(1000, 1)])
    pictures = [3600 + number / 25 for number in range(75)]
    clip = write(
        tmp_path / "hour.ts", [(3600, packets(beep, "mp2"))], codec="mp2", picture_s=pictures
    )
    found, rate_hz, start_s = decoded(clip)
    shown = decode.decode(clip, {"v": View("uniform", 75, 64)}, seed="s").views["v"].pts_s
    assert start_s == pytest.approx(3600, abs=0.05) and shown[0] == pytest.approx(3600, abs=0.05)
    heard_s = start_s + np.flatnonzero(np.abs(found) > 0.1)[0] / rate_hz
    assert heard_s == pytest.approx(shown[50], abs=0.03)


def test_what_lies_before_zero_is_cut() -> None:
    wave = noise(0.48)
    placed = sound._placed([(-0.24, RATE_HZ, wave[:11_520]), (0.0, RATE_HZ, wave[11_520:])], 0.0)
    np.testing.assert_array_equal(np.concatenate([part for _, part in placed]), wave[11_520:])
    placed = sound._placed([(-0.2, RATE_HZ, wave)], 0.0)
    np.testing.assert_array_equal(np.concatenate([part for _, part in placed]), wave[9_600:])


def test_a_container_that_begins_before_zero_has_its_sound_cut_there(tmp_path: Path) -> None:
    wave = noise(0.96)
    clip = write(tmp_path / "early.mkv", [(-0.24, pcm(wave))])
    with av.open(str(clip)) as container:
        assert container.start_time < 0
    found, _, start_s = decoded(clip)
    assert start_s == 0
    np.testing.assert_array_equal(found, wave[11_520:])


def test_of_sound_that_overlaps_the_first_is_kept() -> None:
    first, second = noise(4.8), noise(4.8, 1)
    pieces = [(0.0, RATE_HZ, first), (4.56, RATE_HZ, second[:4000]), (None, RATE_HZ, second[4000:])]
    placed = list(sound._placed(pieces, 0.0))
    assert len(placed[1][1]) == 0  # wholly heard before
    found = np.concatenate([part for _, part in placed])
    np.testing.assert_array_equal(found, np.concatenate([first, second[4000:]]))
    pieces = [(0.0, RATE_HZ, first), (4.56, RATE_HZ, second)]
    found = np.concatenate([part for _, part in sound._placed(pieces, 0.0)])
    np.testing.assert_array_equal(found, np.concatenate([first, second[11_520:]]))


def test_sound_that_starts_again_and_again_is_refused() -> None:
    pieces = [(0.0, RATE_HZ, noise(2)), (0.0, RATE_HZ, noise(1))]
    with pytest.raises(VideoError, match=r"goes back in time: 1.0 s of it were heard before"):
        list(sound._placed(pieces, 0.0))
    assert sum(len(part) for _, part in sound._placed([(0.0, 8, noise(1)), pieces[1]], 0.0))


@pytest.mark.parametrize("off_s", [sound.JITTER_S, -sound.JITTER_S])
def test_jitter_of_time_stamps_moves_no_sample(off_s: float) -> None:
    rng = np.random.default_rng(0)
    wave = noise(9)
    pieces = [
        (0.99 * off_s * rng.random() + first / RATE_HZ, RATE_HZ, wave[first : first + 1024])
        for first in range(0, len(wave), 1024)
    ]
    found = np.concatenate([part for _, part in sound._placed(pieces, 0.0)])
    np.testing.assert_array_equal(found, wave)
    moved = (pieces[100][0] + 3 * off_s, *pieces[100][1:])
    found = [part for _, part in sound._placed([*pieces[:100], moved], 0.0)]
    assert sum(map(len, found)) != 101 * 1024


def test_a_drift_is_made_good_once_it_is_more_than_jitter() -> None:
    """Stamps that run 1 % fast: after 30 s the sound is not 0.3 s off."""
    pieces = [(1.01 * second, 8000, np.ones(8000, np.float32)) for second in range(30)]
    found = np.concatenate([part for _, part in sound._placed(pieces, 0.0)])
    assert abs(len(found) / 8000 - (1.01 * 29 + 1)) < sound.JITTER_S


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("a.mp4", "aac", 44_100),
        ("a.mkv", "aac", 48_000),
        ("a.avi", "libmp3lame", 44_100),
        ("a.mp4", "libmp3lame", 44_100),
        ("a.mkv", "libmp3lame", 48_000),
        ("a.mkv", "libopus", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.flv", "libmp3lame", 44_100),
        ("a.ts", "mp2", 48_000),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_an_ordinary_clips_sound_is_what_the_decoder_gives_and_nothing_else(
    tmp_path: Path, name: str, codec: str, rate_hz: int, layout: str
) -> None:
    """Priming and rounded time stamps put no silence in and take nothing out."""
    clip = tmp_path / name
    with av.open(str(clip), "w") as container:
        pictures = container.add_stream("libvpx" if name == "a.webm" else "libx264", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        for _ in range(20):
            container.mux(pictures.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(pictures.encode())
        waves = [tone(440, 2, rate_hz), tone(700, 2, rate_hz)]
        block = np.stack(waves[: av.AudioLayout(layout).nb_channels])
        whole = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        whole.sample_rate = rate_hz
        context = stream.codec_context
        cutter = av.AudioResampler(
            context.format.name, layout, rate_hz, context.frame_size or FRAME
        )
        for frame in [*cutter.resample(whole), *cutter.resample(None)]:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(clip)) as container:
        to_float = av.AudioResampler(format="fltp")
        frames = [part for f in container.decode(audio=0) for part in to_float.resample(f)]
        expected = np.concatenate([f.to_ndarray().mean(axis=0, dtype=np.float32) for f in frames])
    found, found_hz, _ = decoded(clip)
    assert found_hz == rate_hz and len(found) >= 2 * rate_hz - 2500
    np.testing.assert_array_equal(found, expected)


# ------------------------------------------------------------------------- rates and channels


def test_a_rate_that_changes_midway_is_brought_to_the_first(tmp_path: Path) -> None:
    parts = [
        (0.0, packets(tone(440, 2.4), "mp2")),
        (2.4, packets(tone(440, 2.4, 32_000), "mp2", 32_000)),
        (4.8, packets(tone(440, 2.4), "mp2")),
    ]
    found, rate_hz, _ = decoded(write(tmp_path / "rates.mkv", parts, codec="mp2"))
    assert rate_hz == RATE_HZ
    assert len(found) / RATE_HZ == pytest.approx(7.2, abs=0.06)
    for middle_s in (1.2, 3.6, 6.0):
        heard = found[round((middle_s - 1) * RATE_HZ) :][: 2 * RATE_HZ]
        spectrum = np.abs(np.fft.rfft(heard))
        assert np.argmax(spectrum) / 2 == 440, middle_s
        assert np.abs(heard).max() == pytest.approx(0.5, rel=0.1), middle_s


def test_a_layout_that_changes_midway_changes_nothing_that_is_mono(tmp_path: Path) -> None:
    parts = [
        (0.0, packets(tone(440, 0.96), "mp2")),
        (0.96, packets(tone(440, 0.96), "mp2", layout="stereo")),
    ]
    found, _, _ = decoded(write(tmp_path / "layouts.mkv", parts, codec="mp2"))
    assert len(found) / RATE_HZ == pytest.approx(1.92, abs=0.03)
    for part in (found[10_000:40_000], found[60_000:90_000]):
        assert np.abs(part).max() == pytest.approx(0.5, rel=0.05)


LEVELS_DB = {  # ITU-R BS.775-3 to stereo, then the mean of left and right: 0.5, 0.707, 0.354, ...
    "stereo": {"FL": -6.02, "FR": -6.02},
    "3.0": {"FL": -6.02, "FR": -6.02, "FC": -3.01},
    "quad": {"FL": -6.02, "FR": -6.02, "BL": -9.03, "BR": -9.03},
    "5.1": {"FL": -6.02, "FR": -6.02, "FC": -3.01, "LFE": None, "BL": -9.03, "BR": -9.03},
    "5.1(side)": {"FL": -6.02, "FR": -6.02, "FC": -3.01, "LFE": None, "SL": -9.03, "SR": -9.03},
    "7.1": {"FL": -6.02, "FR": -6.02, "FC": -3.01, "LFE": None}
    | dict.fromkeys(("BL", "BR", "SL", "SR"), -9.03),
    # of unknown places: the mean of eight
    "7.1(wide)": dict.fromkeys(("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC"), -18.06),
}


@pytest.mark.parametrize("layout", LEVELS_DB)
def test_each_channel_alone_is_as_loud_as_the_matrix_says(tmp_path: Path, layout: str) -> None:
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    assert names == list(LEVELS_DB[layout])
    length = 12 * FRAME
    waves = np.zeros((len(names), len(names) * length), np.float32)
    for place in range(len(names)):
        waves[place, place * length : (place + 1) * length] = 0.8
    found, _, _ = decoded(write(tmp_path / "a.mov", [(0.0, pcm(waves, layout))], layout=layout))
    assert len(found) == waves.shape[1]
    for place, level_db in enumerate(LEVELS_DB[layout].values()):
        alone = found[place * length : (place + 1) * length]
        expected = 0.0 if level_db is None else 0.8 * 10 ** (level_db / 20)
        np.testing.assert_allclose(alone, expected, rtol=1e-3)


@pytest.mark.parametrize("layout", ["3.1", "4.0", "4.1", "5.0", "5.1", "6.1", "7.0", "quad(side)"])
def test_surround_is_ffmpegs_stereo_and_its_mean(layout: str) -> None:
    count = av.AudioLayout(layout).nb_channels
    waves = np.random.default_rng(0).uniform(-0.2, 0.2, (count, 4000)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(waves.T.reshape(1, -1)), format="flt", layout=layout
    )
    frame.sample_rate = RATE_HZ
    (stereo,) = av.AudioResampler(format="flt", layout="stereo").resample(frame)
    expected = stereo.to_ndarray().reshape(-1, 2).mean(axis=1)
    found = sound.mono(waves, sound.channel_weights(av.AudioLayout(layout)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("count", "taken_for"), [(6, "5.1"), (8, "7.1")])
def test_six_and_eight_channels_of_which_nothing_is_said_have_the_usual_order(
    tmp_path: Path, count: int, taken_for: str
) -> None:
    waves = np.zeros((count, 2 * FRAME), np.float32)
    waves[2] = 0.5  # a voice in the centre only
    clip = write(tmp_path / "a.mkv", [(0.0, pcm(waves, taken_for))], layout=taken_for)
    with av.open(str(clip)) as container:
        assert next(container.decode(audio=0)).layout.name == f"{count} channels"
    np.testing.assert_allclose(decoded(clip)[0], 0.5 * 0.5**0.5, rtol=1e-6)


def test_mono_is_left_as_it_is(tmp_path: Path) -> None:
    wave = noise(0.48)
    found, _, _ = decoded(write(tmp_path / "a.mov", [(0.0, pcm(wave))]))
    np.testing.assert_array_equal(found, wave)


# ------------------------------------------------------------------------------------ bounds


def test_what_is_held_at_a_time_does_not_grow_with_the_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "BLOCK", 5000)
    clip = write(tmp_path / "a.mkv", [(1.0, pcm(noise(1.92))), (9.0, pcm(noise(0.96)))])
    found, _, _ = decoded(clip)  # which looks at the largest block
    assert len(found) == round(9.96 * RATE_HZ)


def test_a_track_that_begins_in_years_is_refused_before_its_silence_is_made(
    tmp_path: Path,
) -> None:
    clip = write(tmp_path / "a.mkv", [(1_000_000.0, pcm(noise(0.1)))])
    with pytest.raises(VideoError, match="its sound has more than 2,000,000,000 samples"):
        decoded(clip)


def test_the_bound_counts_samples_of_the_first_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_SAMPLES", 3 * RATE_HZ)
    pieces = [(0.0, RATE_HZ, noise(1)), (1.0, 8000, np.ones(24_000, np.float32))]
    with pytest.raises(VideoError, match="more than 144,000 samples"):
        list(sound._placed(pieces, 0.0))


def test_what_ffmpeg_cannot_read_is_a_reason(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[sound.Piece]:
        raise av.error.InvalidDataError(1, "Invalid data")
        yield

    monkeypatch.setattr(sound, "_heard", broken)
    with pytest.raises(VideoError, match="cannot be read to its end: Invalid data"):
        decoded(make_clip(sound_s=1.0))


def test_sound_that_is_much_damaged_is_refused(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip("hurt.mkv", frames=5, sound_s=4.0)
    raw = bytearray(clip.read_bytes())
    start = raw.index(b"\x1f\x43\xb6\x75")  # the first cluster
    with av.open(str(clip)) as container:
        contents = [bytes(packet) for packet in container.demux(audio=0) if packet.size > 40]
    for content in contents[::4]:
        at = raw.index(content, start)
        raw[at : at + len(content)] = b"\xff" * len(content)
    clip.write_bytes(raw)
    with pytest.raises(VideoError, match=r"its sound is damaged: \d+ of \d+ packets"):
        decoded(clip)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    wave = noise(0.1)
    wave[1000] = np.nan
    with pytest.raises(VideoError, match="its sound has numbers that are not finite"):
        decoded(write(tmp_path / "a.mov", [(0.0, pcm(wave))]))


def test_a_clip_without_sound_has_no_samples_and_no_rate(make_clip: MakeClip) -> None:
    found, rate_hz, start_s = decoded(make_clip())
    assert (len(found), rate_hz, start_s) == (0, 0, 0.0)


@pytest.mark.parametrize(("channels", "level"), [(1, 0.5), (2, 0.25)])
def test_sound_is_mono_at_its_own_rate(make_clip: MakeClip, channels: int, level: float) -> None:
    clip = make_clip(frames=20, sound_s=2.0, channels=channels, sample_rate_hz=22_050)
    found, rate_hz, _ = decoded(clip)
    assert (rate_hz, found.dtype) == (22_050, np.float32)
    assert abs(len(found) / 22_050 - 2.0) < 0.15
    middle = found[11_025:33_075]
    spectrum = np.abs(np.fft.rfft(middle))
    assert abs(np.argmax(spectrum) * 22_050 / len(middle) - 440) < 2
    np.testing.assert_allclose(np.abs(middle).max(), level, rtol=0.15)
