"""Archives: zip files that came from elsewhere, with a limit to what they may unpack to.

Packages, MediaPipe's bundles, NumPy's and PyTorch's files are all zips. Before anything in one is
unpacked its table of contents is checked: a small file can unpack to more than a disk holds, and
a name in it can point anywhere.
"""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

LARGEST_BYTES = 4 << 30
"""Most that an archive may unpack to; the largest of published weights is 0.6 GB."""


class ArchiveError(ValueError):
    """A file is no zip, or none to be unpacked; the message says why."""


def sizes(path: Path) -> dict[str, int]:
    """Return the name and unpacked size of each file in a zip, checked; nothing is unpacked.

    Raises:
        ArchiveError: no zip, it unpacks to more than LARGEST_BYTES, or has names that lead out of
            it, or two files of one name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise ArchiveError(f"{path}: expected a zip, found: {error}") from error
    unpacked = {member.filename: member.file_size for member in members}
    if strange := sorted(name for name in unpacked if _leads_out(name)):
        raise ArchiveError(f"{path}: its file {strange[0]!r} would lie outside of it; not unpacked")
    if len(unpacked) < len(members):
        raise ArchiveError(f"{path}: it has two files of one name; not unpacked")
    if (total := sum(unpacked.values())) > LARGEST_BYTES:
        raise ArchiveError(
            f"{path}: it would unpack to {total:,} bytes, allowed are {LARGEST_BYTES:,}"
        )
    return unpacked


def _leads_out(name: str) -> bool:
    return (
        name.startswith("/") or ".." in PurePosixPath(name).parts or bool(set(name) & {"\\", ":"})
    )


def read(path: Path, name: str) -> bytes:
    """Return the file ``name`` of the zip at ``path``; errors as :func:`sizes`."""
    _check_has(path, name)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)  # zipfile reads no more than the size that it announces
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ArchiveError(f"{path}: {name} cannot be unpacked: {error}") from error


def unpack(path: Path, name: str, target: Path) -> Path:
    """Unpack the file ``name`` of the zip at ``path`` to ``target``; errors as :func:`sizes`."""
    _check_has(path, name)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as source:
            with target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        target.unlink(missing_ok=True)
        raise ArchiveError(f"{path}: {name} cannot be unpacked: {error}") from error
    return target


def _check_has(path: Path, name: str) -> None:
    members = sizes(path)
    if name not in members:
        shown = ", ".join(sorted(members)[:5]) or "nothing"
        raise ArchiveError(f"{path}: expected the file {name} in it, found {shown}")
