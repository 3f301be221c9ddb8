"""Where everything lies, from the project's root: as dvc.yaml has it, which a test compares.

A folder of items has its index beside it, ``<folder>.parquet``.
"""

from pathlib import Path

SAMPLE = Path("data/sample")
TRUTH = Path("data/sample_truth.json")
INDEX = Path("data/index")
VIEWS = Path("data/views")
FEATURES = Path("data/features")
WEIGHTS = Path("data/weights")
RESULTS = Path("results")
REPORT = Path("report")
LOGS = Path("logs")
PIPELINE = Path("dvc.yaml")


def weights_file(name: str) -> Path:
    """Return the weights file of a network: a backbone's name, or ``detector``."""
    return WEIGHTS / f"{name}.safetensors"
