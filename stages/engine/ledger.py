"""Who has made what in a run of a stage: a line an item in ``logs/``, and counts of each worker."""

import csv
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TextIO

from stages.engine.workers import Report

COLUMNS = ("item", "worker", "seconds", "reason")
"""Of the file; ``reason`` is empty where the item was made."""


class Ledger(AbstractContextManager["Ledger"]):
    """A run's ledger; the file appears with the first item that was made or failed.

    Attributes:
        workers: ``<host>-<process>`` -> items computed and failed, and the seconds that they took.
    """

    def __init__(self, path: Path) -> None:
        """Begin; an earlier run's file is there until this one has something to tell."""
        self.workers: dict[str, dict[str, float]] = {}
        self._path = path
        self._file: TextIO | None = None

    def take(self, report: Report) -> None:
        """Write down what became of an item, if that was here or in a worker of this run."""
        if report.counts is None and not report.reasons:
            return  # made by another run's worker, which tells it
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8", newline="")
            self._line(COLUMNS)
        reason = "; ".join(dict.fromkeys(report.reasons.values()))
        self._line((report.name, report.worker, f"{report.seconds:.2f}", reason))
        counts = self.workers.setdefault(
            report.worker, {"computed": 0, "failed": 0, "seconds": 0.0}
        )
        counts["failed" if reason else "computed"] += 1
        counts["seconds"] = round(counts["seconds"] + report.seconds, 2)

    def _line(self, cells: tuple[str, ...]) -> None:
        csv.writer(self._file, lineterminator="\n").writerow(cells)  # type: ignore[arg-type]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
