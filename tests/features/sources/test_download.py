import gzip
import hashlib
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from features.sources import download as module
from features.sources.download import MIB, DownloadError, download
from tests.features.conftest import Reply, Site, content, status

BODY = bytes(range(256)) * 2048  # 512 KiB
SHA256 = hashlib.sha256(BODY).hexdigest()
AT_ONCE = (0.0, 0.0, 0.0)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_nothing_else_remains(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", content(BODY))
    assert download(url, tmp_path / "a.bin", SHA256, len(BODY)) == SHA256
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert leftovers(tmp_path) == ["a.bin"]


def test_a_cut_connection_goes_on_where_it_was_cut(site: Site, tmp_path: Path) -> None:
    cut = 300_000
    url = site.serve("/a.bin", content(BODY, cut_at=cut), content(BODY))
    assert download(url, tmp_path / "a.bin", None, pauses_s=AT_ONCE) == SHA256
    first, second = site.ranges("/a.bin")
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= cut


def test_a_later_run_goes_on_where_the_first_one_ended(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", content(BODY, cut_at=300_000), content(BODY))
    with pytest.raises(DownloadError, match="given up after 1 tries"):
        download(url, tmp_path / "a.bin", SHA256, pauses_s=())
    assert not (tmp_path / "a.bin").exists()
    assert download(url, tmp_path / "a.bin", SHA256, pauses_s=()) == SHA256
    assert site.ranges("/a.bin")[1] is not None


def test_every_try_that_receives_something_starts_the_count_again(
    site: Site, tmp_path: Path
) -> None:
    cuts = [content(BODY, cut_at=at) for at in range(100_000, 500_000, 70_000)]
    url = site.serve("/a.bin", *cuts, content(BODY))
    assert len(cuts) > len(AT_ONCE)
    assert download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE) == SHA256


def test_a_server_that_knows_no_ranges_is_read_from_the_start(site: Site, tmp_path: Path) -> None:
    url = site.serve(
        "/a.bin", content(BODY, ranges=False, cut_at=300_000), content(BODY, ranges=False)
    )
    assert download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE) == SHA256


def test_two_versions_of_a_file_are_never_spliced(site: Site, tmp_path: Path) -> None:
    newer = BODY[::-1]
    url = site.serve("/a.bin", content(BODY, cut_at=300_000), content(newer, version='"v2"'))
    found = download(url, tmp_path / "a.bin", None, pauses_s=AT_ONCE)
    assert found == hashlib.sha256(newer).hexdigest()
    assert (tmp_path / "a.bin").read_bytes() == newer


def test_without_version_and_checksum_a_cut_file_is_read_from_the_start(
    site: Site, tmp_path: Path
) -> None:
    url = site.serve("/a.bin", content(BODY, version=None, cut_at=300_000), content(BODY))
    assert download(url, tmp_path / "a.bin", None, pauses_s=AT_ONCE) == SHA256
    assert site.ranges("/a.bin") == [None, None]


def test_a_part_that_is_already_whole_is_taken(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY)
    url = site.serve("/a.bin", content(BODY))
    assert download(url, tmp_path / "a.bin", SHA256) == SHA256
    assert site.ranges("/a.bin") == [f"bytes={len(BODY)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY + b"more")
    url = site.serve("/a.bin", content(BODY))
    assert download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE) == SHA256


@pytest.mark.parametrize("expected", ["0" * 64, "0" * 8])
def test_wrong_bytes_are_refused_and_removed(site: Site, tmp_path: Path, expected: str) -> None:
    url = site.serve("/a.bin", content(BODY))
    with pytest.raises(DownloadError, match=f"{expected}, found {SHA256}"):
        download(url, tmp_path / "a.bin", expected)
    assert leftovers(tmp_path) == []


