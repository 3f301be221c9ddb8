"""A few frames of long videos: what they cost here, in bare jumps, and in a pass over the whole.

    python benchmarks/long_videos.py [--minutes 30 --minutes 120] [--json]

The clip is a minute of noise over a moving pattern, 640x360, 25 frames a second, H.264 with a key
frame every ten seconds at most, repeated packet by packet until it is long enough. The bare jumps
ask FFmpeg for the same frames without planning: to the key frame before each, and on to the frame.
All take turns in one run; the least of each counts, in seconds of one processor core, so that what
else the machine does counts little.
"""

import json
import resource
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer

from features.video import seek
from features.video.decode import Decoded, decode
from features.video.views import View

WIDTH_PX, HEIGHT_PX, FPS, GROUP = 640, 360, 25, 250
VIEW = View("segments", 24, 256)


def main(
    minutes: Annotated[list[int], typer.Option(help="length of the clips")] = [30, 120],  # noqa: B006
    repeat: Annotated[int, typer.Option(help="times that each takes its turn")] = 3,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        minute = write_minute(Path(folder) / "minute.mp4")
        rows = [measure(repeated(minute, length), length, repeat) for length in minutes]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print("minutes  frames decoded  here s  bare jumps s  whole pass s  here/bare  whole/here")
    for row in rows:
        print(
            f"{row['minutes']:7d}  {row['decoded']:14,d}  {row['here_s']:6.2f}  "
            f"{row['bare_s']:12.2f}  {row['whole_s']:12.2f}  "
            f"{row['here_s'] / row['bare_s']:9.2f}  {row['whole_s'] / row['here_s']:10.1f}"
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process {peak_mib:,.0f} MiB")


def measure(clip: Path, minutes: int, repeat: int) -> dict[str, float]:
    """Return the fastest seconds of each way, and check that all give the same frames."""
    here = decode(clip, {"v": VIEW}, seed="s")
    wanted_s = here.views["v"].pts_s
    times: dict[str, list[float]] = {"here": [], "bare": [], "whole": []}
    for turn in range(repeat):
        times["here"].append(seconds(lambda: decode(clip, {"v": VIEW}, seed="s")))
        times["bare"].append(seconds(lambda: bare_jumps(clip, wanted_s.tolist())))
        if turn == 0:  # it takes a hundred times as long
            times["whole"].append(seconds(lambda: check_same(here, whole_pass(clip))))
    return {
        "minutes": minutes,
        "decoded": here.frames_decoded,
        **{f"{name}_s": min(each) for name, each in times.items()},
    }


def seconds(work: Callable[[], object]) -> float:
    """Return what something takes of a processor core."""
    start = time.process_time()
    work()
    return time.process_time() - start


def whole_pass(clip: Path) -> Decoded:
    """Decode all frames."""
    plain = seek.spans
    seek.spans = lambda *_: []
    try:
        return decode(clip, {"v": VIEW}, seed="s")
    finally:
        seek.spans = plain


def check_same(one: Decoded, other: Decoded) -> None:
    """Compare frames, numbers and times."""
    for array in ("frames", "index", "pts_s"):
        np.testing.assert_array_equal(
            getattr(one.views["v"], array), getattr(other.views["v"], array)
        )


def bare_jumps(clip: Path, wanted_s: list[float]) -> None:
    """Jump to each instant, decode on to its frame and bring it to the view's size."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        video.thread_type = "NONE"
        for instant_s in wanted_s:
            container.seek(round(instant_s / video.time_base), stream=video)
            for frame in container.decode(video):
                if frame.time >= instant_s - 1e-6:
                    frame.reformat(width=455, height=256, format="rgb24").to_ndarray()
                    break


def write_minute(path: Path) -> Path:
    """Write the clip that is repeated."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 24, (8, HEIGHT_PX, WIDTH_PX, 1), np.uint8)
    ramp = np.add.outer(np.arange(HEIGHT_PX), np.arange(WIDTH_PX))[..., None]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        video.options = {"preset": "veryfast", "g": str(GROUP), "crf": "26"}
        for number in range(60 * FPS):
            waves = (ramp * np.array([1, 2, 3]) // 3 + 2 * number) % 200
            picture = waves.astype(np.uint8) + grain[number % len(grain)]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


def repeated(source: Path, times: int) -> Path:
    """Write a clip again and again behind itself, without decoding it."""
    path = source.with_name(f"{times}.mp4")
    with av.open(str(source)) as old:
        packets = [packet for packet in old.demux(video=0) if packet.size]
        length = packets[-1].duration * len(packets)
        with av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for number in range(times):
                for packet in packets:
                    packet.stream = stream
                    packet.time_base = old.streams.video[0].time_base
                    new.mux(_moved(packet, number and length))
    return path


def _moved(packet: av.Packet, by: int) -> av.Packet:
    packet.pts += by
    packet.dts += by
    return packet


if __name__ == "__main__":
    typer.run(main)
