import csv
import json
import os
from pathlib import Path

from features.cache import claims
from stages.engine.items import fill
from stages.engine.ledger import COLUMNS, Ledger
from stages.engine.progress import StageRun
from stages.engine.workers import Report, Work, Workers
from tests.stages.engine.toys import compute, toy


def lines(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_who_made_what_stands_in_logs(in_folder: Path) -> None:
    work = Work([toy(0), toy(1, ValueError("bad, very")), toy(2)], compute, Workers(0))
    with StageRun("toy") as run:
        fill(run, work)
    rows = lines("logs/toy.csv")
    assert [(row["item"], row["reason"]) for row in rows] == [
        ("joy/v00", ""),
        ("joy/v01", "bad, very"),
        ("joy/v02", ""),
    ]
    assert {row["worker"] for row in rows} == {f"{claims.host()}-{os.getpid()}"}
    assert all(float(row["seconds"]) >= 0 for row in rows)
    (counts,) = json.loads(Path("logs/toy.json").read_text())["workers"].values()
    assert (counts["computed"], counts["failed"]) == (2, 1)


def test_what_another_run_has_made_is_its_to_tell(tmp_path: Path) -> None:
    path = tmp_path / "logs/toy.csv"
    with Ledger(path) as ledger:
        ledger.take(Report("a", ("0",), {}, None))
    assert not path.exists() and not ledger.workers
    with Ledger(path) as ledger:
        for name, worker in (("a", "x-1"), ("b", "y-2"), ("c", "x-1")):
            ledger.take(Report(name, ("0",), {}, {}, worker, 1.5))
    assert ledger.workers == {
        "x-1": {"computed": 2, "failed": 0, "seconds": 3.0},
        "y-2": {"computed": 1, "failed": 0, "seconds": 1.5},
    }
    assert tuple(lines(str(path))[0]) == COLUMNS
