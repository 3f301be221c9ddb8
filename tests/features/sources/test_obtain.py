import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from features.sources import archives
from features.sources.download import DownloadError
from features.sources.obtain import (
    check_own,
    is_in_store,
    kind_of_checksum,
    obtain,
    pin,
    read_pins,
    unpack,
)
from features.weights.record import ByHand, Origin, Source, WeightsError, Wheel
from tests.features.conftest import Site, content, status

BODY = b"weights" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


def source(url: str, sha256: str | None = SHA256) -> Source:
    return Source(url, sha256, None)


def test_the_next_address_is_asked_where_one_has_nothing(site: Site, tmp_path: Path) -> None:
    good = site.serve("/b.pth", content(BODY))
    had = obtain(
        [source(site.address + "/a.pth"), source(good)], tmp_path / "store", tmp_path / "pins"
    )
    assert had.source == source(good)
    assert had.files[0].read_bytes() == BODY
    assert len(had.refusals) == 1
    assert "/a.pth: HTTP 404" in had.refusals[0]


def test_the_next_address_is_asked_where_one_gives_wrong_bytes(site: Site, tmp_path: Path) -> None:
    bad = site.serve("/a.pth", content(b"<html>log in</html>"))
    good = site.serve("/b.pth", content(BODY))
    had = obtain([source(bad), source(good)], tmp_path / "store", tmp_path / "pins")
    assert had.source == source(good)
    assert "not the file expected" in had.refusals[0]


