"""What machines that share a store should know: whether its locks count, whose software made what.

Nothing here is a fault: without locks work may be done twice and stays right, and versions of
libraries move numbers by little (docs/reproducibility.md). So it is said, and no more.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from features.cache import claims, tables
from features.cache.arrays import ArrayFileError, read_attributes
from features.cache.store import store_root
from stages.engine.paths import FEATURES, VIEWS, folder_of, indices

MOUNTS = Path("/proc/self/mountinfo")

TO_OTHERS = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "ceph", "gpfs", "9p"})
"""File systems that several machines may share, besides those of FUSE."""

LOCAL_LOCKS = frozenset({"nolock", "local_lock=all", "local_lock=flock", "localflock", "nobrl"})
"""Options by which NFS, Lustre and SMB are mounted so that locks count on one machine alone."""

TRY = """
import fcntl, sys
with open(sys.argv[1]) as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(3)
"""
"""What another process does to know whether a file is locked: exit status 3 says so."""


@dataclass(frozen=True)
class Mount:
    """A file system, as it is mounted here.

    Attributes:
        kind: ``ext4``, ``nfs4``.
        source: the disk, or server and folder.
        options: all of them.
    """

    kind: str
    source: str
    options: frozenset[str]

    @property
    def is_shared(self) -> bool:
        """Whether other machines may have it too."""
        return self.kind in TO_OTHERS or self.kind.startswith("fuse.")

    def __str__(self) -> str:
        """Return it for a person."""
        return f"{self.kind} ({self.source})"


def remarks() -> Iterator[str]:
    """Yield what a person should know, a line each."""
    yield from of_locks(store_root())
    yield from of_software()


def of_locks(root: Path) -> Iterator[str]:
    """Yield whether claims in the store at ``root`` are locks that count, where that is unusual."""
    mount = mount_of(root)
    where = f"the store's file system, {mount}," if mount else "the store's file system"
    twice = "work may now and then be done twice, with the same result (docs/cluster.md)"
    if not have_locks(root):
        hint = (
            "; Lustre has them if mounted with `flock`" if mount and mount.kind == "lustre" else ""
        )
        yield f"{where} has no locks that count between processes: {twice}{hint}"
    elif mount and (local := mount.options & LOCAL_LOCKS):
        yield f"{where} keeps locks to each machine ({', '.join(sorted(local))}): {twice}"
    elif mount and mount.is_shared:
        yield f"{where} has locks; docs/cluster.md says how to try them between two machines"


def have_locks(root: Path) -> bool:
    """Tell whether what one process has claimed is held against another, and let go of."""
    with claims.scratch(root / "unfinished") as folder:
        path = folder / "trial"
        claim = claims.take(path)
        assert claim is not None  # nobody knows of it
        is_held = claim.is_sure and _is_locked(path)
        claim.leave()
        return is_held and not _is_locked(path)


def _is_locked(path: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", TRY, str(path)], capture_output=True, check=False)
    return done.returncode == 3


def mount_of(path: Path, mounts: Path = MOUNTS) -> Mount | None:
    """Return what a path lies on, None where the system does not say (it is not Linux)."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    best: tuple[int, Mount] | None = None
    whole = path.resolve()
    for line in lines:  # of two on one folder the later is seen
        place, own, about = line.split(" - ")[0].split()[4:6] + [line.split(" - ")[1]]
        kind, source, *options = about.split()
        folder = Path(place.encode().decode("unicode_escape"))  # a blank is \040
        if whole.is_relative_to(folder) and (best is None or len(folder.parts) >= best[0]):
            every = frozenset(",".join([own, *options]).split(","))
            best = (len(folder.parts), Mount(kind, source, every))
    return best[1] if best else None


def of_software() -> Iterator[str]:
    """Yield the outputs of networks that several versions of torch have made."""
    for index in indices():
        folder = folder_of(index)
        if folder.parent != FEATURES and folder != VIEWS / "faces":
            continue
        made: dict[str, list[str]] = defaultdict(list)
        for row in tables.read(index, ["video_id", "path"]):
            if row["path"] and (version := _torch_of(folder / str(row["path"]))):
                made[version].append(str(row["video_id"]))
        if len(made) > 1:
            parts = [f"{len(ids)} by {name} (e.g. {ids[0]})" for name, ids in sorted(made.items())]
            yield (
                f"{folder}: made by several versions of torch, {', '.join(parts)}; "
                "docs/reproducibility.md says how little they differ"
            )


def _torch_of(file: Path) -> str | None:
    try:
        software = read_attributes(file).get("software")
    except (ArrayFileError, OSError):
        return None  # not here, or told as damaged
    return str(software["torch"]) if isinstance(software, dict) and "torch" in software else None
