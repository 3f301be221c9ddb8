r"""What a person sees of a running stage: progress, one closing line, and a log in JSON.

On a terminal progress is a bar with rate and time left; elsewhere it is a plain line now and then,
where something was done since the last. Nothing is shown for work of less than two seconds. The log
goes to ``logs/<stage>[@<item>].json`` and is no DVC output.

Names of videos and values of YAML are other people's text: here they are shown as they are,
without markup, and what would steer a terminal by its escape, ``\x1b``.
"""

import json
import math
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from features.cache.arrays import ArrayFileError
from features.cache.store import replacing
from features.cache.tables import TableError
from stages.engine.paths import LOGS

T = TypeVar("T")

QUIET_S = 2.0
"""Work shorter than this shows no progress."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT."""

FIRST_LINE_S, LAST_LINES_S, SLOWER = 10.0, 600.0, 1.5
"""Where there is no terminal: seconds to the first plain progress line, most between two, and by
how much each wait is longer than the one before. A night of work leaves some sixty lines."""

BAR_COLUMNS = 20
"""A stage's name, count, rate and time left stand beside it on a terminal of 80 columns."""

MEND = "`affectline doctor --repair` removes what is damaged, then `dvc repro` makes it again"
"""What to do about a damaged file of the store or of an output."""

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What no terminal should be sent: control characters but tab and line feed, what turns the
direction of writing, and halves of characters, which stand for bytes that are not UTF-8."""

WIDE = 10_000
"""Columns where there is no terminal: a file or another program gets every line whole."""


def visible(text: str) -> str:
    r"""Return ``text`` with what would steer a terminal written as an escape, ``\x1b``."""
    return STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def in_a_line(text: str) -> str:
    """Return ``text`` visible and in one line: no name can pose as a line of ours."""
    return visible(text).replace("\n", r"\n")


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return a text of plain parts and of (text, style): the one way to colours."""
    return Text.assemble(
        *(visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts)
    )


class _Plain(Console):
    """A console to which strings are text: neither markup nor codes of emoji nor escapes."""

    def __init__(self, *, stderr: bool) -> None:
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else WIDE
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **choices: Any) -> Text:
        """Return a string as rich would show it, made visible."""
        return super().render_str(visible(text), **choices)


console = _Plain(stderr=True)
"""Where stages speak, and where everything tells what is wrong."""

answers = _Plain(stderr=False)
"""Where commands answer what they are asked."""


