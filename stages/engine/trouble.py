"""What goes wrong with items: a video's fault is its row's reason, the machine's ends the stage."""

import errno
import pickle
import signal
from collections.abc import Mapping

FEW = 5
"""So many items in a row that fail alike, by no fault of a video, end the stage."""

MACHINE_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
)
"""Errors of the machine, not of the video: they end the stage."""


class MachineError(OSError):
    """The machine cannot do the work; the message says why. No video is to blame."""


class ChildDied(RuntimeError):
    """A child process has died at work.

    Attributes:
        exitcode: its exit status; a signal's number, negative, if one has killed it.
    """

    def __init__(self, exitcode: int | None) -> None:
        """Tell the exit status."""
        super().__init__(exitcode)
        self.exitcode = exitcode

    def __str__(self) -> str:
        """Return the exit status, as a person is told it."""
        return f"exit status {self.exitcode}"


class PartlyFailed(ValueError):
    """Some of an item's files cannot be made; the others are there.

    Attributes:
        reasons: key of each that is not -> why.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """Fail for ``reasons``."""
        super().__init__(reasons)
        self.reasons = reasons


HARDWARE = ("memory", "CUDA")
"""Kinds of error that are the machine's wherever they come from."""


class Trouble:
    """Tells the machine's trouble from the videos': it fails one after the other alike."""

    def __init__(self) -> None:
        self._kind: str | None = None
        self._times = 0

    def count(self, result: object) -> None:
        """Take the next item's result.

        Args:
            result: an error, None of what another process has made, or anything else.

        Raises:
            MachineError: too many in a row have failed alike.
        """
        if result is None:
            return  # another process's
        error = result if isinstance(result, BaseException) else None
        kind = None if error is None else kind_of(error)
        self._times = self._times + 1 if kind is not None and kind == self._kind else 1
        self._kind = kind
        if error is not None and kind is not None and self._times >= FEW:
            raise MachineError(
                f"{self._times} items in a row have failed alike, which is no video's fault: "
                f"{said(error)}"
            )


def kind_of(error: BaseException) -> str | None:
    """Return what an error may be of the machine's, None of one that is a video's."""
    if isinstance(error, ChildDied):  # a system without memory kills
        return "killed" if error.exitcode == -signal.SIGKILL else None
    if isinstance(error, (ValueError, OSError, TimeoutError)):
        return None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return "memory"
    if isinstance(error, RuntimeError) and "CUDA" in str(error):
        return "CUDA"
    return said(error)


def said(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def reason_of(error: BaseException, time_limit_s: float) -> str:
    """Say in one line why a video failed; an error of the machine is raised on."""
    if isinstance(error, MachineError):
        raise error
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        raise error
    if isinstance(error, TimeoutError):
        return f"given up after {time_limit_s:g} s (engine.time_limit_s)"
    if isinstance(error, ChildDied):
        return f"the process that worked on it died ({error})"
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else said(error)


def sendable(error: Exception | None) -> Exception | None:
    """Return an error as another process can have it: one that cannot be pickled, in its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return error and RuntimeError(said(error))
    return error
