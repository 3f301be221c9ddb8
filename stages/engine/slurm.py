"""Jobs of Slurm, sent by submitit, that work on a stage's items: each on a part, as an array.

A job is a worker as any other: it claims items, makes them and moves them into the store. Besides
it writes down, in a journal of its part, what it begins and what became of it. So the stage sees
how far all jobs are, and where one is preempted, runs into its limit or dies, it is known what it
was at; nothing else is lost. Slurm, or the stage, sends it again: what a job died with is then
worked on by itself first, and what is there when a job dies once more has that for its reason.

A part for each job, and not one list for all: two jobs never have the same item in hand, so that
one that kills its job kills no second one elsewhere, and which it is can be told.
"""

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.cache import claims
from features.cache.store import ItemStore
from stages.engine.kit import Kit, check_kit, kit
from stages.engine.params import Slurm
from stages.engine.paths import LOGS, PARAMS
from stages.engine.trouble import FEW, MachineError
from stages.engine.workers import (
    LOOK_S,
    Crew,
    Item,
    Keys,
    Note,
    Part,
    Report,
    Reports,
    Task,
    Work,
    worked,
)

PARTS_EACH = 4
"""Parts for each job that works at once: none is idle for long at the end."""

LARGEST_ARRAY = 1000
"""Slurm's own limit, unless a site has set another."""

FATAL = 2
"""Jobs that die with an item until that is its reason."""

GONE_S = 20.0
"""A job that Slurm has forgotten is dead after so long: its result may come late over a network."""

SIGNAL_S = 90
"""Seconds before a job's limit at which it is told."""

EARLY_S = 65
"""Slurm may tell it a minute earlier than that."""

ENDLESS = 10**6
"""Times that submitit sends a job again which has run into its limit: its items end that."""

NOBODYS_FAULT = {"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REQUEUED"}
"""Ends of a job, in Slurm's words, that no item has a part in."""

_LOADED_S = time.monotonic()
"""When this process began, or a moment later."""


