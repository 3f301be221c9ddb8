"""Where everything lies, from the project's root: as dvc.yaml has it, which a test compares.

A folder of items has its index beside it, ``<folder>.parquet``; the indices of features lie in a
folder of their own, which train depends on: DVC follows it to every backbone, a new one too.
"""

import csv
import os
from pathlib import Path

SAMPLE = Path("data/sample")
TRUTH = Path("data/sample_truth.json")
INDEX = Path("data/index")
VIEWS = Path("data/views")
FEATURES = Path("data/features")
TABLES = Path("data/tables")
WEIGHTS = Path("data/weights")
RESULTS = Path("results")
REPORT = Path("report")
LOGS = Path("logs")
PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")


def index_of(folder: Path) -> Path:
    """Return the index of a folder of items."""
    return (TABLES / folder.name if folder.parent == FEATURES else folder).with_suffix(".parquet")


def folder_of(index: Path) -> Path:
    """Return the folder of the items that an index lists."""
    return (FEATURES / index.name if index.parent == TABLES else index).with_suffix("")


def indices() -> list[Path]:
    """Return the indices of items that lie here, in the order of the flow."""
    paths = [index_of(INDEX), *sorted(VIEWS.glob("*.parquet")), *sorted(TABLES.glob("*.parquet"))]
    return [path for path in paths if path.is_file()]


def weights_file(name: str, folder: Path = WEIGHTS) -> Path:
    """Return the weights file of a network: a backbone's name, or ``detector``."""
    return folder / f"{name}.safetensors"


def has_sample(root: Path) -> bool:
    """Tell whether the data set at ``root``, a folder or a CSV, has clips of the sample."""
    if root.is_file():
        try:
            with root.open(encoding="utf-8-sig", newline="") as file:
                paths = [root.parent / (row.get("path") or "") for row in csv.DictReader(file)]
        except (OSError, UnicodeDecodeError, csv.Error):
            return False  # index says what is wrong with it
    else:
        paths = [root]
    return any(os.path.abspath(SAMPLE) in _with_parents(path) for path in paths)


def _with_parents(path: Path) -> set[str]:
    whole = Path(os.path.abspath(path))
    return {str(whole), *map(str, whole.parents)}
