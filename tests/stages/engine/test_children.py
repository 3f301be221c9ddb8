import errno
import math
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from typing import NoReturn

import pytest

from stages.engine.children import Child, children
from stages.engine.trouble import ChildDied, MachineError
from tests.conftest import HANGING_S


class OfTwo(ValueError):
    """An error that no pipe brings back: it is made of two things and keeps one."""

    def __init__(self, one: int, two: int) -> None:
        """Fail for both."""
        super().__init__(f"{one} and {two}")


def fail_oddly() -> NoReturn:
    raise OfTwo(3, 4)


def grandchild() -> int:
    """Return the process of a child that this one has, as readers ahead of a GPU are."""
    with children([None]) as (child,):
        return child.call(os.getpid).result()


def be_killed(*_: object) -> None:
    """Die as the system has it where memory is short."""
    signal.raise_signal(signal.SIGKILL)


@pytest.fixture
def child() -> Iterator[Child]:
    with children([None]) as (only,):
        yield only


def process_of(child: Child) -> int:
    return child.call(os.getpid).result()


def test_one_process_makes_all_calls_and_is_not_this_one(child: Child) -> None:
    assert process_of(child) == process_of(child) != os.getpid()
    assert child.call(math.hypot, 3.0, 4.0, time_limit_s=math.inf).result() == 5.0
    with pytest.raises(ZeroDivisionError, match="modulo by zero"):
        child.call(divmod, 1, 0).result()
    with pytest.raises(TypeError, match="cannot pickle"):
        child.call(memoryview, b"what no pipe takes").result()
    with pytest.raises(RuntimeError, match="^OfTwo: 3 and 4$"):
        child.call(fail_oddly).result()


def test_a_child_may_have_children(child: Child) -> None:
    assert child.call(grandchild).result() not in (process_of(child), os.getpid())


@pytest.mark.parametrize("status", [9, -9])
def test_a_death_is_the_calls_however_soon_it_comes(child: Child, status: int) -> None:
    for _ in range(3):
        dead = child.call(os._exit, status) if status > 0 else child.call(be_killed)
        with pytest.raises(ChildDied, match=f"^exit status {status}$"):
            dead.result()
    assert process_of(child) != os.getpid()


def test_one_that_is_killed_while_idle_costs_nothing(child: Child) -> None:
    idle = process_of(child)
    os.kill(idle, signal.SIGKILL)
    os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)  # dead, as yet unseen
    assert process_of(child) != idle


def test_what_is_sent_to_all_of_a_job_ends_no_child(child: Child) -> None:
    process = process_of(child)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process, number)
    assert process_of(child) == process


def test_a_call_past_its_limit_is_given_up_and_the_next_one_is_made(child: Child) -> None:
    process = process_of(child)
    with pytest.raises(TimeoutError, match="not done after 0.1 s"):
        child.call(time.sleep, HANGING_S, time_limit_s=0.1).result()
    assert process_of(child) != process


def test_what_none_can_be_started_for_is_the_machines() -> None:
    with children([partial(os._exit, 3)]) as (child,):
        for future in (child.ready(), child.call(os.getpid)):
            with pytest.raises(MachineError, match="dies as it starts: exit status 3"):
                future.result()


def test_where_no_process_can_be_started_it_is_the_machine(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: BaseProcess) -> NoReturn:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", start)
    with pytest.raises(MachineError, match="no worker process can be started: .*unavailable"):
        child.call(os.getpid).result()


def test_what_ends_in_an_error_leaves_no_child_at_work() -> None:
    with pytest.raises(KeyError), children([None, None]) as (first, second):
        processes = [process_of(first), process_of(second)]
        hanging = first.call(time.sleep, HANGING_S)
        raise KeyError
    assert hanging.exception() is not None
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
