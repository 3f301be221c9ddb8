"""A corpus of broken and hostile videos, made from the sample's pictures and sound.

The same seed gives the same bytes. Files lie as a data set does, ``<kind>/<name>``: the kind is
the label, so that the index counts them by kind. Nothing here attacks a weakness that is known in
FFmpeg; the point is what the pipeline does with what cannot be right.

    python -m tests.hostile.corpus <folder> [<seed>]
"""

import os
import struct
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import av.codec.context
import numpy as np
from numpy.typing import NDArray

from sample import sound
from sample.clips import draw_frames, make_track, plan_clip

FPS = 10
FRAMES = 12
SIZE = (96, 64)

Pictures = Sequence[NDArray[np.uint8]]


# ------------------------------------------------------------------------------- whole clips


@lru_cache
def pictures() -> Pictures:
    """Return the sample's frames: FRAMES of 320x240, every second one of a clip of two seconds."""
    return [frame for at, frame in enumerate(draw_frames(plan_clip(3, "joy", 1, 2.0))) if at % 2][
        :FRAMES
    ]


@lru_cache
def tone() -> NDArray[np.float32]:
    """Return a second of the sample's sound."""
    return make_track(plan_clip(3, "joy", 1, 1.0))


def encode(
    path: Path,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    *,
    size: tuple[int, int] = SIZE,
    frames: int = FRAMES,
    pts_ms: Sequence[int] | None = None,
    voice: str | None = "aac",
    aspect: Fraction | None = None,
    container: str | None = None,
    options: dict[str, str] | None = None,
    flat: bool = False,
    clock_hz: int = 1000,
) -> Path:
    """Encode a clip of the sample's pictures (``flat``: all grey).

    No ``frames`` is sound alone, no ``voice`` is silent.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = {"fflags": "+bitexact"}
    with av.open(str(path), "w", format=container, options=flags) as file:
        streams = []
        if frames:
            video = file.add_stream(codec, rate=FPS)
            video.width, video.height, video.pix_fmt = *size, pixel_format
            video.options = {"threads": "1", **(options or _cheap(codec))}
            video.codec_context.time_base = Fraction(1, clock_hz)
            if aspect:
                video.codec_context.sample_aspect_ratio = aspect
            streams.append(video)
        if voice:
            rate = 48_000 if voice == "libopus" else sound.SAMPLE_RATE_HZ
            audio = file.add_stream(voice, rate=rate, layout="mono")
            streams.append(audio)
        for stream in streams:
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for number in range(frames):
            picture = np.full((2, 2, 3), 128, np.uint8) if flat else pictures()[number % FRAMES]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(*size, pixel_format)
            frame.time_base = Fraction(1, 1000)
            frame.pts = pts_ms[number] if pts_ms else number * 1000 // FPS
            file.mux(video.encode(frame))
        if frames:
            file.mux(video.encode())
        if voice:
            file.mux(_voiced(audio))
    return path


def pack_b_frames(source: Path, path: Path) -> Path:
    """Write an AVI of MPEG-4 as XviD does: a B-frame in one packet with the frame it refers to.

    The packet in whose place that frame is shown says only that: a frame that is not coded.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as old:
        video = old.streams.video[0]
        frames = [bytes(packet) for packet in old.demux(video) if packet.size]
        start = frames[0].index(_VOP)
        frames[0] = frames[0][:start] + b"\0\0\1\xb2DivX503b1393p" + frames[0][start:]
        packets: list[bytes] = []
        owed: bytes | None = None  # the frame whose place is still to come
        rate = int(video.average_rate)
        for frame in [*frames, None]:
            if frame is not None and _is_b(frame) and owed is None:
                owed, packets[-1] = packets[-1], packets[-1] + frame
                continue
            if owed is not None and (frame is None or not _is_b(frame)):
                packets.append(_not_coded(owed, rate))
                owed = None
            packets += [frame] if frame else []
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as new:
            stream = new.add_stream_from_template(video)
            stream.codec_context.codec_tag = "XVID"
            for number, content in enumerate(packets):
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, Fraction(1, rate)
                packet.pts = packet.dts = number
                packet.is_keyframe = number == 0
                new.mux(packet)
    return path


_VOP = b"\0\0\1\xb6"


def _is_b(frame: bytes) -> bool:
    """Tell whether the first frame of a packet of MPEG-4 is a B-frame."""
    return frame[frame.index(_VOP) + 4] >> 6 == 2


