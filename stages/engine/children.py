"""Child processes that make one call at a time: one that hangs or dies costs its call only.

The standard library's pools end as a whole with any child that dies, and know no time limit.
"""

import math
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from stages.engine.trouble import ChildDied, MachineError, sendable

END_S = 10.0
"""Seconds that an idle child has to end."""

_BEGUN = b"begun"
"""Sent by a child that has started, and by one that has loaded what a call needs: its time runs."""

_LIST = threading.Lock()
"""Held while processes are started or collected: multiprocessing lists them for no other thread."""

Returned = TypeVar("Returned")


@dataclass(frozen=True)
class _Running:
    """A child process, and the pipe to it."""

    process: BaseProcess
    pipe: Any

    def is_alive(self) -> bool:
        """Tell whether it runs."""
        with _LIST:
            return self.process.is_alive()

    def exitcode(self) -> int | None:
        """Wait until it has ended, and return with what."""
        with _LIST:
            self.process.join()
            return self.process.exitcode


class Child:
    """A process that makes the calls that it is given, one after the other.

    It is started with the first call, and anew after it has died; it ends with the process that
    has started it, however that ends. Ctrl-C does not reach it.
    """

    def __init__(self, prepare: Callable[[], object] | None = None) -> None:
        """Name what the process does first.

        Args:
            prepare: called in the process before anything else; it can be pickled.
        """
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(1, initializer=_block_ctrl_c)
        self._running: _Running | None = None
        self._is_over = False

    def ready(self) -> "Future[object]":
        """Start the process if there is none; the future is done when it is there.

        Raises:
            MachineError: in the future, where no process can be started.
        """
        return self._thread.submit(self._started)

    def call(
        self,
        function: Callable[..., Returned],
        *arguments: object,
        time_limit_s: float = math.inf,
    ) -> "Future[Returned]":
        """Have the process make a call.

        Args:
            function: called with ``arguments``; all can be pickled, and what it returns or raises.
            arguments: of it.
            time_limit_s: seconds from the begin of the call until the process is killed.

        Raises:
            ChildDied: in the future, if the process does.
            MachineError: in the future, where no process can be started.
            TimeoutError: in the future, at the limit.
        """
        return self._thread.submit(self._called, function, arguments, time_limit_s)

    def end(self, *, at_once: bool) -> None:
        """Have the process end: at once, or after what it has been given; no more can be called."""
        if at_once:
            self._is_over = True
            if (running := self._running) is not None:
                running.process.kill()
        self._thread.submit(self._end)
        self._thread.shutdown(wait=False)

    def join(self) -> None:
        """Wait for the end."""
        self._thread.shutdown()

    def _called(
        self, function: Callable[..., Any], arguments: tuple[object, ...], limit_s: float
    ) -> Any:
        request = pickle.dumps((function, arguments))
        child = self._started()
        try:
            child.pipe.send_bytes(request)
            answer = child.pipe.recv_bytes()
            if answer == _BEGUN:
                seconds = None if math.isinf(limit_s) else limit_s
                if not connection.wait([child.pipe, child.process.sentinel], seconds):
                    child.process.kill()
                    child.exitcode()
                    raise TimeoutError(f"not done after {limit_s:g} s")
                answer = child.pipe.recv_bytes()
            value, error = pickle.loads(answer)
        except (EOFError, ConnectionError):
            raise ChildDied(child.exitcode()) from None
        if error is not None:
            raise error
        return value

    def _started(self) -> _Running:
        """Return the process, which is there; this starts it if there is none.

        Raises:
            MachineError: none can be started.
        """
        if self._running is not None and self._running.is_alive():
            return self._running
        self._end()
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        with theirs:
            process = context.Process(target=_serve, args=(theirs, self._prepare))
            try:
                with _LIST:
                    process.start()
            except OSError as error:
                raise MachineError(f"no worker process can be started: {error}") from error
        child = self._running = _Running(process, ours)
        if self._is_over:  # while it was being started
            process.kill()
        try:
            ours.recv_bytes()
        except (EOFError, ConnectionError):
            raise MachineError(
                f"a worker process dies as it starts: {ChildDied(child.exitcode())}"
            ) from None
        return child

    def _end(self) -> None:
        """End the process, if there is one, after what it is at."""
        if self._running is None:
            return
        self._running.pipe.close()
        connection.wait([self._running.process.sentinel], END_S)
        self._running.process.kill()
        self._running.exitcode()
        self._running = None


@contextmanager
def children(prepare: Sequence[Callable[[], object] | None]) -> Iterator[list[Child]]:
    """Have some children, which end together with this context.

    Args:
        prepare: what each of them does first; see :class:`Child`.
    """
    crew = [Child(each) for each in prepare]
    is_over = False
    try:
        yield list(crew)
        is_over = True
    finally:
        for child in crew:
            child.end(at_once=not is_over)
        for child in crew:
            child.join()


def _serve(pipe: Any, prepare: Callable[[], object] | None) -> None:
    """Make the calls that come through a pipe, in a child."""
    _end_with_parent()
    if prepare is not None:
        prepare()
    pipe.send_bytes(_BEGUN)
    while True:
        try:
            request = pipe.recv_bytes()
        except EOFError:
            return
        try:
            function, arguments = pickle.loads(request)
            pipe.send_bytes(_BEGUN)
            answer = pickle.dumps((function(*arguments), None))
        except Exception as error:
            answer = pickle.dumps((None, sendable(error)))
        pipe.send_bytes(answer)


def _end_with_parent() -> None:
    """Let this child process end as soon as the process that started it is dead."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Start threads and processes that Ctrl-C does not reach: this process ends them in order.

    A terminal sends Ctrl-C to all processes; each would tell where it was. What is started here
    inherits that the signal is blocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    _block_ctrl_c()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _block_ctrl_c() -> None:
    """Let what this thread starts from now on be out of Ctrl-C's reach, as the thread is.

    Out of SIGTERM's too: Slurm sends it to all processes of a job that it takes the place from, and
    a child that it ends would look as if its video had killed it.
    """
    resource_tracker.ensure_running()  # the thread that starts it would unblock the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
