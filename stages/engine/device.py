"""The device that networks run on, and what makes their numbers the same in every run there.

Also how much memory of this machine may hold features.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from stages.engine.params import Engine

GIB = 1 << 30

FREE_SHARE = 0.5
"""Of the free memory, what features may take: batches, networks and other programs need some."""

_USAGE = (  # cgroup version 2, then 1: limit, usage, what of the usage is files that can go
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cache_bytes(engine: Engine) -> int:
    """Return how many bytes of features training keeps in memory: ``cache_gib``, else a share."""
    if engine.cache_gib is not None:
        return int(engine.cache_gib * GIB)
    return int(FREE_SHARE * free_bytes())


def free_bytes(root: Path = Path("/")) -> int:
    """Return the memory that this process can still take without swapping, in bytes.

    On Linux what the kernel calls available, or what a container's or job's limit (cgroup, either
    version) leaves, if that is less. Elsewhere half of the machine's memory.

    Args:
        root: of the system's files.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    kib = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines)}
    return min([1024 * int(kib["MemAvailable"]), *_left_by_limits(root)])


def _left_by_limits(root: Path) -> list[int]:
    """Return what each limit of this process's control groups, and those above, leaves."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        # In a container the path may be the host's, and its own group the top.
        below = Path(path.lstrip("/"))
        for group in {top, *(top / part for part in (below, *below.parents))}:
            left += [n for names in _USAGE if (n := _left(group, *names)) is not None]
    return left


def _left(group: Path, limit: str, usage: str, files: str) -> int | None:
    """Return what the limit of a group leaves, None where it has none."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or no limit: `max`
        return None
    return max(0, most - used + int(stat.get(files, 0)))


class DeviceError(ValueError):
    """params.yaml names a device that this machine does not have."""


def device_of(engine: Engine) -> str:
    """Return the device that networks run on.

    Raises:
        DeviceError: there is no such device here.
    """
    if engine.device == "cpu":
        return "cpu"
    if engine.gpus_elsewhere is not None:
        return _device_elsewhere(engine)
    import torch  # slow to import: only where a device has to be looked for

    if engine.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there[engine.device]:
        here = ", ".join(name for name, there in is_there.items() if there)
        raise DeviceError(
            f"params.yaml: engine.device: found {engine.device!r}, but torch {torch.__version__} "
            f"finds no such device here, only {here}; expected auto or one of them"
        )
    return engine.device


def _device_elsewhere(engine: Engine) -> str:
    """Return the device of workers on other machines; what this one has says nothing of it."""
    if engine.device == "mps" or (engine.device == "cuda" and not engine.gpus_elsewhere):
        raise DeviceError(
            f"params.yaml: engine.device: found {engine.device!r}, but engine.{engine.executor}."
            f"gpus gives each worker {engine.gpus_elsewhere:g} GPUs; expected auto or cpu, or "
            "cuda and a GPU"
        )
    return "cuda" if engine.gpus_elsewhere else "cpu"


def devices_of(engine: Engine, device: str) -> tuple[str, ...]:
    """Return the GPUs that have a process each, as CUDA_VISIBLE_DEVICES names them.

    Args:
        engine: of params.yaml.
        device: where networks run.

    Returns:
        None where the one process of the stage is to run the network.

    Raises:
        DeviceError: there is no such GPU here.
    """
    if device != "cuda":
        return ()
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible[:count] if visible != [""] else [str(number) for number in range(count)]
    if engine.devices == "all":
        return tuple(names) if count > 1 else ()
    if absent := [number for number in engine.devices if number >= count]:
        raise DeviceError(
            f"params.yaml: engine.devices: found {absent[0]}, but there are {count} GPUs here, "
            "counted from 0"
        )
    return tuple(names[number] for number in engine.devices)


BFLOAT16_COST = 6
"""Times that bfloat16 takes of float32's, both by torch, where a processor has to imitate it:
measured by benchmarks/runtimes.py with oneDNN kept to AVX2."""


def has_bfloat16() -> bool:
    """Tell whether this machine's processor multiplies numbers of bfloat16."""
    import torch

    return any(able and "bf16" in name for name, able in torch.cpu.get_capabilities().items())


TF32 = (8, 0)
"""Compute capability of the first GPUs with products of TF32."""


def check_precision(where: str, precision: str, device: str) -> None:
    """Check that networks on ``device`` can compute in a precision whose numbers are its own.

    Args:
        where: what asks for it, ``backbones.vgg16``.
        precision: of products and convolutions.
        device: of the networks.

    Raises:
        DeviceError: they cannot.
    """
    if precision != "tf32":
        return
    found = f"networks run on {device} here"
    if device == "cuda":
        import torch

        capability = torch.cuda.get_device_capability()
        if capability >= TF32:
            return
        found = "this GPU's compute capability is {}.{}".format(*capability)
    raise DeviceError(
        f"params.yaml: {where}.precision: tf32 is computed by GPUs of compute capability "
        f"{TF32[0]}.{TF32[1]} and above alone, and {found}; expected float32 or bfloat16"
    )


def readers_of(engine: Engine, device: str) -> int:
    """Return how many processes read and prepare frames ahead of a network.

    None beside a network on a CPU, which has all cores. A GPU takes more frames than a process can
    prepare: it has ``workers`` of them, or the cores that it does not share with another GPU.
    """
    if device != "cuda":
        return 0
    if engine.executor == "slurm":
        return engine.slurm.cpus
    if engine.executor == "ray":
        return math.ceil(engine.ray.cpus)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return engine.workers or max(1, (cores or 1) // max(1, len(devices_of(engine, device))))


def be_reproducible(device: str, precision: str = "float32") -> None:
    """Have networks on ``device`` give the same numbers in every run, in full float32 or in TF32.

    Args:
        device: of the networks.
        precision: ``tf32`` for products and convolutions of float32 in that type.
    """
    if device == "cuda":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        set_products("tf32" if precision == "tf32" else "ieee")


def set_products(kind: Literal["ieee", "tf32"]) -> None:
    """Have GPUs multiply numbers of float32 in full, or as TF32; torch itself convolves in TF32."""
    from torch import backends

    parts: tuple[Any, ...] = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)  # type: ignore[attr-defined]
    for part in parts:
        part.fp32_precision = kind


def use_one_core() -> None:
    """Have torch use one core for what this thread computes, beside a network that has them all.

    Threads of torch that wait for work keep their cores busy: small steps on all cores took twice
    their time from the network.
    """
    import torch

    torch.set_num_threads(1)


@contextmanager
def cores_kept() -> Iterator[None]:
    """Let this thread keep its cores while others of this process use one.

    To torch the number is this thread's own as soon as it has asked for it, and what a thread sets
    is that of each thread which has not.
    """
    import torch

    cores = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(cores)
