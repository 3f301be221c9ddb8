"""The clips: the plan is the truth, and the files are what they should be."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sample import clips, scenery, sound
from sample.clips import Interval, Plan, draw_frames, encode_clip, make_track, plan_clip

MODALITIES = ("face", "scene", "sound")


def plan(label: str, number: int, seconds: float = 2.0) -> Plan:
    return plan_clip(0, label, number, seconds)


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return frames uint8 (T, H, W, 3) and sound float32 (N,) of a file."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(str(path)) as container:
        wave = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    return frames, wave


def carrying(clip: Plan) -> np.ndarray:
    """Return bool (T,): the frames inside an interval of the truth."""
    inside = np.zeros(clip.frames, dtype=bool)
    for part in clip.describe()["intervals"]:  # type: ignore[attr-defined]
        inside[part["start_frame"] : part["stop_frame"]] = True
    return inside


def misleading(clip: Plan) -> np.ndarray:
    """Return bool (T,): the frames that show another class."""
    shown = np.zeros(clip.frames, dtype=bool)
    for cutaway in clip.cutaways:
        shown[cutaway.interval.start : cutaway.interval.stop] = True
    return shown


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    clip = replace(plan("joy", 1), modalities=MODALITIES)
    path = tmp_path_factory.mktemp("clips") / "joy.mp4"
    encode_clip(clip, path)
    return clip, path


@given(
    seed=st.integers(0, 2**40),
    label=st.sampled_from(clips.LABELS),
    number=st.integers(1, 99),
    seconds=st.floats(1, 20),
)
@settings(max_examples=200)
def test_a_plan_is_possible(seed: int, label: str, number: int, seconds: float) -> None:
    clip = plan_clip(seed, label, number, seconds)
    assert clip == plan_clip(seed, label, number, seconds)
    assert 1 <= len(clip.modalities) and set(clip.modalities) <= set(MODALITIES)
    inside = carrying(clip)
    assert all(cutaway.label != label for cutaway in clip.cutaways)
    parts = [*clip.intervals, *(cutaway.interval for cutaway in clip.cutaways)]
    assert all(0 <= part.start < part.stop <= clip.frames for part in parts)
    shown = np.zeros(clip.frames, dtype=int)
    for part in parts:
        shown[part.start : part.stop] += 1
    assert shown.max() == 1  # no overlap
    assert inside.sum() >= shown.sum() / 2  # as long as what misleads, or longer
    if clip.face_absent is None:
        least, most = (share * clip.frames for share in clips.OWN_SHARE)
        assert least - 1 <= inside.sum() <= most + 1
    if clip.face_absent:
        assert not shown[clip.face_absent.start : clip.face_absent.stop].any()
        assert 0.1 <= (clip.face_absent.stop - clip.face_absent.start) / clip.frames <= 0.35


def test_every_modality_is_in_some_of_six_clips_alone_or_with_another() -> None:
    for label in clips.LABELS:
        first = [plan(label, number).modalities for number in range(1, 7)]
        assert {("face",), ("scene",)} < set(first)
        assert [sum(name in used for used in first) for name in MODALITIES] == [4, 4, 2]


def test_one_clip_in_six_lacks_a_face_for_a_while() -> None:
    absent = [plan("fear", number).face_absent is not None for number in range(1, 13)]
    assert absent == [False] * 4 + [True] + [False] * 5 + [True, False]


def test_clips_and_seeds_differ() -> None:
    tracks = [
        make_track(plan_clip(seed, label, number, 1.0))
        for seed, label, number in ((0, "joy", 1), (1, "joy", 1), (0, "fear", 1), (0, "joy", 4))
    ]
    for index, track in enumerate(tracks):
        assert all(np.abs(track - other).max() > 1e-3 for other in tracks[:index])


def test_an_interval_has_its_first_frame_and_not_its_stop() -> None:
    assert [frame for frame in range(12) if frame in Interval(2, 5)] == [2, 3, 4]


@pytest.mark.parametrize("label", clips.LABELS)
@pytest.mark.parametrize("modality", ["face", "scene"])
def test_the_class_changes_its_modality_in_its_intervals_and_nothing_else(
    label: str, modality: str
) -> None:
    clip = replace(plan(label, 1, 1.0), modalities=(modality,), cutaways=())
    shown = np.stack(list(draw_frames(clip))).astype(int)
    plain = np.stack(list(draw_frames(replace(clip, modalities=())))).astype(int)
    change = np.abs(shown - plain).max(3)  # (T, H, W)
    inside = carrying(clip)
    assert not change[~inside].any()
    assert (change[inside] > 8).any((1, 2)).all()
    stances = clips._draw_look(clip).stances
    for frame in np.flatnonzero(inside):
        face_x, face_y = stances[frame].face_x, stances[frame].face_y
        y, x = np.mgrid[: scenery.HEIGHT_PX, : scenery.WIDTH_PX]
        face = (np.abs(x - face_x) < 48) & (np.abs(y - face_y) < 56)
        skin = np.hypot(x - face_x, y - face_y) < 20
        if modality == "face":
            assert not change[frame][~face].any()
        else:
            assert not change[frame][skin].any()
            assert change[frame][~face].mean() > change[frame][face].mean()


@pytest.mark.parametrize("modality", ["face", "scene"])
def test_a_cutaway_shows_another_class_as_an_interval_does_but_for_the_spotlight(
    modality: str,
) -> None:
    clip = replace(plan("joy", 1, 1.0), modalities=(modality,))
    assert clip.cutaways
    without = np.stack(list(draw_frames(replace(clip, cutaways=())))).astype(int)
    change = np.abs(np.stack(list(draw_frames(clip))).astype(int) - without).max(3)
    assert not change[~misleading(clip)].any()
    assert (change[misleading(clip)] > 8).any((1, 2)).all()
    cutaway = clip.cutaways[0]
    swapped = replace(  # the same frames of the other class as its own interval: they have light
        clip, label=cutaway.label, intervals=(cutaway.interval,), cutaways=()
    )
    frame = cutaway.interval.start + (cutaway.interval.stop - cutaway.interval.start) // 2
    dark, lit = (list(draw_frames(made))[frame].astype(int) for made in (clip, swapped))
    assert not carrying(clip)[frame] and (lit - dark).max() > 40


def test_the_spotlight_is_there_whatever_shows_the_class() -> None:
    clip = replace(plan("fear", 2, 1.0), modalities=("sound",))
    frames = np.stack(list(draw_frames(clip))).astype(float)
    stances = clips._draw_look(clip).stances
    beside = np.array(
        [
            frames[t, round(s.face_y) - 6 : round(s.face_y) + 6, round(s.face_x) + 56].mean()
            for t, s in enumerate(stances)
        ]
    )
    inside = carrying(clip)
    assert beside[inside].min() > 180 > beside[~inside].max()


@pytest.mark.parametrize("label", clips.LABELS)
def test_the_sound_changes_in_its_intervals_and_nowhere_else(label: str) -> None:
    clip = plan(label, 2)
    assert "sound" in clip.modalities
    change = make_track(clip) - make_track(replace(clip, modalities=("face",)))
    per_frame = sound.SAMPLE_RATE_HZ // clips.FPS
    level = np.sqrt((change.reshape(clip.frames, per_frame) ** 2).mean(1))
    inside = carrying(clip)
    assert not level[~inside].any()
    assert np.sqrt((level[inside] ** 2).mean()) > 10 * sound.ROOM_RMS


@pytest.mark.parametrize("number", [5, 11, 17])
def test_the_face_is_outside_the_picture_exactly_when_the_truth_says(number: int) -> None:
    clip = plan("sadness", number, 4.0)
    assert clip.face_absent is not None
    face_x = np.array([stance.face_x for stance in clips._draw_look(clip).stances])
    outside = (face_x < 0) | (face_x > scenery.WIDTH_PX)
    expected = np.zeros(clip.frames, dtype=bool)
    expected[clip.face_absent.start : clip.face_absent.stop] = True
    np.testing.assert_array_equal(outside, expected)
    settled = face_x[carrying(clip)]
    assert settled.min() > 100 and settled.max() < 220


def test_the_file_is_h264_and_aac_of_the_stated_size_and_length(
    encoded: tuple[Plan, Path],
) -> None:
    clip, path = encoded
    with av.open(str(path)) as container:
        video, voice = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height, video.average_rate) == (320, 240, 12)
        assert video.frames == clip.frames == 24
        assert voice.codec_context.name == "aac"
        assert (voice.rate, voice.channels) == (sound.SAMPLE_RATE_HZ, 1)
        assert container.duration == pytest.approx(2.0 * av.time_base, rel=0.02)
        assert container.metadata["comment"].startswith("affectline sample, not data")


def test_the_file_is_the_same_bytes_each_time_and_small(
    encoded: tuple[Plan, Path], tmp_path: Path
) -> None:
    clip, path = encoded
    encode_clip(clip, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == path.read_bytes()
    # 60 clips of 3 s must stay under 8 MB; this one has every modality, the most there is.
    assert path.stat().st_size / clip.frames * 36 * 60 < 8e6


def test_the_truth_can_be_seen_and_heard_in_the_decoded_file(encoded: tuple[Plan, Path]) -> None:
    clip, path = encoded
    assert clip.modalities == MODALITIES
    frames, wave = decode(path)
    inside = carrying(clip)
    corner = frames[:, 60:140, :40].astype(float).mean((1, 2))  # (T, 3), beside the person
    neutral = ~inside & ~misleading(clip)
    from_neutral = np.abs(corner - np.median(corner[neutral], axis=0)).max(1)
    assert from_neutral[neutral].max() < 8 < from_neutral[inside].min()
    per_frame = sound.SAMPLE_RATE_HZ // clips.FPS
    blocks = wave[: clip.frames * per_frame].reshape(clip.frames, per_frame)
    level = np.sqrt((blocks**2).mean(1))
    assert level[inside].mean() > 5 * np.median(level[~inside])


def test_an_unknown_class_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'boredom'.*anger, disgust, fear"):
        plan_clip(0, "boredom", 1, 4.0)
