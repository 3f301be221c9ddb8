"""Which runtime computes a network on this machine: tried once a network, then remembered.

A trial lies in the store, ``runtimes/<network>/``: `<machine>.json` says how fast each runtime was
and which is taken; where that is OpenVINO, its form of the network lies beside it. What is damaged
is made anew, and `affectline store forget` removes all: a machine under load may be misjudged. No
key has a runtime: all give the same numbers within what float16 rounds, and a trial that finds
otherwise takes torch.
"""

import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from features.cache.digests import digests
from features.cache.keys import canonical, file_sha256, item_key
from features.cache.store import RUNTIMES, replacing
from features.networks import runtimes
from features.networks.extraction import Forward, forward_of

Runtime = Literal["torch", "openvino"]

LARGEST = 1e-4
"""Largest relative difference between runtimes: float16 rounds 5e-4 of a number."""

LARGEST_NUMBER = 1e9
"""Stands for a difference that is no number, which JSON has not."""

LONGEST = 200
"""Characters of another library's words that are kept."""

FASTER = 0.85
"""OpenVINO is taken where it needs at most this share of torch's time: a tie stays with torch."""

TURNS = 3
"""Of each runtime in a trial, after one that warms up; the least counts."""


GRAPH, WEIGHTS = "network.xml", "network.bin"
"""OpenVINO's form of a network; it names the second after the first itself."""


@dataclass(frozen=True)
class Trial:
    """What was found of a network on a machine.

    Attributes:
        runtime: the one to take.
        torch_s: seconds for a batch.
        openvino_s: the same.
        relative: largest difference of the two, over the largest number of each feature.
        problem: why OpenVINO cannot be taken, however fast; empty where it can.
        names: of OpenVINO's outputs, in order.
        files: name -> sha256 of its form of the network; none where that is not kept.
    """

    runtime: Runtime
    torch_s: float
    openvino_s: float
    relative: float
    problem: str
    names: list[str]
    files: dict[str, str]


class RuntimeFails(ValueError):
    """OpenVINO was asked for and cannot compute a network as torch does."""


def fastest(
    root: Path,
    network_sha256: str,
    load: Callable[[], nn.Module],
    rows: Tensor,
    *,
    wanted: Literal["auto", "openvino"],
    note: Callable[[str], None],
    free: Sequence[int] = (),
    at_once: int = 1,
) -> tuple[Runtime, Forward]:
    """Return the runtime to take for a network on the CPU in float32, and what computes it there.

    Args:
        root: the store's folder.
        network_sha256: of all that the network's numbers come from.
        load: gives the network with its weights, in eval mode, on the CPU.
        rows: a batch, of the shape of all that follow.
        wanted: ``openvino`` takes it however fast it is.
        note: told in one line what a person should know.
        free: axes along which other batches may be of another length than ``rows``.
        at_once: batches that are asked for side by side, in threads, where OpenVINO is taken.

    Raises:
        RuntimeFails: ``wanted`` cannot be taken.
    """
    shape = [None if axis in free else length for axis, length in enumerate(rows.shape)]
    key = item_key({"network": network_sha256, "shape": shape, "by": _versions()})
    folder = root / RUNTIMES / key
    path = folder / f"{item_key(_machine(at_once))[:16]}.json"
    trial = _remembered(path)
    if trial is not None:
        if wanted == "auto" and trial.runtime == "torch":
            return "torch", forward_of(load())
        if _is_whole(root, folder, trial):
            return "openvino", runtimes.forward_of(folder / GRAPH, trial.names, at_once)
    note("comparing torch and OpenVINO on this network, once on this machine")
    network = load()
    trial = _tried(network, rows, free, at_once, folder, is_wanted=wanted == "openvino")
    with replacing(path) as partial:
        partial.write_text(canonical(asdict(trial)), encoding="utf-8")
    if trial.problem and wanted == "openvino":
        raise RuntimeFails(f"engine.runtime: openvino: {trial.problem}; expected auto or torch")
    if trial.problem:
        note(f"torch is taken: {trial.problem}")
    if wanted == "openvino" or trial.runtime == "openvino":  # from its file, without torch's copy
        return "openvino", runtimes.forward_of(folder / GRAPH, trial.names, at_once)
    return "torch", forward_of(network)


