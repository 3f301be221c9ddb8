"""The same frames through video_features and through us: seconds of the whole commands and loops.

    git clone https://github.com/v-iashin/video_features VF
    pip install omegaconf tqdm opencv-python
    python benchmarks/peers.py --video-features VF --clips data/raw/joy [--json]

The first frames of each clip are written as a clip of their own, all of which both extract: here by
the stages index, decode, weights and extract, there by `python main.py`. Weights are random on
both sides, as theirs are downloaded otherwise. They take turns, the least of each counts.

* command: from the start of Python to its end, all commands together; and seconds of the processor
  in them, to be trusted where other work shares the machine;
* loop: without the start: here the seconds inside the stages decode and extract, reading the
  network included, there those from the first clip to the last, without reading it.

Which runtime is the faster is found out before, on the first clip: that is once on a machine.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
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

LABEL, FPS = "clips", 25

STAGES = ("index", "decode", "weights", "extract")


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
        ours(clone)
        paths += written
        for _ in range(repeat):
            for name in ("data/views", "data/features", "data/index.parquet", ".store/items"):
                clone.run("rm", "-rf", name)
            turns.append(ours(clone))
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
    print(f"{len(paths)} clips of {frames} frames, ResNet-50")
    for side in least:
        print(
            f"{side.who:32} command {side.command_s:7.1f} s "
            f"({side.command_s / least[0].command_s:.1f} of ours), "
            f"processor {side.command_cpu_s:7.1f} s "
            f"({side.command_cpu_s / least[0].command_cpu_s:.1f}), "
            f"loop {side.loop_s:7.1f} s ({side.loop_s / least[0].loop_s:.1f})"
        )


def made_clone(root: Path, frames: int) -> Clone:
    """Return a clone that extracts ResNet-50 of all frames."""
    clone = make_clone(root)
    clone.params(
        index__root="data/raw",
        engine__runtime="auto",
        decode__views__segments__count=frames,
        decode__views__segments__max_short_side=405,
        backbones={
            "resnet": {
                "module": "resnet50",
                "view": "segments",
                "source": "seeded",
                "seed": 1,
                "options": {"keep": ["pooled"]},
            }
        },
        experiments={"mean": {"head": "pooling", "roles": {"context": "resnet/pooled"}}},
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


def ours(clone: Clone) -> Side:
    """Run our stages, each a command."""
    begin, begin_cpu = time.perf_counter(), children_cpu_s()
    for stage in STAGES:
        name = ["resnet"] if stage in ("weights", "extract") else []
        clone.run("python", "-m", f"stages.{stage}", *name)
    command_s, command_cpu_s = time.perf_counter() - begin, children_cpu_s() - begin_cpu
    logs = [clone.root / "logs" / f"{name}.json" for name in ("decode", "extract@resnet")]
    loop_s = sum(json.loads(log.read_text())["seconds"] for log in logs)
    return Side("affectline", command_s, command_cpu_s, loop_s)


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
