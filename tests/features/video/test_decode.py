from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from features.video.decode import Frames, decode, padded
from features.video.opening import VideoError
from features.video.probe import probe
from features.video.views import View
from tests.conftest import MakeClip, brightness

ALL = {"uniform": View("uniform", 20, 256)}


def shown(view: Frames) -> np.ndarray:
    """Return the number that each frame carries as its brightness (below 50)."""
    return np.rint((view.frames.mean(axis=(1, 2, 3)) - 16) / 4).astype(int)


def test_every_row_is_the_frame_that_its_index_says(make_clip: MakeClip) -> None:
    views = {"segments": View("segments", 8, 256), "uniform": View("uniform", 5, 32)}
    decoded = decode(make_clip(frames=40), views, seed="s")
    assert decoded.frames_decoded == 40
    for name, view in decoded.views.items():
        np.testing.assert_array_equal(shown(view), view.index, err_msg=name)
        np.testing.assert_allclose(view.pts_s, view.index / 10, atol=1e-3)
    np.testing.assert_array_equal(decoded.views["uniform"].index, [0, 8, 16, 24, 32])
    np.testing.assert_array_equal(decoded.views["segments"].index // 5, range(8))


def test_a_video_is_opened_once_and_each_frame_decoded_once(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(frames=30, sound_s=3.0)
    opened = []
    plain_open = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or plain_open(*a, **k))
    views = {f"v{n}": View("uniform", n, 64) for n in (1, 7, 30)}
    decoded = decode(clip, views, seed="s")
    assert (len(opened), decoded.frames_decoded) == (1, 30)


def test_time_stamps_place_frames_not_frame_counts(make_clip: MakeClip) -> None:
    # ten frames in the first second, then ten frames a second each
    pts = [*range(0, 1000, 100), *range(1000, 11000, 1000)]
    clip = make_clip("variable.mkv", frames=20, pts=pts)
    view = decode(clip, {"v": View("uniform", 5, 64)}, seed="s").views["v"]
    assert [int(n) for n in view.index] == [0, 11, 13, 15, 17]
    np.testing.assert_array_equal(shown(view), view.index)


def test_snippets_are_consecutive_frames_with_their_own_times(make_clip: MakeClip) -> None:
    view = View("snippets", 3, 64, 8)
    decoded = decode(make_clip(frames=45), {"n": view}, seed="s")
    rows = decoded.views["n"]
    assert rows.frames.shape == (3, 8, 48, 64, 3)
    assert (np.diff(rows.index, axis=1) == 1).all()
    np.testing.assert_array_equal(rows.index[:, 0] // 15, range(3))
    np.testing.assert_allclose(rows.pts_s, rows.index / 10, atol=1e-3)
    levels = np.rint((rows.frames.mean(axis=(2, 3, 4)) - 16) / 4).astype(int)
    np.testing.assert_array_equal(levels, rows.index)
    short = decode(make_clip(frames=5), {"n": view}, seed="s").views["n"]
    np.testing.assert_array_equal(short.index, [[0, 1, 2, 3, 4, 0, 1, 2]] * 3)
    assert padded(short, 3)["valid"].all()


def test_a_short_clip_is_padded_not_dropped(make_clip: MakeClip) -> None:
    view = decode(make_clip(frames=3), {"v": View("segments", 24, 64)}, seed="s")
    arrays = padded(view.views["v"], 24)
    assert arrays["frames"].shape == (24, 48, 64, 3)
    assert list(np.flatnonzero(arrays["valid"])) == [0, 1, 2]
    assert list(arrays["index"][:4]) == [0, 1, 2, -1]
    assert np.isnan(arrays["pts_s"][3:]).all()
    assert not arrays["frames"][3:].any()


def test_one_frame_is_enough(make_clip: MakeClip) -> None:
    view = decode(make_clip(frames=1), ALL, seed="s").views["uniform"]
    assert list(view.index) == [0]


def test_frames_are_shrunk_to_the_side_and_never_enlarged(make_clip: MakeClip) -> None:
    views = {"small": View("uniform", 2, 36), "large": View("uniform", 2, 720)}
    decoded = decode(make_clip(frames=4, size=(96, 72)), views, seed="s")
    assert decoded.views["small"].frames.shape == (2, 36, 48, 3)
    assert decoded.views["large"].frames.shape == (2, 72, 96, 3)


def test_pixels_become_square(make_clip: MakeClip) -> None:
    clip = make_clip(frames=2, size=(64, 64), pixel_aspect=Fraction(2, 1))
    assert decode(clip, ALL, seed="s").views["uniform"].frames.shape[1:3] == (64, 128)


def test_the_draws_follow_the_content_not_the_name(make_clip: MakeClip) -> None:
    view = {"v": View("segments", 6, 64)}
    clip = make_clip(frames=48)
    first = decode(clip, view, seed="0 abc").views["v"].index
    again = decode(clip.rename(clip.with_name("b.mp4")), view, seed="0 abc")
    np.testing.assert_array_equal(first, again.views["v"].index)


def test_what_a_view_gets_does_not_depend_on_the_other_views(make_clip: MakeClip) -> None:
    clip = make_clip(frames=40)
    segments, uniform = View("segments", 8, 64), View("uniform", 30, 32)
    alone = decode(clip, {"s": segments}, seed="x").views["s"]
    together = decode(clip, {"u": uniform, "s": segments}, seed="x").views["s"]
    np.testing.assert_array_equal(alone.frames, together.frames)
    np.testing.assert_array_equal(alone.pts_s, together.pts_s)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"hello\n" * 100, "cannot be opened"), (b"\0" * 20, "cannot be opened")],
)
def test_what_is_no_video_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    for work in (probe, lambda p: decode(p, ALL, seed="s")):
        with pytest.raises(VideoError, match=reason):
            work(path)