def test_the_first_digits_of_a_checksum_are_enough(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", content(BODY))
    assert download(url, tmp_path / "a.bin", SHA256[:8]) == SHA256


def test_a_file_of_another_size_is_refused_before_it_is_read(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", content(BODY))
    with pytest.raises(DownloadError, match="expected 99 bytes, the server offers 524,288"):
        download(url, tmp_path / "a.bin", SHA256, 99)
    assert leftovers(tmp_path) == []


# ------------------------------------------------------------------------ servers gone wrong


def raw(body: bytes, code: int = 200, **headers: str) -> Reply:
    """Reply with these headers and no others; the connection ends after the body."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = True

    return reply


def test_a_server_that_compresses_unasked_is_understood(site: Site, tmp_path: Path) -> None:
    packed = gzip.compress(BODY)
    reply = raw(packed, Content_Encoding="gzip", Content_Length=str(len(packed)), ETag='"v1"')
    url = site.serve("/a.bin", reply)
    assert download(url, tmp_path / "a.bin", None, len(BODY)) == SHA256


def test_a_compressed_body_that_was_cut_is_read_from_the_start(site: Site, tmp_path: Path) -> None:
    body = bytes(hashlib.sha256(BODY).digest()) + BODY * 4
    packed = gzip.compress(body, compresslevel=0)  # so that a part of it is a part of the body
    headers = {"Content_Encoding": "gzip", "Content_Length": str(len(packed)), "ETag": '"v1"'}
    url = site.serve("/a.bin", raw(packed[: MIB // 2], **headers), raw(packed, **headers))
    found = download(url, tmp_path / "a.bin", None, pauses_s=AT_ONCE)
    assert found == hashlib.sha256(body).hexdigest()
    assert site.ranges("/a.bin") == [None, None]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Encoding": "gzip", "Content_Range": "bytes 300000-524287/524288"},
        {"Content_Range": "bytes 0-99/524288"},
        {"Content_Range": "bytes 400000-524287/524288"},
        {},
    ],
)
def test_a_reply_that_goes_on_elsewhere_is_not_joined_on(
    site: Site, tmp_path: Path, headers: dict[str, str]
) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY[:300_000])
    url = site.serve("/a.bin", raw(BODY[300_000:], 206, **headers), content(BODY))
    assert download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE) == SHA256
    assert site.ranges("/a.bin") == ["bytes=300000-", None]


def test_a_server_that_gives_a_file_in_pieces_is_asked_for_all(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY[:100])
    piece = {"Content_Range": f"bytes 100-199/{len(BODY)}", "Content_Length": "100", "ETag": '"1"'}
    url = site.serve("/a.bin", raw(BODY[100:200], 206, **piece), content(BODY, version='"1"'))
    assert download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE) == SHA256
    assert site.ranges("/a.bin")[1] == "bytes=200-"


def test_a_server_that_always_cuts_at_one_place_is_given_up(site: Site, tmp_path: Path) -> None:
    refusal = raw(b"", 206, Content_Range="bytes 7-9/10")
    url = site.serve("/a.bin", *[content(BODY, cut_at=100_000), refusal] * 20)
    with pytest.raises(DownloadError, match="given up after 4 tries"):
        download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE)
    assert len(site.requests) < 10


def test_a_length_that_promises_too_much_is_a_cut_connection(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", raw(BODY, Content_Length=str(len(BODY) + 5)))
    with pytest.raises(DownloadError, match="given up"):
        download(url, tmp_path / "a.bin", None, pauses_s=AT_ONCE)
    assert not (tmp_path / "a.bin").exists()


def test_a_length_that_promises_too_little_is_found_by_the_checksum(
    site: Site, tmp_path: Path
) -> None:
    url = site.serve("/a.bin", raw(BODY, Content_Length=str(len(BODY) - 5)))
    with pytest.raises(DownloadError, match="not the file expected"):
        download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("size_bytes", [1000, None])
def test_a_server_without_end_is_stopped(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int | None
) -> None:
    monkeypatch.setattr(module, "LARGEST_BYTES", 1000)
    url = site.serve("/a.bin", raw(BODY))
    with pytest.raises(DownloadError, match="1,000 bytes, the server sends more"):
        download(url, tmp_path / "a.bin", None, size_bytes)
    assert leftovers(tmp_path) == []


def test_a_declared_size_that_is_too_large_is_refused_before_it_is_read(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_BYTES", 1000)
    url = site.serve("/a.bin", content(BODY))
    with pytest.raises(DownloadError, match="at most 1,000 bytes, the server offers 524,288"):
        download(url, tmp_path / "a.bin")
    assert leftovers(tmp_path) == []


def test_what_came_in_an_earlier_run_counts_for_a_server_without_end(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_BYTES", 300_000)
    (tmp_path / "a.bin.part").write_bytes(bytes(200_000))
    (tmp_path / "a.bin.part.version").write_text('"v1"')
    rest = raw(bytes(200_000), 206, Content_Range="bytes 200000-399999/*", ETag='"v1"')
    url = site.serve("/a.bin", rest)
    with pytest.raises(DownloadError, match="at most 300,000 bytes, the server sends more"):
        download(url, tmp_path / "a.bin")
    assert leftovers(tmp_path) == []


def test_a_body_that_unpacks_without_end_is_stopped(site: Site, tmp_path: Path) -> None:
    packed = gzip.compress(bytes(50 * MIB))
    url = site.serve("/a.bin", raw(packed, Content_Encoding="gzip"))
    with pytest.raises(DownloadError, match="the server sends more"):
        download(url, tmp_path / "a.bin", SHA256, len(BODY))
    assert leftovers(tmp_path) == []


def test_an_empty_file_is_none(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", raw(b"", Content_Length="0"))
    with pytest.raises(DownloadError, match="it is empty"):
        download(url, tmp_path / "a.bin")


@pytest.mark.parametrize("part", [b"x" * 300_000, b"x" * len(BODY)])
@pytest.mark.parametrize("size_bytes", [None, len(BODY)])
def test_a_part_that_proves_damaged_is_downloaded_anew(
    site: Site, tmp_path: Path, part: bytes, size_bytes: int | None
) -> None:
    (tmp_path / "a.bin.part").write_bytes(part)
    url = site.serve("/a.bin", content(BODY, version=None))
    assert download(url, tmp_path / "a.bin", SHA256, size_bytes, pauses_s=AT_ONCE) == SHA256


def test_a_redirect_in_a_circle_is_an_error(site: Site, tmp_path: Path) -> None:
    site.serve("/b.bin", status(302, Location="/a.bin"))
    url = site.serve("/a.bin", status(302, Location="/b.bin"))
    with pytest.raises(DownloadError, match="redirects"):
        download(url, tmp_path / "a.bin", pauses_s=AT_ONCE)


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(BODY)
    url = site.serve("/a.bin", status(302, Location=secret.as_uri()))
    with pytest.raises(DownloadError, match="No connection adapters"):
        download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE)
    with pytest.raises(DownloadError, match="No connection adapters"):
        download(secret.as_uri(), tmp_path / "a.bin", SHA256)
    assert not (tmp_path / "a.bin").exists()


# ---------------------------------------------------------------------------------- proxies


@pytest.fixture
def proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Make the web site the proxy for every address."""
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, site.address)
    return site


def test_a_proxy_of_the_environment_is_asked(proxy: Site, tmp_path: Path) -> None:
    proxy.serve("http://weights.invalid/a.bin", content(BODY, cut_at=300_000), content(BODY))
    found = download("http://weights.invalid/a.bin", tmp_path / "a.bin", None, pauses_s=AT_ONCE)
    assert found == SHA256
    assert proxy.ranges("http://weights.invalid/a.bin")[1] is not None


def test_a_proxy_is_asked_for_a_tunnel_to_an_https_address(proxy: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="Tunnel connection failed: 403"):
        download("https://weights.invalid/a.bin", tmp_path / "a.bin", None, pauses_s=AT_ONCE)
    assert {path for path, _ in proxy.requests} == {"CONNECT weights.invalid:443"}


def test_an_address_may_be_left_out_of_the_proxy(
    proxy: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    url = proxy.serve("/a.bin", content(BODY))
    assert download(url, tmp_path / "a.bin", SHA256) == SHA256


def test_redirects_are_followed(site: Site, tmp_path: Path) -> None:
    site.serve("/real.bin", content(BODY))
    url = site.serve("/a.bin", status(302, Location="/real.bin"))
    assert download(url, tmp_path / "a.bin", SHA256) == SHA256


def test_a_file_that_is_not_there_is_asked_for_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="HTTP 404"):
        download(site.address + "/none", tmp_path / "a.bin", pauses_s=AT_ONCE)
    assert len(site.requests) == 1


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", status(503), status(429), content(BODY))
    assert download(url, tmp_path / "a.bin", SHA256, pauses_s=AT_ONCE) == SHA256


def test_a_server_that_stays_busy_is_given_up(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", status(503))
    with pytest.raises(DownloadError, match="given up after 4 tries: HTTP 503"):
        download(url, tmp_path / "a.bin", pauses_s=AT_ONCE)


def test_where_nothing_listens_there_are_two_tries_and_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="given up after 2 tries: .*refused"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", pauses_s=AT_ONCE)


def test_progress_counts_mebibytes(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", content(bytes(3 * MIB + 5)))
    seen: list[object] = []

    def track(mebibytes: Iterator[int], total: float | None) -> Iterable[int]:
        seen.append(total)
        for done in mebibytes:
            seen.append(done)
            yield done

    download(url, tmp_path / "a.bin", track=track)
    assert seen == [pytest.approx(3, abs=0.01), 1, 2, 3]


def test_two_downloads_at_once_do_not_write_into_each_other(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.bin", content(BODY))
    sums: list[str] = []
    threads = [
        threading.Thread(target=lambda: sums.append(download(url, tmp_path / "a.bin", SHA256)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [SHA256] * 4