def _not_coded(frame: bytes, rate: int) -> bytes:
    """Say that nothing is coded at the time of ``frame`` (ISO 14496-2, 6.2.5)."""
    start = frame.index(_VOP) + 4
    bits = "".join(f"{byte:08b}" for byte in frame[start : start + 8])
    seconds = bits.index("0", 2) + 1  # as many ones as seconds have passed
    bits = "01" + bits[2 : seconds + 1 + (rate - 1).bit_length()] + "1" + "0"
    bits += "0".ljust(-len(bits) % 8 or 8, "1")
    return _VOP + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _cheap(codec: str) -> dict[str, str]:
    return {
        "libx264": {"preset": "ultrafast", "crf": "30", "g": "6"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }.get(codec, {})


def _voiced(audio: av.AudioStream) -> list[av.Packet]:
    """Encode the sound; the resampler cuts it into the frames that the codec takes."""
    block = av.AudioFrame.from_ndarray(tone()[None], format="fltp", layout="mono")
    block.sample_rate, block.pts = sound.SAMPLE_RATE_HZ, 0
    context = audio.codec_context
    context.open(strict=False)
    cut = av.AudioResampler(context.format, "mono", context.sample_rate, context.frame_size or 1024)
    parts = [*cut.resample(block), *cut.resample(None)]
    return [packet for part in [*parts, None] for packet in audio.encode(part)]


BASES: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": lambda path: encode(path),
    "h265.mp4": lambda path: encode(path, "libx265"),
    "mjpeg.mov": lambda path: encode(path, "mjpeg", "yuvj420p", voice="pcm_s16le"),
    "h264.mkv": lambda path: encode(path, voice="flac"),
    "vp9.webm": lambda path: encode(path, "libvpx-vp9", voice="libopus"),
    "mpeg4.avi": lambda path: encode(path, "mpeg4", voice="libmp3lame"),
    "mpeg2.ts": lambda path: encode(path, "mpeg2video", voice="mp2", options={"strict": "-2"}),
    "flv1.flv": lambda path: encode(path, "flv", voice="libmp3lame"),
    "wmv2.wmv": lambda path: encode(path, "wmv2", voice="libmp3lame"),
}
"""Whole clips, one a container; the mutations start from them."""


# --------------------------------------------------------------------------------- mutations