@pytest.mark.parametrize("code", [403, 404, 410, 500])
def test_the_next_address_is_asked_where_one_is_out_of_order(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    bad, good = site.serve("/a.pth", status(code)), site.serve("/b.pth", content(BODY))
    had = obtain([source(bad), source(good)], tmp_path / "store", tmp_path / "pins")
    assert had.source == source(good)
    assert f"HTTP {code}" in had.refusals[0]


def test_a_file_to_be_had_by_hand_only_is_not_asked_for(tmp_path: Path) -> None:
    by_hand = ByHand("https://drive.invalid/folder", "a.pth")
    with pytest.raises(DownloadError, match="no address that gives it to a program"):
        obtain([by_hand], tmp_path, tmp_path / "pins")


def test_where_no_address_works_each_is_named_with_its_reason(site: Site, tmp_path: Path) -> None:
    wrong = site.serve("/b.pth", content(b"other"))
    with pytest.raises(DownloadError) as caught:
        obtain([source(site.address + "/a.pth"), source(wrong)], tmp_path, tmp_path / "pins")
    text = str(caught.value)
    assert f"{site.address}/a.pth: HTTP 404" in text
    assert f"{wrong}: not the file expected" in text


def test_a_second_run_downloads_nothing(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.pth", content(BODY))
    offline = source(site.address + "/none.pth", "1" * 64)
    for _ in range(2):
        had = obtain([offline, source(url)], tmp_path / "store", tmp_path / "pins")
    assert had.files == (tmp_path / "store" / SHA256 / "a.pth",)
    assert had.sha256 == SHA256
    assert [path for path, _ in site.requests] == ["/none.pth", "/a.pth"]


def test_a_kept_file_that_was_damaged_is_downloaded_again(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.pth", content(BODY))
    kept = obtain([source(url)], tmp_path / "store", tmp_path / "pins").files[0]
    kept.write_bytes(b"damaged")
    again = obtain([source(url)], tmp_path / "store", tmp_path / "pins").files[0]
    assert again.read_bytes() == BODY


def test_without_the_network_what_is_in_the_store_is_enough(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.serve("/a.pth", content(BODY))
    unknown = site.serve("/b.pth", content(BODY + b"b"))
    store, pins = tmp_path / "store", tmp_path / "pins"
    for each in (source(url, SHA256[:8]), source(unknown, None)):
        pin(obtain([each], store, pins), store, pins)

    def no_socket(*arguments: object, **named: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket", no_socket)
    monkeypatch.setattr("socket.getaddrinfo", no_socket)
    for each in (source(url, SHA256[:8]), source(unknown, None)):
        assert is_in_store(each, store, pins)
        assert obtain([each], store, pins).files[0].is_file()


def test_an_unknown_file_waits_until_it_has_proved_to_be_weights(
    site: Site, tmp_path: Path
) -> None:
    store, pins = tmp_path / "store", tmp_path / "pins"
    unknown = source(site.serve("/a.pth", content(BODY)), None)
    for _ in range(2):
        had = obtain([unknown], store, pins)
        assert had.is_unproven
        assert had.sha256 == SHA256
        assert not pins.exists()
        assert kind_of_checksum(unknown, pins) == "none"
    assert len(site.requests) == 1
    pin(had, store, pins)
    assert read_pins(pins) == {unknown.url: SHA256}
    assert kind_of_checksum(unknown, pins) == "pinned"
    again = obtain([unknown], store, pins)
    assert again.files == (store / SHA256 / "a.pth",)
    assert not again.is_unproven
    assert len(site.requests) == 1


def test_a_web_page_is_not_taken_for_an_unknown_file(site: Site, tmp_path: Path) -> None:
    bad = site.serve("/a.pth", content(b"\n<!DOCTYPE html><title>Sign in</title>"))
    good = site.serve("/b.pth", content(BODY))
    had = obtain([source(bad, None), source(good)], tmp_path / "store", tmp_path / "pins")
    assert "a web page came" in had.refusals[0]
    assert had.source == source(good)


@pytest.mark.parametrize("known", [None, SHA256[:8]])
def test_the_first_download_is_pinned_and_another_file_refused(
    site: Site, tmp_path: Path, known: str | None
) -> None:
    pins = tmp_path / "pins.json"
    url = site.serve("/a.pth", content(BODY))
    pin(obtain([source(url, known)], tmp_path / "store", pins), tmp_path / "store", pins)
    assert read_pins(pins) == {url: SHA256}
    site.serve("/a.pth", content(b"changed since"))
    with pytest.raises(DownloadError, match=f"expected a sha256 {SHA256}"):
        obtain([source(url, known)], tmp_path / "a colleague's store", pins)


def test_a_full_published_checksum_needs_no_pin(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.pth", content(BODY))
    obtain([source(url)], tmp_path / "store", tmp_path / "pins")
    assert not (tmp_path / "pins").exists()


def test_a_pin_against_the_published_digits_is_an_error(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.pth", content(BODY))
    pins = tmp_path / "pins.json"
    pins.write_text(json.dumps({url: "f" * 64}))
    with pytest.raises(DownloadError, match="is published"):
        obtain([source(url, SHA256[:8])], tmp_path / "store", pins)


@pytest.mark.parametrize("text", ["not json", '["a"]', '{"http://a": "short"}', '{"a": 5}'])
def test_a_spoilt_file_of_pins_is_an_error(tmp_path: Path, text: str) -> None:
    pins = tmp_path / "pins.json"
    pins.write_text(text)
    with pytest.raises(DownloadError, match="Restore it from git"):
        read_pins(pins)


def test_a_checksum_is_known_by_its_beginning_a_pin_or_not_at_all(tmp_path: Path) -> None:
    url, pins = "http://x/a.pth", tmp_path / "pins"
    kinds = [kind_of_checksum(source(url, known), pins) for known in (SHA256, SHA256[:8], None)]
    assert kinds == ["known", "prefix", "none"]
    pins.write_text(json.dumps({url: SHA256}))
    kinds = [kind_of_checksum(source(url, known), pins) for known in (SHA256, SHA256[:8], None)]
    assert kinds == ["known", "pinned", "pinned"]
    assert kind_of_checksum(ByHand("https://x", "a.pth"), pins) == "none"
    assert kind_of_checksum(ByHand("https://x", "a.pth", sha256=SHA256), pins) == "known"
    assert kind_of_checksum(WHEEL, pins) == "known"


# ------------------------------------------------------------------------- files of one's own


def own(path: Path, pins: Path, *origins: Origin) -> list[str]:
    """Check a file of one's own; return what was told."""
    said: list[str] = []
    assert (
        check_own(path, origins, pins, said.append) == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    return said


@pytest.mark.parametrize("known", [SHA256, SHA256[:8]])
def test_a_file_whose_name_carries_its_checksum_is_that_file(tmp_path: Path, known: str) -> None:
    path, pins = tmp_path / f"a-{SHA256[:8]}.pth", tmp_path / "pins"
    published = source(f"http://x/{path.name}", known)
    path.write_bytes(BODY)
    assert own(path, pins, published) == []
    path.write_bytes(BODY[:-1])
    with pytest.raises(WeightsError, match="It is damaged or another") as caught:
        own(path, pins, published)
    assert str(path) in str(caught.value) and SHA256[:8] in str(caught.value)
    assert own(path.rename(tmp_path / "mine.pth"), pins, published) == []


def test_a_file_that_the_team_has_pinned_is_that_file(tmp_path: Path) -> None:
    path, pins = tmp_path / "a.pth", tmp_path / "pins"
    pins.write_text(json.dumps({"http://x/a.pth": SHA256}))
    path.write_bytes(BODY)
    assert own(path, pins, source("http://x/a.pth", None)) == []
    path.write_bytes(BODY[:-1])
    with pytest.raises(WeightsError, match="It is damaged or another"):
        own(path, pins, source("http://x/a.pth", None))


@pytest.mark.parametrize(("known", "size_bytes"), [("0" * 64, None), (None, 3), (SHA256, 3)])
def test_another_version_of_a_published_file_is_taken_and_told(
    tmp_path: Path, known: str | None, size_bytes: int | None
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(BODY)
    published = Source("http://x/a.pth", known, size_bytes)
    by_hand = ByHand("https://x", "a.pth", sha256=known, size_bytes=size_bytes)
    for origin in (published, by_hand):
        (line,) = own(path, tmp_path / "pins", origin)
        assert SHA256 in line and "it is taken because" in line
    assert own(path, tmp_path / "pins", source("http://x/b.pth", known)) == []


def test_a_file_that_a_package_carries_is_as_good_as_published(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(MODEL)
    published = Source("http://x/a.tflite", "0" * 64, None, reader="tflite")
    assert own(path, tmp_path / "pins", published, WHEEL) == []


# ----------------------------------------------------------------------------------- packages

MODEL = b"model bytes"
WHEEL = Wheel("carrier==1.0", (("carrier/models/a.tflite", hashlib.sha256(MODEL).hexdigest()),))


def make_package(folder: Path, model: bytes = MODEL, name: str = "a.tflite") -> Path:
    """Write a wheel that pip accepts, for a platform and Python that are not ours."""
    path = folder / "carrier-1.0-cp312-cp312-win_amd64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"carrier/models/{name}", model)
        facts = "carrier-1.0.dist-info"
        archive.writestr(
            f"{facts}/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
        )
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nTag: cp312-cp312-win_amd64\n")
        archive.writestr(f"{facts}/RECORD", "")
    return path


def test_a_package_is_unpacked_and_its_files_checked(tmp_path: Path) -> None:
    (path,) = unpack(WHEEL, make_package(tmp_path), tmp_path)
    assert path.name == "a.tflite"
    assert path.read_bytes() == MODEL


def test_a_package_with_another_file_inside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected sha256"):
        unpack(WHEEL, make_package(tmp_path, b"other"), tmp_path)


def test_a_package_that_lacks_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="carrier/models/a.tflite"):
        unpack(WHEEL, make_package(tmp_path, name="b.tflite"), tmp_path)


def test_a_file_that_is_no_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(DownloadError, match="carrier==1.0"):
        unpack(WHEEL, path, tmp_path)


def test_a_package_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_BYTES", 1000)
    with pytest.raises(DownloadError, match="it would unpack to .* bytes, allowed are 1,000"):
        unpack(WHEEL, make_package(tmp_path, bytes(5000)), tmp_path)


def test_the_package_index_is_asked_through_pip_for_any_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_package(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    had = obtain([WHEEL], tmp_path / "store", tmp_path / "pins")
    assert had.files[0].read_bytes() == MODEL
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    assert obtain([WHEEL], tmp_path / "store", tmp_path / "pins").files == had.files


def test_pips_reason_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DownloadError, match="carrier==1.0.*No matching distribution"):
        obtain([WHEEL], tmp_path / "store", tmp_path / "pins")