def test_a_playlist_named_mp4_opens_nothing(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip()
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(path)
    path.write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(path)


def test_sound_alone_is_no_video(make_clip: MakeClip) -> None:
    with pytest.raises(VideoError, match="no video stream"):
        probe(make_clip("sound.m4a", picture=False, sound_s=1.0))


def test_a_truncated_clip_says_where_its_pictures_end(make_clip: MakeClip) -> None:
    clip = make_clip("cut.mkv", frames=200, size=(160, 120))
    raw = clip.read_bytes()
    clip.write_bytes(raw[: len(raw) // 2])
    view = {"v": View("uniform", 10, 64)}
    try:
        index = decode(clip, view, seed="s").views["v"].index
    except VideoError as error:
        assert "truncated" in str(error) or "damaged" in str(error)
    else:  # a container without an index is as long as what is left of it
        assert index[-1] < 150


def test_damage_in_the_middle_is_counted_and_much_of_it_refused(make_clip: MakeClip) -> None:
    clip = make_clip("hurt.mp4", frames=100, size=(160, 120))
    raw = bytearray(clip.read_bytes())
    start = raw.index(b"mdat") + 4
    noise = np.random.default_rng(0).integers(0, 256, len(raw) - start - 2000, np.uint8)
    raw[start : start + len(noise)] = noise.tobytes()
    clip.write_bytes(raw)
    with pytest.raises(VideoError, match="cannot be opened|damaged|truncated|no frame|no video"):
        decode(clip, ALL, seed="s")


def test_headers_are_told(make_clip: MakeClip) -> None:
    headers = probe(make_clip(frames=20, fps=10, sound_s=2.0, size=(64, 48)))
    assert (headers.width, headers.height, headers.video_codec) == (64, 48, "h264")
    assert headers.duration_s == pytest.approx(2.0, abs=0.2)
    assert (headers.audio_codec, headers.sample_rate_hz, headers.channels) == ("aac", 16_000, 1)
    assert brightness(0) == 16
