"""Is all well here: the machine, the weights, the store, the outputs and DVC's cache of them.

The quick form asks only whether DVC has kept what dvc.lock names: DVC may say "failed to transfer"
on a full disk and end with 0. The whole form reads every file: an item carries the sha256 of all
that is in it, any other file is compared with the md5 that dvc.lock has of it.
"""

import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from affectline.store import fault_of, human
from features.cache.store import ItemStore, store_root
from stages.engine import dvc_lock
from stages.engine.checks import check_store
from stages.engine.items import software
from stages.engine.params import Params
from stages.engine.paths import LOCK

COPY_S = 3600.0
"""An unfinished copy in DVC's cache is nobody's after so long: other clones may share the cache."""

IGNORED = (".*.tmp", "*.pyc")
"""Names in outputs that DVC does not look at (.dvcignore)."""

OTHER = {"lacks": "names", "has": "does not name"}

ASKING = ("affectline", "torchvision")
"""Distributions whose requirements are looked at."""

LEAST_FREE = 2 * 2**30
"""Bytes on a disk below which it is told: a stage may well need them."""


UNSURE = ("webdav://", "webdavs://")
"""Remotes of which DVC moves a part of a file to its cache, when the connection breaks."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        what: in a line.
        where: the file or place.
        to_do: what a person should do.
        files: damaged files that `--repair` removes.
    """

    what: str
    where: str
    to_do: str
    files: tuple[Path, ...] = ()


REPAIR = "`affectline doctor --repair` removes it, then `dvc repro` makes it again"


# ------------------------------------------------------------------------ what DVC has kept


def kept() -> Iterator[Finding]:
    """Yield the outputs of dvc.lock that are here and that DVC's cache lacks, and spoilt files."""
    yield from _spoilt()
    try:
        outputs = dvc_lock.read_outputs()
    except dvc_lock.LockError as error:
        to_do = f"`git checkout {error.path}`" + ", or remove it" * (error.path == LOCK)
        yield Finding(error.what, str(error.path), to_do)
        return
    cache = dvc_lock.cache_folder()
    for output in outputs:
        if not output.path.exists():
            continue  # not pulled, or never made here
        listed = dvc_lock.listing(cache, output)
        if listed is None:
            yield _without_listing(output, dvc_lock.object_path(cache, output.md5))
            continue
        sizes = {path: _size(dvc_lock.object_path(cache, md5)) for path, md5 in listed.items()}
        lacking = [path for path, size in sizes.items() if size is None]
        bytes_there = sum(size or 0 for size in sizes.values())
        if lacking:
            what = f"DVC's cache lacks {len(lacking)} of {len(listed)} files of {output.stage}"
            yield Finding(what, str(lacking[0]), _again(output.stage))
        elif bytes_there != output.size:
            sizes_told = f"{bytes_there} bytes of {output.path}, dvc.lock says {output.size}"
            what = f"DVC's cache holds {sizes_told}"
            yield Finding(what, str(output.path), "`affectline doctor` finds the damaged files")


def _without_listing(output: dvc_lock.Output, listing: Path) -> Finding:
    if not listing.exists():
        what = f"DVC's cache lacks the listing of {output.path}"
        return Finding(what, str(listing), _again(output.stage))
    what = f"the listing of {output.path} is damaged, and DVC does not mend it"
    return Finding(what, str(listing), REPAIR, (listing,))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _again(stage: str) -> str:
    return f"make room on the disk, then `dvc commit --force {stage}` or `dvc repro {stage}`"


def _spoilt() -> Iterator[Finding]:
    """Yield files of DVC's own that a kill cut off while it wrote them; it refuses to go on."""
    if dvc_lock.is_spoilt():
        what = "DVC was killed while it wrote this file, and refuses to work with it"
        to_do = "remove it, or `affectline doctor --repair`"
        yield Finding(what, str(dvc_lock.RWLOCK), to_do, (dvc_lock.RWLOCK,))
    if LOCK.is_file() and not LOCK.read_text(encoding="utf-8").strip():
        what = "DVC was killed while it wrote this file, and refuses to work with it"
        to_do = "`git checkout dvc.lock`, or remove it, or `affectline doctor --repair`"
        yield Finding(what, str(LOCK), to_do, (LOCK,))


