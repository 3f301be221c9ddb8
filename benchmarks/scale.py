"""What bookkeeping costs, and whether a video costs the same among ten and among hundreds.

Makes clones of the project with clips of five frames and backbones of two small layers, and takes
the time of `dvc repro` (the first; with nothing to do; with one video more) and of `affectline
status` and `explain`. What is left, since nothing is computed that takes time, is bookkeeping.

    python benchmarks/scale.py --videos 1000 --backbones 9
    python benchmarks/scale.py --growth 100,500 --backbones 2 --frames 30 --side 320 --features-only

The first clone has ten videos: what `dvc repro` takes there (Python and torch start in each stage
that has something to compute, DVC reads and writes its lock file) it takes with any number, and
what it takes beyond that is the bookkeeping of the videos. Training is no bookkeeping.

With larger clips the networks and the decoder have work too; what a video more costs in each stage
is the difference of two sizes over the videos between them. Each stage's peak of memory is told.

A clone takes about 0.5 MiB a video; it is removed at the end. Times are those of a wall clock, and
beside them the processors' (of all processes together), which tell more on a busy machine.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, from anywhere

from tests.clones import LIGHT, Clone, make_clone  # noqa: E402

FPS = 10
LABELS = ("anger", "fear", "joy", "trust")
VIEWS = ("segments", "faces", "uniform", "segments", "faces", "snippets")
"""Read by the backbones in turn."""

BASE = 10
"""Videos of the first clone: what they take does not depend on how many there are."""

SMALL = '''"""A small backbone: two random convolutions over frames of any view."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from features.weights.record import Weights

VIEW = ("faces", "segments", "snippets", "uniform")
FEATURES = {"shape": (16,)}
WEIGHTS = Weights(licence="", sources=())


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def preprocess(frames, options=Options()) -> Tensor:
    """Return (T, 3, H, W), 0..1; the frames of a snippet lie below each other."""
    rows, *heights, width, channels = frames.shape
    pictures = frames.reshape(rows, int(np.prod(heights)), width, channels)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


class Small(nn.Module):
    """Two convolutions and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 16, 3, 2)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        return {"shape": self.second(self.first(pictures).relu()).mean(dim=(2, 3))}


def build(options=Options()) -> nn.Module:
    return Small().eval()
'''
"""Source of the backbone's module: what it takes of the processor follows the frames' size."""

console = Console(width=140, stderr=True)


@dataclass(frozen=True)
class Clip:
    """How large the clips are: frames, and the side of each in pixels."""

    frames: int
    side: int


@dataclass(frozen=True)
class Part:
    """A stage's share of a command, seconds.

    Attributes:
        name: of the stage; ``dvc`` is what comes before the first.
        wall_s: from its start to that of the next: with Python's start and DVC's commit.
        stage_s: of that, inside the stage, as its log has it.
        process_cpu_s: what the stage's processes took of the processors, with Python's start.
        dvc_cpu_s: what DVC took of them.
        computed: items that it computed.
        peak_mib: the most memory of one of its processes.
    """

    name: str
    wall_s: float
    stage_s: float
    process_cpu_s: float
    dvc_cpu_s: float
    computed: int
    peak_mib: int


@dataclass(frozen=True)
class Mark:
    """How far `dvc repro` was when a stage began: since the start, in seconds.

    Attributes:
        stage: that begins.
        wall_s: on the clock.
        dvc_s: of the processors, DVC itself.
        stages_s: of the processors, the stages that have ended.
    """

    stage: str
    wall_s: float
    dvc_s: float
    stages_s: float


@dataclass(frozen=True)
class Timing:
    """A command that was run with so many videos."""

    videos: int
    command: str
    wall_s: float
    cpu_s: float
    parts: tuple[Part, ...] = ()


def main(
    videos: Annotated[int, typer.Option(help="how many videos")] = 1000,
    backbones: Annotated[int, typer.Option(help="how many backbones")] = 9,
    growth: Annotated[str, typer.Option(help="instead: so many videos each, 100,1000,5000")] = "",
    frames: Annotated[int, typer.Option(help="of a clip")] = 5,
    side: Annotated[int, typer.Option(help="of a clip, pixels")] = 32,
    features_only: Annotated[bool, typer.Option(help="one `dvc repro tables`, no more")] = False,
    detector: Annotated[Path | None, typer.Option(help="the face detector's file")] = None,
    folder: Annotated[Path | None, typer.Option(help="for the clones; default: temporary")] = None,
    keep: Annotated[bool, typer.Option(help="leave the clones there")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file, written after each command")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure what bookkeeping costs."""
    sizes = [BASE, *(int(size) for size in growth.split(","))] if growth else [BASE, videos]
    base = folder or Path(tempfile.mkdtemp(prefix="affectline-scale-"))
    clip = Clip(frames, side)
    timings: list[Timing] = []
    try:
        for size in sizes:
            clone = make_data_set(base / f"videos{size}", size, backbones, clip, detector)
            for timing in measure(clone, size, clip, features_only):
                timings.append(timing)
                told = f"{timing.wall_s:.1f} s, processors {timing.cpu_s:.1f} s"
                console.print(f"{size} videos, {timing.command}: {told}")
                if out:
                    out.write_text(as_text(clip, timings))
            if not keep:
                shutil.rmtree(clone.root)
    finally:
        if folder is None and not keep:
            shutil.rmtree(base, ignore_errors=True)
    console.print(stages_table(timings), growth_table(timings), totals_table(timings))
    if as_json:
        print(as_text(clip, timings))


