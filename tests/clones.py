"""Clones of the project with videos of their own, in which a test works as a user does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from sample.clips import encode_clip, plan_clip
from tests import warm
from tests.conftest import HANGING_S, heed_ctrl_c

PROJECT = Path(__file__).parents[1]

TOY = '''"""A toy backbone: a random layer over the mean colour of frames."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.weights.record import Weights

VIEW = ("segments", "faces")
FEATURES = {"colour": (4,)}
WEIGHTS = Weights(licence="", sources=())


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def preprocess(frames, options=Options()) -> Tensor:
    """Return (T, 3) mean colour, 0..1."""
    return torch.from_numpy(frames).float().mean(dim=(1, 2)) / 255


class Toy(nn.Module):
    """A layer over the colour."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, colours: Tensor) -> dict[str, Tensor]:
        return {"colour": self.layer(colours)}


def build(options=Options()) -> nn.Module:
    return Toy().eval()
'''
"""Source of a backbone module that costs next to nothing."""

LIGHT: Mapping[str, Any] = {
    "engine__runtime": "torch",  # a trial of runtimes takes longer than these networks
    "sample__clips_per_class": 1,
    "sample__seconds": 1.0,
    "index__root": "data/raw",
    "index__splits__runs": 2,
    "decode__views__segments__count": 4,
    "train__epochs": 2,
    "backbones": {
        "frames_toy": {"module": "toy", "view": "segments", "source": "seeded", "seed": 1},
        "faces_toy": {"module": "toy", "view": "faces", "source": "seeded", "seed": 2},
    },
    "experiments": {
        "average": {"head": "pooling", "roles": {"face": "faces_toy/colour"}},
        "caan": {
            "head": "caan",
            "roles": {"face": "faces_toy/colour", "context": "frames_toy/colour"},
        },
    },
}
"""Changes of params.yaml with which the whole pipeline takes seconds."""


ITEM_STAGES = ("index", "decode", "faces", "extract", "train")
"""Stages whose items lie in the store."""


class Clone:
    """A clone of the project, at ``root``; ``said`` are the lines of its last `dvc repro`."""

    def __init__(self, root: Path, store: Path | None = None) -> None:
        self.root = root
        self.store = store or root / ".store"
        self.said: list[str] = []

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands: its own code, its own store.

        They write no bytecode: an edit within the same second would meet that of before.
        """
        return os.environ | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "AFFECTLINE_STORE": str(self.store),
            "COLUMNS": "200",
            "DVC_NO_ANALYTICS": "1",
        }

    def run(self, *command: str, ok: bool | None = True) -> str:
        """Run a command in it and return what it says; ``ok`` is how it must end, None: any way.

        `affectline` and `python -m` are forks of a Python that has torch, see :mod:`tests.warm`.
        """
        environment = self.environment()
        if warm.CAN_FORK and command[0] == "affectline":
            status, said = warm.run(command[0], command[1:], self.root, environment, HANGING_S)
        elif warm.CAN_FORK and command[:2] == ("python", "-m"):
            status, said = warm.run(command[2], command[3:], self.root, environment, HANGING_S)
        else:
            done = subprocess.run(
                command,
                cwd=self.root,
                env=environment,
                text=True,
                capture_output=True,
                timeout=HANGING_S,
                check=False,
            )
            status, said = done.returncode, done.stdout + done.stderr
        assert ok is None or (status == 0) == ok, said
        return said

    def make(self, *stages: str) -> None:
        """Run stages one after the other, without DVC; ``weights@detector`` is a stage as well."""
        for name in stages:
            stage, *item = name.split("@")
            self.run("python", "-m", f"stages.{stage}", *item)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, its output in ``<root>.log``."""
        with self.root.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=heed_ctrl_c,
            )

    def params(self, **changes: Any) -> None:
        """Set entries of params.yaml; ``a__b=1`` sets b in section a."""
        path = self.root / "params.yaml"
        raw = yaml.safe_load(path.read_text())
        for where, value in changes.items():
            *sections, key = where.split("__")
            place = raw
            for section in sections:
                place = place[section]
            place[key] = value
        path.write_text(yaml.safe_dump(raw, sort_keys=False))

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; return the stages that it ran."""
        shutil.rmtree(self.root / "logs", ignore_errors=True)
        self.said = self.run("dvc", "repro", *arguments).splitlines()
        return [line.split("'")[1] for line in self.said if line.startswith("Running stage")]

    def log(self, name: str) -> dict[str, Any]:
        """Return the counts of a stage's last run."""
        found: dict[str, Any] = json.loads((self.root / "logs" / f"{name}.json").read_text())
        return found

    def computed(self) -> dict[str, int]:
        """Return stage -> items computed, of the stages with items that ran in the last repro.

        What has no items (the sample, seeded weights, the page) is written whenever its stage runs.
        """
        logs = sorted((self.root / "logs").glob("*.json"))
        return {
            log.stem: json.loads(log.read_text())["computed"]
            for log in logs
            if log.stem.partition("@")[0] in ITEM_STAGES
        }

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of ``<name>.parquet``."""
        rows: list[dict[str, Any]] = pq.read_table(self.root / f"{name}.parquet").to_pylist()
        return rows

    def add_clip(self, label: str, number: int, name: str, seconds: float = 1.5) -> Path:
        """Generate the clip ``number`` of a class as ``data/raw/<label>/<name>.mp4``."""
        path = self.root / "data" / "raw" / label / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_clip(plan_clip(7, label, number, seconds), path)
        return path

    def commit(self, message: str = "x") -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "-A")
        who = ("-c", "user.name=t", "-c", "user.email=t@t")
        self.run("git", *who, "commit", "-qm", message, "--allow-empty")

    def outputs(self) -> dict[str, bytes]:
        """Return path -> bytes of every file that the pipeline has put out."""
        folders = (self.root / name for name in ("data", "results", "report"))
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        skip = ("data/raw", "data/sample")
        return {
            name: path.read_bytes()
            for path in files
            for name in [path.relative_to(self.root).as_posix()]
            if not name.startswith(skip)
        }


def make_clone(root: Path, store: Path | None = None) -> Clone:
    """Copy the project as git has it, with what is not yet committed, to ``root``; commit it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file() and name != "dvc.lock":
            _copy(name, root)
    clone = Clone(root, store)
    clone.run("git", "init", "-q")
    clone.commit()
    return clone


def _copy(name: str, root: Path) -> None:
    """Copy a file of the project, and of Python what is compiled, which its time tells."""
    names = [name]
    if name.endswith(".py"):
        names.append(cache_from_source(name))
    for each in names:
        if (PROJECT / each).is_file():
            (root / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / each, root / each)


def make_light_clone(root: Path, store: Path | None = None) -> Clone:
    """Return a clone with six clips of two classes and two toy backbones; nothing has run yet."""
    clone = make_clone(root, store)
    (root / "features/backbones/toy.py").write_text(TOY)
    clone.params(**LIGHT)
    for label in ("fear", "joy"):
        for number in range(3):
            clone.add_clip(label, number, f"{label}{number}")
    clone.commit("light")
    return clone


def copy_clone(clone: Clone, root: Path) -> Clone:
    """Return a copy of a clone with all it has, caches too; no file is shared with the first.

    Names of one file (in the store, an output, DVC's cache) are names of one file in the copy.
    """
    subprocess.run(["cp", "-a", str(clone.root), str(root)], check=True)
    return Clone(root)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a started command with all its children, and wait for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
