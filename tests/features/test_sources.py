import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from features.download import DownloadError
from features.sources import obtain, read_pins, unpack
from features.weights import Source, Wheel
from tests.features.conftest import Site, content

BODY = b"weights" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


def source(url: str, sha256: str | None = SHA256) -> Source:
    return Source(url, sha256, None, "vgg16")


def test_the_next_address_is_asked_where_one_has_nothing(site: Site, tmp_path: Path) -> None:
    good = site.serve("/b.pth", content(BODY))
    had = obtain(
        [source(site.address + "/a.pth"), source(good)], tmp_path / "store", tmp_path / "pins"
    )
    assert had.address == good
    assert had.files[0].read_bytes() == BODY
    assert len(had.refusals) == 1
    assert "/a.pth: HTTP 404" in had.refusals[0]


def test_the_next_address_is_asked_where_one_gives_wrong_bytes(site: Site, tmp_path: Path) -> None:
    bad = site.serve("/a.pth", content(b"<html>log in</html>"))
    good = site.serve("/b.pth", content(BODY))
    had = obtain([source(bad), source(good)], tmp_path / "store", tmp_path / "pins")
    assert had.address == good
    assert "not the file expected" in had.refusals[0]


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


@pytest.mark.parametrize("known", [None, SHA256[:8]])
def test_the_first_download_is_pinned_and_another_file_refused(
    site: Site, tmp_path: Path, known: str | None
) -> None:
    pins = tmp_path / "pins.json"
    url = site.serve("/a.pth", content(BODY))
    obtain([source(url, known)], tmp_path / "store", pins)
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


# ----------------------------------------------------------------------------------- packages

MODEL = b"model bytes"
WHEEL = Wheel("carrier==1.0", (("carrier/models/a.tflite", hashlib.sha256(MODEL).hexdigest()),), "")


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
