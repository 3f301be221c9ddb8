"""Downloading: one file from one address, whole and checked. The only code on the network.

A file is received under ``<name>.part`` and goes on where it was cut off, also in a later run. It
gets its own name only after its size and checksum are right.

Proxies and certificate authorities are taken from the environment (HTTPS_PROXY, NO_PROXY,
REQUESTS_CA_BUNDLE), as pip takes them.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import requests
from requests.exceptions import ChunkedEncodingError
from urllib3.exceptions import MaxRetryError

from features.cache import claims
from features.cache.keys import file_sha256

Track = Callable[[Iterator[int], float | None], Iterable[int]]
"""Shows progress: iterates what it is given, one item a MiB, of so many in all where known."""

CHUNK_BYTES = 1 << 16
MIB = 1 << 20
TIMEOUT_S = (10.0, 60.0)  # to connect, between two packets
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Waits before trying again; a try that has received something starts again at the first."""

LARGEST_BYTES = 4 << 30
"""A file of unknown size that is larger is given up: a disk has an end, a server may not."""

TRY_AGAIN_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
CHECKSUM_DIGITS = 64


class DownloadError(ValueError):
    """A file could not be had; the message says from where, and why."""


class _CutOffError(Exception):
    """The connection ended early, or the server is busy: worth more tries."""


class _NoConnectionError(_CutOffError):
    """There was no connection at all: worth one more try."""


def download(
    url: str,
    path: Path,
    sha256: str | None = None,
    size_bytes: int | None = None,
    track: Track | None = None,
    pauses_s: Sequence[float] = PAUSES_S,
) -> str:
    """Download ``url`` to ``path`` and return its sha256.

    Goes on where an earlier try was cut off; tries again after each of ``pauses_s``.

    Args:
        url: http or https; redirects are followed.
        path: the file; it appears only when it is whole and checked.
        sha256: the full checksum or its first digits, where known.
        size_bytes: the size, where known.
        track: shows how it goes.
        pauses_s: see PAUSES_S.

    Raises:
        DownloadError: refused, cut off too often, or not the file expected. Of a file that is not
            the one expected nothing is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    claim = part.with_name(f"{part.name}.claim")
    with claims.held(claim):  # two runs with one store must not write into each other
        spliced = _size(part) > 0
        spliced |= _receive_all(url, part, sha256, size_bytes, track, pauses_s)
        try:
            digest = _check(part, sha256, size_bytes)
        except DownloadError:
            if not spliced:
                raise
            _receive_all(url, part, sha256, size_bytes, track, pauses_s)  # anew, from the start
            digest = _check(part, sha256, size_bytes)
        part.replace(path)
        _validator_path(part).unlink(missing_ok=True)
    return digest


def _receive_all(
    url: str,
    part: Path,
    sha256: str | None,
    size_bytes: int | None,
    track: Track | None,
    pauses_s: Sequence[float],
) -> bool:
    """Receive ``url`` into ``part`` in as many tries as are allowed; tell if it took several."""
    failures, furthest, tries = 0, _size(part), 0
    while True:
        try:
            _receive(url, part, sha256, size_bytes, track)
            return tries > 0
        except _CutOffError as error:
            failures = 0 if _size(part) > furthest else failures
            furthest = max(furthest, _size(part))
            pauses_s = pauses_s[:1] if isinstance(error, _NoConnectionError) else pauses_s
            if failures >= len(pauses_s):
                raise DownloadError(f"given up after {failures + 1} tries: {error}") from error
            time.sleep(pauses_s[failures])
            failures += 1
            tries += 1


def _receive(
    url: str, part: Path, sha256: str | None, size_bytes: int | None, track: Track | None
) -> None:
    """Receive ``url`` into ``part``, from its end on where the server can tell it is the same."""
    have = _size(part)
    if have and have == size_bytes:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        validator = _validator_path(part)
        if validator.is_file():
            headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text()}
        elif sha256 is not None:  # a splice of two versions would not pass the check
            headers |= {"Range": f"bytes={have}-"}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == 416:  # nothing after what we have
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return
                _forget(part)
                raise _CutOffError("the server refused to go on where it was cut off")
            _check_status(response)
            goes_on = response.status_code == 206
            if goes_on and (_is_encoded(response) or _range_start(response) != have):
                _forget(part)
                raise _CutOffError("the server went on elsewhere than where it was cut off")
            _write_body(response, part, have if goes_on else 0, size_bytes, track)
    except (requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
        never_there = isinstance(_first(error), MaxRetryError)  # no name, no route, no trust
        raise (_NoConnectionError if never_there else _CutOffError)(_reason(error)) from error
    except requests.RequestException as error:
        raise DownloadError(_reason(error)) from error


def _write_body(
    response: requests.Response,
    part: Path,
    have: int,
    size_bytes: int | None,
    track: Track | None,
) -> None:
    """Write a reply's body to ``part``, after the ``have`` bytes that are there."""
    total = _whole_size(response)
    allowed = size_bytes if size_bytes is not None else LARGEST_BYTES
    if total is not None and (total > allowed or total != (size_bytes or total)):
        _forget(part)
        raise DownloadError(f"{_wanted(size_bytes)}, the server offers {total:,}")
    tag = response.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    if validator and not _is_encoded(response):
        _validator_path(part).write_text(validator)
    else:
        _validator_path(part).unlink(missing_ok=True)
    with part.open("ab" if have else "wb") as file:
        written = _write_chunks(response, file, allowed - have)
        try:
            for _ in track(written, total and (total - have) / MIB) if track else written:
                pass
        except _TooLargeError:
            _forget(part)
            raise DownloadError(f"{_wanted(size_bytes)}, the server sends more") from None
        except requests.RequestException:
            if _is_encoded(response):  # bytes of the unpacked body are no place to go on from
                _forget(part)
            raise
    if total is not None and (done := _size(part)) < total:
        raise _CutOffError(f"the connection ended at {done:,} of {total:,} bytes")


