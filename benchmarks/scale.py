"""What bookkeeping costs: many videos of next to no content through the real `dvc repro`.

Makes clones of the project with clips of five frames and backbones of one small layer, and takes
the time of `dvc repro` (the first; with nothing to do; with one video more) and of `affectline
status` and `explain`. What is left, since nothing is computed that takes time, is bookkeeping.

    python benchmarks/scale.py --videos 1000 --backbones 9
    python benchmarks/scale.py --growth 100,1000,5000

The first clone has ten videos: what `dvc repro` takes there (Python and torch start in each stage
that has something to compute, DVC reads and writes its lock file) it takes with any number, and
what it takes beyond that is the bookkeeping of the videos. Training is no bookkeeping.

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

from tests.clones import LIGHT, TOY, Clone, make_clone  # noqa: E402

FRAMES, SIZE_PX, FPS = 5, 32, 10
LABELS = ("anger", "fear", "joy", "trust")
VIEWS = ("segments", "faces", "uniform", "segments", "faces", "snippets")
"""Read by the backbones in turn."""

BASE = 10
"""Videos of the first clone: what they take does not depend on how many there are."""

console = Console(width=120)


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
    """

    name: str
    wall_s: float
    stage_s: float
    process_cpu_s: float
    dvc_cpu_s: float
    computed: int


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
    folder: Annotated[Path | None, typer.Option(help="for the clones; default: temporary")] = None,
    keep: Annotated[bool, typer.Option(help="leave the clones there")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for all that was measured")] = None,
) -> None:
    """Measure what bookkeeping costs."""
    sizes = [BASE, *(int(size) for size in growth.split(","))] if growth else [BASE, videos]
    base = folder or Path(tempfile.mkdtemp(prefix="affectline-scale-"))
    timings: list[Timing] = []
    try:
        for size in sizes:
            clone = make_data_set(base / f"videos{size}", size, backbones)
            for timing in measure(clone, size):
                timings.append(timing)
                told = f"{timing.wall_s:.1f} s, processors {timing.cpu_s:.1f} s"
                console.print(f"{size} videos, {timing.command}: {told}")
            if not keep:
                shutil.rmtree(clone.root)
    finally:
        if folder is None and not keep:
            shutil.rmtree(base, ignore_errors=True)
    console.print(stages_table(timings), totals_table(timings))
    if out:
        out.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")


# -------------------------------------------------------------------------------- data set


def make_data_set(root: Path, videos: int, backbones: int) -> Clone:
    """Return a clone with so many clips and backbones; nothing has run yet."""
    clone = make_clone(root)
    (root / "features/backbones/toy.py").write_text(
        TOY.replace('("segments", "faces")', repr(tuple(sorted(set(VIEWS))))).replace(
            "mean(dim=(1, 2))", "flatten(1, -2).mean(dim=1)"
        )
    )
    names = [f"toy{number}" for number in range(backbones)]
    clone.params(
        **LIGHT
        | {
            "decode__views__uniform__count": 4,
            "decode__views__snippets__count": 2,
            "decode__views__snippets__length": 2,
            "backbones": {
                name: {
                    "module": "toy",
                    "view": VIEWS[number % len(VIEWS)],
                    "source": "seeded",
                    "seed": number,
                }
                for number, name in enumerate(names)
            },
            "experiments": {
                "average": {"head": "pooling", "roles": {"context": f"{names[0]}/colour"}},
                "fusion": {
                    "head": "pooling",
                    "roles": {"context": f"{names[0]}/colour", "sound": f"{names[-1]}/colour"},
                },
            },
        }
    )
    for number in range(videos):
        add_clip(clone, number)
    clone.commit("videos")
    return clone


def add_clip(clone: Clone, number: int) -> str:
    """Write the tiny clip ``number``, noise of its own, and return its video id."""
    video_id = f"{LABELS[number % len(LABELS)]}/{number:05d}"
    path = clone.root / "data" / "raw" / f"{video_id}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(number)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = SIZE_PX, SIZE_PX, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for _ in range(FRAMES):
            picture = draw.integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return video_id


# -------------------------------------------------------------------------------- measuring


def measure(clone: Clone, videos: int) -> Iterator[Timing]:
    """Yield the times of the commands, in the order of a day's work."""
    yield repro(clone, videos, "first")
    yield repro(clone, videos, "nothing to do")
    yield repro(clone, videos, "nothing to do, again")
    yield run(clone, videos, "status", "affectline", "status")
    yield run(clone, videos, "explain", "affectline", "explain", f"{LABELS[1]}/00001", "toy0")
    add_clip(clone, videos)
    yield run(clone, videos, "status, one video more", "affectline", "status")
    yield repro(clone, videos, "one video more")


def run(clone: Clone, videos: int, name: str, *command: str) -> Timing:
    """Run a command and return its time."""
    start, cpu_s = time.monotonic(), children_cpu_s()
    clone.run(*command)
    return Timing(videos, name, time.monotonic() - start, children_cpu_s() - cpu_s)


def repro(clone: Clone, videos: int, name: str) -> Timing:
    """Run `dvc repro` and return its time, stage by stage.

    Raises:
        SystemExit: it failed; what it said is printed.
    """
    shutil.rmtree(clone.root / "logs", ignore_errors=True)
    start, cpu_s = time.monotonic(), children_cpu_s()
    marks, output = [Mark("dvc", 0.0, 0.0, 0.0)], []
    with subprocess.Popen(
        ["dvc", "repro"],
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
        )
        for mark, end in pairwise(marks)
        for stage_s, computed in [_logged(clone, mark.stage)]
    )
    return Timing(videos, name, wall_s, cpu_s, parts)


def _logged(clone: Clone, stage: str) -> tuple[float, int]:
    path = clone.root / "logs" / f"{stage}.json"
    log: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return float(log.get("seconds", 0.0)), int(log.get("computed", 0))


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
    for name in ("computed", "wall clock", "in the stage", "processors: stage", "DVC"):
        table.add_column(name, justify="right")
    for timing in timings:
        for part in timing.parts:
            times = (part.wall_s, part.stage_s, part.process_cpu_s, part.dvc_cpu_s)
            told = (str(part.computed), *(f"{seconds:.2f}" for seconds in times))
            table.add_row(str(timing.videos), timing.command, part.name, *told)
        table.add_section()
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