class Journal:
    """What the jobs of a part have written down: events, a line of JSON each.

    Attributes:
        reported: items that something has become of.
        at: items that the last job has begun and not reported.
        deaths: of each item how many jobs have died with it.
    """

    def __init__(self, path: Path) -> None:
        """Begin at the start of the file, which need not be there."""
        self.path = path
        self.reported: set[Keys] = set()
        self.at: dict[Keys, None] = {}
        self.deaths: Counter[Keys] = Counter()
        self._offset = 0

    def write(self, kind: str, value: object) -> None:
        """Add an event; the file is on disk for all machines when this returns."""
        line = json.dumps({kind: value}, default=float)
        with self.path.open("ab") as file:
            file.write(f"\n{line}\n".encode())  # who wrote before may have died within a line

    def news(self) -> Iterator[tuple[str, Any]]:
        """Yield the kind and the value of each event since the last time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                lines = file.readlines()
        except FileNotFoundError:
            return
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self._offset += len(line)
            try:
                ((kind, value),) = json.loads(line).items()
            except ValueError:
                continue
            self._take(kind, value)
            yield kind, value

    def _take(self, kind: str, value: Any) -> None:
        if kind == "begin":
            self.at[tuple(value)] = None
        elif kind == "report":
            self.reported.add(tuple(value["keys"]))
            self.at.pop(tuple(value["keys"]), None)
        elif kind == "death":
            self.deaths.update(list(self.at))
            self.at.clear()
        elif kind == "start":  # the one before was preempted: no item's doing
            self.at.clear()


class Shift:
    """What a job does: it works on its part until something has become of each item."""

    def __init__(
        self, root: Path, work: Work[Any], name: str, part: Part, journal: Path, limit_s: float
    ) -> None:
        """Prepare a job.

        Args:
            root: of the store.
            work: how items are made.
            name: of the stage.
            part: the items.
            journal: of the part.
            limit_s: that the job has.
        """
        self.part = part
        self._root, self._work, self._name = root, work, name
        self._path, self._limit_s = journal, limit_s
        self._kit: Kit = kit(work.weights)
        self._has_reported = False

    def __call__(self) -> OSError | None:
        """Work; return an error of the machine, which ends the stage."""
        journal = Journal(self._path)
        for _ in journal.news():
            pass
        journal.write("start", claims.me())
        before = signal.signal(signal.SIGTERM, _end)
        try:
            check_kit(self._kit, self._work.weights)
            self._work_through(journal)
        except OSError as error:
            return error
        finally:
            signal.signal(signal.SIGTERM, before)
        return None

    def _work_through(self, journal: Journal) -> None:
        """Work on what has not been reported: first on what jobs have died with, each by itself."""
        rest = {keys: item for keys, item in self.part.items() if keys not in journal.reported}
        for keys, deaths in journal.deaths.items():
            if keys in rest and deaths < FATAL:
                self._work_on({keys: rest.pop(keys)}, journal)
            elif keys in rest:
                self._tell(journal, _died_with(keys, rest.pop(keys), deaths))
        self._work_on(rest, journal)

    def checkpoint(self) -> Any:
        """Write down why the job ends, where submitit asks for it; return what is sent again."""
        late_s = self._limit_s - SIGNAL_S - EARLY_S
        if not self._has_reported and time.monotonic() - _LOADED_S > late_s:
            Journal(self._path).write("death", "one item has taken all of its time")
        return importlib.import_module("submitit.helpers").DelayedSubmission(self)

    def _work_on(self, part: Part, journal: Journal) -> None:
        if not part:
            return
        crew = Crew(self._root / "unfinished", self._name, lambda line: None)  # the stage tells
        for report in worked(
            ItemStore(self._root),
            part,
            self._work,
            crew,
            lambda line: journal.write("note", line),
            lambda keys: journal.write("begin", keys),
        ):
            self._tell(journal, report)

    def _tell(self, journal: Journal, report: Report) -> None:
        journal.write("report", vars(report))
        self._has_reported = True


def _end(number: int, frame: object) -> None:
    """End a job that Slurm takes the place from, in order: what it is at has not failed."""
    raise SystemExit(128 + number)


def _died_with(keys: Keys, item: Item[Any], deaths: int) -> Report:
    why = f"{deaths} jobs have died with it"
    return Report(item.name, keys, dict.fromkeys(keys, why), None)


def on_slurm(
    store: ItemStore, waiting: Mapping[Keys, Item[Task]], work: Work[Task], crew: Crew, note: Note
) -> Reports:
    """Have jobs work on items; arguments as of :func:`stages.engine.workers.worked`.

    Raises:
        MachineError: submitit is not here, or the jobs come to nothing.
    """
    settings = work.pool.slurm
    assert settings is not None
    folder = (LOGS / "slurm" / f"{crew.work}.{claims.me()}").absolute()
    cluster = _Cluster(folder, settings, crew.work)
    alone = replace(work, items=(), prepare=None, pool=replace(work.pool, slurm=None))
    limit_s = 60.0 * settings.time_min
    shifts = [
        Shift(store.root.absolute(), alone, crew.work, part, folder / f"{n}.jsonl", limit_s)
        for n, part in enumerate(_parts(waiting, settings.jobs * cluster.parts_each))
    ]
    places = {job: _Place(shift) for job, shift in zip(cluster.send(shifts), shifts, strict=True)}
    note(f"{len(shifts)} jobs of {cluster.name}, {settings.jobs} at once; {folder}")
    try:
        while places:
            crew.look()
            ended = cluster.ended(places)  # looked at first: what they have written is there then
            for place in places.values():
                yield from place.reports(note)
            for job in ended:
                place = places.pop(job)
                if not place.is_done:
                    _check(cluster, job, place, note)
                    (job,) = cluster.send([place.shift])
                    places[job] = place
            if places:
                time.sleep(cluster.poll_s)
        for pickle in folder.glob("*.pkl"):  # the logs and the journals stay
            pickle.unlink()
    finally:
        cluster.cancel(places)


def _parts(waiting: Mapping[Keys, Item[Any]], most: int) -> Iterator[Part]:
    """Yield parts of about the same length, each of items from all over the list."""
    keys = list(waiting)
    count = min(most, len(keys), LARGEST_ARRAY)
    for first in range(count):
        yield {each: waiting[each] for each in keys[first::count]}


class _Place:
    """A part, whichever job works on it."""

    def __init__(self, shift: Shift) -> None:
        self.shift = shift
        self.fruitless = 0
        self.journal = Journal(shift._path)

    @property
    def is_done(self) -> bool:
        return len(self.journal.reported) == len(self.shift.part)

    def reports(self, note: Note) -> Reports:
        """Yield what has been reported since the last time."""
        for kind, value in self.journal.news():
            if kind == "note":
                note(value)
            elif kind == "report":
                report = Report(**{**value, "keys": tuple(value["keys"])})
                if report.counts is not None:
                    self.fruitless = 0
                yield report


def _check(cluster: "_Cluster", job: Any, place: _Place, note: Note) -> None:
    """Write down the death of a job that has ended before its time.

    Raises:
        MachineError: it has not died, or too many have with nothing made.
    """
    result, why = cluster.result(job), cluster.why(job)
    if isinstance(result, OSError):
        raise result
    if isinstance(result, str):
        raise MachineError(f"job {job.job_id}: {result.strip().splitlines()[-1]}")
    if why == "CANCELLED":
        raise MachineError(f"job {job.job_id} was cancelled by somebody")
    place.fruitless += why not in NOBODYS_FAULT
    if place.fruitless >= FEW:
        raise MachineError(
            f"{FEW} jobs in a row have died with nothing made, the last one ({why}) said: "
            f"{cluster.last_line(job)}"
        )
    note(f"job {job.job_id} has died ({why}); it is sent again, what it was at is done anew")
    place.journal.write("start" if why in NOBODYS_FAULT else "death", why)


class _Cluster:
    """Where jobs are sent, by submitit.

    Attributes:
        name: for a person.
        parts_each: for each job that works at once.
        poll_s: seconds between two looks.
    """

    def __init__(self, folder: Path, settings: Slurm, stage: str) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise MachineError(f"{PARAMS}: engine.executor: `pip install 'affectline[slurm]'`")
        submitit: Any = importlib.import_module("submitit")
        chosen = None if settings.cluster == "auto" else settings.cluster
        again = {"slurm_max_num_timeout": ENDLESS, "local_max_num_timeout": ENDLESS}
        try:
            self._executor = submitit.AutoExecutor(folder, chosen, **again)
        except RuntimeError as error:  # no srun
            raise MachineError(f"{PARAMS}: engine.slurm.cluster: {error}") from None
        self._is_local = self._executor.cluster == "local"
        self.name = "this machine" if self._is_local else "Slurm"
        self.parts_each = 1 if self._is_local else PARTS_EACH  # which knows no width of an array
        self.poll_s = claims.POLL_S if self._is_local else LOOK_S
        self._gone_s: dict[str, float] = {}
        slurm = {
            "slurm_partition": settings.partition,
            "slurm_array_parallelism": settings.jobs,
            "slurm_signal_delay_s": SIGNAL_S,
            "slurm_setup": [f"export OMP_NUM_THREADS={settings.cpus}"],
            "slurm_additional_parameters": settings.options or None,
            "mem_gb": settings.memory_gib,
        }
        self._executor.update_parameters(
            name=f"affectline-{stage}",
            timeout_min=settings.time_min,
            cpus_per_task=settings.cpus,
            gpus_per_node=settings.gpus,
            **{name: value for name, value in slurm.items() if value is not None},
        )
        folder.mkdir(parents=True, exist_ok=True)

    def send(self, shifts: Sequence[Shift]) -> list[Any]:
        """Send jobs as an array."""
        with self._executor.batch():
            return [self._executor.submit(shift) for shift in shifts]

    def ended(self, jobs: Mapping[Any, _Place]) -> set[Any]:
        """Return which jobs have ended, well or not."""
        if self._is_local:
            return {job for job in jobs if job.done()}
        there, now = self._known(), time.monotonic()
        for job in jobs:
            if there is None or job.job_id in there:
                self._gone_s.pop(job.job_id, None)
            else:
                self._gone_s.setdefault(job.job_id, now)
        return {
            job
            for job in jobs
            if job.paths.result_pickle.exists() or now - self._gone_s.get(job.job_id, now) > GONE_S
        }

    def _known(self) -> set[str] | None:
        """Return the jobs that wait or run; None where Slurm does not answer for a while."""
        # not by sacct, as submitit would: it needs a data base, which not each Slurm has
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
        done = subprocess.run(command, capture_output=True, text=True)
        return set(done.stdout.split()) if done.returncode == 0 else None

    def result(self, job: Any) -> OSError | str | None:
        """Return the error that a job has ended with, one of ours or a traceback; None: it died."""
        if not job.paths.result_pickle.exists():
            return None
        _, result = job._get_outcome_and_result()
        assert result is None or isinstance(result, (OSError, str))
        return result

    def last_line(self, job: Any) -> str:
        """Return what a job has said last."""
        said = [line for line in (job.stderr() or "").splitlines() if line.strip()]
        return f"{said[-1] if said else 'nothing'}; {job.paths.stderr}"

    def why(self, job: Any) -> str:
        """Return how a job has ended, in Slurm's word."""
        if self._is_local:
            return str(job.state).lower()
        command = ["scontrol", "show", "job", "--oneliner", job.job_id]
        done = subprocess.run(command, capture_output=True, text=True)
        words = dict(word.partition("=")[::2] for word in done.stdout.split())
        return words.get("JobState", "unknown")

    def cancel(self, jobs: Mapping[Any, _Place]) -> None:
        """End jobs that are not done."""
        if self._is_local:
            for job in jobs:
                job.cancel()
            while not all(job.done() for job in jobs):
                time.sleep(self.poll_s)
        elif jobs:
            subprocess.run(["scancel", *{job.job_id.partition("_")[0] for job in jobs}])
