"""The videos that a stage could not use, with the reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from features.cache import tables


@dataclass(frozen=True)
class Failure:
    """A video that has failed for one reason.

    Attributes:
        video_id: whose.
        first_failed_in: name of the first index of the flow that has it.
        reason: that the stage gave.
    """

    video_id: str
    first_failed_in: str
    reason: str


def failures(indices: Iterable[Path]) -> list[Failure]:
    """Return the failures of all stages in the order of the flow, each once.

    Args:
        indices: of the stages' items, in that order (`stages.engine.paths.indices`).

    Raises:
        TableError: an index cannot be read.
    """
    first: dict[tuple[str, str], Failure] = {}
    for path in indices:
        for row in tables.read(path):
            if row.get("status") == "failed":
                video_id, reason = str(row["video_id"]), str(row["reason"])
                first.setdefault((video_id, reason), Failure(video_id, path.stem, reason))
    return list(first.values())
