"""What an item costs where no run has told: a few videos go through the real stages, apart.

The stages run as `dvc repro` runs them, in a folder of their own but over the project's store: what
they compute is kept there, and the next `dvc repro` links it.

Of the built-in sample, which has yet to be made when its first run begins, it is known roughly.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from features.cache import tables
from features.cache.claims import scratch
from features.cache.store import link_or_copy, replacing, store_root
from features.video.listing import Video
from features.weights.file import write_seeded
from stages.decode import wanted_views
from stages.engine.params import Model, Params, read_yaml
from stages.engine.paths import FEATURES, INDEX, LOGS, PARAMS, PIPELINE, VIEWS, weights_file
from stages.engine.progress import console, last_pace
from stages.engine.workers import workers

CALIBRATION = LOGS / "calibration.json"

ROOT = "root.csv"
"""The few videos, in the folder where they are tried."""

VIDEOS = 4
"""Tried: each of two processes has one to start with and one to be timed by."""

PROCESSES = 2

START_S, EPOCH_S = 3.0, 0.1
CLIP_S = {"sample": 0.22, "index": 0.01, "decode": 0.03, "vggish": 0.06, "resnet18_mfcc": 0.06}
ROW_S = {
    "faces": 0.07,
    "blazepose": 0.09,
    "places365_vgg16": 0.25,
    "r3d101": 0.46,
    "r3d18": 0.65,
    "resnet50": 0.10,
    "swin": 0.16,
    "vgg16": 0.24,
    "vggface": 0.25,
}
"""Seconds on one core of a Xeon of 2.x GHz: a stage's start, an epoch of a run on the sample, and
what a stage or backbone does for a second of a clip, or for a row of the view that it reads."""


class CalibrationError(ValueError):
    """A stage does not work on the few videos; the message has what it said."""


@dataclass(frozen=True)
class Cost:
    """What an item costs, None where it is not known.

    Attributes:
        seconds: of computing, with all the processes that engine.workers allows.
        bytes: of its file.
        is_rough: the seconds are another machine's, :func:`sample_cost`.
    """

    seconds: float | None = None
    bytes: int | None = None
    is_rough: bool = False

    def times(self, items: int) -> "Cost":
        """Return what so many cost: none cost nothing."""
        if not items:
            return Cost(0.0, 0)
        return Cost(
            None if self.seconds is None else self.seconds * items,
            None if self.bytes is None else self.bytes * items,
            self.is_rough,
        )


def calibrated() -> dict[str, Cost]:
    """Return what has been tried so far: output of a stage -> what an item of it costs."""
    try:
        record = json.loads(CALIBRATION.read_text(encoding="utf-8"))
        return {output: Cost(**cost) for output, cost in record.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # a log: what is broken says nothing
        return {}


def sample_cost(params: Params, stage: str, items: int) -> float | None:
    """Return about how many seconds an item of the sample takes, None where nothing tells.

    Args:
        params: params.yaml.
        stage: name as in dvc.yaml, ``extract@vgg16``.
        items: that it is to compute, which share its start.
    """
    kind, _, name = stage.partition("@")
    if kind == "train":
        return START_S / items + EPOCH_S * float(params.train.get("epochs", 1))
    block = params.backbones.get(name)
    work = block.module if block else kind
    view = block.view if block else "segments"
    if work in CLIP_S:
        seconds = CLIP_S[work] * params.sample.seconds
    elif work in ROW_S:
        frames = "segments" if view == "faces" else view
        seconds = ROW_S[work] * getattr(params.decode.views, frames).count
    else:
        return None
    return START_S / items + seconds / workers(params.engine).processes


def calibrate(params: Params, videos: Sequence[Video]) -> None:
    """Send a few videos through index, decode, faces and extract, and note what an item costs.

    What was known before and is not known better now is kept, see :func:`calibrated`. Networks
    whose pretrained weights are not here are left out.

    Args:
        params: as in params.yaml, which the stages read.
        videos: all of the data set; those are taken that stand in the middle by size.

    Raises:
        CalibrationError: a stage has failed.
    """
    costs = calibrated()
    project = Path.cwd()
    with scratch(store_root() / "unfinished") as folder:
        rows = ((location.absolute(), label) for location, label in _middle(videos))
        tables.write_csv(folder / ROOT, ("path", "label"), rows)
        raw = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
        processes = min(PROCESSES, workers(params.engine).processes)
        raw["index"]["root"] = ROOT
        raw["index"].pop("targets", None)  # of other columns than the few have
        raw["index"]["splits"] = {"runs": 1, "test_share": 0.5, "seed": 0}
        for experiment in raw["experiments"].values():
            experiment.pop("target", None)
        raw["engine"]["workers"] = processes
        raw["max_failed"] = 1.0  # what is broken is left out, as in the run
        (folder / PARAMS).write_text(yaml.safe_dump(raw), encoding="utf-8")
        for stage, outputs in _stages(params, project, folder):
            console.print(f"calibrate: {stage}")
            _run(stage, folder, project)
            for output in outputs:
                tried = _cost(folder, stage, output, params)
                known = costs.get(output, Cost())
                costs[output] = Cost(
                    known.seconds if tried.seconds is None else tried.seconds,
                    known.bytes if tried.bytes is None else tried.bytes,
                )
    with replacing(CALIBRATION) as partial:
        record = {output: asdict(cost) for output, cost in costs.items()}
        partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _middle(videos: Sequence[Video]) -> list[tuple[Path, str]]:
    """Return files and labels of videos of middling size: between the quartiles, evenly."""
    sized = sorted(
        (video.location.stat().st_size, video.video_id, video.location, video.label)
        for video in videos
        if not video.problem and video.location is not None and video.location.is_file()
    )
    if len(sized) <= VIDEOS:
        return [(location, label) for _size, _name, location, label in sized]
    places = (len(sized) * (VIDEOS + 1 + 2 * n) // (4 * VIDEOS) for n in range(VIDEOS))
    return [sized[place][2:] for place in places]


def _stages(params: Params, project: Path, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (name as in dvc.yaml, outputs) of the stages to try, in the order of the flow."""
    yield "index", [str(INDEX)]
    yield "decode", [str(VIEWS / view) for view in wanted_views(params)]
    faces = params.reads_faces and _weights("detector", params.faces.detector, project, folder)
    if faces:
        yield "faces", [str(VIEWS / "faces")]
    for name, block in params.backbones.items():
        if (block.view != "faces" or faces) and _weights(name, block, project, folder):
            yield f"extract@{name}", [str(FEATURES / name)]


