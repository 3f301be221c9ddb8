import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.cache import arrays
from features.cache.arrays import ArrayFileError

CONTENT = {
    "fc6": np.arange(24, dtype=np.float16).reshape(6, 4),
    "valid": np.array([True, False] * 3),
    "empty": np.zeros((0, 128), np.float16),
}
SAYS = {"key": "k", "ingredients": {"b": 1, "a": [1, 2]}, "pretrained": False}


@pytest.mark.parametrize("packing", [arrays.FAST, arrays.COMPACT])
def test_what_is_written_is_read(tmp_path: Path, packing: arrays.Packing) -> None:
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS, packing)
    data, says = arrays.read(tmp_path / "a.h5")
    assert says == {**SAYS, "packing": packing.note}
    assert set(data) == set(CONTENT)
    for name, array in CONTENT.items():
        np.testing.assert_array_equal(data[name], array)
        assert data[name].dtype == array.dtype


def test_the_same_content_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS)
    arrays.write(tmp_path / "b.h5", dict(reversed(CONTENT.items())), dict(reversed(SAYS.items())))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_attribute_may_be_longer_than_64_kib(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", {}, {"ingredients": "x" * 100_000})
    assert arrays.read_attributes(tmp_path / "a.h5")["ingredients"] == "x" * 100_000


PLAIN = """
import json, sys
import h5py

with h5py.File(sys.argv[1]) as file:
    print(json.loads(file.attrs["packing"]))
    try:
        file["fc6"][()]
        sys.exit("hdf5plugin is there already")
    except OSError:
        import hdf5plugin
    print(json.dumps(file["fc6"][()].tolist()))
"""


@pytest.mark.parametrize("packing", [arrays.FAST, arrays.COMPACT])
def test_an_hdf5_without_plugins_is_told_what_it_lacks(
    tmp_path: Path, packing: arrays.Packing
) -> None:
    fc6 = np.arange(4096).repeat(4).astype(np.float16)  # so much that packing it is worth it
    arrays.write(tmp_path / "a.h5", {"fc6": fc6}, SAYS, packing)
    command = [sys.executable, "-I", "-c", PLAIN, str(tmp_path / "a.h5")]
    bare = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
    done = subprocess.run(command, capture_output=True, check=True, env=bare)
    note, numbers = done.stdout.splitlines()
    assert note.decode() == packing.note and b"import hdf5plugin" in note
    assert json.loads(numbers) == fc6.tolist()


def test_how_an_array_is_packed_is_not_its_content(tmp_path: Path) -> None:
    for packing in (arrays.FAST, arrays.COMPACT):
        arrays.write(tmp_path / f"{packing.largest_ratio}.h5", CONTENT, SAYS, packing)
    one, other = map(arrays.content_sha256, tmp_path.glob("*.h5"))
    assert one == other


def test_features_of_earlier_versions_are_read(tmp_path: Path) -> None:
    gzip = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    before = arrays.Packing("gzip and shuffle", gzip, arrays.DEFLATED, 1032)
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS, before)
    np.testing.assert_array_equal(arrays.read(tmp_path / "a.h5")[0]["fc6"], CONTENT["fc6"])


def test_black_features_are_within_the_bound_of_their_packing(tmp_path: Path) -> None:
    black = np.zeros((64, 2048, 7, 7), np.float16)
    arrays.write(tmp_path / "a.h5", {"res5": black}, SAYS, arrays.COMPACT)
    assert not arrays.read(tmp_path / "a.h5")[0]["res5"].any()


def test_only_the_arrays_asked_for_are_read(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS)
    assert list(arrays.read(tmp_path / "a.h5", ["valid"])[0]) == ["valid"]
    with pytest.raises(ArrayFileError, match=r"expected the arrays \['fc7'\], found"):
        arrays.read(tmp_path / "a.h5", ["fc7"])


def test_a_flipped_bit_is_an_error_and_not_a_number(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    arrays.write(tmp_path / "a.h5", {"noise": noise}, {})
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    raw[len(raw) // 2] ^= 16
    (tmp_path / "b.h5").write_bytes(raw)
    with pytest.raises(ArrayFileError, match="b.h5"):
        arrays.read(tmp_path / "b.h5")


def test_what_was_changed_by_hand_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for edit in ("array", "attribute", "digest"):
        path.unlink(missing_ok=True)
        arrays.write(path, CONTENT, SAYS)
        with h5py.File(path, "r+") as file:
            if edit == "array":
                file["fc6"][0, 0] = 7
            elif edit == "attribute":
                file.attrs["pretrained"] = "true"
            else:
                del file.attrs[arrays.SHA256]
        with pytest.raises(ArrayFileError, match="changed since$"):
            arrays.read(path)
    arrays.write(tmp_path / "b.h5", CONTENT, SAYS)
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        file["fc6"][0, 0] = 7
    assert arrays.read(tmp_path / "b.h5", ["valid"])[0]["valid"].any()  # is whole itself


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_array_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ArrayFileError, match="a.h5: expected a whole array file"):
        arrays.read(tmp_path / "a.h5")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS)
    raw = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "b.h5").write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(ArrayFileError, match="b.h5"):
        arrays.read(tmp_path / "b.h5")


