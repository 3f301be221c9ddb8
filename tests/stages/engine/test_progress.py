import errno
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from features.cache.arrays import ArrayFileError
from stages.engine import progress
from stages.engine.progress import StageRun


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until a test moves it."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock: list[float], seconds: Sequence[float], at_once: int = 1) -> object:
    """Run decode with items of so many seconds, each after the other; return its pace."""
    with StageRun("decode") as run:
        for number in run.track(range(len(seconds)), at_once=at_once):
            clock[0] += seconds[number]
        clock[0] += 100.0  # the bookkeeping of all items is no work of one
    return log("decode")["seconds_an_item"]


def test_the_pace_is_that_of_the_work_without_its_start(
    in_folder: Path, clock: list[float]
) -> None:
    assert work(clock, [9.0, 3.0, 3.0, 3.0]) == 3.0
    assert log("decode")["seconds"] == 118.0


def test_the_pace_counts_what_is_worked_on_at_a_time(in_folder: Path, clock: list[float]) -> None:
    assert work(clock, [9.0, 0.0, 4.0, 0.0], at_once=2) == 2.0


def test_a_run_of_one_item_tells_the_pace_only_where_none_is_known(
    in_folder: Path, clock: list[float]
) -> None:
    assert work(clock, [9.0]) == 9.0
    assert work(clock, [2.0, 1.0]) == 1.0
    assert work(clock, [9.0]) == 1.0
    assert work(clock, []) == 1.0


def test_a_failed_run_says_so(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), StageRun("index"):
        raise progress.fail("no videos")
    assert log("index")["ok"] is False
    assert "index: failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "/store/items"),
            "decode: /store/items: Read-only file system. Mend that and run again: ",
        ),
        (ArrayFileError("a.h5: expected a"), "decode: a.h5: expected a. `affectline doctor --rep"),
    ],
)
def test_what_a_person_can_mend_ends_a_stage_with_one_line(
    error: Exception, words: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), StageRun("decode"):
        raise error
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and told[1].startswith(f"error: {words}")


def test_a_log_that_cannot_be_written_hides_no_error(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("logs").touch()
    with pytest.raises(ValueError, match="the cause"), StageRun("decode"):
        raise ValueError("the cause")
    assert "decode: no log: logs" in capsys.readouterr().err


def test_without_a_terminal_progress_is_plain_lines(
    in_folder: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in StageRun("decode").track(range(4)):
        clock[0] += 6.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("decode: 2/4 videos, ") and "s left" in lines[0]
    assert all("\x1b" not in line for line in lines)


HOSTILE = "joy/[red]a[/x]:fire:\x1b]0;title\x07\x1b[2J\x9b1m\rb\u202e\udcff\nerror: none"
SHOWN = r"joy/[red]a[/x]:fire:\x1b]0;title\x07\x1b[2J\x9b1m\rb\u202e\udcff\nerror: none"
"""A name with markup, an emoji's code, commands to a terminal, a line feed; and as it is shown."""


def test_a_hostile_name_steers_no_terminal_and_poses_as_no_line(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.print_table(HOSTILE, [HOSTILE], [[HOSTILE]])
    progress.say(HOSTILE)
    StageRun("index").note(HOSTILE)
    progress.fail(HOSTILE)
    out, err = capsys.readouterr()
    assert out.count(SHOWN) == 3 + 1 and f"index: {SHOWN}\n" in err
    assert SHOWN.replace(r"\nerror", "\n  error") in err
    assert {c for c in out + err if not c.isprintable()} == {"\n"}


def test_json_is_itself_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress.print_json({"naïve": HOSTILE})
    said = capsys.readouterr().out
    assert json.loads(said) == {"naïve": HOSTILE} and "naïve" in said
    assert {c for c in said if not c.isprintable()} == {"\n"}


def test_without_a_terminal_lines_are_whole_and_on_a_narrow_one_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/".join(["a_folder_of_videos"] * 20)
    progress.print_table("files", ["video", "reason"], [[path, "none"]])
    assert path in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    narrow = progress._Plain(stderr=False)
    progress.print_table("files", ["video", "reason"], [[path, "none"]], to=narrow)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert "".join(row[1].strip() for row in rows) == path


def test_ctrl_c_while_a_stage_is_still_read_is_told_in_a_line() -> None:
    def ended_by(error: str) -> tuple[int, str]:
        command = [sys.executable, "-c", f"import stages; raise {error}"]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        return done.returncode, done.stderr

    said = "interrupted: nothing was begun\n"
    assert ended_by("KeyboardInterrupt") == (-signal.SIGINT, said)
    status, trace = ended_by("KeyError('bug')")
    assert status == 1 and "Traceback" in trace and "KeyError: 'bug'" in trace
