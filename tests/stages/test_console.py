import json
from pathlib import Path

import pytest

from stages import console
from stages.console import StageRun


def log(name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(Path("logs", f"{name}.json").read_text())
    return loaded


def test_a_run_leaves_a_line_and_a_log(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StageRun("extract", "vgg16") as run:
        run.count(items=3, computed=1, reused=2, frames_decoded=24)
    record = log("extract@vgg16")
    assert set(record) >= {"failed", "seconds", "forward_seconds", "peak_rss_mib"}
    assert {k: record[k] for k in ("items", "computed", "reused", "frames_decoded", "ok")} == {
        "items": 3,
        "computed": 1,
        "reused": 2,
        "frames_decoded": 24,
        "ok": True,
    }
    assert record["peak_rss_mib"] > 20  # type: ignore[operator]
    said = capsys.readouterr().err
    assert "extract@vgg16: done, 3 items (1 computed, 2 reused)" in said


def test_the_pace_is_that_of_the_work_and_not_of_the_bookkeeping(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with StageRun("decode") as run:
        for _ in run.track(range(2)):
            now[0] += 3.0
            run.count(computed=1)
        now[0] += 100.0
    assert (log("decode")["seconds"], log("decode")["seconds_an_item"]) == (106.0, 3.0)


def test_a_failed_run_says_so(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), StageRun("index"):
        raise console.fail("no videos")
    assert log("index")["ok"] is False
    assert "index: failed" in capsys.readouterr().err


def test_without_a_terminal_progress_is_plain_lines(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    run = StageRun("decode")
    assert list(run.track(range(4))) == [0, 1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("decode: 2/4 videos, ") and "s left" in lines[0]
    assert all("\x1b" not in line for line in lines)


def test_names_with_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table("of [/x]", ["video"], [["names[/red]"]])
    said = capsys.readouterr().err
    assert "of [/x]" in said and "names[/red]" in said