@pytest.mark.parametrize("value", [3, ["a", "b"], np.arange(4), np.bytes_(b"3"), h5py.Empty("S1")])
def test_an_attribute_that_is_no_text_is_an_error(tmp_path: Path, value: object) -> None:
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["key"] = value
    with pytest.raises(ArrayFileError, match="a.h5"):
        arrays.read_attributes(tmp_path / "a.h5")


def test_text_of_fixed_length_is_an_array(tmp_path: Path) -> None:
    phases = np.array([b"", b"one"])
    arrays.write(tmp_path / "a.h5", {"phase": phases}, SAYS)
    assert arrays.read(tmp_path / "a.h5")[0]["phase"].tolist() == phases.tolist()


def blocks(array: np.ndarray, *lengths: int) -> arrays.Blocks:
    """Return an array as a stream of blocks of these lengths and what is left."""
    return arrays.Blocks(array.shape, array.dtype, iter(np.split(array, np.cumsum(lengths))))


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [
        ((2_500_000,), (1, 1_000_000, 0, 1_400_000)),
        ((2_500_000,), (2_500_000,)),
        ((262_144,), (262_143,)),
        ((40, 300, 300), (7, 1, 20)),
        ((3, 700, 800), (1, 1)),
        ((5,), (2,)),
        ((0, 128), ()),
    ],
)
def test_blocks_give_the_bytes_of_the_whole_array(
    tmp_path: Path, shape: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    whole = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    arrays.write(tmp_path / "whole.h5", {**CONTENT, "x": whole}, SAYS)
    arrays.write(tmp_path / "blocks.h5", {**CONTENT, "x": blocks(whole, *lengths)}, SAYS)
    assert (tmp_path / "whole.h5").read_bytes() == (tmp_path / "blocks.h5").read_bytes()
    np.testing.assert_array_equal(arrays.read(tmp_path / "blocks.h5")[0]["x"], whole)


def test_an_array_is_written_and_read_in_blocks_of_a_chunk(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).random(1_000_000).astype(np.float32)
    arrays.write(tmp_path / "a.h5", {"x": blocks(whole, 300_000, 1, 500_000), **CONTENT}, SAYS)
    with arrays.streamed(tmp_path / "a.h5") as (found, says):
        assert (found["x"].shape, found["x"].dtype, says["key"]) == (whole.shape, whole.dtype, "k")
        parts = list(found["x"].parts)
    assert max(part.nbytes for part in parts) == arrays.CHUNK_BYTES
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    ("shape", "given"),
    [((5,), np.zeros(4)), ((5,), np.zeros(6)), ((5,), np.zeros(5, int)), ((5, 2), np.zeros(5))],
)
def test_blocks_that_are_not_what_they_were_said_to_be_leave_no_file(
    tmp_path: Path, shape: tuple[int, ...], given: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"x: expected blocks of \(5,"):
        arrays.write(tmp_path / "a.h5", {"x": arrays.Blocks(shape, np.dtype(float), [given])}, {})
    assert not list(tmp_path.iterdir())


def test_a_change_is_an_error_at_the_end_of_the_stream_or_on_leaving_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    arrays.write(path, {"x": np.arange(600_000), **CONTENT}, SAYS)
    with h5py.File(path, "r+") as file:
        file["x"][3] = 7
    seen = 0
    with pytest.raises(ArrayFileError, match="found x changed since$"):
        with arrays.streamed(path, ["x"]) as (found, _):
            for part in found["x"].parts:
                seen += len(part)
    assert seen == 600_000
    with pytest.raises(ArrayFileError, match="found x changed since$"):
        with arrays.streamed(path, ["x"]) as (found, _):
            next(iter(found["x"].parts))
    with pytest.raises(ArrayFileError, match="found x changed since$"):
        arrays.check(path)
    with arrays.streamed(path, ["fc6"]) as (found, _):
        np.testing.assert_array_equal(np.concatenate(list(found["fc6"].parts)), CONTENT["fc6"])


def test_a_file_is_checked_to_its_end_without_holding_its_arrays(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS)
    assert arrays.check(tmp_path / "a.h5") == {**SAYS, "packing": arrays.FAST.note}
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    (tmp_path / "b.h5").write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(ArrayFileError, match="b.h5: expected a whole array file"):
        arrays.check(tmp_path / "b.h5")


def test_an_attribute_that_is_no_scalar_is_not_read(tmp_path: Path) -> None:
    """Each text of a longer attribute would be written behind the place of the first."""
    arrays.write(tmp_path / "a.h5", CONTENT, SAYS)
    texts = np.array(['"k"', '"k"'], h5py.string_dtype())
    for value in (texts[:1], texts[:0], texts.reshape(2, 1), texts):
        with h5py.File(tmp_path / "a.h5", "r+", libver=("v110", "v110")) as file:
            file.attrs["key"] = value
        for read in (arrays.read, arrays.read_attributes, arrays.check):
            with pytest.raises(ArrayFileError, match="a.h5: .*the attribute key is no text"):
                read(tmp_path / "a.h5")
