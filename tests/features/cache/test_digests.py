import json
import os
import time
from pathlib import Path

import pytest

from features.cache import digests
from features.cache.digests import Digests


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are read, as they are; files count as settled at once."""
    monkeypatch.setattr(digests, "SETTLED_NS", -1)
    plain, names = digests.file_sha256, []

    def note(path: Path) -> str:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr(digests, "file_sha256", note)
    return names


def digest_of(file: Path) -> str:
    """Return a file's digest, as one run after the other asks for it."""
    with digests.digests(Path("store")) as known:
        return known.sha256(file)


def kept() -> dict[str, object]:
    (path,) = Path("store/digests").iterdir()
    said: dict[str, object] = json.loads(path.read_text())
    return said


def test_a_file_is_read_once(in_folder: Path, read: list[str]) -> None:
    file = Path("a")
    file.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [digest_of(file), digest_of(file), digest_of(file.absolute())] == [known] * 3
    assert read == ["a"]


def test_an_edited_file_is_read_again_though_it_has_its_old_size_and_date(
    in_folder: Path, read: list[str]
) -> None:
    file = Path("a")
    file.write_bytes(b"abc")
    date, before = file.stat().st_mtime_ns, digest_of(file)
    time.sleep(0.02)  # beyond the tick of the file system's clock
    file.write_bytes(b"abd")
    os.utime(file, ns=(date, date))
    assert digest_of(file) != before
    assert read == ["a", "a"]


def test_a_file_that_was_just_written_is_not_remembered(in_folder: Path) -> None:
    file = Path("a")
    file.write_bytes(b"abc")
    digest_of(file)
    assert not Path("store").exists()


def test_what_is_gone_is_forgotten_and_what_another_process_found_is_kept(
    in_folder: Path, read: list[str]
) -> None:
    for name in "abc":
        Path(name).write_bytes(name.encode())
    digest_of(Path("a"))
    with digests.digests(Path("store")) as mine:
        digest_of(Path("b"))  # by another process, meanwhile
        mine.sha256(Path("c"))
        Path("a").unlink()
    assert {Path(name).name for name in kept()} == {"b", "c"}


@pytest.mark.parametrize("content", ["", "[1]", "null", '{"a": 1}', '{"a": [1, 2]}', '{"a": ['])
def test_a_broken_memory_is_no_memory(in_folder: Path, content: str) -> None:
    Path("known.json").write_text(content)
    Path("a").write_bytes(b"abc")
    assert Digests(Path("known.json")).sha256(Path("a")).startswith("ba7816bf")


def test_a_file_that_cannot_be_read_is_an_error(in_folder: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        digest_of(Path("a"))