def _tried(
    network: nn.Module,
    rows: Tensor,
    free: Sequence[int],
    at_once: int,
    folder: Path,
    *,
    is_wanted: bool,
) -> Trial:
    """Compare the runtimes on a batch; OpenVINO's form is kept where it is taken.

    They take turns, as other work may come and go. What OpenVINO takes of memory for a batch and
    for its own order of the weights is given back before torch takes what it needs.
    """
    in_torch = forward_of(network)
    torch_s = openvino_s = float("inf")
    try:
        model, names = runtimes.converted(network, rows, free)
        reference = in_torch(rows)
        for _ in range(TURNS):
            torch_s = min(torch_s, _seconds(in_torch, rows))
            in_openvino = runtimes.forward_of(model, names, at_once)
            relative = runtimes.difference(reference, in_openvino(rows))
            openvino_s = min(openvino_s, _seconds(in_openvino, rows, at_once))
            del in_openvino
    except Exception as error:  # a network of anybody's making, in two libraries' hands
        problem = f"OpenVINO cannot take the network: {' '.join(str(error).split())[:LONGEST]}"
        return Trial("torch", 0.0, 0.0, 0.0, problem, [], {})
    problem = ""
    if not relative <= LARGEST:
        relative = min(relative, LARGEST_NUMBER)
        problem = f"OpenVINO's numbers differ by {relative:.1e}, allowed are {LARGEST:.0e}"
    is_faster = not problem and openvino_s <= FASTER * torch_s
    files = _kept(model, folder) if is_faster or (is_wanted and not problem) else {}
    runtime: Runtime = "openvino" if is_faster else "torch"
    return Trial(runtime, torch_s, openvino_s, relative, problem, names, files)


def _seconds(forward: Forward, rows: Tensor, at_once: int = 1) -> float:
    """Return the seconds of a batch, of which so many are computed side by side."""
    start = time.perf_counter()
    if at_once == 1:
        forward(rows)
    else:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(forward, [rows] * at_once))
    return (time.perf_counter() - start) / at_once


def _kept(model: Any, folder: Path) -> dict[str, str]:
    """Write OpenVINO's form of a network into a folder: name -> sha256 of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as unfinished:
        runtimes.save(model, Path(unfinished) / GRAPH)
        for name in (WEIGHTS, GRAPH):
            (Path(unfinished) / name).replace(folder / name)
    return {name: file_sha256(folder / name) for name in (GRAPH, WEIGHTS)}


def _is_whole(root: Path, folder: Path, trial: Trial) -> bool:
    """Tell whether OpenVINO's form of the network is there as it was written.

    It is read again where it has been touched since: half a gigabyte takes as long as torch does.
    """
    try:
        with digests(root) as known:
            return bool(trial.files) and all(
                known.sha256(folder / name) == sha256 for name, sha256 in trial.files.items()
            )
    except OSError:
        return False


def _remembered(path: Path) -> Trial | None:
    """Return what was found before; None where nothing was, or it cannot be read."""
    try:
        trial = Trial(**json.loads(path.read_bytes()))
        path.touch()  # `affectline store gc` goes by the last use
    except (OSError, ValueError, TypeError):
        return None
    return trial


def _machine(at_once: int) -> Mapping[str, object]:
    """Return what the speed of a runtime depends on."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "at_once": at_once,
    }


def _processor() -> str:
    """Return the name of the processor, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _versions() -> Mapping[str, str]:
    return {name: version(name) for name in ("openvino", "torch", "torchvision")}
