"""What a worker works with: software and code, which are in the keys or in the files.

Code and weights stand in an item's key, as the stage has read them. A worker that another machine
starts, or that starts an hour later, reads its own: what differs would make other numbers under the
same keys, so it is refused.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from features.cache.keys import PACKAGES, PROJECT, file_sha256
from stages.engine.trouble import MachineError

SOFTWARE = (
    "affectline",
    "av",
    "h5py",
    "librosa",
    "mediapipe",
    "numpy",
    "opencv-contrib-python",
    "openvino",
    "pillow",
    "scipy",
    "soxr",
    "torch",
    "torchvision",
)
"""Distributions whose versions stand in every array file: all whose code makes numbers, and h5py.

They are in no key; docs/reproducibility.md says why, and how much each has been seen to change.
"""

Kit = Mapping[str, str]
"""Name of a distribution -> its version; a file, or ``the code``, all modules of ours -> a hash."""


@cache
def versions() -> Kit:
    """Return the versions of the SOFTWARE."""
    return {name: version(name) for name in SOFTWARE}


def kit(weights: Iterable[Path]) -> Kit:
    """Return what this process works with.

    Args:
        weights: files of weights, of which each counts by what it holds.
    """
    named = {name: _version(name) for name in SOFTWARE}
    files = {str(path): file_sha256(path) if path.is_file() else "none" for path in weights}
    python = ".".join(map(str, sys.version_info[:2]))
    return {**named, "Python": python, "the code": _code(), **files}


def check_kit(expected: Kit, weights: Iterable[Path]) -> None:
    """Check that this process works with what the stage that asks for it works with.

    Args:
        expected: the stage's.
        weights: as of :func:`kit`; what the stage has besides is not looked at.

    Raises:
        MachineError: it does not; the message says what differs.
    """
    here = kit(weights)
    lines = [
        f"{name} {here[name][:12]} where the stage has {expected[name][:12]}"
        for name in here
        if here[name] != expected[name]
    ]
    if lines:
        raise MachineError(
            f"a worker has {', '.join(lines)}: it would make other numbers under the same keys. "
            "Give it the stage's environment, code and weights"
        )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _code() -> str:
    digest = hashlib.sha256()
    for package in sorted(PACKAGES):
        for path in sorted((PROJECT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(PROJECT)}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
