"""Whether torchcodec gives PyAV's frames, each of them, and what either costs.

    python benchmarks/decoders.py --clips data/raw/joy [--json]

torchcodec is installed for this alone (`pip install --no-deps torchcodec`; it needs FFmpeg 4 to 9
of the system). Every frame of every clip goes through both, one thread each, as it is stored: RGB
in full size. A row a clip: frames of either, the largest difference of time and of a pixel, the
share of numbers that are equal, and seconds of one processor core, the least of the turns. Where
one refuses a clip its row has the reason.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from runtimes import machine
from torchcodec.decoders import VideoDecoder

BATCH = 16

Shown = Iterator[tuple[float, NDArray[np.uint8]]]
"""Frames: time in seconds, (H, W, 3)."""


def main(
    clips: Annotated[Path, typer.Option(help="folder of videos")],
    repeat: Annotated[int, typer.Option(help="turns; the least counts")] = 2,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Compare and print."""
    torch.set_num_threads(1)
    rows = [compare(path, repeat) for path in sorted(clips.iterdir()) if path.is_file()]
    if as_json:
        print(json.dumps({**machine(), "clips": rows}, indent=1))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


def compare(path: Path, repeat: int) -> dict[str, object]:
    """Return what is equal and what it costs, or why a clip is refused."""
    row: dict[str, object] = {"clip": path.name}
    try:
        frames, off_s, largest, equal = 0, 0.0, 0, 0.0
        for (one_s, one), (other_s, other) in zip(by_pyav(path), by_torchcodec(path), strict=True):
            frames += 1
            off_s = max(off_s, abs(one_s - other_s))
            largest = max(largest, int(np.abs(one.astype(int) - other).max()))
            equal += float(np.mean(one == other))
    except (ValueError, RuntimeError, av.error.FFmpegError) as error:
        return {**row, "refused": " ".join(str(error).split())[:120]}
    row |= {"frames": frames, "off_s": off_s, "largest": largest}
    row["equal"] = round(equal / frames, 4)
    times: dict[str, list[float]] = {"pyav_s": [], "torchcodec_s": []}
    for _ in range(repeat):
        times["pyav_s"].append(seconds(lambda: by_pyav(path)))
        times["torchcodec_s"].append(seconds(lambda: by_torchcodec(path)))
    return row | {name: round(min(each), 3) for name, each in times.items()}


def seconds(frames: Callable[[], Shown]) -> float:
    """Return what all frames take of a processor core."""
    start = time.process_time()
    for _frame in frames():
        pass
    return time.process_time() - start


def by_pyav(path: Path) -> Shown:
    """Yield the frames as libavcodec in PyAV gives them."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.thread_type = "NONE"
        for frame in container.decode(video):
            yield float(frame.time or 0.0), frame.reformat(format="rgb24").to_ndarray()


def by_torchcodec(path: Path) -> Shown:
    """Yield the frames as torchcodec gives them."""
    decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, dimension_order="NHWC")
    for first in range(0, len(decoder), BATCH):
        batch = decoder.get_frames_in_range(first, min(first + BATCH, len(decoder)))
        yield from zip(batch.pts_seconds.tolist(), batch.data.numpy(), strict=True)


if __name__ == "__main__":
    typer.run(main)