def as_text(clip: Clip, timings: Sequence[Timing]) -> str:
    """Return all that was measured as JSON."""
    from runtimes import machine  # torch comes with it

    found = {**machine(), "clip": asdict(clip), "timings": [asdict(each) for each in timings]}
    return json.dumps(found, indent=1) + "\n"


# -------------------------------------------------------------------------------- data set


def make_data_set(
    root: Path, videos: int, backbones: int, clip: Clip, detector: Path | None
) -> Clone:
    """Return a clone with so many clips and backbones; nothing has run yet."""
    clone = make_clone(root)
    (root / "features/backbones/small.py").write_text(SMALL)
    names = [f"small{number}" for number in range(backbones)]
    clone.params(
        **{
            **LIGHT,
            "decode__views__uniform__count": 4,
            "decode__views__snippets__count": 2,
            "decode__views__snippets__length": 2,
            "backbones": {
                name: {
                    "module": "small",
                    "view": VIEWS[number % len(VIEWS)],
                    "source": "seeded",
                    "seed": number,
                }
                for number, name in enumerate(names)
            },
            "experiments": {
                "average": {"head": "pooling", "roles": {"context": f"{names[0]}/shape"}},
                "fusion": {
                    "head": "pooling",
                    "roles": {"context": f"{names[0]}/shape", "sound": f"{names[-1]}/shape"},
                },
            },
        },
        faces__detector__file=detector and str(detector.absolute()),
    )
    for number in range(videos):
        add_clip(clone, number, clip)
    clone.commit("videos")
    return clone


