"""Sources: the files that weights are made from, had from the store, an address or a package.

A file that was had once lies in the store under its checksum, so that a second run downloads
nothing:

    <store>/<sha256>/<name>

Where nobody has published a checksum, or only its first digits, the full one of the first
download is written to a file of *pins* that the team keeps in git; later downloads must match.
A file of which no digit was known is pinned only when it has proved to be weights (:func:`pin`):
until then it waits in ``<store>/unfinished``.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.cache.keys import file_sha256
from features.cache.store import link_or_copy, replacing
from features.sources import archives
from features.sources.download import CHECKSUM_DIGITS, DownloadError, Track, download
from features.weights.record import ByHand, Origin, Source, WeightsError, Wheel

PLATFORMS = (
    "manylinux_2_28_x86_64",
    "macosx_11_0_universal2",
    "macosx_11_0_x86_64",
    "win_amd64",
)
"""Platforms whose wheels of mediapipe 0.10.21 exist; any will do, the first is the smallest."""

CARRIER_PYTHON = "3.12"  # the newest Python that has wheels of mediapipe 0.10.21


UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Obtained:
    """A source that was had.

    Attributes:
        files: checked files, in the layout's order.
        source: what they are.
        sha256: their checksums, separated by spaces.
        refusals: what went wrong at the addresses before.
        is_unproven: nothing was known of its checksum, so it may be anything, see :func:`pin`.
    """

    files: tuple[Path, ...]
    source: Source | Wheel
    sha256: str
    refusals: tuple[str, ...] = ()
    is_unproven: bool = False


def obtain(
    sources: Sequence[Origin], store: Path, pins: Path, track: Track | None = None
) -> Obtained:
    """Return the files of the first source that can be had, from the store or its address.

    Args:
        sources: the same weights at several addresses.
        store: folder of downloaded files.
        pins: the file of pins; written where a source has no full checksum.
        track: shows how a download goes.

    Raises:
        DownloadError: none could be had; the message lists every address and what happened there.
    """
    known = [source for source in sources if not isinstance(source, ByHand)]
    for source in known:
        if files := _in_store(source, store, pins):
            return _obtained(source, store, files, ())
    refusals: list[str] = []
    for source in known:
        try:
            if isinstance(source, Wheel):
                files = _from_package_index(source, store)
            else:
                files = (_from_address(source, store, pins, track),)
        except DownloadError as error:
            refusals.append(f"{source.address}: {error}")
        else:
            return _obtained(source, store, files, tuple(refusals))
    if not known:
        raise DownloadError("there is no address that gives it to a program")
    raise DownloadError("no address gave the file:\n  " + "\n  ".join(refusals))


def pin(had: Obtained, store: Path, pins: Path) -> None:
    """Believe a file of which no checksum was known: keep it in the store, and pin it.

    To be called when it has been read and found to be what it should; nothing is done where the
    checksum was known.
    """
    if isinstance(had.source, Source) and had.is_unproven:
        _keep(had.files[0], store, had.sha256)
        _pin(had.source, pins, had.sha256)


def _obtained(
    source: Source | Wheel, store: Path, files: tuple[Path, ...], refusals: tuple[str, ...]
) -> Obtained:
    is_unproven = isinstance(source, Source) and files[0] == _waiting(source, store)
    sums = [file_sha256(file) if is_unproven else file.parent.name for file in files]
    return Obtained(files, source, " ".join(sums), refusals, is_unproven)


def _in_store(source: Source | Wheel, store: Path, pins: Path) -> tuple[Path, ...]:
    """Return the files of an earlier download, or none."""
    if isinstance(source, Source) and _expected(source, pins) is None:
        waiting = _waiting(source, store)
        return (waiting,) if waiting.is_file() else ()
    files = [_kept(store, filename, sha256) for filename, sha256 in _wanted(source, pins)]
    kept = tuple(path for path in files if path)
    if len(kept) < len(files):
        return ()
    if isinstance(source, Source):
        _pin(source, pins, kept[0].parent.name)
    return kept


def _wanted(source: Source | Wheel, pins: Path) -> list[tuple[str, str]]:
    """Return name and checksum, or its first digits, of each file of a source."""
    if isinstance(source, Wheel):
        return [(member.rsplit("/", 1)[-1], sha256) for member, sha256 in source.members]
    expected = _expected(source, pins)
    return [(source.filename, expected)] if expected else []


def unpack(wheel: Wheel, package: Path, folder: Path) -> tuple[Path, ...]:
    """Take the named files of ``wheel`` out of a package file; check them; put them in ``folder``.

    Raises:
        DownloadError: it is no package, lacks a file, or a file is not the one expected.
    """
    files = []
    for member, sha256 in wheel.members:
        try:
            path = archives.unpack(package, member, folder / member.rsplit("/", 1)[-1])
        except archives.ArchiveError as error:
            raise DownloadError(f"expected the files of {wheel.address}: {error}") from error
        if (digest := file_sha256(path)) != sha256:
            path.unlink()
            raise DownloadError(
                f"{package.name}: {member}: expected sha256 {sha256}, found {digest}"
            )
        files.append(path)
    return tuple(files)


def check_own(
    path: Path, origins: Sequence[Origin], pins: Path, note: Callable[[str], None]
) -> str:
    """Return the sha256 of a file of the user's own, checked where its name is a published one.

    Args:
        path: the file.
        origins: where its weights are published.
        pins: the file of pins.
        note: told in one line what a person should know.

    Raises:
        WeightsError: it is not the file that its name or a pin says. Publishers replace files
            under one name, so any other difference is told and no error.
    """
    digest, size_bytes = file_sha256(path), path.stat().st_size
    known = {sha256 for o in origins if isinstance(o, Wheel) for _, sha256 in o.members}
    for source in origins:
        if isinstance(source, Wheel) or source.filename != path.name or digest in known:
            continue
        pinned = isinstance(source, Source) and source.url in read_pins(pins)
        expected = (_expected(source, pins) if isinstance(source, Source) else source.sha256) or ""
        if digest.startswith(expected) and source.size_bytes in (None, size_bytes):
            continue
        published = f"sha256 {expected or 'unknown'}" + (
            f" and {source.size_bytes:,} bytes" if source.size_bytes is not None else ""
        )
        differs = (
            f"{path}: {source.address} has {published}, this file {digest} and {size_bytes:,} bytes"
        )
        if pinned or (expected and expected[:8] in path.name):
            raise WeightsError(
                f"{differs}. It is damaged or another: get it again, or give yours a name of its "
                "own"
            )
        note(f"{differs}; it is taken because `file` names it")
    return digest


# ------------------------------------------------------------------------------- an address


def _from_address(source: Source, store: Path, pins: Path, track: Track | None) -> Path:
    path, expected = _waiting(source, store), _expected(source, pins)
    digest = download(source.url, path, expected, source.size_bytes, track)
    if expected is None:
        if (head := _head(path).lstrip()).startswith(b"<"):  # as no weights do
            path.unlink()
            raise DownloadError(f"a web page came instead of the file: {head[:20]!r}")
        return path
    _pin(source, pins, digest)
    return _keep(path, store, digest)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _waiting(source: Source, store: Path) -> Path:
    """Return where a file of this address lies while its checksum has not been checked."""
    return (
        store / UNFINISHED / hashlib.sha256(source.url.encode()).hexdigest()[:16] / source.filename
    )


def _keep(path: Path, store: Path, sha256: str) -> Path:
    kept = store / sha256 / path.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    return path.replace(kept)


def _kept(store: Path, filename: str, sha256: str) -> Path | None:
    """Return the file of the store whose checksum begins with ``sha256``, still unharmed."""
    for path in sorted(store.glob(f"{sha256}*/{filename}")):
        if file_sha256(path) == path.parent.name:
            return path
        path.unlink()  # damaged on disk: download it again
    return None


# ------------------------------------------------------------------------------------- pins


def read_pins(path: Path) -> dict[str, str]:
    """Return the pinned sha256 of each address; none where there is no file yet.

    Raises:
        DownloadError: the file is not what this module writes.
    """
    if not path.is_file():
        return {}
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(v, str) and len(v) == CHECKSUM_DIGITS for v in pins.values()):
            raise ValueError("a value is no sha256")
    except (ValueError, AttributeError) as error:
        raise DownloadError(
            f"{path}: expected JSON of addresses and their sha256, found: {error}. Restore it "
            "from git"
        ) from error
    return dict(pins)


def _expected(source: Source, pins: Path) -> str | None:
    """Return what is known of a source's checksum: the pin, or what is published."""
    pinned = read_pins(pins).get(source.url)
    if pinned and not pinned.startswith(source.sha256 or ""):
        raise DownloadError(
            f"{pins} pins sha256 {pinned}, but {source.sha256} is published. Find out which is "
            "right; remove the line of this address to pin anew"
        )
    return pinned or source.sha256


