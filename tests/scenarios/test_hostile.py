"""The whole corpus of broken and hostile videos, through `dvc repro` as a user runs it."""

import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from features.video.opening import MEMORY_BYTES
from tests.clones import LIGHT, TOY, Clone, make_clone
from tests.conftest import HANGING_S
from tests.hostile import corpus
from tests.hostile.test_hostile import REFUSED, USABLE

TIME_LIMIT_S = 20.0


class Watched(Clone):
    """A clone whose home and temporary folder lie beside it, to see what is written there."""

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        beside = {"HOME": "home", "TMPDIR": "tmp"}
        places = {name: str(self.root.parent / folder) for name, folder in beside.items()}
        return super().environment() | places


@pytest.fixture
def hostile(tmp_path: Path) -> Watched:
    """A clone with the corpus for its videos and a toy backbone for each view; nothing has run."""
    for folder in ("home", "tmp"):
        (tmp_path / folder).mkdir()
    clone = Watched(make_clone(tmp_path / "clone").root)
    views = ("segments", "uniform", "snippets", "sound")
    toy = TOY.replace('("segments", "faces")', str(views))
    (clone.root / "features/backbones/toy.py").write_text(toy)
    block = {"module": "toy", "source": "seeded", "seed": 1}
    light: dict[str, Any] = dict(LIGHT)
    light |= {
        "backbones": {f"{view}_toy": {**block, "view": view} for view in views},
        "experiments": {"average": {"head": "pooling", "roles": {"any": "segments_toy/colour"}}},
        "max_failed": 1.0,
        "engine__time_limit_s": TIME_LIMIT_S,
    }
    clone.params(**light)
    corpus.build(clone.root / "data/raw")
    return clone


def remove_names_that_dvc_cannot_write(folder: Path) -> int:
    """Remove files whose names are not UTF-8 and return how many: DVC stops at them itself."""
    removed = 0
    for name in os.listdir(os.fsencode(folder)):
        try:
            name.decode()
        except UnicodeDecodeError:
            os.remove(os.path.join(os.fsencode(folder), name))
            removed += 1
    return removed


def contents(folder: Path, skip: tuple[str, ...] = ()) -> Mapping[str, bytes | None]:
    """Return what lies in a folder, None for a folder."""
    return {
        name: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        for name in [path.relative_to(folder).as_posix()]
        if not name.startswith(skip) and "__pycache__" not in name
    }


def test_no_file_of_the_corpus_harms_a_stage(hostile: Watched) -> None:
    root = hostile.root
    raw = root / "data/raw"
    assert remove_names_that_dvc_cannot_write(raw / "names") == 2
    videos = [path for path in raw.rglob("*") if path.is_file() and path.name[0] != "."]
    assert len(videos) > 300
    # what no command of a pipeline may touch: the videos, the code, what lies beside the clone
    written = ("data/index", "data/views", ".store", ".dvc", "logs", "dvc.lock", "data/.gitignore")
    before = contents(root, skip=written), contents(root.parent, skip=("clone", "home", "tmp"))
    start = time.monotonic()
    assert hostile.repro("decode") == ["index", "decode"]
    seconds = time.monotonic() - start
    after = contents(root, skip=written), contents(root.parent, skip=("clone", "home", "tmp"))
    assert after == before
    assert {path.name for path in (root.parent / "home").iterdir()} <= {".cache", ".config"}
    assert not [path for path in (root.parent / "tmp").rglob("*") if path.is_file()]
    assert not list(root.parent.rglob("canary*"))

    rows = hostile.table("data/views/segments")
    assert len(rows) == len(videos)
    for row in rows:
        assert (row["status"] == "ok") == (row["reason"] is None), row
        assert not re.match(r"\w*Error", str(row["reason"])), row  # words, not an exception
        if row["label"] in USABLE:
            assert row["status"] == "ok", row
        if row["label"] in REFUSED:
            assert row["status"] == "failed", row
        if row["status"] == "ok":
            assert (root / "data/views/segments" / row["path"]).is_file()
    reasons = {row["video_id"]: row["reason"] for row in rows}
    assert reasons["slow/pictures"] == f"given up after {TIME_LIMIT_S:g} s (engine.time_limit_s)"
    largest_mib = max(hostile.log(stage)["peak_rss_mib"] for stage in ("index", "decode"))
    assert largest_mib < (MEMORY_BYTES >> 20) + 512
    assert seconds < HANGING_S
    assert hostile.repro("decode") == []
    _tell(rows, largest_mib, seconds)


def _tell(rows: list[dict[str, Any]], largest_mib: int, seconds: float) -> None:
    """Print the counts by kind and the reasons, for `pytest -s`."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        kinds[row["label"]][row["status"]] += 1
    for kind, counts in sorted(kinds.items()):
        print(f"{kind:15} {counts['ok']:4} done {counts['failed']:4} with a reason")
    reasons = Counter(re.sub(r"\d[\d.,e+-]*", "N", row["reason"]) for row in rows if row["reason"])
    for reason, count in reasons.most_common():
        print(f"{count:4}  {reason}")
    done = sum(counts["ok"] for counts in kinds.values())
    print(f"{len(rows)} files: {done} done, largest process {largest_mib} MiB, {seconds:.0f} s")
