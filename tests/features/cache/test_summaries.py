import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.cache import arrays, summaries
from features.cache.arrays import ArrayFileError, content_sha256
from features.cache.store import ItemStore

KEY = "ab" + "0" * 62
COLUMNS = ("rows", "pretrained")


@pytest.fixture
def opened(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are opened, as they are."""
    plain, names = arrays.read_attributes, []

    def note(path: Path) -> dict[str, object]:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr(summaries, "read_attributes", note)
    return names


def put(numbers: list[float], rows: int, key: str = KEY) -> Path:
    """Put an item into the store and return a second name of it, as in an output."""
    made, output = Path("made.h5"), Path(f"{key[:4]}.h5")
    about = {"key": key, "rows": rows, "pretrained": False, "device": "cpu"}
    arrays.write(made, {"a": np.array(numbers)}, about)
    output.unlink(missing_ok=True)
    os.link(ItemStore(Path("store")).add(key, made), output)
    return output


def summary_of(file: Path, key: str = KEY, names: tuple[str, ...] = COLUMNS) -> dict[str, object]:
    """Return a summary as one run after the other asks for it."""
    with summaries.summaries(Path("store"), "toy") as known:
        return dict(known.of(key, file, dict.fromkeys(names)))


def kept() -> Path:
    (path,) = Path("store/summaries").glob("*/toy.json")
    return path


def test_an_item_is_opened_once(opened: list[str]) -> None:
    file = put([1.0, 2.0], 2)
    expected = {"rows": 2, "pretrained": False, "content": content_sha256(file)}
    os.link(file, "another")  # nor does a link more or less matter
    assert [summary_of(file), summary_of(file)] == [expected] * 2
    Path("another").unlink()
    assert summary_of(file) == expected
    assert opened == [file.name]


def test_another_file_of_the_same_key_is_opened(opened: list[str]) -> None:
    """What was lost and made again, elsewhere or by another runtime, may differ in its bits."""
    first = summary_of(put([1.0, 2.0], 2))
    file = put([1.0, 2.5], 2)
    second = summary_of(file)
    assert second["content"] == content_sha256(file) != first["content"]
    assert len(opened) == 2


def test_a_damaged_file_is_opened_and_refused(opened: list[str]) -> None:
    file = put([1.0, 2.0], 2)
    summary_of(file)
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ArrayFileError, match="expected a whole array file"):
        summary_of(file)


def test_a_column_more_opens_the_file(opened: list[str]) -> None:
    file = put([1.0], 1)
    summary_of(file)
    assert summary_of(file, names=(*COLUMNS, "device"))["device"] == "cpu"
    assert len(opened) == 2


def test_what_is_gone_from_the_store_is_forgotten(opened: list[str]) -> None:
    other = "cd" + "0" * 62
    summary_of(put([1.0], 1))
    ItemStore(Path("store")).path(KEY, ".h5").unlink()
    summary_of(put([2.0], 1, other), other)
    assert set(json.loads(kept().read_text())["items"]) == {other}


@pytest.mark.parametrize("content", ["", "[]", '{"by": 1, "items": 3}', '{"items": {}}'])
def test_what_is_damaged_or_of_other_code_is_as_if_it_were_not_there(
    opened: list[str], content: str
) -> None:
    file = put([1.0], 1)
    expected = summary_of(file)
    kept().write_text(content)
    assert summary_of(file) == expected and len(opened) == 2
    record = json.loads(kept().read_text())
    kept().write_text(json.dumps(record | {"by": "another hash"}))
    assert summary_of(file) == expected and len(opened) == 3
    summary_of(file)
    assert len(opened) == 3


def test_without_a_store_the_file_itself_is_read(opened: list[str]) -> None:
    file = put([1.0], 1)
    expected = summary_of(file)
    shutil.rmtree("store")
    assert summary_of(file) == expected
    assert not Path("store").exists()
