import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from features.video.clock import Shown
from features.video.decode import decode
from features.video.pictures import Deinterlacer
from features.video.probe import probe
from features.video.views import View
from tests.conftest import MakeClip, brightness

EVERY = {"v": View("uniform", 1000, 720)}

# ------------------------------------------------------------------------------ interlaced video

SIZE = (96, 64)  # width, height
STEP = 3  # pixels that the bar moves from one field to the next


def scene(instant: int) -> NDArray[np.uint8]:
    """Return (64, 96) luma: a bar that moves to the right."""
    picture = np.full(SIZE[::-1], 60, np.uint8)
    picture[:, STEP * instant : STEP * instant + 24] = 200
    return picture


def woven(number: int, first: str) -> NDArray[np.uint8]:
    """Return frame ``number`` of fields that are taken in turn: two instants in one frame."""
    early, late = scene(2 * number), scene(2 * number + 1)
    top, bottom = (early, late) if first == "tff" else (late, early)
    picture = top.copy()
    picture[1::2] = bottom[1::2]
    return picture


def write(
    path: Path,
    pictures: list[NDArray[np.uint8]],
    codec: str,
    first: str = "prog",
    **options: str,
) -> Path:
    """Write a clip of grey pictures, 10 a second, with the top or bottom field first, or whole."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt, stream.options = "yuv420p", options
        for number, picture in enumerate(pictures):
            frame = flagged(luma(picture), first)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def luma(picture: NDArray[np.uint8]) -> av.VideoFrame:
    height, width = picture.shape
    flat = np.concatenate([picture, np.full((height // 2, width), 128, np.uint8)])
    return av.VideoFrame.from_ndarray(flat, format="yuv420p")


def flagged(frame: av.VideoFrame, mode: str) -> av.VideoFrame:
    """Return the frame, said to be ``tff``, ``bff`` or ``prog`` (progressive)."""
    graph = av.filter.Graph()
    form = {"width": frame.width, "height": frame.height, "format": frame.format}
    source = graph.add_buffer(**form, time_base=Fraction(1, 10))
    graph.link_nodes(source, graph.add("setfield", mode), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.vpull()


def combing(frames: NDArray[np.uint8]) -> float:
    """Return how much each line differs from the mean of the two beside it: (T, H, W, 3)."""
    grey = frames.mean(axis=-1)
    return float(np.abs(2 * grey[:, 1:-1] - grey[:, 2:] - grey[:, :-2]).mean())


X264 = {"crf": "5", "preset": "ultrafast"}
FLAGS = {"flags": "+ildct+ilme"}
MPEG2 = FLAGS | {"qmin": "1", "qmax": "2", "alternate_scan": "1"}
FIELDS = {
    "h264 top first": ("a.mp4", "libx264", X264 | FLAGS, "tff"),
    "h264 bottom first": ("a.mkv", "libx264", X264 | FLAGS, "bff"),
    "mpeg2 top first": ("a.mpg", "mpeg2video", MPEG2, "tff"),
    "mpeg2 bottom first": ("a.ts", "mpeg2video", MPEG2, "bff"),
    "mpeg4": ("a.avi", "mpeg4", FLAGS | {"qmin": "1", "qmax": "2"}, "tff"),
}


@pytest.mark.parametrize("form", FIELDS)
def test_fields_become_whole_frames_at_the_times_of_the_first(tmp_path: Path, form: str) -> None:
    name, codec, options, first = FIELDS[form]
    clip = write(tmp_path / name, [woven(n, first) for n in range(12)], codec, first, **options)
    whole = write(tmp_path / "whole.mkv", [scene(2 * n) for n in range(12)], "libx264", **X264)
    decoded = decode(clip, EVERY, seed="s")
    expected = decode(whole, EVERY, seed="s")
    assert (decoded.interlaced, decoded.frames_decoded) == (12, 12)
    assert (expected.interlaced, expected.frames_decoded) == (0, 12)
    view = decoded.views["v"]
    np.testing.assert_array_equal(view.index, range(12))
    np.testing.assert_allclose(np.diff(view.pts_s), 0.1)
    with av.open(str(clip)) as container:
        raw = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert combing(raw) > 12
    assert combing(view.frames) < 3 * combing(expected.views["v"].frames) + 1
    difference = view.frames.astype(int) - expected.views["v"].frames
    assert np.abs(difference).mean() < 6  # the bar is where it was when the first field was taken
    moved = view.frames.astype(int)[:, :, STEP:] - expected.views["v"].frames[:, :, :-STEP]
    assert np.abs(moved).mean() > 9  # and not where it was for the second


def test_the_header_says_whether_there_are_fields(tmp_path: Path) -> None:
    pictures = [woven(n, "tff") for n in range(3)]
    fields = write(tmp_path / "a.mp4", pictures, "libx264", "tff", **X264, **FLAGS)
    assert probe(fields).interlaced is True
    assert probe(write(tmp_path / "b.mp4", pictures, "libx264", **X264)).interlaced is False
    assert probe(write(tmp_path / "c.avi", pictures, "mpeg4")).interlaced is None


def sequence(kinds: str) -> Iterator[Shown]:
    """Yield frames: ``p`` progressive, ``i`` interlaced, ``I`` interlaced and larger."""
    for number, kind in enumerate(kinds):
        picture = np.full((64, 96) if kind == "I" else (32, 48), brightness(number), np.uint8)
        frame = flagged(luma(picture), "prog" if kind == "p" else "tff")
        yield Shown(frame, number, number / 10)


@pytest.mark.parametrize("kinds", ["p", "i", "ppp", "ppiipp", "iiIIii", "IipIpI", "pipipi"])
def test_one_frame_comes_out_for_each_and_in_order(kinds: str) -> None:
    frames = list(sequence(kinds))
    deinterlacer = Deinterlacer()
    done = [whole for shown in frames for whole in deinterlacer.see(shown)]
    done += deinterlacer.finish()
    assert [(w.number, w.time_s) for w in done] == [(s.number, s.time_s) for s in frames]
    assert deinterlacer.count == sum(kind != "p" for kind in kinds)
    for whole, kind in zip(done, kinds, strict=True):
        assert not whole.frame.interlaced_frame
        assert (whole.frame.height, whole.frame.width) == ((64, 96) if kind == "I" else (32, 48))
        assert abs(whole.frame.to_ndarray()[:32].mean() - brightness(whole.number)) < 1
    untouched = kinds.find("i") if "i" in kinds else len(kinds)
    if "I" not in kinds:
        assert all(w.frame is s.frame for w, s in zip(done[:untouched], frames, strict=False))


def test_frames_too_small_for_two_fields_stay_as_they_are() -> None:
    frame = flagged(luma(np.full((4, 6), 99, np.uint8)), "tff")
    deinterlacer = Deinterlacer()
    assert [shown.frame for shown in deinterlacer.see(Shown(frame, 0, 0.0))] == [frame]
    assert deinterlacer.count == 0


# ----------------------------------------------------------------------------- which way is up


TURNS = [*product((1, -1), (0,), (0,), (1, -1)), *product((0,), (1, -1), (1, -1), (0,))]
"""a, b, c, d of the eight display matrices that turn by quarters and mirror."""


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_or_mirrored_clip_comes_out_as_its_matrix_says(
    tmp_path: Path, turn: tuple[int, int, int, int]
) -> None:
    picture = np.empty((48, 64), np.uint8)
    levels = {(-1, -1): 40, (1, -1): 95, (-1, 1): 150, (1, 1): 205}  # by place: right, down
    halves = {-1: slice(None, 24), 1: slice(24, None)}, {-1: slice(None, 32), 1: slice(32, None)}
    for (right, down), level in levels.items():
        picture[halves[0][down], halves[1][right]] = level
    clip = write(tmp_path / "turned.mp4", [picture], "libx264", **X264)
    a, b, c, d = turn
    raw = bytearray(clip.read_bytes())
    at = raw.index(b"tkhd") + 4 + 40
    fixed = (value << 16 for value in (a, b, 0, c, d, 0, 0, 0))
    raw[at : at + 36] = struct.pack(">9i", *fixed, 1 << 30)
    clip.write_bytes(raw)
    frame = decode(clip, EVERY, seed="s").views["v"].frames[0]
    assert frame.shape == ((48, 64, 3) if a else (64, 48, 3))
    height, width = frame.shape[:2]
    for (right, down), level in levels.items():
        shown_right, shown_down = a * right + c * down, b * right + d * down  # ISO 14496-12
        row, column = (2 + shown_down) * height // 4, (2 + shown_right) * width // 4
        expected = (level - 16) * 255 / 219
        assert abs(int(frame[row, column, 0]) - expected) < 4, (right, down)


# ------------------------------------------------------------------- colours, shrinking, cutting


COLOURS = {"red": (230, 20, 30), "green": (25, 210, 40), "blue": (35, 45, 220)}
BT601, BT709 = 6, 1  # FFmpeg's numbers of the matrices (ISO 23001-8)
WEIGHTS = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722)}  # of red and blue in luma


def to_yuv(rgb: NDArray[np.float64], matrix: int) -> NDArray[np.uint8]:
    """Return (3, H, W) Y'CbCr of 8 bits, limited range, of (H, W, 3) R'G'B' (BT.601, BT.709)."""
    kr, kb = WEIGHTS[matrix]
    red, green, blue = np.moveaxis(rgb / 255, 2, 0)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    planes = 16 + 219 * y, 128 + 112 * (blue - y) / (1 - kb), 128 + 112 * (red - y) / (1 - kr)
    return np.rint(planes).astype(np.uint8)


def coloured(path: Path, matrix: int, shown: int, *, fields: bool = False) -> Path:
    """Write a lossless clip of four colours, one of them a chequer, whose edit list cuts it.

    Four frames of other colours come before those that are shown.
    """
    picture = np.zeros((64, 64, 3))
    picture[:32, :32], picture[:32, 32:], picture[32:, :32] = COLOURS.values()
    picture[32:, 32:] = 255.0 * (np.indices((32, 32)).sum(0) % 2)[..., None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        params = "qp=0:bframes=0:scenecut=0" + ":tff=1" * fields
        stream.options = {"preset": "ultrafast", "x264-params": params}
        stream.codec_context.colorspace = matrix
        for number in range(4 + shown):
            planes = to_yuv(picture if number >= 4 else 255 - picture, matrix)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv444p")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            frame.colorspace = matrix
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        tick = int(Fraction(4, 10) / stream.time_base)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"elst") + 16  # where in the media the only part begins
    assert int.from_bytes(raw[at : at + 4], "big") == 0
    raw[at : at + 4] = tick.to_bytes(4, "big")
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("matrix", WEIGHTS)
def test_colours_are_right_fine_patterns_average_and_what_is_cut_off_is_not_counted(
    tmp_path: Path, matrix: int
) -> None:
    clip = coloured(tmp_path / "a.mp4", matrix, shown=8)
    views = {"large": View("uniform", 1000, 64), "small": View("segments", 4, 32)}
    decoded = decode(clip, views, seed="s")
    assert decoded.frames_decoded == 8
    large, small = decoded.views["large"], decoded.views["small"]
    np.testing.assert_array_equal(large.index, range(8))
    np.testing.assert_allclose(large.pts_s, np.arange(8) / 10)
    np.testing.assert_array_equal(small.index // 2, range(4))
    assert small.frames.shape == (4, 32, 32, 3)
    for view in (large, small):
        half = view.frames.shape[1] // 2
        corners = view.frames[:, 4:-4, 4:-4].astype(int)
        shown = [corners[:, 0, 0], corners[:, 0, -1], corners[:, -1, 0]]
        for found, colour in zip(shown, COLOURS.values(), strict=True):
            assert np.abs(found - colour).max() <= 3
        chequer = view.frames[:, half + 4 : -4, half + 4 : -4].astype(int)
        if view is large:
            assert (chequer.min(), chequer.max()) == (0, 255)
        else:
            assert np.abs(chequer - 127.5).max() <= 2


def test_the_matrix_outlives_the_deinterlacer(tmp_path: Path, make_clip: MakeClip) -> None:
    for matrix in WEIGHTS:
        clip = coloured(tmp_path / "a.mp4", matrix, shown=4, fields=True)
        decoded = decode(clip, EVERY, seed="s")
        assert decoded.interlaced == 4
        for found, colour in zip(
            (
                decoded.views["v"].frames[:, row, column]
                for row, column in ((9, 9), (9, 54), (54, 9))
            ),
            COLOURS.values(),
            strict=True,
        ):
            assert np.abs(found.astype(int) - colour).max() <= 3
