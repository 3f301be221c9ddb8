import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from features.weights.file import metadata
from features.weights.imported import Imported, digest, member, write
from features.weights.record import WeightsError

FACTS = {"name": "mine", "source": "imported", "pretrained": "true", "origin": "ü, <b>"}


def arrays(seed: int, dtype: str = "float32", rows: int = 4) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "features": draw.normal(size=(rows, 3, 2)).astype(dtype),
        "index": np.arange(rows),
        "pts_s": np.full(rows, np.nan),
        "valid": draw.random(rows) < 0.5,
    }


VIDEOS = {
    "joy/a": arrays(1),
    'joy/100% "ü".\n__metadata__': arrays(2, "float16"),
    "fear/none": arrays(3, rows=0),
    "fear/copy of a": arrays(1),
}


def write_file(path: Path, names: list[str] | None = None) -> Path:
    members = [member(name, VIDEOS[name]) for name in names or VIDEOS]
    write(path, members, {name: lambda n=name: VIDEOS[n] for name in VIDEOS}, FACTS)
    return path


def test_what_goes_in_comes_out_a_video_at_a_time(tmp_path: Path) -> None:
    file = Imported(write_file(tmp_path / "a.safetensors"))
    assert file.facts == FACTS and set(file.videos) == set(VIDEOS)
    for name, sha256 in file.videos.items():
        assert sha256 == digest(VIDEOS[name])
        for array, values in file.read(sha256).items():
            np.testing.assert_array_equal(values, VIDEOS[name][array])
            assert values.dtype == VIDEOS[name][array].dtype


def test_it_is_a_file_that_safetensors_reads(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors")
    with safe_open(path, framework="np") as file:
        assert file.metadata() == FACTS
        listed = json.loads(file.get_tensor("videos").tobytes())
        for name, values in VIDEOS.items():
            found = file.get_tensor(f"{listed[name]}.features")
            np.testing.assert_array_equal(found, values["features"])
        assert len(file.keys()) == 1 + 4 * 3, "what two videos share is there once"
    assert metadata(path)["origin"] == "ü, <b>"


def test_the_order_makes_no_byte(tmp_path: Path) -> None:
    first = write_file(tmp_path / "a.safetensors").read_bytes()
    assert write_file(tmp_path / "b.safetensors", sorted(VIDEOS)).read_bytes() == first


def test_a_number_that_was_changed_is_an_error(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors", ["joy/a"])
    data = bytearray(path.read_bytes())
    place = bytes(data).index(VIDEOS["joy/a"]["features"].tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    file = Imported(path)
    with pytest.raises(WeightsError, match="found arrays changed since"):
        file.read(file.videos["joy/a"])
    path.write_bytes(data[:-30])
    with pytest.raises(WeightsError, match="the file ends before it"):
        Imported(path).read(file.videos["joy/a"])


def test_arrays_that_change_while_they_are_written_are_an_error(tmp_path: Path) -> None:
    readers = {"joy/a": lambda: arrays(5)}
    with pytest.raises(WeightsError, match="joy/a: its arrays have changed"):
        write(tmp_path / "a", [member("joy/a", VIDEOS["joy/a"])], readers, FACTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89HDF",
        (2**62).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
    ],
)
def test_another_file_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="expected arrays that `affectline import` has written"):
        Imported(path)


def test_a_header_that_lies_reads_nothing_else(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors", ["joy/a"])
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    sha256 = digest(VIDEOS["joy/a"])
    for change in ({"shape": [2**40]}, {"shape": [-4, -3, 2]}, {"data_offsets": [-96, 0]}):
        entry = header[f"{sha256}.features"] | change
        text = json.dumps(header | {f"{sha256}.features": entry}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        with pytest.raises(WeightsError, match="cannot be read"):
            Imported(path).read(sha256)
