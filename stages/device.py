"""The device that networks run on, and what makes their numbers the same in every run there."""

import os

import torch

from stages.params import Engine


def device_of(engine: Engine) -> str:
    """Return the device that networks run on."""
    if engine.device != "auto":
        return engine.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def be_reproducible(device: str) -> None:
    """Have networks on ``device`` give the same numbers in every run, in full float32."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # not TF32