def _weights(name: str, block: Model, project: Path, folder: Path) -> bool:
    """Bring a network's weights file below ``folder``; tell whether there is one."""
    path = weights_file(name)
    if block.source == "seeded":
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_seeded(folder / path, name, block.seed)
        return True
    if (project / path).is_file():
        link_or_copy(project / path, folder / path)
        return True
    stage = name if name == "detector" else f"weights@{name}"
    console.print(f"calibrate: {name} is left out, first `dvc repro {stage}`", soft_wrap=True)
    return False


def _run(stage: str, folder: Path, project: Path) -> None:
    """Run a stage's command in `folder`, as DVC runs it in the project.

    Raises:
        CalibrationError: it has failed.
    """
    environment = os.environ | {
        "PATH": _joined(Path(sys.executable).parent, "PATH"),  # its python is this one
        "PYTHONPATH": _joined(project, "PYTHONPATH"),
        "AFFECTLINE_STORE": str(store_root()),
        "DVC_STAGE": stage,
    }
    command = _command(stage, project)
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise CalibrationError(f"{stage} has failed on the few videos:\n{done.stderr.strip()}")


def _joined(first: Path, variable: str) -> str:
    """Return a list of folders of the environment with one in front."""
    return os.pathsep.join(filter(None, [str(first), os.environ.get(variable)]))


def _command(stage: str, project: Path) -> list[str]:
    """Return a stage's command of dvc.yaml, in words; files of the project are named in full."""
    block = read_yaml(project / PIPELINE)["stages"][stage.partition("@")[0]]
    words = shlex.split(block.get("do", block)["cmd"])
    return [str(project / word) if (project / word).is_file() else word for word in words]


def _cost(folder: Path, stage: str, output: str, params: Params) -> Cost:
    """Return what an item has cost in the trial; what lay in the store has cost nothing."""
    log = folder / LOGS / f"{stage}.json"
    pace = last_pace(log)
    at_once = json.loads(log.read_text(encoding="utf-8"))["at_once"]
    if pace is not None and at_once > 1:
        pace *= at_once / workers(params.engine).processes
    sizes = [path.stat().st_size for path in (folder / output).rglob("*") if path.is_file()]
    return Cost(pace, round(sum(sizes) / len(sizes)) if sizes else None)
