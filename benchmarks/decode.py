"""What decoding costs beside libavcodec: all views and the sound of a clip, and the memory of it.

    python benchmarks/decode.py [--clip FILE] [--seconds 90] [--json]

Without a clip one is made: noise over a moving pattern, 640x360, 25 frames a second, H.264, with
stereo in AAC; a longer one repeats a minute of it packet by packet. Two ways take turns:

* ours: what the stage does with a video, from the file to four array files;
* bare: libavcodec decodes all frames and all of the sound, and swscale converts the frames that the
  views keep, once for each size.

The least of each counts, twice: as wall, which says something on an idle machine alone, and as
seconds of one processor core, which counts when every core has a worker. Where not all frames of a
clip have to be decoded (benchmarks/long_videos.py) bare is no comparison and is left out. The peak
memory is that of a process that does nothing but ours.
"""

import json
import os
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer
from av.video.reformatter import Interpolation
from long_videos import repeated, write_minute

from features.cache import arrays
from features.video.decode import decode
from features.video.views import View
from stages.decode import Task, compute

VIEWS = {
    "segments": View("segments", 24, 720),
    "uniform": View("uniform", 100, 256),
    "snippets": View("snippets", 10, 128, 16),
}
"""As the papers have them."""

RATE_HZ = 44_100


def main(
    clip: Annotated[Path | None, typer.Option(help="a video; one is made without")] = None,
    duration: Annotated[int, typer.Option("--seconds", help="of the clip that is made")] = 90,
    repeat: Annotated[int, typer.Option(help="turns; the least of each counts")] = 3,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        path = clip or write_clip(Path(folder), duration)
        row = measure(path, Path(folder), repeat)
    if as_json:
        print(json.dumps({**circumstances(), **row}, indent=1))
        return
    for name, value in row.items():
        print(f"{name:16s} {value:10,.2f}")


def circumstances() -> dict[str, str]:
    """Return what the figures hold for; torch, which benchmarks/runtimes.py asks, is not loaded."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "av": av.__version__,
    }


def measure(clip: Path, folder: Path, repeat: int) -> dict[str, float]:
    """Return seconds of both ways, and what is kept, decoded and needed."""
    decoded = decode(clip, VIEWS, seed=f"0 {'1' * 64}")
    kept = {n: set(frames.index.ravel().tolist()) for n, frames in decoded.views.items()}
    with av.open(str(clip)) as container:
        frames = container.streams.video[0].frames
    row = {"frames": frames, "decoded": decoded.frames_decoded}
    ways: dict[str, Callable[[], object]] = {"ours": lambda: ours(clip, folder)}
    if decoded.frames_decoded >= frames:
        ways["bare"] = lambda: bare(clip, kept)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            times[name].append(seconds(way))
    for unit, place in (("wall_s", 0), ("core_s", 1)):
        least = {name: min(each[place] for each in turns) for name, turns in times.items()}
        row |= {f"{name}_{unit}": value for name, value in least.items()}
        if "bare" in least:
            row[f"ratio_{unit[:4]}"] = least["ours"] / least["bare"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        row["peak_mib"] = process.submit(peak_mib, clip, folder).result()
    stored = {path: arrays.read(path)[0] for path in folder.glob("*.h5")}
    raw = sum(array.nbytes for data in stored.values() for array in data.values())
    row["stored_over_raw"] = sum(path.stat().st_size for path in stored) / raw
    return row


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long something takes, and what of a processor core."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def ours(clip: Path, folder: Path) -> None:
    """Do what the stage does with a video."""
    views = {**{name: (name, view) for name, view in VIEWS.items()}, "sound": ("sound", None)}
    task = Task(clip, "1" * 64, 0, views, {name: {} for name in views})
    compute(task, {name: folder / f"{name}.h5" for name in views})


def peak_mib(clip: Path, folder: Path) -> float:
    """Return the peak memory of this process after it did what the stage does."""
    ours(clip, folder)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare(clip: Path, kept: dict[str, set[int]]) -> None:
    """Decode everything, and convert the frames that views keep."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        video.thread_type = "NONE"
        scales = {
            n: min(1.0, v.max_short_side / min(video.width, video.height)) for n, v in VIEWS.items()
        }
        for number, frame in enumerate(container.decode(video)):
            for scale in {scales[name] for name in VIEWS if number in kept[name]}:
                frame.reformat(
                    width=round(frame.width * scale),
                    height=round(frame.height * scale),
                    format="rgb24",
                    interpolation=Interpolation.AREA,
                ).to_ndarray()
    with av.open(str(clip)) as container:
        for _frame in container.decode(audio=0):
            pass


def write_clip(folder: Path, duration: int) -> Path:
    """Write a clip with sound; minutes of it are the same."""
    silent = repeated(write_minute(folder / "minute.mp4"), -(-duration // 60))
    sound = write_sound(folder / "minute.m4a")
    path = folder / "clip.mp4"
    with (
        av.open(str(silent)) as pictures,
        av.open(str(sound)) as noise,
        av.open(str(path), "w") as new,
    ):
        video, audio = pictures.streams.video[0], noise.streams.audio[0]
        to_video, to_audio = (new.add_stream_from_template(stream) for stream in (video, audio))
        heard = [packet for packet in noise.demux(audio) if packet.size]
        length = heard[-1].dts - heard[0].dts + heard[0].duration
        beat, turn, minute = heard[0].time_base, 0, 0
        for packet in pictures.demux(video):
            if not packet.size or packet.pts * packet.time_base >= duration:
                continue
            at_s = packet.dts * packet.time_base
            while minute * length * beat + heard[turn].dts * beat <= at_s:
                other = av.Packet(bytes(heard[turn]))
                other.stream, other.time_base = to_audio, beat
                other.pts = other.dts = heard[turn].dts + minute * length
                other.duration = heard[turn].duration
                new.mux(other)
                minute, turn = minute + (turn + 1) // len(heard), (turn + 1) % len(heard)
            packet.stream = to_video
            new.mux(packet)
    return path


def write_sound(path: Path) -> Path:
    """Write a minute of tones and noise."""
    clock_s = np.arange(60 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).standard_normal((2, len(clock_s)))
    samples = (0.3 * np.sin(2 * np.pi * 220 * clock_s) + 0.05 * noise).astype(np.float32)
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=RATE_HZ, layout="stereo")
        for first in range(0, samples.shape[1], 1024):
            part = np.ascontiguousarray(samples[:, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, first, Fraction(1, RATE_HZ)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path


if __name__ == "__main__":
    typer.run(main)
