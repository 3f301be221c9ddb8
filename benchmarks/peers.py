"""The same frames through video_features and through us: seconds of the whole commands and loops.

    git clone https://github.com/v-iashin/video_features VF
    pip install omegaconf tqdm opencv-python
    python benchmarks/peers.py --video-features VF --clips data/raw/joy [--json]

The first frames of each clip are written as a clip of their own, all of which both extract. Here
by the stages index, decode, weights and extract, a command each (`stages`), and by index, weights
and `affectline work decode extract`, one process for two (`work`); in float32 and in bfloat16, a
setting of ours (`precision`). There by `python main.py`, as it comes. Weights are random on both
sides, as theirs are downloaded otherwise. They take turns, the least of each counts.

* command: from the start of Python to its end, all commands together; and seconds of the processor
  in them, to be trusted where other work shares the machine;
* loop: without the start: here the seconds inside the stages decode and extract, reading the
  network included, there those from the first clip to the last, without reading it.

Which runtime is the faster is found out before, on the first clip: that is once on a machine. What
a start costs by itself is the row `starts`: our commands once more, with nothing left to make.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import av
import typer
from runtimes import machine

from tests.clones import Clone, make_clone

THEIRS = """
import sys, time
from pathlib import Path
import torchvision
from omegaconf import OmegaConf

sys.path.insert(0, ".")
known = torchvision.models.get_model
torchvision.models.get_model = lambda name, weights=None, **more: known(name, weights=None, **more)
from models._base.base_extractor import BaseExtractor

spent, extract = [0.0], BaseExtractor._extract


def timed(self, path):
    begin = time.perf_counter()
    extract(self, path)
    spent[0] += time.perf_counter() - begin


BaseExtractor._extract = timed
from main import main

main(OmegaConf.from_dotlist(sys.argv[2:]))
Path(sys.argv[1]).write_text(str(spent[0]))
"""
"""Their `main.py` with random weights and a clock. It gives the seconds of its loop to a file."""

LABEL, FPS, BLOCK = "clips", 25, "resnet"


def stage(*name: str) -> tuple[str, ...]:
    """Return the command of a stage."""
    return ("python", "-m", f"stages.{name[0]}", *name[1:])


WAYS = {
    "stages": (stage("index"), stage("decode"), stage("weights", BLOCK), stage("extract", BLOCK)),
    "work": (stage("index"), stage("weights", BLOCK), ("affectline", "work", "decode", "extract")),
}
"""Commands by which features come into the store."""

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Side:
    """Seconds of one side."""

    who: str
    command_s: float
    command_cpu_s: float
    loop_s: float


app = typer.Typer(add_completion=False)


@app.command()
def main(
    video_features: Annotated[Path, typer.Option(help="a checkout of video_features")],
    clips: Annotated[Path, typer.Option(help="folder of videos")],
    frames: Annotated[int, typer.Option(help="of each clip")] = 24,
    batches: Annotated[str, typer.Option(help="their batch_size: their default, ours")] = "1,12",
    repeat: Annotated[int, typer.Option(help="turns")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure ResNet-50 on both sides."""
    turns: list[Side] = []
    with tempfile.TemporaryDirectory() as folder:
        clone = made_clone(Path(folder) / "clone", frames)
        written = first_frames(clips, clone.root / "data/raw" / LABEL, frames)
        paths = [next(written)]
        ours(clone, "stages", "float32")
        paths += written
        for _ in range(repeat):
            for precision in PRECISIONS:
                for way in WAYS:
                    forget(clone)
                    turns.append(ours(clone, way, precision))
            turns.append(replace(ours(clone, "stages", "bfloat16"), who="starts", loop_s=0.0))
            turns += [
                theirs(video_features, paths, int(each), Path(folder))
                for each in batches.split(",")
            ]
    names = dict.fromkeys(turn.who for turn in turns)
    least = [
        Side(
            name,
            *(
                min(getattr(turn, figure) for turn in turns if turn.who == name)
                for figure in ("command_s", "command_cpu_s", "loop_s")
            ),
        )
        for name in names
    ]
    if as_json:
        about = {"clips": len(paths), "frames": frames, "sides": [asdict(side) for side in least]}
        print(json.dumps({**machine(), **about}, indent=1))
        return
    print(f"{len(paths)} clips of {frames} frames, ResNet-50; in brackets shares of the last one's")
    last = least[-1]
    for side in least:
        figures = {
            "command": (side.command_s, last.command_s),
            "processor": (side.command_cpu_s, last.command_cpu_s),
            "loop": (side.loop_s, last.loop_s),
        }
        told = ", ".join(f"{k} {own:6.1f} s ({own / its:.2f})" for k, (own, its) in figures.items())
        print(f"{side.who:32} {told}", flush=True)


