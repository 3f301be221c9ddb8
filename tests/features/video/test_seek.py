"""Against the one oracle that there is: the pass over the whole file."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from features.video import seek
from features.video.decode import Decoded, decode
from features.video.seek import NEAR, Headers, Span, spans
from features.video.views import View

FEW = {"segments": View("segments", 4, 64), "snippets": View("snippets", 2, 48, 4)}

Film = Callable[..., Path]


@pytest.fixture
def film(tmp_path: Path) -> Film:
    """Return a function that writes a clip whose pictures move: none is like another."""

    def write(
        name: str,
        codec: str,
        options: str = "",
        frames: int = 600,
        pts: Sequence[int] | None = None,
    ) -> Path:
        path = tmp_path / name
        ramp = np.add.outer(np.arange(48), 2 * np.arange(64))
        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.options = dict(pair.split("=", 1) for pair in options.split())
            if codec != "mpeg2video":
                video.codec_context.time_base = Fraction(1, 1000)
            for number in range(frames):
                grey = (ramp + 5 * number) % 256
                picture = np.stack([grey, (2 * grey) % 256, (grey + number) % 256], -1)
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
                frame.time_base = Fraction(1, 1000)
                frame.pts = pts[number] if pts else 40 * number
                container.mux(video.encode(frame))
            container.mux(video.encode())
        return path

    return write


def both(
    path: Path, monkeypatch: pytest.MonkeyPatch, views: dict[str, View] = FEW
) -> tuple[Decoded, Decoded]:
    """Return what jumping gives, and what the pass over the whole file gives."""
    jumped = decode(path, views, seed="s")
    with monkeypatch.context() as patch:
        patch.setattr(seek, "spans", lambda *_: [])
        return jumped, decode(path, views, seed="s")


def check_same(one: Decoded, other: Decoded) -> None:
    assert one.views.keys() == other.views.keys()
    for name, frames in one.views.items():
        for array in ("frames", "index", "pts_s"):
            np.testing.assert_array_equal(
                getattr(frames, array), getattr(other.views[name], array), err_msg=name
            )
    assert (one.interlaced, one.damaged) == (other.interlaced, other.damaged)


X264 = "preset=veryfast g=24 keyint_min=24 sc_threshold=0"
X265 = "x265-params=log-level=none:keyint=24:min-keyint=24:scenecut=0:pools=1:frame-threads=1"


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", f"{X264} bf=0"),
        ("a.mp4", "libx264", f"{X264} bf=3 b_strategy=0"),
        ("a.mkv", "libx264", f"{X264} bf=3 b_strategy=0"),
        ("a.mov", "libx264", f"{X264} bf=5 b_strategy=0 x264-params=b-pyramid=normal"),
        ("a.mp4", "libx264", f"{X264} flags=+cgop intra-refresh=0 refs=4"),
        ("a.mp4", "libx264", f"{X264} bf=3 b_strategy=0 x264-params=open-gop=1"),  # one IDR alone
        ("a.mkv", "libx264", f"{X264} bf=5 refs=4 x264-params=open-gop=1:b-pyramid=normal"),
        ("a.mp4", "libx265", f"{X265}:open-gop=0"),
        ("a.mp4", "libx265", f"{X265}:open-gop=1:bframes=4"),
        ("a.mkv", "libx265", f"{X265}:open-gop=1:bframes=4"),
        ("a.webm", "libvpx-vp9", "g=24 deadline=realtime cpu-used=8 lag-in-frames=10"),
        ("a.mp4", "libsvtav1", "g=24 preset=12 svtav1-params=lp=1"),
    ],
)
def test_jumping_gives_the_same_frames_and_decodes_fewer(
    film: Film, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, options: str
) -> None:
    jumped, whole = both(film(name, codec, options), monkeypatch)
    check_same(jumped, whole)
    assert whole.frames_decoded == 600
    assert jumped.frames_decoded <= 6 * 24, "at most a group for each row"


@pytest.mark.parametrize(
    ("messages", "starts"),
    [
        ([6, 1, 0b110_10000], True),
        ([5, 2, 9, 9, 6, 1, 0b110_10000], True),  # behind a message of another kind
        ([5, 4, 0, 0, 3, 0, 0, 6, 1, 0b110_10000], True),  # a 3 that only parts zeros
        ([6, 1, 0b100_10000], False),  # not exactly
        ([6, 1, 0b111_10000], False),  # a broken link: something was cut off before
        ([6, 1, 0b010_11000], False),  # after one frame more
        ([5, 1, 0b110_10000], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("extradata", [b"", b"\1\0\0\0\xff"])
def test_a_picture_that_recovers_exactly_starts_a_group(
    messages: list[int], starts: bool, extradata: bytes
) -> None:
    units = [bytes([6, *messages, 0x80]), bytes([1, 0xFF])]
    parts = [(len(unit).to_bytes(4, "big") if extradata else b"\0\0\1") + unit for unit in units]
    packet = av.Packet(b"".join(parts))
    packet.is_keyframe = True
    video = SimpleNamespace(codec_context=SimpleNamespace(name="h264", extradata=extradata))
    assert seek.start_finder(video)(packet) is starts


def test_an_irregular_clock_changes_nothing(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = np.random.default_rng(0).choice([20, 40, 41, 500], 600)
    pts = [0, *np.cumsum(steps)[:-1].tolist()]
    clip = film("a.mkv", "libx264", f"{X264} bf=2 b_strategy=0", pts=pts)
    jumped, whole = both(clip, monkeypatch)
    check_same(jumped, whole)
    assert jumped.frames_decoded < 300


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "libx264", f"{X264} intra-refresh=1"),
        ("a.avi", "libx264", f"{X264} bf=3 b_strategy=0"),  # no presentation times
        ("a.ts", "libx264", f"{X264} bf=3 b_strategy=0"),  # jumps too far
        ("a.mp4", "mpeg4", "g=24 bf=2"),
        ("a.ts", "mpeg2video", "g=24 bf=2"),
        ("a.mp4", "libx264", f"{X264} flags=+ildct+ilme x264-params=interlaced=1"),
    ],
)
def test_where_numbers_or_frames_would_not_be_sure_all_is_decoded(
    film: Film, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, options: str
) -> None:
    jumped, whole = both(film(name, codec, options), monkeypatch)
    check_same(jumped, whole)
    assert jumped.frames_decoded == whole.frames_decoded


def test_a_clip_that_is_cut_by_an_edit_list_is_decoded_whole(
    film: Film, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = film("a.mp4", "libx264", f"{X264} bf=0")
    cut = tmp_path / "cut.mp4"
    with av.open(str(source)) as old, av.open(str(cut), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.pts -= 5 * packet.duration  # the first frames come before time zero
                packet.dts -= 5 * packet.duration
                packet.stream = stream
                new.mux(packet)
    with av.open(str(cut)) as container:
        assert any(packet.is_discard for packet in container.demux(video=0))
    jumped, whole = both(cut, monkeypatch)
    check_same(jumped, whole)
    assert jumped.frames_decoded == whole.frames_decoded


def test_damage_where_one_looks_is_left_to_the_whole_pass(
    film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = film("a.mkv", "libx264", f"{X264} bf=0")
    with av.open(str(clip)) as container:
        sizes = [(p.pos, p.size, p.is_keyframe) for p in container.demux(video=0) if p.size]
    content = bytearray(clip.read_bytes())
    for place, size, is_key in sizes:
        if is_key and place:
            start = content.index(b"\x65", place)  # the IDR slice
            content[start + 8 : place + size] = bytes(place + size - start - 8)
    clip.write_bytes(content)
    jumped, whole = both(clip, monkeypatch)
    check_same(jumped, whole)
    assert jumped.frames_decoded == whole.frames_decoded


def test_many_frames_are_not_worth_jumping(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    views = {"uniform": View("uniform", 250, 64)}
    jumped, whole = both(film("a.mp4", "libx264", X264), monkeypatch, views)
    check_same(jumped, whole)
    assert jumped.frames_decoded == 600


def packets(starts: Sequence[int], count: int = 400) -> Headers:
    numbers = range(count)
    return Headers(
        pts=[10 * n for n in numbers],
        dts=[10 * n - 20 for n in numbers],
        durations=[10] * count,
        is_start=[n in starts for n in numbers],
        is_cut=[False] * count,
    )


def test_spans_begin_where_groups_begin_and_near_ones_are_one() -> None:
    found = ends(spans(packets([0, 50, 100, 300]), np.array([70, 100, 310])))
    assert found == [(50, 500, 700), (100, 1000, 1000), (300, 3000, 3100)]
    near = ends(spans(packets([0, 50, 100, 300]), np.array([100 - NEAR, 100])))
    assert near == [(50, 500, 1000)]


def ends(needed: Sequence[Span]) -> list[tuple[int, int, int]]:
    return [(span.first, span.pts[0], span.pts[-1]) for span in needed]


@pytest.mark.parametrize(
    "change",
    [
        {"pts": None},
        {"pts": 0},  # twice the same
        {"is_start": None},
        {"is_cut": True},
    ],
)
def test_an_odd_packet_anywhere_means_the_whole_pass(change: dict[str, int | None]) -> None:
    regular = packets([0, 50, 100, 300])
    assert spans(regular, np.array([301]))
    for column, value in change.items():
        getattr(regular, column)[200] = value
    assert spans(regular, np.array([301])) == []


def test_the_first_packet_has_to_start_what_is_shown_first() -> None:
    assert spans(packets([50]), np.array([60])) == []
    leading = packets([0, 50])
    leading.pts[0] = 15
    assert spans(leading, np.array([60])) == []
