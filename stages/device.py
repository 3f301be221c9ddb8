"""The device that networks run on, and what makes their numbers the same in every run there."""

import os

import torch

from stages.params import Engine


class DeviceError(ValueError):
    """params.yaml names a device that this machine does not have."""


def device_of(engine: Engine) -> str:
    """Return the device that networks run on.

    Raises:
        DeviceError: there is no such device here.
    """
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


def be_reproducible(device: str) -> None:
    """Have networks on ``device`` give the same numbers in every run, in full float32."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # not TF32
