import errno
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.progress import Progress

from features.cache.arrays import ArrayFileError
from stages.engine import progress
from stages.engine.progress import StageRun
from tests.conftest import HANGING_S


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


def lines(
    clock: list[float], capsys: pytest.CaptureFixture[str], seconds: Sequence[float], at_once: int
) -> list[str]:
    """Return what decode says without a terminal of items of so many seconds."""
    for number in StageRun("decode").track(range(len(seconds)), at_once=at_once):
        clock[0] += seconds[number]
    said = capsys.readouterr().err
    assert "\x1b" not in said
    return said.splitlines()


def test_without_a_terminal_progress_is_plain_lines_and_the_start_counts_in_no_rate(
    in_folder: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(clock, capsys, [9.0, 4.0, 4.0, 1.0], 1) == [
        "decode: 2/4 videos, 4.0 s each, 8 s left"
    ]
    assert lines(clock, capsys, [30.0, 0.0, 8.0, 0.0, 0.0, 0.0], 2) == [
        "decode: 1/6 videos",
    ]


def test_lines_come_ever_more_seldom_and_none_comes_again(
    in_folder: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    night = lines(clock, capsys, [1.0] * 36_000, 1)
    assert 50 < len(night) == len(set(night)) < 80
    assert night[0].startswith("decode: 11/36000 videos, 1.0 videos/s, ")


def test_a_note_is_told_once_and_a_remark_at_the_end(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StageRun("train") as run:
        run.remark("weights are random")
        for _ in range(3):
            run.note("the remote is out of reach")
    first, last = capsys.readouterr().err.splitlines()
    assert first == "train: the remote is out of reach"
    assert last.startswith("train: done, ") and last.endswith(" MiB; weights are random")


def test_on_a_terminal_a_bar_stands_there_before_the_first_item_is_done_and_goes(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    console = progress._Plain(stderr=True)
    monkeypatch.setattr(progress, "console", console)
    shown = threading.Event()
    started = Progress.start
    monkeypatch.setattr(Progress, "start", lambda bar: (started(bar), shown.set()))

    def items() -> Iterator[int]:
        assert shown.wait(HANGING_S)
        yield from range(3)

    with StageRun("extract", "resnet18_mfcc") as run:
        list(run.track(items(), total=3))
    said = capsys.readouterr().err
    before, _, after = said.rpartition("\x1b[2K")
    assert "extract@resnet18_mfcc" in before and "0/3" in before and "left" in before
    assert "…" not in before, "all of it fits"
    assert "done" in after and "━" not in after


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
