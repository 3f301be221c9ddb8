import hashlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from features.download import MIB, DownloadError, download
from tests.features.conftest import Site, content, status

BODY = bytes(range(256)) * 2048  # 512 KiB
SHA256 = hashlib.sha256(BODY).hexdigest()
AT_ONCE = (0.0, 0.0, 0.0)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


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
