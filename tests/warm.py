"""A Python that has the slow packages already and forks for each command of a clone.

To import torch takes 2 s of a processor, and a test that asks a dozen things would pay them a dozen
times. A fork has the packages and nothing of the project, whose code it imports from its clone, as
a new Python does.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    *("av", "cv2", "h5py", "hdf5plugin", "librosa", "numpy", "pandas", "pyarrow.parquet"),
    *("pydantic", "rich.console", "rich.progress", "rich.table", "safetensors.torch"),
    *("scipy.signal", "torch", "torchvision", "typer", "yaml"),
)
"""What the project imports and takes long to be imported."""

CAN_FORK = sys.platform == "linux"
"""Elsewhere libraries of the system do not outlive a fork."""


def run(
    module: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    hanging_s: float,
) -> tuple[int, str]:
    """Run ``python -m <module>`` in a folder; return its exit status, its output and its errors.

    Args:
        module: whose code is that of the folder.
        arguments: of its command line.
        folder: a project.
        environment: its variables, and no others.
        hanging_s: after so long the command hangs.
    """
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as errors:
        request = [module, arguments, str(folder), dict(environment), [out.name, errors.name]]
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], hanging_s)[0]:
            server.kill()
            raise TimeoutError(f"{module} {arguments} hangs")
        return int(server.stdout.readline()), (out.read() + errors.read()).decode()


@cache
def _server() -> "subprocess.Popen[str]":
    """Return the Python that forks; it ends with the tests, whose pipe it reads."""
    command = [sys.executable, __file__]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def close() -> None:
    """End it."""
    if _server.cache_info().currsize:
        _server().communicate()
        _server.cache_clear()


def _serve() -> Any:
    """Fork for each request and answer its exit status; return the request in the fork."""
    for name in PACKAGES:
        importlib.import_module(name)
    gc.freeze()  # a fork that looked through them all would copy them
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)


def _become(
    module: str, arguments: list[str], folder: str, environment: dict[str, str], files: list[str]
) -> None:
    """Take the place of a new Python: its folder, variables, files and arguments."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate((os.devnull, *files)):
        os.dup2(os.open(name, os.O_RDWR | os.O_APPEND), number)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[0] = folder
    sys.argv = [module, *arguments]


def _status(module: str) -> int:
    """Run the module and return the exit status that Python gives to how it ends."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


if __name__ == "__main__":
    wanted, *more = _serve()
    _become(wanted, *more)
    status = _status(wanted)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would take a second to take all packages apart