def made_clone(root: Path, frames: int) -> Clone:
    """Return a clone that extracts ResNet-50 of all frames."""
    clone = make_clone(root)
    clone.params(
        index__root="data/raw",
        engine__runtime="auto",
        decode__views__segments__count=frames,
        decode__views__segments__max_short_side=405,
        backbones={
            BLOCK: {
                "module": "resnet50",
                "view": "segments",
                "source": "seeded",
                "seed": 1,
                "options": {"keep": ["pooled"]},
            }
        },
        experiments={"mean": {"head": "pooling", "roles": {"context": f"{BLOCK}/pooled"}}},
    )
    return clone


def first_frames(clips: Path, folder: Path, frames: int) -> Iterator[Path]:
    """Write the first frames of each clip of a folder, H.264 at 25 frames a second."""
    folder.mkdir(parents=True)
    for source in sorted(path for path in clips.iterdir() if path.is_file()):
        path = folder / f"{source.stem}.mp4"
        with ExitStack() as stack:
            old = stack.enter_context(av.open(str(source)))
            new = stack.enter_context(av.open(str(path), "w"))
            video = new.add_stream("libx264", rate=FPS)
            count = 0
            for frame in old.decode(video=0):
                if count == 0:
                    video.width, video.height = frame.width // 2 * 2, frame.height // 2 * 2
                frame = frame.reformat(video.width, video.height, "yuv420p")
                frame.pts, frame.time_base = count, Fraction(1, FPS)
                new.mux(video.encode(frame))
                count += 1
                if count == frames:
                    break
            new.mux(video.encode())
        assert count == frames, f"{source}: expected {frames} frames or more, found {count}"
        yield path


def forget(clone: Clone) -> None:
    """Remove what a clone has made, but for the choice of a runtime."""
    made = ("data/views", "data/features", "data/tables", "data/index.parquet", ".store/items")
    clone.run("rm", "-rf", "logs", *made)


def ours(clone: Clone, way: str, precision: str) -> Side:
    """Run our commands."""
    clone.params(**{f"backbones__{BLOCK}__precision": precision})
    begin, begin_cpu = time.perf_counter(), children_cpu_s()
    for command in WAYS[way]:  # from the start of Python: `clone.run` would fork one
        subprocess.run(
            command, cwd=clone.root, env=clone.environment(), check=True, capture_output=True
        )
    command_s, command_cpu_s = time.perf_counter() - begin, children_cpu_s() - begin_cpu
    logs = [*(clone.root / "logs").glob("*.json"), *(clone.root / "logs/work").glob("*.json")]
    loops = [log for log in logs if log.name.startswith(("decode.", f"extract@{BLOCK}."))]
    loop_s = sum(json.loads(log.read_text())["seconds"] for log in loops)
    return Side(f"{way}, {precision}", command_s, command_cpu_s, loop_s)


def children_cpu_s() -> float:
    """Return the seconds of the processor of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def theirs(checkout: Path, paths: list[Path], batch: int, folder: Path) -> Side:
    """Run video_features."""
    spent = folder / "seconds"
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-c", THEIRS, str(spent), "feature_type=resnet", "device=cpu"]
        command += ["model_name=resnet50", f"batch_size={batch}", "on_extraction=save_numpy"]
        command += [f"output_path={out}/out", f"tmp_path={out}/tmp"]
        command += [f"video_paths=[{','.join(map(str, paths))}]"]
        begin, begin_cpu = time.perf_counter(), children_cpu_s()
        subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
        command_s, command_cpu_s = time.perf_counter() - begin, children_cpu_s() - begin_cpu
        found = len(list(Path(out).rglob("*_resnet.npy")))
        assert found == len(paths), f"expected features of {len(paths)} clips, found {found}"
    return Side(
        f"video_features, batch_size={batch}", command_s, command_cpu_s, float(spent.read_text())
    )


if __name__ == "__main__":
    app()