def _pin(source: Source, pins: Path, sha256: str) -> None:
    """Write down the full checksum of a source that has published none."""
    known = read_pins(pins)
    if len(source.sha256 or "") == CHECKSUM_DIGITS or known.get(source.url) == sha256:
        return
    text = json.dumps({**known, source.url: sha256}, indent=2, sort_keys=True)
    with replacing(pins) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def kind_of_checksum(source: Origin, pins: Path) -> str:
    """Return how much is known of a source's checksum: known, pinned, prefix or none."""
    if isinstance(source, Wheel):
        return "known"
    if len(source.sha256 or "") == CHECKSUM_DIGITS:
        return "known"
    if isinstance(source, Source) and source.url in read_pins(pins):
        return "pinned"
    return "prefix" if source.sha256 else "none"


def is_in_store(source: Origin, store: Path, pins: Path) -> bool:
    """Tell whether a source's files lie in the store; they are not opened."""
    if isinstance(source, ByHand):
        return False
    wanted = _wanted(source, pins)
    if not wanted and isinstance(source, Source):
        return _waiting(source, store).is_file()
    return all(any(store.glob(f"{sha256}*/{filename}")) for filename, sha256 in wanted)


# ------------------------------------------------------------------------ the package index


def _from_package_index(wheel: Wheel, store: Path) -> tuple[Path, ...]:
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix="unfinished-") as name:
        folder = Path(name)
        unpacked = unpack(wheel, _pip_download(wheel.requirement, folder), folder)
        files = []
        for path, (_, sha256) in zip(unpacked, wheel.members, strict=True):
            target = store / sha256 / path.name
            target.unlink(missing_ok=True)
            link_or_copy(path, target)
            files.append(target)
    return tuple(files)


def _pip_download(requirement: str, folder: Path) -> Path:
    """Download a wheel with pip, which knows the user's index, mirror, proxy and certificates."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--python-version", CARRIER_PYTHON),
        *platforms,
        *("--dest", str(folder), requirement),
    ]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    packages = sorted(folder.glob("*.whl"))
    if outcome.returncode or not packages:
        lines = [line for line in outcome.stderr.splitlines() if line.strip()]
        raise DownloadError("pip: " + (" ".join(lines[-2:]) or "it brought no package"))
    return packages[0]
