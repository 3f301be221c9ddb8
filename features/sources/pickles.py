"""Pickles: files that can run any code when they are opened, opened in a process of their own.

Only where the user has said that they trust the file. The process is a Python without this
project's code, with a bare environment, an empty folder to work in, and limits of time and
memory. It hands back a safetensors file, so nothing that runs code ever reaches the caller.
That keeps accidents in; it is no prison for an attacker, who could still read the user's files.

This file is both sides: a function for the caller, and the script that the process runs.
"""

import contextlib
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

TIME_LIMIT_S = 600.0
MEMORY_BYTES = 4 << 30  # besides four times the file's size

ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""What the process needs to find Python's own libraries; all else stays behind."""

SEPARATOR = "/"
"""Between the keys of nested mappings in what is handed back; no network has it in its keys."""


class PickleError(ValueError):
    """A pickle could not be opened, or has no tensors in it."""


def open_apart(path: Path, folder: Path, time_limit_s: float = TIME_LIMIT_S) -> Path:
    """Open a pickle in a process of its own; return a safetensors file of its tensors.

    Args:
        path: a PyTorch checkpoint of any age, or a plain pickle of arrays.
        folder: an empty folder, which the process works in; the file that it makes lies there.
            Nested mappings are flattened, see :data:`SEPARATOR`; what is no tensor is left out.
        time_limit_s: the process is ended after this time.

    Raises:
        PickleError: it took too long, failed, or found no tensors.
    """
    made, log = folder / "tensors.safetensors", folder / "log"
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as messages:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", __file__, str(path.absolute()), made.name],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            start_new_session=True,  # so that what it starts can be ended with it
        )
        try:
            status = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            raise PickleError(f"{path}: opening it took more than {time_limit_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status:
        raise PickleError(f"{path}: it cannot be opened: {_last_line(log) or f'status {status}'}")
    if not os.path.lexists(made) or not stat.S_ISREG(made.lstat().st_mode):
        raise PickleError(f"{path}: opening it gave no tensors")
    return made


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-2000:].decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def nested(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """Return the nested mappings that were flattened to ``tensors``.

    Raises:
        PickleError: no mapping flattens to these keys.
    """
    mappings: dict[str, object] = {}
    for key, tensor in tensors.items():
        *outer, name = key.split(SEPARATOR)
        place = mappings
        for part in outer:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise PickleError(f"key {key}: {part} is both a tensor and a mapping")
            place = inner
        place[name] = tensor
    return mappings


# ------------------------------------------------------------------------------- the process


def main(source: str, made: str) -> None:
    """Open the pickle ``source``; write its tensors to ``made``."""
    _limit(os.path.getsize(source))
    tensors = _flat(_open(source))
    if not tensors:
        raise SystemExit("no tensors in it")
    save_file(tensors, made)


def _limit(size_bytes: int) -> None:
    """Limit this process; a limit that the system does not know or grant is left as it is."""
    data = MEMORY_BYTES + 4 * size_bytes
    limits = {
        "RLIMIT_CPU": int(TIME_LIMIT_S),
        "RLIMIT_CORE": 0,
        "RLIMIT_DATA": data,
        "RLIMIT_FSIZE": data,
        "RLIMIT_NOFILE": 64,
    }
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (capped, capped))


def _open(source: str) -> object:
    """Open a checkpoint; text in a pickle of Python 2 is taken as Latin-1, which never fails."""
    try:
        return torch.load(source, map_location="cpu", weights_only=False, encoding="latin1")
    except (RuntimeError, pickle.UnpicklingError):  # not PyTorch's: a plain pickle
        with open(source, "rb") as file:
            return pickle.load(file, encoding="latin1")


def _flat(content: object, prefix: str = "") -> dict[str, Tensor]:
    if isinstance(content, torch.nn.Module):
        content = content.state_dict()
    tensors: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(key, str) and SEPARATOR not in key:
                if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
                    value = torch.from_numpy(np.array(value, order="C"))
                if isinstance(value, Tensor):
                    tensors[prefix + key] = value.detach().clone().contiguous()
                else:
                    tensors |= _flat(value, f"{prefix}{key}{SEPARATOR}")
    return tensors


if __name__ == "__main__":
    main(*sys.argv[1:])
