"""Items that cost nothing, for workers in processes that import no more than they use."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features.cache.keys import item_key
from stages.engine.workers import Item

Toy = int | str | Exception
"""What becomes of a toy: it is made, its worker dies with it the first time, it fails. -1: its
worker dies whenever it comes to it; a pipe's name: it is at it until somebody writes there."""


def toy(number: int, task: Toy | None = None) -> Item[Toy]:
    name = f"joy/v{number:02}"
    return Item(name, {item_key({"n": number}): f"{name}.bin"}, number if task is None else task)


def compute(task: Toy, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Make a toy, and write down who has done so."""
    if isinstance(task, Exception):
        raise task
    if task == -1:
        os._exit(9)
    if isinstance(task, str) and Path(task).is_fifo():
        Path("begun").touch()
        Path(task).read_bytes()
    elif isinstance(task, str) and not Path(task).exists():
        Path(task).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with Path("made").open("a") as made:
        made.write(f"{' '.join(path.name for path in outputs.values())} {os.getpid()}\n")
    for path in outputs.values():
        path.write_bytes(b"made")
    return {"frames_decoded": 2}


@dataclass(frozen=True)
class Copied:
    """A toy that is made of a file, and of weights."""

    file: Path
    weights: Path


def copy(task: Copied, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write what both files hold, and where it was made."""
    (path,) = outputs.values()
    path.write_bytes(task.file.read_bytes() + task.weights.read_bytes())
    return {f"made in {os.environ.get('AFFECTLINE_STORE', 'the store')}": 1}


def made() -> list[list[str]]:
    """Return the file and the process of everything made."""
    return [line.split() for line in Path("made").read_text().splitlines()]