class Corpus:
    """Writes the files below ``root``; ``bases`` are whole clips by name."""

    def __init__(self, root: Path, seed: int) -> None:
        """Make the whole clips in memory."""
        self.root = root
        self.rng = np.random.default_rng(seed)
        self.bases: dict[str, bytes] = {}
        for name, make in BASES.items():
            path = make(root / "whole" / name)
            self.bases[name] = path.read_bytes()

    def add(self, kind: str, name: str | bytes, content: bytes) -> None:
        """Write a file."""
        folder = self.root / kind
        folder.mkdir(exist_ok=True)
        with open(os.path.join(os.fsencode(folder), os.fsencode(name)), "wb") as file:
            file.write(content)

    def path(self, kind: str, name: str) -> Path:
        """Return where a clip is to be encoded."""
        return self.root / kind / name

    def copies(self, kind: str, change: Callable[[str, bytearray], None], count: int) -> None:
        """Write ``count`` changed copies of each base."""
        for name, content in self.bases.items():
            for number in range(count):
                raw = bytearray(content)
                change(name, raw)
                self.add(kind, f"{number}_{name}", bytes(raw))

    def flip(self, raw: bytearray, start: int, stop: int, bits: int) -> None:
        """Flip bits between two places."""
        for at in self.rng.integers(start * 8, max(stop, start + 1) * 8, bits):
            raw[at // 8] ^= 1 << (at % 8)

    def between(self, low: int, high: int) -> int:
        """Draw a number."""
        return int(self.rng.integers(low, high))


def damaged(corpus: Corpus) -> None:
    """Copies of whole clips: cut, with bits flipped, with a stretch overwritten or lost."""
    between = corpus.between

    def cut(_name: str, raw: bytearray) -> None:
        del raw[between(1, len(raw)) :]

    def header(_name: str, raw: bytearray) -> None:
        corpus.flip(raw, 0, 200, between(1, 9))

    def index(name: str, raw: bytearray) -> None:
        start, stop = _index_of(name, raw)
        corpus.flip(raw, start, stop, between(1, 25))

    def payload(name: str, raw: bytearray) -> None:
        start = 600 if not name.endswith(("mp4", "mov")) else raw.index(b"mdat") + 4
        stop = _index_of(name, raw)[0] if name.endswith(("mp4", "mov")) else len(raw)
        corpus.flip(raw, start, stop, between(1, 400))

    def noise(_name: str, raw: bytearray) -> None:
        at, length = between(0, len(raw)), between(1, len(raw) // 3)
        part = corpus.rng.integers(0, 256, len(raw[at : at + length]), np.uint8)
        raw[at : at + length] = part.tobytes()

    def gap(_name: str, raw: bytearray) -> None:
        at = between(0, len(raw))
        del raw[at : at + between(1, len(raw) // 4)]

    corpus.copies("truncated", cut, 6)
    corpus.copies("header_bits", header, 6)
    corpus.copies("index_bits", index, 5)
    corpus.copies("payload_bits", payload, 5)
    corpus.copies("overwritten", noise, 3)
    corpus.copies("gap", gap, 2)


def _index_of(name: str, raw: bytes | bytearray) -> tuple[int, int]:
    """Return where a container keeps what it knows of its packets, else its middle."""
    marks = {"mp4": b"moov", "mov": b"moov", "avi": b"idx1", "mkv": b"\x1c\x53\xbb\x6b"}
    mark = marks.get(name.rpartition(".")[2], b"\x1c\x53\xbb\x6b")
    at = raw.rfind(mark)
    return (at, len(raw)) if at >= 0 else (len(raw) // 3, 2 * len(raw) // 3)


NOT_VIDEO = {
    "text.mp4": b"this is no video\n" * 50,
    "page.mp4": b"<!doctype html><title>404</title>" * 20,
    "script.mp4": b"#!/bin/sh\ntouch canary\n",
    "python.mkv": b"import pathlib; pathlib.Path('canary').touch()\n",
    "zip.avi": b"PK\x03\x04" + bytes(200),
    "elf.mov": b"\x7fELF\x02\x01\x01" + bytes(200),
    "png.mp4": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zeros.mp4": bytes(5000),
    "ones.mkv": b"\xff" * 5000,
    "ftyp.mp4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n",
    "concat.mp4": b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    "session.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP\n",
    "dash.mp4": b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
    "filter.mp4": b"movie=/etc/hostname [out0]\n",
}
"""What lies in folders of videos and is none; the last ones are read by FFmpeg as addresses."""


def not_video(corpus: Corpus) -> None:
    """Files without bytes, and files of another kind under a video's name."""
    for name in ("empty.mp4", "empty.mkv", "empty.avi"):
        corpus.add("zero_length", name, b"")
    for name, content in NOT_VIDEO.items():
        corpus.add("not_video", name, content)


def unusual(corpus: Corpus) -> None:
    """Whole clips of forms that are rare: these must be used, or say why not."""
    path = corpus.path
    encode(path("sound_only", "aac.mp4"), frames=0)
    encode(path("sound_only", "flac.mkv"), frames=0, voice="flac")
    encode(path("sound_only", "mp3.avi"), frames=0, voice="libmp3lame", container="mp3")
    encode(path("sound_only", "pcm.mov"), frames=0, voice="pcm_s16le", container="wav")
    for name in ("a.mp4", "a.mkv", "a.mov", "a.ts"):
        encode(path("picture_only", name), voice=None)
        encode(path("one_frame", name), frames=1)
        encode(path("two_frames", name), frames=2, voice=None)
    encode(path("one_frame", "a.gif"), "gif", "rgb8", frames=1, voice=None)
    steps = [0, 1, 2, 3, 1000, 1040, 5000, 5001, 9000, 9040, 9080, 60_000]
    for name in ("a.mp4", "a.mkv", "a.mov"):
        encode(path("variable_rate", name), pts_ms=steps)
    for at, size in enumerate([(2, 2), (16, 4096), (4096, 16), (66, 50), (64, 2)]):
        encode(path("odd_size", f"{at}.mp4"), size=size, voice=None)
    for at, size in enumerate([(1, 1), (3, 5), (65, 49), (1, 999), (2047, 3)]):
        encode(path("odd_size", f"{at}.mov"), "png", "rgb24", size=size, voice=None)
    encode(path("ten_bit", "h265.mp4"), "libx265", "yuv420p10le")
    encode(path("ten_bit", "h264.mp4"), "libx264", "yuv420p10le", voice=None)
    encode(path("ten_bit", "prores.mov"), "prores_ks", "yuv422p10le", voice=None)
    encode(path("ten_bit", "ffv1.mkv"), "ffv1", "yuv444p10le", voice=None)
    encode(path("alpha", "qtrle.mov"), "qtrle", "argb", voice=None)
    encode(path("alpha", "png.mov"), "png", "rgba", voice=None)
    encode(path("alpha", "prores.mov"), "prores_ks", "yuva444p10le", voice=None)
    encode(path("alpha", "vp9.webm"), "libvpx-vp9", "yuva420p", voice=None)
    encode(path("alpha", "ffv1.mkv"), "ffv1", "bgra", voice=None)
    reordered = {"bf": "2", "g": "6", "sc_threshold": "1000000000"}
    plain = encode(path("b_frames", "mpeg4.avi"), "mpeg4", options=reordered, clock_hz=FPS)
    pack_b_frames(plain, path("b_frames", "xvid.avi"))
    reordered = {"bf": "3", "preset": "veryfast", "x264-params": "b-adapt=0"}
    encode(path("b_frames", "h264.avi"), options=reordered, clock_hz=FPS)
    fields = {"flags": "+ildct+ilme", "threads": "1"}
    encode(path("interlaced", "h264.mp4"), options=fields | {"preset": "ultrafast"})
    encode(path("interlaced", "mpeg4.avi"), "mpeg4", options=fields, clock_hz=FPS)
    encode(path("interlaced", "small.avi"), "mpeg4", size=(16, 16), options=fields, clock_hz=FPS)
    encode(path("interlaced", "flat.avi"), "mpeg4", size=(64, 6), options=fields, clock_hz=FPS)
    encode(path("grey", "ffv1.mkv"), "ffv1", "gray16le", voice=None)
    encode(path("grey", "mjpeg.avi"), "mjpeg", "yuvj444p", voice=None)


def rotated(corpus: Corpus) -> None:
    """Display matrices: a turn by quarters, by half a quarter, none at all, mirrored, absurd."""
    one = 1 << 16
    turns = {
        "90": (0, one, -one, 0),
        "180": (-one, 0, 0, -one),
        "270": (0, -one, one, 0),
        "45": (46341, 46341, -46341, 46341),
        "nothing": (0, 0, 0, 0),
        "mirror": (-one, 0, 0, one),
        "absurd": (2**31 - 1, -(2**31), 2**31 - 1, 5),
    }
    for name, (a, b, c, d) in turns.items():
        raw = bytearray(corpus.bases["h264.mp4"])
        at = raw.index(b"tkhd") + 44
        raw[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        corpus.add("rotated", f"{name}.mp4", bytes(raw))


def patched(raw: bytes, tag: bytes, offset: int, value: int, width: int = 4) -> bytes:
    """Write a big-endian number ``offset`` bytes after the first byte of every ``tag``."""
    out, at = bytearray(raw), raw.find(tag)
    assert at >= 0, tag
    while at >= 0:
        out[at + offset : at + offset + width] = value.to_bytes(width, "big")
        at = raw.find(tag, at + 1)
    return bytes(out)


def headers(corpus: Corpus) -> None:
    """Headers that lie: about the length, the size, the number and the places of the packets."""
    mp4, mkv, avi = (corpus.bases[name] for name in ("h264.mp4", "h264.mkv", "mpeg4.avi"))
    for name, value in {"none": 0, "one": 1, "years": 2**32 - 2, "most": 2**32 - 1}.items():
        corpus.add("duration", f"movie_{name}.mp4", patched(mp4, b"mvhd", 20, value))
        corpus.add("duration", f"media_{name}.mp4", patched(mp4, b"mdhd", 20, value))
        corpus.add("duration", f"track_{name}.mp4", patched(mp4, b"tkhd", 24, value))
        corpus.add("duration", f"frames_{name}.avi", patched(avi, b"avih", 24, value))
    for name, value in {"none": 0, "one": 1, "most": 2**32 - 1}.items():
        corpus.add("duration", f"scale_{name}.mp4", patched(mp4, b"mdhd", 16, value))
    places = {"size": (b"stsz", 8), "samples": (b"stsz", 12), "steps": (b"stts", 8)}
    places |= {"step": (b"stts", 16), "chunks": (b"stsc", 16), "first": (b"stsc", 12)}
    places |= {"place": (b"stco", 12), "places": (b"stco", 8), "edits": (b"elst", 8)}
    places |= {"edit": (b"elst", 16), "whole": (b"moov", -4), "data": (b"mdat", -4)}
    for name, (tag, offset) in places.items():
        for value in (0, 0x0FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF):
            raw = patched(mp4, tag, offset, value)
            if raw != mp4:  # where it says that already it is the whole clip, of another class
                corpus.add("tables", f"{name}_{value:x}.mp4", raw)
    for samples in (0x02000000, 0x0A000000, 0x10000000):
        corpus.add("index_bomb", f"{samples:x}.mp4", index_bomb(mp4, samples))
    for name, raw in _sizes(mp4, mkv, avi, corpus.bases["mjpeg.mov"]).items():
        corpus.add("dimensions", name, raw)
    aspect = encode(corpus.path("pixel_aspect", "4_3.mp4"), aspect=Fraction(4, 3)).read_bytes()
    for name, (h, v) in {"wide": (2**31 - 1, 1), "tall": (1, 2**31 - 1), "1000": (1000, 1)}.items():
        raw = patched(patched(aspect, b"pasp", 4, h), b"pasp", 8, v)
        corpus.add("pixel_aspect", f"{name}.mp4", raw)


def index_bomb(mp4: bytes, samples: int) -> bytes:
    """Say that the chunk has so many samples of one byte: an index of gigabytes in a small file."""
    raw = patched(patched(mp4, b"stsz", 8, 1), b"stsz", 12, samples)
    return patched(raw, b"stsc", 16, samples)


def _sizes(mp4: bytes, mkv: bytes, avi: bytes, mov: bytes) -> dict[str, bytes]:
    """Return clips whose headers, or whose codec's, state sizes that cannot be."""
    made = {}
    for side in (0, 1, 8193, 65535):
        entry = patched(patched(mp4, b"avc1\0\0\0\0", 28, side, 2), b"avc1\0\0\0\0", 30, side, 2)
        made[f"entry_{side}.mp4"] = entry
        made[f"track_{side}.mp4"] = patched(
            patched(mp4, b"tkhd", 80, side << 16), b"tkhd", 84, side << 16
        )
        made[f"jpeg_{side}.mov"] = patched(mov, b"\xff\xc0\0\x11\x08", 5, side << 16 | side)
        little = int.from_bytes(side.to_bytes(4, "little"), "big")
        made[f"strf_{side}.avi"] = patched(patched(avi, b"strf", 12, little), b"strf", 16, little)
    for side in (64, 8192, 20_000, 131_072):
        made[f"sps_{side}.mp4"] = with_sps(mp4, side // 16, side // 16)
    made["sps_flat.mp4"] = with_sps(mp4, 65_536, 1)
    width = mkv.index(b"\xb0\x81" + bytes([SIZE[0]]))
    for side in (0, 1, 255):
        made[f"pixels_{side}.mkv"] = mkv[: width + 2] + bytes([side]) + mkv[width + 3 :]
    return made


def with_sps(mp4: bytes, width_mbs: int, height_mbs: int) -> bytes:
    """Put a sequence parameter set of that many macroblocks in the place of the clip's own."""
    bits = f"{0x67:08b}{66:08b}{0:08b}{62:08b}" + _golomb(0) + _golomb(0) + _golomb(2) + _golomb(1)
    bits += "0" + _golomb(width_mbs - 1) + _golomb(height_mbs - 1) + "1" + "1" + "0" + "0" + "1"
    made = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    at = mp4.index(b"avcC") + 10  # version, profile, compatibility, level, two counts
    length = int.from_bytes(mp4[at : at + 2], "big")
    assert len(made) <= length
    return mp4[: at + 2] + made.ljust(length, b"\0") + mp4[at + 2 + length :]


def _golomb(value: int) -> str:
    """Return an unsigned Exp-Golomb code as binary digits."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def long(corpus: Corpus) -> None:
    """Few frames over a very long time, or before time begins."""
    hour = 3_600_000
    times = {
        "day": [24 * hour * n for n in range(FRAMES)],
        "century": [24 * 365 * hour * 9 * n for n in range(FRAMES)],
        "last": [*range(0, 1100, 100), 10**12],
        "before": [-(10**6) + 90 * n for n in range(FRAMES)],
    }
    for name, pts_ms in times.items():
        for suffix in ("mkv", "nut.avi"):
            container = "nut" if suffix == "nut.avi" else None
            target = corpus.path("very_long", f"{name}.{suffix}")
            encode(target, pts_ms=pts_ms, voice=None, container=container)
    corpus.add("very_long", "step.mp4", patched(corpus.bases["h264.mp4"], b"stts", 16, 2**31 - 2))


HARD_NAMES: tuple[str | bytes, ...] = (
    "it's.mp4",
    'say "yes".mp4',
    "100%.mp4",
    "%s%n%d.mp4",
    "two\nlines.mp4",
    "tab\there.mp4",
    "return\r.mp4",
    "-i.mp4",
    "--out=x.mp4",
    " spaces ends .mp4",
    "spaces   .mp4",
    "x" * 200 + ".mp4",
    "x" * 251 + ".mp4",
    "é" * 125 + ".mp4",
    "\u202egpj.exe.mp4",
    "\u0645\u0631\u062d\u0628\u0627.mp4",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467.mp4",
    "e\u0301 and \u00e9.mp4",
    "$(touch canary).mp4",
    "`touch canary`;touch canary.mp4",
    "a|b&c>d<e.mp4",
    "..mp4.mp4",
    "...mp4",
    "back\\slash.mp4",
    "C:\\x.mp4",
    "con.mp4",
    "[red]markup.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "\x1b[31mred\x07.mp4",
    "{0}{item}${x}.mp4",
    "*?.mp4",
    "#1.mp4",
    "=1+1.mp4",
    "http:file.mp4",
    "concat:a|b.mp4",
    b"\xff\xfe.mp4",
    b"latin\xe9.mp4",
)
"""Names that break what pastes them into a command, a pattern, a page or an address."""


def names(corpus: Corpus) -> None:
    """One whole clip under hard names, with an empty box or two at its end: a class's own file."""
    box = b"\0\0\0\x08free"
    for name in HARD_NAMES:
        corpus.add("names", name, corpus.bases["h264.mp4"] + box)
    raw = corpus.bases["h264.mp4"] + 2 * box
    corpus.add("names[", "red].mp4", raw)  # its id has a tag of Rich in it
    corpus.add("names[", "text].mp4", b"no video")


# -------------------------------------------------------------------------------------- bombs


def repeated(path: Path, times: int, codec: str = "libx264", **stream: object) -> Path:
    """Write a clip whose encoded packets are repeated: small to make, large to decode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = encode(path.with_name("once.mkv"), codec, **stream)  # type: ignore[arg-type]
    flags = {"fflags": "+bitexact"}
    with av.open(str(source)) as old, av.open(str(path), "w", options=flags) as new:
        packets = [packet for packet in old.demux() if packet.size]
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        length = max(packet.pts + (packet.duration or 0) for packet in packets)
        for number in range(times):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.time_base, again.is_keyframe = packet.time_base, packet.is_keyframe
                again.pts = packet.pts + number * length
                again.dts = again.pts
                again.stream = streams[packet.stream.index]
                new.mux(again)
    source.unlink()
    return path


def bombs(corpus: Corpus) -> None:
    """Small files that are long to decode, or fill the memory when they are."""
    path = corpus.path("slow", "pictures.mkv")  # in a codec of which all frames are decoded
    repeated(path, 400, "mpeg4", size=(4096, 4096), voice=None, options={"g": "12"}, flat=True)
    sound_bomb(corpus.path("sound_bomb", "hours.mkv"))


def sound_bomb(path: Path, packets: int = 9000) -> Path:
    """Write a clip with hours of silence in FLAC: ``packets`` of 65,535 samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = {"fflags": "+bitexact"}
    with av.open(str(path), "w", options=flags) as file:
        video = file.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.options = {"threads": "1", "preset": "ultrafast"}
        audio = file.add_stream("flac", rate=48_000, layout="mono")
        audio.options = {"frame_size": "65535"}
        for stream in (video, audio):
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        picture = av.VideoFrame.from_ndarray(pictures()[0], format="rgb24")
        file.mux(video.encode(picture.reformat(*SIZE, "yuv420p")))
        file.mux(video.encode())
        length = audio.codec_context.frame_size or 4608
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, length), np.int16), format="s16", layout="mono"
        )
        silence.sample_rate, silence.pts = 48_000, 0
        (packet, *_) = [*audio.encode(silence), *audio.encode(None)]
        content, base, step = bytes(packet), packet.time_base, packet.duration
        for number in range(packets):
            again = av.Packet(content)
            again.time_base, again.stream, again.is_keyframe = base, audio, True
            again.pts = again.dts = number * step
            again.duration = step
            file.mux(again)
    return path


PARTS = (damaged, not_video, unusual, rotated, headers, long, names, bombs)


def build(root: Path, seed: int = 0, parts: Sequence[Callable[[Corpus], None]] = PARTS) -> int:
    """Write the corpus below ``root`` and return the number of its files."""
    corpus = Corpus(root, seed)
    for part in parts:
        part(corpus)
    return sum(path.is_file() for path in root.rglob("*"))


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
