"""Claims: who is at work on what, told by locks that end with the process that holds them.

A claim is a lock (``flock``) on a small file. A process that dies, however it dies, lets go of its
claims, so there is nothing to expire and no clock to trust; the file that it leaves behind is in
nobody's way. On a shared folder the locks count between machines where the file system passes them
on (NFS 4 does; `affectline doctor` tries it).

Where it has no locks, a claim is a lease: a second file beside the first, renewed as long as its
holder lives, and anyone's when it has not been for a minute. Its age is told by the file system's
own clock. Two who find it lapsed at the same moment may both take it, and who was stopped for a
minute goes on beside whoever took it over: the same work is then done twice, and its result is the
same.
"""

import errno
import fcntl
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK})
"""What a file system without locks says."""

POLL_S = 0.2
"""Seconds between two looks at a claim that another process holds."""

LEASE = ".lease"
"""Ending of the file by which a claim is held where there are no locks."""

LEASE_S = 60.0
"""A lease that has not been renewed for so many seconds is anyone's."""

RENEW_S = 10.0
"""Seconds between two renewals: a file server may not answer for a while."""

ALIVE = ".alive"
"""Ending of the file that is locked as long as the owner of a scratch folder lives."""

FOREIGN_S = 24 * 3600.0
"""A scratch folder of another machine is swept when so many seconds have passed over it: its file
system may keep locks to itself."""


@dataclass(frozen=True)
class Claim:
    """A claim that is held; it ends with :meth:`release` or with the process.

    Attributes:
        path: the file that is claimed.
        descriptor: it, open and locked; None where the file system has no locks: it is leased, and
            another may in the end hold the same claim.
    """

    path: Path
    descriptor: int | None

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can hold it."""
        return self.descriptor is not None

    def release(self) -> None:
        """Let go."""
        self.path.unlink(missing_ok=True)  # while it is locked: it is ours
        self.leave()

    def leave(self) -> None:
        """Let go, and leave the file."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        else:
            _leases.end(_lease_of(self.path))


def take(path: Path) -> Claim | None:
    """Claim ``path``, a file that is made for it; None while another has claimed it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in NO_LOCKS:
                raise
            return Claim(path, None) if _leases.begin(_lease_of(path)) else None
        if _is_at(descriptor, path):
            return Claim(path, descriptor)
        os.close(descriptor)  # its holder has removed it between our opening and locking it


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class _Leases:
    """The leases of this process; a thread renews them as long as there are any."""

    def __init__(self) -> None:
        self._held: set[Path] = set()
        self._change = threading.Condition()
        self._are_renewed = False

    def begin(self, lease: Path) -> bool:
        """Take a lease that nobody has, or that has lapsed; tell whether that went."""
        try:
            os.close(os.open(lease, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            if not _has_lapsed(lease):
                return False
            lease.touch()  # who looks now finds it taken
        with self._change:
            self._held.add(lease)
            if not self._are_renewed:
                self._are_renewed = True
                threading.Thread(target=self._renew, daemon=True).start()
        return True

    def end(self, lease: Path) -> None:
        """Give a lease back."""
        with self._change:
            self._held.discard(lease)
            self._change.notify_all()
        lease.unlink(missing_ok=True)

    def _renew(self) -> None:
        with self._change:
            while not self._change.wait_for(lambda: not self._held, timeout=RENEW_S):
                for lease in self._held:
                    with suppress(OSError):  # a server that does not answer for a while
                        lease.touch()
            self._are_renewed = False


_leases = _Leases()


def _lease_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{LEASE}")


def _has_lapsed(lease: Path) -> bool:
    """Tell whether a lease has not been renewed, by the clock that its file's times come from."""
    clock = lease.with_name(f".{me()}-{threading.get_ident()}.tmp")
    clock.touch()
    try:
        return clock.stat().st_mtime - lease.stat().st_mtime > LEASE_S
    except FileNotFoundError:
        return False  # given back in this moment: the next look gets it
    finally:
        clock.unlink(missing_ok=True)


def take_all(paths: Iterable[Path]) -> list[Claim] | None:
    """Claim all of ``paths``, or none of them and return None: so nobody waits in a circle."""
    held: list[Claim] = []
    for path in paths:
        claim = take(path)
        if claim is None:
            for other in held:
                other.release()
            return None
        held.append(claim)
    return held


@contextmanager
def held(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the claim of ``path`` inside the block; wait for it, after one call of ``on_wait``."""
    claim = take(path)
    if claim is None:
        on_wait()
    while claim is None:
        time.sleep(POLL_S)
        claim = take(path)
    try:
        yield
    finally:
        claim.release()


def host() -> str:
    """Return this machine's name, as it may stand in a file's name."""
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())


def me() -> str:
    """Return this process's name among all that share a store, ``<host>-<process>``."""
    return f"{host()}-{os.getpid()}"


# ------------------------------------------------------------------------- scratch folders


@contextmanager
def scratch(parent: Path, work: str = "") -> Iterator[Path]:
    """Yield a fresh folder below ``parent``, removed after; what dead processes left goes too.

    Args:
        parent: of all scratch folders.
        work: what it is for, in words by which :func:`workers` finds who is at work.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = parent / f"{me()}-{secrets.token_hex(4)}"
    with held(_alive(folder)):
        retitle(folder, work)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def retitle(folder: Path, work: str) -> None:
    """Say in words what a scratch folder is for from now on."""
    _alive(folder).write_text(work, encoding="utf-8")


def sweep(parent: Path) -> list[Path]:
    """Remove the scratch folders below ``parent`` whose owners are dead, and return them."""
    swept = []
    for mark in parent.glob(f"*{ALIVE}"):
        folder = mark.with_name(mark.name.removesuffix(ALIVE))
        if not folder.name.startswith(f"{host()}-") and _age_s(mark) < FOREIGN_S:
            continue
        claim = take(mark)
        if claim is not None and (claim.is_sure or _age_s(mark) >= FOREIGN_S):
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
            claim.release()
        elif claim is not None:
            claim.leave()
    return swept


def abandoned(parent: Path) -> list[Path]:
    """Return the scratch folders below ``parent`` whose owners are dead; nothing is removed."""
    folders = []
    for folder in sorted(path for path in parent.glob("*") if path.is_dir()):
        mark = _alive(folder)
        if not mark.exists():  # it is made before the folder and goes after it
            folders.append(folder)
        elif folder.name.startswith(f"{host()}-") or _age_s(mark) >= FOREIGN_S:
            claim = take(mark)
            if claim is not None:
                claim.leave()  # the mark stays for `sweep`
                if claim.is_sure:
                    folders.append(folder)
    return folders


def workers(parent: Path, work: str) -> dict[str, bool]:
    """Return who has a scratch folder below ``parent`` for the word ``work``, and if it lives.

    Returns:
        ``<host>-<process>`` -> False where it has died and nobody has swept behind it yet.
    """
    alive = {}
    for mark in parent.glob(f"*{ALIVE}"):
        with suppress(FileNotFoundError):  # it has just ended
            if work in mark.read_text(encoding="utf-8").split():
                claim = take(mark) if mark.exists() else None
                alive[mark.name.rpartition("-")[0]] = claim is None
                if claim is not None:
                    claim.leave()
    return alive


def _alive(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{ALIVE}")


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
