"""Feature folders as the extraction leaves them, small, and batches of random rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from features.cache import arrays

EMOTIONS = ("anger", "joy", "sadness")
SIZES = {"vggface": 12, "vgg16": 10}


@dataclass
class Folder:
    """An index of videos and the features of two backbones, `fc6` (T, size) float16.

    Attributes:
        root: where they lie.
        videos: rows of the index.
        rows: backbone -> rows of its index.
    """

    root: Path
    videos: list[dict[str, object]] = field(default_factory=list)
    rows: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    @property
    def index(self) -> Path:
        """The index of the videos."""
        return self.root / "index.parquet"

    @property
    def table(self) -> Path:
        """The table of all features."""
        return self.root / "tables.parquet"

    @property
    def features(self) -> Path:
        """The folder of the features."""
        return self.root / "features"

    def row(self, backbone: str, video_id: str) -> dict[str, object]:
        """Return the row of one video in a backbone's index, to be changed and saved."""
        return next(row for row in self.rows[backbone] if row["video_id"] == video_id)

    def save(self) -> None:
        """Write the tables as they are now."""
        pq.write_table(pa.Table.from_pylist(self.videos), self.index)
        rows = [row | {"backbone": name} for name, each in self.rows.items() for row in each]
        pq.write_table(pa.Table.from_pylist(rows), self.table)

    def write(
        self,
        backbone: str,
        video_id: str,
        found: Mapping[str, np.ndarray],
        key: str | None = None,
        **axes: str,
    ) -> None:
        """Write one feature file; the index's key unless another is given, axes by feature."""
        row = self.row(backbone, video_id)
        attributes = {
            "key": key or row["key"],
            "pretrained": True,
            "ingredients": {
                "module": backbone,
                "options": {"size": 1},
                "view": "segments",
                "code": "c0de",
            },
            "weights": {"source": "made up"},
            "software": {"torch": "2"},
            "axes": {"fc6": "T D", "pool5": "T C H W", "res5": "T C H W"} | axes,
        }
        arrays.write(self.features / backbone / str(row["path"]), found, attributes)


def frames(features: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of a feature file, a row every half second."""
    count = len(valid)
    return {
        "fc6": features.astype(np.float16),
        "index": np.arange(count) * 12,
        "pts_s": np.arange(count) / 2,
        "valid": valid,
    }


def make_folder(root: Path, *, videos: int = 18, rows: int = 6, runs: int = 2) -> Folder:
    """Write features in which every class shifts some dimensions in half of the frames.

    A third of the videos of each class is for testing, the next third in the next run. The first
    video has no face.
    """
    draw = np.random.default_rng(7)
    folder = Folder(root)
    shift = {name: draw.normal(0, 6, (len(EMOTIONS), size)) for name, size in SIZES.items()}
    for backbone in SIZES:
        folder.rows[backbone] = []
    for number in range(videos):
        label = number % len(EMOTIONS)
        video_id = f"{EMOTIONS[label]}/v {number:02d}%"
        place = number // len(EMOTIONS) % 3
        splits = {f"split_{run:02d}": "test" if place == run else "train" for run in range(runs)}
        folder.videos.append(
            {"video_id": video_id, "label": EMOTIONS[label], "status": "ok", "reason": None}
            | splits
        )
        informative = draw.random(rows) < 0.5
        informative[0] = True
        for backbone, size in SIZES.items():
            valid = np.ones(rows, bool)
            if backbone == "vggface":
                valid = draw.random(rows) < 0.8
                valid[0] = True
                if number == 0:
                    valid[:] = False
            found = draw.normal(5, 2, (rows, size)) + informative[:, None] * shift[backbone][label]
            found[~valid] = 0
            row = {"video_id": video_id, "label": EMOTIONS[label], "status": "ok", "reason": None}
            name = f"{backbone}{number:02d}"
            row |= {"key": name.ljust(64, "0"), "content": name.ljust(64, "c")}
            row["path"] = f"{video_id}.h5"
            folder.rows[backbone].append(row | {"pretrained": True})
            folder.write(backbone, video_id, frames(found, valid))
    folder.save()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a folder of features for 18 videos, 6 frames each, with two runs."""
    return make_folder(tmp_path)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave torch as it was found; one thread is the fastest for networks as small as these."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def random_batch(
    shapes: Mapping[str, Sequence[int]], *, videos: int = 4, rows: int = 5, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return random features and masks, each mask with a hole; the first video has all rows."""
    draw = torch.Generator().manual_seed(seed)
    features = {
        role: torch.randn((videos, rows, *shape), generator=draw) for role, shape in shapes.items()
    }
    mask = {role: torch.rand((videos, rows), generator=draw) < 0.7 for role in shapes}
    for role in shapes:
        mask[role][0] = True
        mask[role][:, 1] = True
    return features, mask