def add_clip(clone: Clone, number: int, clip: Clip) -> str:
    """Write the clip ``number``, noise of its own, and return its video id."""
    video_id = f"{LABELS[number % len(LABELS)]}/{number:05d}"
    path = clone.root / "data" / "raw" / f"{video_id}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(number)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = clip.side, clip.side, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for _ in range(clip.frames):
            picture = draw.integers(0, 256, (clip.side, clip.side, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return video_id


# -------------------------------------------------------------------------------- measuring


def measure(clone: Clone, videos: int, clip: Clip, features_only: bool) -> Iterator[Timing]:
    """Yield the times of the commands, in the order of a day's work."""
    if features_only:
        yield repro(clone, videos, "first", "tables")
        return
    yield repro(clone, videos, "first")
    yield repro(clone, videos, "nothing to do")
    yield repro(clone, videos, "nothing to do, again")
    yield run(clone, videos, "status", "affectline", "status")
    yield run(clone, videos, "explain", "affectline", "explain", f"{LABELS[1]}/00001", "small0")
    add_clip(clone, videos, clip)
    yield run(clone, videos, "status, one video more", "affectline", "status")
    yield repro(clone, videos, "one video more")


def run(clone: Clone, videos: int, name: str, *command: str) -> Timing:
    """Run a command and return its time."""
    start, cpu_s = time.monotonic(), children_cpu_s()
    clone.run(*command)
    return Timing(videos, name, time.monotonic() - start, children_cpu_s() - cpu_s)


def repro(clone: Clone, videos: int, name: str, *target: str) -> Timing:
    """Run `dvc repro`, of all stages or of a target, and return its time, stage by stage.

    Raises:
        SystemExit: it failed; what it said is printed.
    """
    shutil.rmtree(clone.root / "logs", ignore_errors=True)
    start, cpu_s = time.monotonic(), children_cpu_s()
    marks, output = [Mark("dvc", 0.0, 0.0, 0.0)], []
    with subprocess.Popen(
        ["dvc", "repro", *target],
        cwd=clone.root,
        env=clone.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        dvc = psutil.Process(process.pid)
        for line in process.stdout:
            output.append(line)
            if line.startswith("Running stage '"):
                used, wall_s = dvc.cpu_times(), time.monotonic() - start
                own_s, stages_s = used.user + used.system, used.children_user + used.children_system
                marks.append(Mark(line.split("'")[1], wall_s, own_s, stages_s))
    if process.returncode:
        raise SystemExit("".join(output))
    wall_s, cpu_s = time.monotonic() - start, children_cpu_s() - cpu_s
    # what DVC took after its last line cannot be told apart: the last stage has it all
    marks.append(Mark("", wall_s, cpu_s - marks[-1].stages_s, marks[-1].stages_s))
    parts = tuple(
        Part(
            mark.stage,
            end.wall_s - mark.wall_s,
            stage_s,
            end.stages_s - mark.stages_s,
            end.dvc_s - mark.dvc_s,
            computed,
            peak_mib,
        )
        for mark, end in pairwise(marks)
        for stage_s, computed, peak_mib in [_logged(clone, mark.stage)]
    )
    return Timing(videos, name, wall_s, cpu_s, parts)


def _logged(clone: Clone, stage: str) -> tuple[float, int, int]:
    """Return a stage's seconds, the items that it computed and its peak of memory in MiB."""
    path = clone.root / "logs" / f"{stage}.json"
    log: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return log.get("seconds", 0.0), log.get("computed", 0), log.get("peak_rss_mib", 0)


def children_cpu_s() -> float:
    """Return the time that ended children have spent on processors, theirs too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ----------------------------------------------------------------------------------- tables


def stages_table(timings: Sequence[Timing]) -> Table:
    """Return where the time of each `dvc repro` goes."""
    table = Table(title="dvc repro, stage by stage (seconds)", title_justify="left")
    for name in ("videos", "command", "stage"):
        table.add_column(name, no_wrap=True)
    numbers = ("computed", "wall clock", "in the stage", "processors: stage", "DVC", "peak, MiB")
    for name in numbers:
        table.add_column(name, justify="right")
    for timing in timings:
        for part in timing.parts:
            times = (part.wall_s, part.stage_s, part.process_cpu_s, part.dvc_cpu_s)
            told = (str(part.computed), *(f"{seconds:.2f}" for seconds in times))
            name, peak = part.name, str(part.peak_mib)
            table.add_row(str(timing.videos), timing.command, name, *told, peak)
        table.add_section()
    return table


def growth_table(timings: Sequence[Timing]) -> Table:
    """Return what a video more costs in each stage, between each two sizes."""
    firsts = [timing for timing in timings if timing.command == "first"]
    title = "milliseconds of the processors for a video more, DVC's own beside the stage's"
    table = Table(title=title, title_justify="left")
    table.add_column("stage", no_wrap=True)
    for one, more in pairwise(firsts):
        table.add_column(f"{one.videos} to {more.videos}", justify="right")
    for name in dict.fromkeys(part.name for timing in firsts for part in timing.parts):
        cells = []
        for one, more in pairwise(firsts):
            (before,), (after,) = ([p for p in t.parts if p.name == name] for t in (one, more))
            each_ms = 1e3 / (more.videos - one.videos)
            stage_ms = (after.process_cpu_s - before.process_cpu_s) * each_ms
            dvc_ms = (after.dvc_cpu_s - before.dvc_cpu_s) * each_ms
            cells.append(f"{stage_ms:.1f} + {dvc_ms:.1f}")
        table.add_row(name, *cells)
    return table


def totals_table(timings: Sequence[Timing]) -> Table:
    """Return the time of each command, one row a command, by the number of videos."""
    sizes = sorted({timing.videos for timing in timings})
    title = f"seconds: wall clock (processors), {os.cpu_count()} cores"
    table = Table(title=title, title_justify="left")
    table.add_column("command", no_wrap=True)
    for size in sizes:
        table.add_column(f"{size} videos", justify="right")
    by_place = {(timing.command, timing.videos): timing for timing in timings}
    for command in dict.fromkeys(timing.command for timing in timings):
        cells = []
        for size in sizes:
            timing = by_place[command, size]
            cells.append(f"{timing.wall_s:.1f} ({timing.cpu_s:.1f})")
        table.add_row(command, *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
