"""Against another unpacker: HDF5's own filter, and differences undone by sums in the open."""

import struct
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from features.cache import arrays, pixels
from features.cache.arrays import ArrayFileError, Blocks

Pixels = NDArray[np.uint8]

SHAPES = [(1, 1, 1, 3), (7, 5, 3, 3), (9, 256, 300, 3), (3, 16, 32, 57, 3), (2, 600, 800, 3)]
"""One pixel; one chunk; a last chunk that is not full; snippets; a picture larger than a chunk."""


def noise(shape: tuple[int, ...]) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def smooth(shape: tuple[int, ...]) -> Pixels:
    """Return pictures with a little grain whose lines, columns and channels are alike."""
    t, h, w, c = np.indices(shape, np.int64)
    waves = 90 + 60 * np.sin(h / 40 + t) + 50 * np.sin(w / 60) + 10 * c
    return (waves + noise(shape) % 4).astype(np.uint8)


def by_hdf5(path: Path) -> Pixels:
    """Read pictures without a line of ours."""
    with h5py.File(path) as file:
        lines = np.cumsum(file["frames"][()], axis=-3, dtype=np.uint8)
    red, green, blue = np.moveaxis(lines, -1, 0)
    return np.stack([red + green, green, blue + green], -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_are_read_bit_for_bit_here_and_by_hdf5(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    frames = noise(shape)
    arrays.write(tmp_path / "a.h5", {"frames": frames}, {})
    np.testing.assert_array_equal(arrays.read(tmp_path / "a.h5")[0]["frames"], frames)
    np.testing.assert_array_equal(by_hdf5(tmp_path / "a.h5"), frames)
    with arrays.streamed(tmp_path / "a.h5") as (blocks, _attributes):
        parts = list(blocks["frames"].parts)
    np.testing.assert_array_equal(np.concatenate(parts), frames)


def test_blocks_of_pictures_give_the_bytes_of_the_whole(tmp_path: Path) -> None:
    frames = noise((9, 256, 300, 3))
    parts = Blocks(frames.shape, frames.dtype, np.split(frames, [1, 6]))
    arrays.write(tmp_path / "a.h5", {"frames": frames}, {})
    arrays.write(tmp_path / "b.h5", {"frames": parts}, {})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_pictures_of_before_are_read_and_count_as_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = smooth((6, 240, 320, 3))
    arrays.write(tmp_path / "new.h5", {"frames": frames}, {"axes": "T H W C"})
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "are_pixels", lambda *_: False)
        arrays.write(tmp_path / "old.h5", {"frames": frames}, {"axes": "T H W C"})
    with h5py.File(tmp_path / "old.h5") as old:
        assert str(hdf5plugin.Blosc.filter_id) in old["frames"]._filters
    np.testing.assert_array_equal(arrays.read(tmp_path / "old.h5")[0]["frames"], frames)
    new, old = (arrays.content_sha256(tmp_path / name) for name in ("new.h5", "old.h5"))
    assert new == old
    sizes = {name: (tmp_path / name).stat().st_size for name in ("new.h5", "old.h5")}
    assert sizes["new.h5"] < 0.75 * sizes["old.h5"]


def test_black_pictures_are_within_the_bound_of_their_packing(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", {"frames": np.zeros((24, 720, 1280, 3), np.uint8)}, {})
    assert not arrays.read(tmp_path / "a.h5")[0]["frames"].any()


def altered(tmp_path: Path, packed: bytes) -> Path:
    """Return a file of one picture of which a chunk is something else."""
    arrays.write(tmp_path / "a.h5", {"frames": noise((1, 64, 64, 3))}, {})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["frames"].id.write_direct_chunk((0, 0, 0, 0), packed)
    return tmp_path / "a.h5"


HUGE = struct.pack("<IBQ", 0xFD2FB528, 0b1110_0000, 1 << 50)
"""The head of a frame of Zstandard (RFC 8878, 3.1.1.1) of so many bytes."""

ZEROS = HUGE + b"".join(
    struct.pack("<I", last | 1 << 1 | (128 << 10) << 3)[:3] + b"\0" for last in [0] * 63 + [1]
)
"""Blocks that repeat a zero (RFC 8878, 3.1.1.2): 256 bytes that unpack to 8 MiB."""


@pytest.mark.parametrize("packed", [b"text", HUGE, ZEROS])
def test_a_chunk_that_is_no_picture_is_refused(tmp_path: Path, packed: bytes) -> None:
    path = altered(tmp_path, packed)
    for use in (arrays.read, arrays.check):
        with pytest.raises(ArrayFileError, match="a.h5: expected"):
            use(path)


def test_numbers_that_are_no_pictures_are_not_taken_for_them(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", {"frames": noise((1, 64, 64, 3))}, {})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["frames"]
        file.create_dataset("frames", data=np.ones((64, 64)), **hdf5plugin.Zstd())
    with pytest.raises(ArrayFileError, match=r"packed by the filters \[32015\]"):
        arrays.read(tmp_path / "a.h5")
