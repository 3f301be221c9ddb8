"""Sources: the files that weights are made from, had from the store, an address or a package.

A file that was had once lies in the store under its checksum, so that a second run downloads
nothing:

    <store>/<sha256>/<name>

Where nobody has published a checksum, or only its first digits, the full one of the first
download is written to a file of *pins* that the team keeps in git; later downloads must match.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.cache import file_sha256, link_or_copy, replacing
from features.download import CHECKSUM_DIGITS, DownloadError, Track, download
from features.weights import Source, Wheel

PLATFORMS = (
    "manylinux_2_28_x86_64",
    "macosx_11_0_universal2",
    "macosx_11_0_x86_64",
    "win_amd64",
)
"""Platforms whose wheels of mediapipe 0.10.21 exist; any will do, the first is the smallest."""

CARRIER_PYTHON = "3.12"  # the newest Python that has wheels of mediapipe 0.10.21


@dataclass(frozen=True)
class Obtained:
    """A source that was had.

    Attributes:
        files: checked files, in the layout's order.
        layout: how they are to be read.
        address: where they came from.
        sha256: their checksums, separated by spaces.
        refusals: what went wrong at the addresses before.
    """

    files: tuple[Path, ...]
    layout: str
    address: str
    sha256: str
    refusals: tuple[str, ...] = ()


def obtain(
    sources: Sequence[Source | Wheel], store: Path, pins: Path, track: Track | None = None
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
    for source in sources:
        if files := _in_store(source, store, pins):
            return _obtained(source, files, ())
    refusals: list[str] = []
    for source in sources:
        try:
            if isinstance(source, Wheel):
                files = _from_package_index(source, store)
            else:
                files = (_from_address(source, store, pins, track),)
        except DownloadError as error:
            refusals.append(f"{source.address}: {error}")
        else:
            return _obtained(source, files, tuple(refusals))
    raise DownloadError("no address gave the file:\n  " + "\n  ".join(refusals))


def _obtained(
    source: Source | Wheel, files: tuple[Path, ...], refusals: tuple[str, ...]
) -> Obtained:
    sums = " ".join(file.parent.name for file in files)
    return Obtained(files, source.layout, source.address, sums, refusals)


def _in_store(source: Source | Wheel, store: Path, pins: Path) -> tuple[Path, ...]:
    """Return the files of an earlier download, or none."""
    if isinstance(source, Wheel):
        wanted = [(member.rsplit("/", 1)[-1], sha256) for member, sha256 in source.members]
    elif expected := _expected(source, pins):
        wanted = [(source.filename, expected)]
    else:
        return ()
    files = [_kept(store, filename, sha256) for filename, sha256 in wanted]
    found = tuple(path for path in files if path)
    if len(found) < len(wanted):
        return ()
    if isinstance(source, Source):
        _pin(source, pins, found[0].parent.name)
    return found


def unpack(wheel: Wheel, package: Path, folder: Path) -> tuple[Path, ...]:
    """Take the named files of ``wheel`` out of a package file; check them; put them in ``folder``.

    Raises:
        DownloadError: it is no package, lacks a file, or a file is not the one expected.
    """
    files = []
    try:
        with zipfile.ZipFile(package) as archive:
            for member, sha256 in wheel.members:
                content = archive.read(member)
                if (found := hashlib.sha256(content).hexdigest()) != sha256:
                    raise DownloadError(
                        f"{package.name}: {member}: expected sha256 {sha256}, found {found}"
                    )
                path = folder / member.rsplit("/", 1)[-1]
                path.write_bytes(content)
                files.append(path)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(
            f"{package}: expected the files of {wheel.address}, found: {error}"
        ) from error
    return tuple(files)


# ------------------------------------------------------------------------------- an address


def _from_address(source: Source, store: Path, pins: Path, track: Track | None) -> Path:
    waiting = hashlib.sha256(source.url.encode()).hexdigest()[:16]
    path = store / "unfinished" / waiting / source.filename
    found = download(source.url, path, _expected(source, pins), source.size_bytes, track)
    kept = store / found / source.filename
    kept.parent.mkdir(parents=True, exist_ok=True)
    path.replace(kept)
    _pin(source, pins, found)
    return kept


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


# ------------------------------------------------------------------------ the package index


def _from_package_index(wheel: Wheel, store: Path) -> tuple[Path, ...]:
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix="unfinished-") as name:
        folder = Path(name)
        found = unpack(wheel, _pip_download(wheel.requirement, folder), folder)
        files = []
        for path, (_, sha256) in zip(found, wheel.members, strict=True):
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
