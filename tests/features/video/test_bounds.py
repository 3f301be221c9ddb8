"""What a video file may ask for: each bound here is a line of features/video/decode.py, and one
test."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from features.video import decode as video
from features.video import opening
from features.video.decode import decode
from features.video.opening import VideoError
from features.video.probe import probe
from features.video.views import View
from tests.conftest import MakeClip

EVERY = {"v": View("uniform", 1000, 64)}


def jpegs(sizes: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return a JPEG of each size (width, height)."""
    made = []
    for number, (width, height) in enumerate(sizes):
        context = av.CodecContext.create("mjpeg", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuvj420p"  # type: ignore[attr-defined]
        context.time_base = Fraction(1, 10)
        grey = np.full((height, width, 3), 40 + 5 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuvj420p")
        (packet, *_) = [*context.encode(frame), *context.encode(None)]  # type: ignore[attr-defined]
        made.append(bytes(packet))
    return made


def write(path: Path, packets: Sequence[bytes], pts_ms: Sequence[int] = ()) -> Path:
    """Write packets, ten a second, as a clip of JPEGs of 64x48."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
            packet.pts = packet.dts = pts_ms[number] if pts_ms else 100 * number
            container.mux(packet)
    return path


# ------------------------------------------------------------------------- what is opened at all


@pytest.mark.parametrize(
    ("container", "codec", "form"),
    [
        ("yuv4mpegpipe", "rawvideo", "yuv420p"),
        ("apng", "apng", "rgb24"),
        ("swf", "mjpeg", "yuvj420p"),
    ],
)
def test_a_container_that_is_not_on_the_list_is_refused(
    tmp_path: Path, container: str, codec: str, form: str
) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        file.mux(stream.encode(av.VideoFrame(64, 48, form)))
        file.mux(stream.encode())
    with av.open(str(path)) as file:  # FFmpeg itself takes it
        assert len(list(file.decode(video=0))) == 1
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(path)
    with pytest.raises(VideoError, match="cannot be opened"):
        decode(path, EVERY, seed="s")


def test_a_list_of_files_beside_it_opens_none_of_them(in_folder: Path, make_clip: MakeClip) -> None:
    make_clip("secret.mp4")
    path = Path("list.mp4")
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with av.open(str(path)) as file:
        assert file.streams.video
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(path)


@pytest.mark.parametrize("protocol", ["concat:", "subfile,,start,0,end,0,,:", "cache:"])
def test_a_name_that_is_an_address_opens_nothing_else(
    in_folder: Path, make_clip: MakeClip, protocol: str
) -> None:
    make_clip("secret.mp4")
    path = Path(f"{protocol}secret.mp4")
    path.write_bytes(b"no video")
    with av.open(str(path)) as file:  # the other file
        assert file.streams.video
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(path)


# ----------------------------------------------------------------------------- how large frames are


def test_frames_that_a_header_says_are_huge_are_refused(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip()
    monkeypatch.setattr(opening, "MAX_PIXELS", 64 * 48)
    assert probe(clip).width == 64
    monkeypatch.setattr(opening, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match="frames of 64x48 are too large"):
        probe(clip)
    with pytest.raises(VideoError, match="frames of 64x48 are too large"):
        decode(clip, EVERY, seed="s")


def test_no_frame_buffer_is_asked_for_while_a_huge_clip_is_opened(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip("clip.avi", codec="mpeg4", clock_hz=10)
    monkeypatch.setattr(opening, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match="no size"):  # FFmpeg gives a decoder that it refuses none
        probe(clip)


def test_frames_that_become_huge_later_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(64, 48)] * 15
    sizes[7] = (128, 96)
    clip = write(tmp_path / "grows.mkv", jpegs(sizes))
    whole = decode(clip, EVERY, seed="s")
    assert (whole.frames_decoded, whole.damaged) == (15, 0)
    assert whole.views["v"].frames.shape == (15, 48, 64, 3)
    for module in (opening, video):
        monkeypatch.setattr(module, "MAX_PIXELS", 64 * 48)
    bounded = decode(clip, EVERY, seed="s")
    assert (bounded.frames_decoded, bounded.damaged) == (14, 1)


# ----------------------------------------------------------------------- how much may be missing


@pytest.mark.parametrize("damaged", [0, 2, 3, 12])
def test_damage_beyond_its_share_is_refused(tmp_path: Path, damaged: int) -> None:
    packets = jpegs([(64, 48)] * 20)
    for number in range(2, 2 + damaged):
        packets[number] = b"\xff\xd8 no picture"
    clip = write(tmp_path / "hurt.mkv", packets)
    if damaged <= video.MAX_DAMAGED * 20:
        decoded = decode(clip, EVERY, seed="s")
        assert (decoded.damaged, decoded.frames_decoded) == (damaged, 20 - damaged)
    else:
        with pytest.raises(VideoError, match=rf"damaged: {damaged} of 2\d packets cannot be"):
            decode(clip, EVERY, seed="s")


def test_pictures_that_end_before_the_clip_does_are_refused(tmp_path: Path) -> None:
    packets, pts_ms = jpegs([(64, 48)] * 20), [*range(0, 1900, 100), 9000]
    hurt = write(tmp_path / "middle.mkv", [*packets[:9], b"\xff\xd8 no", *packets[10:]], pts_ms)
    assert decode(hurt, EVERY, seed="s").frames_decoded == 19
    short = write(tmp_path / "end.mkv", [*packets[:-1], b"\xff\xd8 no"], pts_ms)
    with pytest.raises(VideoError, match=r"truncated: pictures end at 1.80 s of 9.00 s"):
        decode(short, EVERY, seed="s")


def test_nothing_but_damage_is_no_video(tmp_path: Path) -> None:
    clip = write(tmp_path / "none.mkv", [b"\xff\xd8 no picture"] * 5)
    with pytest.raises(VideoError, match="no frame could be decoded"):
        decode(clip, EVERY, seed="s")