class _TooLargeError(Exception):
    """More has come than was allowed."""


def _wanted(size_bytes: int | None) -> str:
    if size_bytes is None:
        return f"expected at most {LARGEST_BYTES:,} bytes"
    return f"expected {size_bytes:,} bytes"


def _write_chunks(response: requests.Response, file: BinaryIO, allowed: int) -> Iterator[int]:
    """Write the body to ``file``; yield the count of MiB at each full one."""
    done = 0
    for chunk in response.iter_content(CHUNK_BYTES):
        before, done = done, done + len(chunk)
        if done > allowed:
            raise _TooLargeError
        file.write(chunk)
        if done // MIB > before // MIB:
            yield done // MIB


def _is_encoded(response: requests.Response) -> bool:
    """Tell whether the body comes compressed: requests unpacks it, so bytes cannot be counted."""
    return response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")


def _range_start(response: requests.Response) -> int | None:
    """Return where a partial reply begins, from ``Content-Range: bytes <start>-<end>/<size>``."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _whole_size(response: requests.Response) -> int | None:
    """Return the size of the whole file as the server tells it, or None."""
    if _is_encoded(response):
        return None
    told = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        told = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(told) if told.isdigit() else None


def _check_status(response: requests.Response) -> None:
    if response.status_code in TRY_AGAIN_STATUS:
        raise _CutOffError(f"HTTP {response.status_code} {response.reason}")
    if response.status_code not in (200, 206):
        raise DownloadError(f"HTTP {response.status_code} {response.reason}")


def _check(part: Path, sha256: str | None, size_bytes: int | None) -> str:
    size, digest = _size(part), file_sha256(part)
    problem = "it is empty" if size == 0 else None
    if size_bytes is not None and size != size_bytes:
        problem = f"expected {size_bytes:,} bytes, found {size:,}"
    elif sha256 is not None and not digest.startswith(sha256):
        digits = "" if len(sha256) == CHECKSUM_DIGITS else "that begins with "
        problem = f"expected a sha256 {digits}{sha256}, found {digest} ({size:,} bytes)"
    if problem:
        _forget(part)
        raise DownloadError(f"not the file expected: {problem}. It was removed")
    return digest


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_path(part).unlink(missing_ok=True)


def _validator_path(part: Path) -> Path:
    """Return where the server's version tag of an unfinished file is kept."""
    return part.with_name(part.name + ".version")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    """Return the innermost cause of a failed request: the outer ones say little."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None) or _first(cause), BaseException):
        cause = inner
    return f"{type(cause).__name__}: {cause}".replace("\n", " ")[:300]


def _first(error: BaseException) -> object:
    return error.args[0] if error.args else None