# ---------------------------------------------------------------------------- what is whole


class _Reader:
    """Reads each file once, however many names it has: store, output and cache share it."""

    def __init__(self) -> None:
        self._items: dict[tuple[int, int], str | None] = {}
        self._md5s: dict[tuple[int, int], str] = {}

    def fault(self, path: Path, suffix: str, key: str | None = None) -> str | None:
        """Return what is wrong with an item's file, None if it is whole."""
        inode = _inode(path)
        if inode not in self._items:
            self._items[inode] = fault_of(path, suffix, key)
        return self._items[inode]

    def md5(self, path: Path) -> str:
        """Return the md5 of a file, as DVC names it."""
        inode = _inode(path)
        if inode not in self._md5s:
            self._md5s[inode] = dvc_lock.file_md5(path)
        return self._md5s[inode]


def _inode(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def whole() -> Iterator[Finding]:
    """Yield the files of the store, of the outputs and of DVC's cache that are damaged."""
    reader = _Reader()
    store = ItemStore(store_root())
    for item in store.items():
        what = reader.fault(item.path, item.path.suffix, item.key)
        if what:
            yield Finding(what, str(item.path), REPAIR, (item.path,))
    for folder in store.leftovers():
        what = "left unfinished by a process that is dead"
        yield Finding(what, str(folder), "`affectline doctor --repair` removes it", (folder,))
    try:
        outputs = dvc_lock.read_outputs()
    except dvc_lock.LockError:
        return  # told by `kept`
    cache = dvc_lock.cache_folder()
    for output in outputs:
        listed = dvc_lock.listing(cache, output)
        for path, md5 in (listed or {}).items():
            yield from _faults_of_output(reader, path, md5, dvc_lock.object_path(cache, md5))
        if listed is not None and output.path.is_dir():
            yield from _not_as_listed(output, set(listed))
    yield from _unfinished_copies(cache)


def _not_as_listed(output: dvc_lock.Output, listed: set[Path]) -> Iterator[Finding]:
    """Yield what a folder of outputs lacks, and what it has that no stage has put there."""
    there = {path for path in output.path.rglob("*") if path.is_file()}
    there = {path for path in there if not any(fnmatch(path.name, n) for n in IGNORED)}
    for some, verb in ((listed - there, "lacks"), (there - listed, "has")):
        if some:
            what = f"the output {verb} {len(some)} files that dvc.lock {OTHER[verb]}"
            yield Finding(what, str(min(some)), f"`dvc repro {output.stage}` makes it right")


def _unfinished_copies(cache: Path) -> Iterator[Finding]:
    """Yield what DVC left of copies that a full disk cut off; it holds room and is never used."""
    before_s = time.time() - COPY_S
    for path in sorted(cache.glob("??/.*.tmp")):
        if path.is_file() and path.stat().st_mtime < before_s:
            what = f"DVC left this copy unfinished ({human(path.stat().st_size)})"
            yield Finding(what, str(path), "`affectline doctor --repair` removes it", (path,))


def _faults_of_output(reader: _Reader, path: Path, md5: str, kept_as: Path) -> Iterator[Finding]:
    """Yield what is wrong with one file of an output and the object that DVC keeps of it."""
    if kept_as.is_file():
        what = _difference(reader, kept_as, md5, path.suffix)
        if what:
            yield Finding(f"{what} (it is {path})", str(kept_as), REPAIR, (kept_as,))
    if path.is_file() and not (kept_as.is_file() and path.samefile(kept_as)):
        what = _difference(reader, path, md5, path.suffix)
        if what:
            yield Finding(what, str(path), REPAIR, (path,))


def _difference(reader: _Reader, path: Path, md5: str, suffix: str) -> str | None:
    what = reader.fault(path, suffix) if suffix == ".h5" else None
    if what is None and reader.md5(path) != md5:
        what = f"expected the md5 {md5} of dvc.lock, found {reader.md5(path)}"
    return what


# ----------------------------------------------------------------------------- the machine


def packages() -> Iterator[Finding]:
    """Yield the packages that are not as affectline, or torchvision of its torch, asks for."""
    asking = {name: [Requirement(line) for line in requires(name) or ()] for name in ASKING}
    for name, wanted in asking.items():
        for requirement in wanted:
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue  # of an extra, or of another system
            try:
                installed = version(requirement.name)
            except PackageNotFoundError:
                installed = "none"
            if installed == "none" or not requirement.specifier.contains(
                installed, prereleases=True
            ):
                what = f"{name} asks for {requirement}, found {installed}"
                yield Finding(what, sys.prefix, "`make setup`, or install that version")
    try:
        import torchvision  # noqa: F401  # its operators are registered with torch, or it fails
    except (ImportError, RuntimeError, OSError) as error:
        what = f"torch and torchvision do not load together: {' '.join(str(error).split())}"
        yield Finding(what, sys.prefix, "install both from the same index")


def machine(params: Params) -> Iterator[Finding]:
    """Yield disks that are nearly full, what cannot be written, and weights that are not here."""
    from affectline.weights import survey
    from stages.engine.device import device_of  # slow to import, with torch

    places = {"outputs": Path(), "store": store_root(), "DVC's cache": dvc_lock.cache_folder()}
    for name, place in places.items():
        there = next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        if free < LEAST_FREE:
            what = f"{human(free)} are free for {name}, a stage may need more"
            to_do = "make room: `affectline store gc --older-than 30`, `dvc gc --workspace`"
            yield Finding(what, str(there), to_do)
    for check in (check_store, lambda: device_of(params.engine)):
        try:
            check()
        except ValueError as error:
            yield Finding(str(error), "this machine", "`affectline check` says when it is right")
    for standing in survey(params):
        if standing.to_do and not standing.has_source and not standing.is_made:
            what = f"the weights of {standing.network} are not here"
            yield Finding(what, standing.file or standing.source, standing.to_do)


def remotes() -> Iterator[Finding]:
    """Yield the remotes of which DVC takes a download that broke off for whole."""
    for name, settings in dvc_lock.remotes().items():
        if str(settings.get("url", "")).startswith(UNSURE) and not settings.get("verify"):
            what = "DVC would take a download that broke off for whole"
            yield Finding(what, f"remote {name}", f"`dvc remote modify {name} verify true`")


def environment() -> dict[str, str]:
    """Return what runs here: Python, the packages that numbers depend on, the GPU."""
    import torch  # slow to import

    is_there = torch.cuda.is_available()
    return {
        "python": sys.version.split()[0],
        **software(),
        "gpu": torch.cuda.get_device_name(0) if is_there else "none",
        "store": str(store_root()),
    }


# ------------------------------------------------------------------------------ the repair


def repair(findings: Iterable[Finding]) -> list[Path]:
    """Remove the damaged files of the findings, with every other name that they have here.

    A file of the store is, by hard link, also that of an output and of DVC's cache: all go, so
    that the next `dvc repro` finds the output changed, finds the item nowhere, and makes it anew.
    """
    named = {path for finding in findings for path in finding.files if path.exists()}
    removed = sorted(path for path in named if path.is_dir())
    for folder in removed:
        shutil.rmtree(folder)
    damaged = named - set(removed)
    inodes = {_inode(path) for path in damaged}
    for path in sorted(damaged | set(_other_names(inodes))):
        path.parent.chmod(path.parent.stat().st_mode | stat.S_IWUSR)
        path.unlink()
        removed.append(path)
    return removed


def _other_names(inodes: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files of the store, of the outputs and of DVC's cache with one of these inodes."""
    cache = dvc_lock.cache_folder()
    places = [item.path for item in ItemStore(store_root()).items()]
    places += [path for _md5, path in dvc_lock.objects(cache)]
    try:
        outputs = dvc_lock.read_outputs()
    except dvc_lock.LockError:
        outputs = []
    for output in outputs:
        places += (dvc_lock.listing(cache, output) or {}).keys()
    for path in places:
        if path.is_file() and _inode(path) in inodes:
            yield path
