from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.video.clock import HELD, Clock, plan
from features.video.decode import Frames, decode
from features.video.views import View
from tests.conftest import MakeClip
from tests.hostile.corpus import pack_b_frames

EVERY = View("uniform", 1000, 64)
SNIPPETS = View("snippets", 3, 64, 16)

MPEG4 = {"qmin": "2", "qmax": "2", "g": "12", "sc_threshold": "1000000000"}
X264 = {"preset": "veryfast", "crf": "10", "g": "50"}


def levels(view: Frames) -> np.ndarray:
    """Return the number that each frame carries as its brightness."""
    return np.rint((view.frames.mean(axis=(-3, -2, -1)) - 16) / 4).astype(int)


def xvid(make_clip: MakeClip, b_frames: int) -> Path:
    options = MPEG4 | {"bf": str(b_frames)}
    clip = make_clip("plain.avi", frames=49, codec="mpeg4", options=options, clock_hz=10)
    return pack_b_frames(clip, clip.with_name("xvid.avi"))


def h264(
    make_clip: MakeClip, b_frames: int, more: str = "b-pyramid=none", name: str = "a.avi"
) -> Path:
    params = f"b-adapt=0:scenecut=0:bframes={b_frames}:{more}"
    return make_clip(name, frames=49, options=X264 | {"x264-params": params}, clock_hz=10)


AVI = {
    "xvid, 1 B-frame": lambda make_clip: xvid(make_clip, 1),
    "xvid, 2": lambda make_clip: xvid(make_clip, 2),
    "xvid, 4": lambda make_clip: xvid(make_clip, 4),
    "h264, 1": lambda make_clip: h264(make_clip, 1),
    "h264, 3": lambda make_clip: h264(make_clip, 3),
    "h264, 3 that refer to each other": lambda make_clip: h264(make_clip, 3, "b-pyramid=normal"),
    "h264, 16": lambda make_clip: h264(make_clip, 16),
}


@pytest.mark.parametrize("form", AVI)
def test_each_frame_of_an_avi_with_b_frames_is_there_once_at_its_time(
    make_clip: MakeClip, form: str
) -> None:
    clip = AVI[form](make_clip)
    views = decode(clip, {"every": EVERY, "n": SNIPPETS}, seed="s").views
    every, snippets = views["every"], views["n"]
    np.testing.assert_array_equal(every.index, range(49))
    np.testing.assert_array_equal(levels(every), every.index)
    late_s = every.pts_s - every.index / 10
    np.testing.assert_allclose(late_s, late_s[0], atol=1e-9)
    assert late_s[0] in (0.0, pytest.approx(0.1))  # FFmpeg's reader counts from the second packet
    assert (np.diff(snippets.index, axis=1) == 1).all()
    np.testing.assert_array_equal(levels(snippets), snippets.index)
    np.testing.assert_array_equal(snippets.pts_s, every.pts_s[snippets.index])


@pytest.mark.parametrize(
    ("name", "codec", "options", "pts"),
    [
        ("a.mp4", "libx264", X264 | {"bf": "3"}, None),
        ("a.mkv", "libx264", X264 | {"bf": "3"}, None),
        ("a.ts", "libx264", X264 | {"bf": "2"}, None),
        ("a.mp4", "mpeg4", MPEG4 | {"bf": "2"}, None),
        ("a.avi", "mjpeg", {}, None),
        ("variable.mp4", "libx264", X264 | {"bf": "3"}, "variable"),
        ("variable.mkv", "libx264", X264 | {"bf": "3"}, "variable"),
    ],
)
def test_other_clips_have_the_times_that_their_container_says(
    make_clip: MakeClip, name: str, codec: str, options: dict[str, str], pts: str | None
) -> None:
    steps = np.random.default_rng(0).integers(7, 900, 49).cumsum().tolist() if pts else None
    form = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    clock_hz = 10 if name.endswith("avi") else 1000
    clip = make_clip(
        name, frames=49, codec=codec, pixel_format=form, options=options, pts=steps,
        clock_hz=clock_hz,
    )  # fmt: skip
    view = decode(clip, {"v": EVERY}, seed="s").views["v"]
    with av.open(str(clip)) as container:
        stated = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    np.testing.assert_array_equal(view.index, range(49))
    np.testing.assert_array_equal(view.pts_s, stated)
    start = stated[0] if pts is None else steps[0] / 1000
    np.testing.assert_allclose(np.diff([start, *stated[1:]]), np.diff(steps) / 1000 if pts else 0.1)


