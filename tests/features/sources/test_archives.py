import struct
import zipfile
from pathlib import Path

import pytest

from features.sources import archives
from features.sources.archives import ArchiveError, read, sizes, unpack


def make(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_files_are_listed_and_taken_out_one_by_one(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", a=b"one", b=b"four")
    assert sizes(path) == {"a": 3, "b": 4}
    assert read(path, "a") == b"one"
    assert unpack(path, "b", tmp_path / "out").read_bytes() == b"four"
    with pytest.raises(ArchiveError, match="expected the file c in it, found a, b"):
        read(path, "c")


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_what_is_no_zip_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="a.zip: expected a zip"):
        sizes(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["../a", "x/../../a", "/etc/a", "..\\a", "C:a"])
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / "a.zip", **{name: b"", "good": b"1"})
    with pytest.raises(ArchiveError, match="outside"):
        unpack(path, "good", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"harmless")
        archive.writestr("a", b"other")
    with pytest.raises(ArchiveError, match="two files of one name"):
        read(path, "a")


def test_what_would_unpack_to_too_much_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_BYTES", 1_000_000)
    path = make(tmp_path / "a.zip", a=bytes(600_000), b=bytes(600_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(ArchiveError, match="1,200,000 bytes, allowed are 1,000,000"):
        read(path, "a")


def test_a_file_that_is_larger_than_its_archive_says_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", a=bytes(5_000_000))
    told, real = struct.pack("<I", 10), struct.pack("<I", 5_000_000)
    path.write_bytes(path.read_bytes().replace(real, told))
    assert sizes(path) == {"a": 10}
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack(path, "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT"))
    with pytest.raises(ArchiveError, match="CRC"):
        read(path, "a")
