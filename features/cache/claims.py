"""Claims: who is at work on what, told by locks that end with the process that holds them.

A claim is a lock (``flock``) on a small file. A process that dies, however it dies, lets go of its
claims, so there is nothing to expire and no clock to trust; the file that it leaves behind is in
nobody's way. On a shared folder the locks count between machines where the file system passes them
on (NFS 4 does). Where it has no locks, every claim is granted: the same work may then be done
twice, and its result is the same.
"""

import errno
import fcntl
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK})
"""What a file system without locks says."""

POLL_S = 0.2
"""Seconds between two looks at a claim that another process holds."""

ALIVE = ".alive"
"""Ending of the file that is locked as long as the owner of a scratch folder lives."""

FOREIGN_S = 24 * 3600.0
"""A scratch folder of another machine is swept when so many seconds have passed over it: its file
system may keep locks to itself."""


@dataclass(frozen=True)
class Claim:
    """A claim that is held; it ends with :meth:`release` or with the process.

    Attributes:
        path: the locked file.
        descriptor: it, open.
        is_sure: False where the file system has no locks, and others may hold the same claim.
    """

    path: Path
    descriptor: int
    is_sure: bool

    def release(self) -> None:
        """Let go."""
        self.path.unlink(missing_ok=True)  # while it is locked: it is ours
        os.close(self.descriptor)


def take(path: Path) -> Claim | None:
    """Claim ``path``, a file that is made for it; None while another has claimed it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        is_sure = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            is_sure = False
        if not is_sure or _is_at(descriptor, path):
            return Claim(path, descriptor, is_sure)
        os.close(descriptor)  # its holder has removed it between our opening and locking it


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


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


# ------------------------------------------------------------------------- scratch folders


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yield a fresh folder below ``parent``, removed after; what dead processes left goes too."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = parent / f"{host()}-{os.getpid()}-{secrets.token_hex(4)}"
    with held(_alive(folder)):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> list[Path]:
    """Remove the scratch folders below ``parent`` whose owners are dead, and return them."""
    swept = []
    for mark in parent.glob(f"*{ALIVE}"):
        folder = mark.with_name(mark.name.removesuffix(ALIVE))
        if not folder.name.startswith(f"{host()}-") and _age_s(mark) < FOREIGN_S:
            continue
        claim = take(mark)
        if claim is not None:
            if claim.is_sure:
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
            claim.release()
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
                os.close(claim.descriptor)  # not released: the mark stays for `sweep`
                if claim.is_sure:
                    folders.append(folder)
    return folders


def _alive(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{ALIVE}")


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
