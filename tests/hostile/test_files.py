"""Hostile files that are no videos: arrays, tables, weights, lists and parameters."""

import csv
import io
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch

from features.cache import arrays, tables
from features.cache.arrays import ArrayFileError
from features.cache.tables import TableError
from features.sources import readers
from features.video.listing import DataSetError, list_videos
from features.weights import file as weights
from features.weights.record import WeightsError
from stages import index
from stages.engine.progress import StageRun
from stages.engine.workers import Workers
from tests.conftest import HANGING_S, write_clip

# ------------------------------------------------------------------------------------ arrays


def external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.arange(3)
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(b"of somebody else")
    file.create_dataset("x", (16,), np.uint8, external=[(str(folder / "secret"), 0, 16)])


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.arange(4)
    layout = h5py.VirtualLayout((4,), int)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (4,))
    file.create_virtual_dataset("x", layout)


def soft_link(file: h5py.File, _folder: Path) -> None:
    file["x"] = h5py.SoftLink("/nowhere")


def a_group(file: h5py.File, _folder: Path) -> None:
    file.create_group("x")


def objects(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype())


def declared(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("x", (1 << 40,), np.uint8, chunks=(1 << 20,), **arrays.FAST.options)


def declared_beyond_deflate(file: h5py.File, _folder: Path) -> None:
    """Eight chunks, one of them stored: more than deflate unpacks to, and less than Blosc does."""
    chunks = (1 << 20,)
    packed = {"compression": "gzip", "shuffle": True}
    zeros = file.create_dataset("x", (8 << 20,), np.uint8, chunks=chunks, **packed)
    zeros[: 1 << 20] = 0
    stored = zeros.id.get_storage_size()
    limit = arrays.LARGEST_RATIOS[arrays.DEFLATED]
    assert limit < zeros.nbytes / stored < arrays.FAST.largest_ratio


def deflated_twice(file: h5py.File, _folder: Path) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((1 << 20,))
    made.set_shuffle()
    for _ in range(2):
        made.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    space = h5py.h5s.create_simple((1 << 20,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, made)


def declared_whole(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("x", (1 << 36,), np.uint8)  # contiguous, never written


def deflated(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("x", data=np.zeros(1 << 20, np.uint8), compression="gzip")


def unknown_filter(file: h5py.File, _folder: Path) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((4,))
    made.set_filter(300, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, made)


def no_space(file: h5py.File, _folder: Path) -> None:
    file["x"] = h5py.Empty("f")


HDF5: dict[Callable[[h5py.File, Path], None], str] = {
    external_link: "link to elsewhere",
    external_storage: "in another file",
    virtual: "in another file",
    soft_link: "expected",
    a_group: "no array",
    objects: "not numbers",
    declared: "declares 1,099,511,627,776 bytes and stores 0",
    declared_whole: "declares 68,719,476,736 bytes and stores 0",
    deflated: r"packed by the filters \[1\]",
    deflated_twice: r"packed by the filters \[2, 1, 1\]",
    declared_beyond_deflate: "declares 8,388,608 bytes and stores",
    unknown_filter: r"packed by the filters \[300\]",
    no_space: "no array",
}


@pytest.mark.parametrize("make", HDF5, ids=lambda make: make.__name__)
def test_an_array_file_that_is_more_than_arrays_is_refused(
    tmp_path: Path, make: Callable[[h5py.File, Path], None]
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        make(file, tmp_path)
    for names in (None, ["x"]):
        with pytest.raises(ArrayFileError, match=f"a.h5: .*{HDF5[make]}"):
            arrays.read(path, names)


def test_arrays_that_are_really_stored_are_refused_where_they_unpack_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = np.zeros((64, 1 << 20), np.uint8)
    arrays.write(tmp_path / "a.h5", {"a": zeros, "b": zeros}, {})
    assert (tmp_path / "a.h5").stat().st_size < 100_000
    assert not arrays.read(tmp_path / "a.h5")[0]["b"].any()  # ours: black frames pack so well
    monkeypatch.setattr(arrays, "LARGEST_BYTES", 100 << 20)
    with pytest.raises(ArrayFileError, match="arrays of 134,217,728 bytes, allowed are"):
        arrays.read(tmp_path / "a.h5")
    assert list(arrays.read(tmp_path / "a.h5", ["b"])[0]) == ["b"]


def test_a_chunk_that_is_shorter_than_it_should_be_is_an_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, 1 << 20).astype(np.uint8)
    arrays.write(tmp_path / "short.h5", {"x": noise[:100]}, {})
    arrays.write(tmp_path / "a.h5", {"x": noise}, {})
    with h5py.File(tmp_path / "short.h5") as short, h5py.File(tmp_path / "a.h5", "r+") as file:
        file["x"].id.write_direct_chunk((0,), short["x"].id.read_direct_chunk((0,))[1])
    with pytest.raises(ArrayFileError, match="a.h5"):
        arrays.read(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "value",
    [np.arange(3), b"\xff", "[" * 100_000, "9" * 5000, "NaN", "{", h5py.Empty("S1"), 7],
    ids=["array", "bytes", "deep", "digits", "nan", "brace", "empty", "number"],
)
def test_an_attribute_that_is_not_ours_is_an_error(tmp_path: Path, value: object) -> None:
    arrays.write(tmp_path / "a.h5", {}, {"key": "k"})
    with h5py.File(tmp_path / "a.h5", "r+", libver=("v110", "v110")) as file:
        file.attrs["key"] = value
    with pytest.raises(ArrayFileError, match="a.h5"):
        arrays.read_attributes(tmp_path / "a.h5")


# ------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize("path", ["../x.h5", "/etc/passwd", "joy/../../x.h5", 7])
def test_a_table_whose_paths_lead_out_is_refused(tmp_path: Path, path: object) -> None:
    kind = pa.string() if isinstance(path, str) else pa.int64()
    tables.write(tmp_path / "t.parquet", [{"path": path}, {}], pa.schema([("path", kind)]))
    with pytest.raises(TableError, match="t.parquet: expected paths below its folder, found"):
        tables.read(tmp_path / "t.parquet")


def test_a_table_of_too_many_rows_is_refused_unread(tmp_path: Path) -> None:
    rows = pa.table({"path": pa.nulls(tables.LARGEST_ROWS + 1, pa.string())})
    pa.parquet.write_table(rows, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    with pytest.raises(TableError, match="expected at most 5,000,000 rows, found 5,000,001"):
        tables.read(tmp_path / "t.parquet")


# ----------------------------------------------------------------------------------- weights


def test_a_checkpoint_whose_shapes_are_larger_than_its_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(1, dtype=torch.float16).expand(1 << 40)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(WeightsError, match="a.pth: its tensors would take 4,398,046,511,104 bytes"):
        readers.checkpoint([path])


def test_a_checkpoint_whose_storage_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(100_000)}, tmp_path / "whole.pth")
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(path, "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[:8] if "/data/" in name else content)
    with pytest.raises(WeightsError, match="a.pth: expected a PyTorch checkpoint"):
        readers.checkpoint([path])


def test_a_checkpoint_of_other_than_ordinary_numbers_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2, dtype=torch.complex64)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="expected tensors of ordinary numbers, found w"):
        readers.checkpoint([tmp_path / "a.pth"])


def test_an_old_checkpoint_in_a_tar_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.pth.tar"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as archive:
        for name in ("../../canary", "sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(WeightsError, match="a.pth.tar: expected a PyTorch checkpoint"):
        readers.checkpoint([path])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.pth.tar", "deep", "er"]


def test_a_pickle_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".")
    with pytest.raises(WeightsError, match="a.pth: expected a PyTorch checkpoint"):
        readers.checkpoint([tmp_path / "a.pth"])


def test_a_numpy_archive_that_declares_more_than_memory_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % (1 << 45)
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)
        archive.writestr("pca_means.npy", content)
    with pytest.raises(WeightsError, match="a.npz: expected a NumPy archive"):
        readers.numpy_archive([tmp_path / "a.npz"])


def keras(path: Path) -> h5py.Group:
    """Begin a Keras file of one layer, and return its group."""
    file = h5py.File(path, "w")
    file.attrs["layer_names"] = [b"conv"]
    layer = file.create_group("conv")
    layer.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
    layer["kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
    return layer


@pytest.mark.parametrize("kind", ["link", "storage", "virtual", "packed", "declared", "group"])
def test_a_keras_file_that_is_more_than_arrays_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.h5"
    layer = keras(path)
    if kind == "link":
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other["x"] = np.zeros(64, np.float32)
        layer["bias:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    elif kind == "storage":
        (tmp_path / "secret").write_bytes(bytes(256))
        layer.create_dataset("bias:0", (64,), "f4", external=[(str(tmp_path / "secret"), 0, 256)])
    elif kind == "virtual":
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other["x"] = np.zeros(64, np.float32)
        places = h5py.VirtualLayout((64,), "f4")
        places[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (64,))
        layer.create_virtual_dataset("bias:0", places)
    elif kind == "packed":
        layer.create_dataset("bias:0", data=np.ones(64, "f4"), compression="gzip")
    elif kind == "declared":
        layer.create_dataset("bias:0", (1 << 40,), "f4")
    else:
        layer.create_group("bias:0")
    layer.file.close()
    reason = {
        "link": "link to elsewhere",
        "storage": "is packed or lies in another file",
        "virtual": "is packed or lies in another file",
        "packed": "is packed or lies in another file",
        "declared": "declares more bytes than it stores",
        "group": "holds no numbers",
    }
    with pytest.raises(WeightsError, match=f"a.h5: .*{reason[kind]}"):
        readers.keras([path])


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SAFETENSORS: dict[str, tuple[object, int]] = {
    "overlap": ({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, 12),
    "shape": ({"a": {**F32, "shape": [1 << 40]}}, 8),
    "overflow": ({"a": {**F32, "shape": [1 << 33, 1 << 33]}}, 8),
    "negative": ({"a": {**F32, "shape": [-2]}}, 8),
    "outside": ({"a": {**F32, "shape": [4], "data_offsets": [0, 16]}}, 8),
    "hole": ({"a": {**F32, "data_offsets": [8, 16]}}, 16),
    "type": ({"a": {**F32, "dtype": "PICKLE"}}, 8),
    "metadata": ({"__metadata__": {"name": [1]}, "a": F32}, 8),
    "list": ([1, 2], 8),
}


@pytest.mark.parametrize("case", [*SAFETENSORS, "giant", "deep", "short"])
def test_a_safetensors_file_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.safetensors"
    if case in SAFETENSORS:
        header, body = SAFETENSORS[case]
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
    elif case == "deep":
        path.write_bytes(struct.pack("<Q", 100_000) + b'{"a":'.ljust(100_000, b"["))
    else:
        path.write_bytes(struct.pack("<Q", 1 << 62 if case == "giant" else 100) + b"{}")
    for read in (
        lambda: readers.safetensors([path]),
        lambda: readers.checkpoint([path]),
        lambda: weights.metadata(path),
        lambda: weights.load(path, torch.nn.Linear(1, 1)),
    ):
        with pytest.raises(WeightsError, match="a.safetensors: expected"):
            read()
    assert readers.keys_in(path) == frozenset()


# --------------------------------------------------------------------------------------- CSV


CSV_REFUSED = {
    "utf16": "path,label\na.mp4,joy\n".encode("utf-16"),
    "latin1": "path,label\na.mp4,gefühl\n".encode("latin-1"),
    "nothing": b"",
    "columns": b"path,formula\na.mp4,=1+1\n",
    "twice": b"path,path,label\na.mp4,a.mp4,joy\n",
    "more": b"path,label\na.mp4,joy,x,y\n",
    "fewer": b"path,label\na.mp4\n",
    "quotes": b'path,label\n"a.mp4,joy\n',
    "nul": b"path,label\na\0.mp4,joy\n",
    "nul_label": b"path,label\na.mp4,j\0y\n",
    "slash": b"path,label\na.mp4,../joy\n",
    "dots": b"path,label\na.mp4,..\n",
    "absolute": b"path,label\na.mp4,/joy\n",
    "space": b"path,label\na.mp4,joy \n",
    "field": b"path,label\n" + b"a" * 200_000 + b",joy\n",
    "split": b"path,label,split\na.mp4,joy,=1+1\n",
    "binary": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("case", CSV_REFUSED)
def test_a_csv_that_is_no_list_of_videos_is_refused_with_its_place(
    tmp_path: Path, case: str
) -> None:
    path = tmp_path / "videos.csv"
    path.write_bytes(CSV_REFUSED[case])
    with pytest.raises(DataSetError, match="videos.csv"):
        list_videos(path)


def test_a_csv_of_hostile_rows_gives_rows_with_reasons_and_writes_nothing_outside(
    in_folder: Path,
) -> None:
    clip = write_clip(Path("far/a.mp4"), frames=2)
    paths = {
        "../lists/../far/a.mp4": None,
        str(clip.absolute()): None,
        "../far/" + "x" * 300 + ".mp4": "its name or label has more than 220 bytes",
        "../far/" * 2000 + "a.mp4": "no such file",
        "../far/...mp4": "its name cannot name its items",
        "..": "its name cannot name its items",
        "../far": "no such file",
        "/dev/zero": "no such file",
        "http://127.0.0.1:9/a.mp4": "no such file",
        "=cmd|' /C calc'!A0": "no such file",
        "../far/\u202e4pm.a": "no such file",
        "\n": "no such file",
    }
    write_clip(Path("far/...mp4"), frames=2)
    Path("lists").mkdir()
    with Path("lists/v.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([path, "=1+1"] for path in paths)
    before = {path for path in in_folder.rglob("*")}
    videos, _ = list_videos(Path("lists/v.csv"))
    made = index.index(StageRun("index"), videos, Path("out"), Workers(0))
    found = {str(row["file"]): row["reason"] for row in made}
    for path, reason in paths.items():
        assert str(found[path]).startswith(str(reason)), path
    written = {path.relative_to(in_folder).parts[0] for path in in_folder.rglob("*")}
    ours = {"out", ".store", "logs"}
    assert written == {path.relative_to(in_folder).parts[0] for path in before} | ours


def test_the_same_row_many_times_takes_no_time_to_name(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("path,label\n" + "a.mp4,joy\n" * 30_000)
    videos, _ = list_videos(path)
    assert len({video.video_id for video in videos}) == 30_000


# ------------------------------------------------------------------------------------ params


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
"""Nine to the tenth items in a file of 600 bytes."""

PARAMS = {
    "object": "max_failed: !!python/object/apply:os.system ['touch canary']\n",
    "module": "max_failed: !!python/module:antigravity\n",
    "bomb": BOMB,
    "bomb_in_place": BOMB + "max_failed: *j\n",
    "deep": "a: " + "[" * 20_000,
    "digits": "max_failed: " + "9" * 5000 + "\n",
    "nan": "max_failed: .nan\n",
    "list": "- a\n- b\n",
    "keys": "? [a, b]\n: 1\n",
    "itself": "max_failed: &m [*m]\n",
    "bytes": "max_failed: !!binary aGk=\n",
    "control": "max_failed: \x00\n",
}


@pytest.mark.parametrize("case", PARAMS)
def test_hostile_parameters_are_refused_in_seconds_and_run_nothing(
    tmp_path: Path, case: str
) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS[case])
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))\n"
        "from stages.engine.params import load_params, ParamsError\n"
        "try: load_params()\n"
        "except ParamsError as error: print(len(str(error)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        text=True,
        capture_output=True,
        timeout=HANGING_S,
        check=False,
    )
    assert done.returncode == 0 and int(done.stdout) < 10_000, done.stderr[-500:]
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