def timed(
    frames: Sequence[tuple[int | None, int | None]], planned: Sequence[int], dts: Sequence[int]
) -> list[float]:
    """Return the times that the clock gives to frames of these pts and dts, in units."""
    video = SimpleNamespace(codec_context=SimpleNamespace(has_b_frames=True))
    given = plan(planned, dts, [1] * len(dts), Fraction(1))
    clock = Clock(cast(av.VideoStream, video), given)
    made = [SimpleNamespace(pts=p, dts=d, time_base=Fraction(1)) for p, d in frames]
    shown = [s for frame in made for s in clock.see(cast(av.VideoFrame, frame))]
    assert len(shown) == max(0, len(made) - HELD)
    shown += clock.finish()
    assert [s.number for s in shown] == list(range(len(made)))
    assert [cast(object, s.frame) for s in shown] == made
    return [s.time_s for s in shown]


def test_b_frames_that_come_late_move_nothing() -> None:
    ascending = [(n + 1, n + 1) for n in range(40)]
    packed = [(n + 1 + (1, -1)[n % 2], n + 1) for n in range(40, 59)] + [(60, None)]
    times = timed(ascending + packed, range(1, 61), range(60))
    assert times == list(range(1, 61))


def test_a_frame_that_is_lost_leaves_a_gap_and_moves_nothing() -> None:
    frames = [(n + 1 + (1, -1)[n % 2], n + 2) for n in range(30)]
    del frames[11]
    assert timed(frames, range(1, 33), range(32)) == [n + 2 for n in range(30) if n != 11]


def test_presentation_times_are_kept_where_decoding_times_are_no_better() -> None:
    pts = [*range(10), *range(8, 20)]
    once, twice = pts, [*range(10), *range(8, 14), *range(8, 14)]
    for dts in (once, twice):
        assert timed(list(zip(pts, dts, strict=True)), range(20), range(20)) == pts
    assert timed([(0, 0), (1, 1), (1, 2)], range(3), range(3)) == [0, 1, 2]  # a time comes twice


def test_a_frame_without_times_follows_the_one_before() -> None:
    frames = [(0, 0), (10, 10), (None, None), (30, 30), (None, 40), (None, None)]
    planned = [0, 10, 20, 30, 40, 50]
    assert timed(frames, planned, planned) == planned
    assert timed([(None, None)] * 3, planned, planned) == [0, 10, 20]


@given(st.lists(st.tuples(*[st.none() | st.integers(0, 9)] * 2), max_size=12))
def test_faults_are_counted_as_ffmpeg_counts_them(
    frames: list[tuple[int | None, int | None]],
) -> None:
    last_pts = last_dts = -(2**63)
    faulty_pts = faulty_dts = 0
    for pts, dts in frames:  # libavcodec/decode.c
        if dts is not None:
            faulty_dts += dts <= last_dts
            last_dts = dts
        elif pts is not None:
            last_dts = pts
        if pts is not None:
            faulty_pts += pts <= last_pts
            last_pts = pts
        elif dts is not None:
            last_pts = dts
    video = SimpleNamespace(codec_context=SimpleNamespace(has_b_frames=True))
    clock = Clock(cast(av.VideoStream, video), plan([0], [0], [1], Fraction(1)))
    for pts, dts in frames:
        made = SimpleNamespace(pts=pts, dts=dts, time_base=Fraction(1))
        assert list(clock.see(cast(av.VideoFrame, made))) == []
    assert clock.faults == {"pts": faulty_pts, "dts": faulty_dts}


def test_a_plan_takes_the_times_that_come_twice_less_often() -> None:
    unit = Fraction(1, 10)
    sound = plan([0, 3, 1, 2], [-1, 0, 1, 2], [1] * 4, unit)
    np.testing.assert_allclose(sound.pts_s, [0, 0.1, 0.2, 0.3])
    assert sound.end_s == pytest.approx(0.4)
    guessed = plan([1, 3, 3, 3, 5], [0, 1, 2, 3, 4], [1] * 5, unit)
    np.testing.assert_allclose(guessed.pts_s, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert guessed.end_s == pytest.approx(0.6)
    neither = plan([0, 1, 1, 2], [0, 1, 1, 2], [1] * 4, unit)
    np.testing.assert_allclose(neither.pts_s, [0, 0.1, 0.2])
    missing = plan([0, None, None], [0, 1, 2], [0] * 3, unit)
    np.testing.assert_allclose(missing.pts_s, [0, 0.1, 0.2])
    assert missing.end_s == pytest.approx(0.3)  # a frame lasts as long as most