class StageRun:
    """One run of a stage: counts what it does and tells a person.

    Use as a context manager; on leaving, the closing line is printed and the log written, also
    when the stage fails or a person ends it (Ctrl-C).
    """

    def __init__(self, stage: str, item: str | None = None, log: Path | None = None) -> None:
        """Name the run.

        Args:
            stage: the DVC stage.
            item: what it works on, where the stage has several.
            log: the file, if not the stage's own.
        """
        self.name = f"{stage}@{item}" if item else stage
        self.log = log or LOGS / f"{self.name}.json"
        self.counts: dict[str, float] = {
            "items": 0,
            "computed": 0,
            "reused": 0,
            "failed": 0,
            "frames_decoded": 0,
            "forward_seconds": 0.0,
        }
        self.workers: Mapping[str, Mapping[str, float]] = {}
        self._start = time.monotonic()
        self._pace: float | None = None
        self._at_once = 1
        self._crew: Callable[[], int] = lambda: 1
        self._steady_since = self._start
        self._told: set[str] = set()
        self._remarks: list[str] = []

    def __enter__(self) -> "StageRun":
        """Start the clock."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Print the closing line and write the log."""
        seconds = time.monotonic() - self._start
        pace = self._pace if self._pace is not None else last_pace(self.log)
        record = {
            **{k: int(v) if float(v).is_integer() else round(v, 3) for k, v in self.counts.items()},
            "forward_seconds": round(self.counts["forward_seconds"], 3),
            "seconds": round(seconds, 3),
            "seconds_an_item": None if pace is None else round(pace, 4),
            "at_once": self._at_once,
            "peak_rss_mib": peak_rss_mib(),
            **({"workers": self.workers} if self.workers else {}),
            "ok": kind is None or (isinstance(error, SystemExit) and not error.code),
        }
        try:
            with replacing(self.log) as partial:
                partial.write_text(
                    json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8"
                )
        except OSError as unwritten:
            self.note(f"no log: {reason(unwritten)}")
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            done = int(self.counts["computed"] + self.counts["reused"])
            self.note(f"interrupted: {done} done, run again, nothing is lost")
            raise SystemExit(INTERRUPTED) from None
        console.print(self._closing_line(record), soft_wrap=True)
        if isinstance(error, (ArrayFileError, TableError)):  # of the store or an output
            raise fail(f"{self.name}: {error}. {MEND}") from None
        if isinstance(error, OSError):
            raise fail(
                f"{self.name}: {reason(error)}. Mend that and run again: what was computed is kept"
            ) from None

    def count(self, **counts: float) -> None:
        """Add to the counts, e.g. ``count(items=3, computed=1, reused=2)``."""
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0) + value

    def note(self, line: str) -> None:
        """Print a line that a person should see, once however often it is told."""
        if line not in self._told:
            self._told.add(line)
            console.print(in_a_line(f"{self.name}: {line}"), soft_wrap=True)

    def remark(self, text: str) -> None:
        """Let the closing line end with what a person should know of the result."""
        self._remarks.append(text)

    def _closing_line(self, record: Mapping[str, object]) -> Text:
        head = ("done", "green") if record["ok"] else ("failed", "red")
        failed = (", ", (f"{record['failed']} failed", "yellow")) if record["failed"] else ()
        return styled(
            f"{self.name}: ",
            head,
            f", {record['items']} items ({record['computed']} computed, {record['reused']} reused",
            *failed,
            f") in {record['seconds']:.1f} s, {record['peak_rss_mib']} MiB",
            *(f"; {in_a_line(remark)}" for remark in self._remarks),
        )

    def track(
        self,
        iterable: Iterable[T],
        *,
        total: float | None = None,
        unit: str = "videos",
        at_once: int = 1,
        crew: Callable[[], int] = lambda: 1,
    ) -> Iterator[T]:
        """Yield from ``iterable`` while showing progress, and take its pace.

        Args:
            iterable: the work.
            total: how many will come, where ``iterable`` has no length.
            unit: what is counted.
            at_once: how many are worked on at a time.
            crew: how many processes do so, this one among them.
        """
        if total is None:
            total = len(iterable) if isinstance(iterable, Sized) else None
        shown = self._bar if console.is_interactive else self._lines
        self._at_once, self._crew = at_once, crew
        start, first_s, done = time.monotonic(), 0.0, 0
        for value in shown(iterable, total, unit):
            yield value
            done += 1
            if done == 1:
                first_s = time.monotonic() - start
        rounds = math.ceil(done / at_once)
        if rounds > 1:  # the first round has waited for networks and processes to start
            self._pace = (time.monotonic() - start - first_s) / ((rounds - 1) * at_once)
        elif done and last_pace(self.log) is None:
            self._pace = (time.monotonic() - start) / done

    def _bar(self, iterable: Iterable[T], total: float | None, unit: str) -> Iterator[T]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR_COLUMNS),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        bar = Progress(*columns, console=console, transient=True, refresh_per_second=4)
        task = bar.add_task(self.name, total=total, rate="")
        late = threading.Timer(QUIET_S, bar.start)  # the first item may take long
        late.daemon = True
        late.start()
        try:
            for done, value in enumerate(iterable, start=1):
                yield value
                rate = self._rate(done)
                bar.update(task, completed=done, rate=self._told_rate(rate, unit))
        finally:
            late.cancel()
            late.join()
            bar.stop()

    def _lines(self, iterable: Iterable[T], total: float | None, unit: str) -> Iterator[T]:
        last, wait = time.monotonic(), FIRST_LINE_S
        for done, value in enumerate(iterable, start=1):
            yield value
            now, rate = time.monotonic(), self._rate(done)
            if now - last > wait and done != total:  # the closing line tells the end
                last, wait = now, min(wait * SLOWER, LAST_LINES_S)
                line = f"{done}/{total or '?'} {unit}"
                if rate:
                    line += f", {self._told_rate(rate, unit)}"
                if rate and total:
                    line += f", {(total - done) / rate:.0f} s left"
                self.note(line)

    def _told_rate(self, rate: float | None, unit: str) -> str:
        """Return ``1.5 videos/s``, and how many processes there are where it is not this alone."""
        size = self._crew()
        parts = [_told(rate, unit)] if rate else []
        return ", ".join(parts + [f"{size} workers"] * (size > 1))

    def _rate(self, done: int) -> float | None:
        """Return how many are done a second; the first round waits for networks to start."""
        now = time.monotonic()
        if done <= self._at_once:
            self._steady_since = now
        later, seconds = done - self._at_once, now - self._steady_since
        return later / seconds if later > 0 and seconds > 0 else None


def _told(rate: float, unit: str) -> str:
    """Return ``1.5 videos/s``; what takes seconds each is told so."""
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s each"


def last_pace(path: Path) -> float | None:
    """Return the seconds that an item takes by a stage's log, None if it does not say."""
    try:
        pace = json.loads(path.read_text(encoding="utf-8")).get("seconds_an_item")
    except (OSError, json.JSONDecodeError):
        return None
    return None if pace is None else float(pace)


def peak_rss_mib() -> int:
    """Return the largest memory of this process or of one of its ended children, MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(peak * unit / 2**20)


def say(line: str) -> None:
    """Print a line of an answer, however long."""
    answers.print(in_a_line(line), soft_wrap=True)


def print_table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], to: Console = answers
) -> None:
    """Print a small table for people; what is too long for its column goes on in the next line."""
    to.print(styled((in_a_line(title), "italic")), soft_wrap=True)  # may be wider than the table
    table = Table()
    for column in columns:
        table.add_column(in_a_line(column), overflow="fold")
    for row in rows:
        table.add_row(*(in_a_line(str(cell)) for cell in row))
    to.print(table)


def print_json(value: object) -> None:
    """Print a value as JSON; what would steer a terminal is written by its number."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text), flush=True)


def reason(error: BaseException) -> str:
    """Return what an error says; of one of the system, which file it is about."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(error) or type(error).__name__


def fail(message: str) -> SystemExit:
    """Return the exception that ends a stage with ``message`` and exit status 1."""
    text = message.replace("\n", "\n  ")  # no name that it holds can pose as a line of ours
    console.print(styled(("error:", "red"), f" {text}"), soft_wrap=True)
    return SystemExit(1)


@contextmanager
def told(where: str = "") -> Iterator[None]:
    """Do what may be wrong by a person's doing: it is told in a line, which ends the process.

    The one way in which errors become lines before a stage has begun its work, and in commands;
    from then on :class:`StageRun` tells those of files and of the system, and any other is a
    mistake of ours, with its traceback.

    Args:
        where: what the line has in front.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads on: typer ends quietly
    except (ValueError, OSError) as error:
        raise fail(f"{where}{reason(error)}") from None
