"""Size of the stored features against the speed of writing and reading them, by HDF5 filter.

The clips of a folder are decoded and go through the backbones; what comes out is packed by each
filter, as the stage writes it, and unpacked. Weights are seeded, BlazePose's are a file of yours.
Three figures a feature and filter:

* size: bytes in the file, over the bytes of the same numbers as float32;
* write, read: seconds of one processor core, so that what else the machine does counts little, for
  a MiB of the array as stored; the sha256 that is made and compared is in neither.

    python benchmarks/storage.py --clips data/raw/joy
    python benchmarks/storage.py --clips data/raw/joy --pose pose_landmarker_full.task --json

`all` is the sum over a video's features of a backbone, and over all backbones one video each.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import hdf5plugin
import numpy as np
import typer
from agreement import VIEWS, Array, Clip, pictures, read_clips
from runtimes import machine

from features import backbones
from features.cache.arrays import COMPACT, chunk_rows
from features.networks.extraction import extract
from features.options import options_of, views_of
from features.sources.readers import read
from features.waveform import Waveform
from features.weights.file import load, write, write_seeded
from features.weights.record import weights_of

MIB = 1 << 20

BLOSC, BLOSC2 = hdf5plugin.Blosc, hdf5plugin.Blosc2

FILTERS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "shuffle, Zstandard 1 (ours)": COMPACT.options,
    "shuffle, Zstandard 3": {"shuffle": True, **hdf5plugin.Zstd(clevel=3)},
    "shuffle, Zstandard 6": {"shuffle": True, **hdf5plugin.Zstd(clevel=6)},
    "shuffle, gzip 1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "shuffle, gzip 4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "shuffle, lzf": {"compression": "lzf", "shuffle": True},
    "Blosc, shuffle, lz4 5": BLOSC("lz4", 5, BLOSC.SHUFFLE),
    "Blosc, bit shuffle, lz4 5": BLOSC("lz4", 5, BLOSC.BITSHUFFLE),
    "Blosc, shuffle, Zstandard 1": BLOSC("zstd", 1, BLOSC.SHUFFLE),
    "Blosc, shuffle, Zstandard 3": BLOSC("zstd", 3, BLOSC.SHUFFLE),
    "Blosc, bit shuffle, Zstandard 3": BLOSC("zstd", 3, BLOSC.BITSHUFFLE),
    "Blosc2, shuffle, Zstandard 1": BLOSC2("zstd", 1, BLOSC2.SHUFFLE),
    "Bitshuffle, lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "Bitshuffle, Zstandard 3": hdf5plugin.Bitshuffle(cname="zstd", clevel=3),
}
"""Name -> options of h5py's ``create_dataset``."""

ROWS = {"segments": 24, "uniform": 100, "snippets": 10}
"""Of each view as the papers have them: fewer are computed here, and count for so many."""

SEEN = {**{name: name for name in ROWS}, "faces": "segments"}
"""View that a backbone reads -> the one that its rows come from; of the sound all is computed."""


@dataclass(frozen=True)
class Packed:
    """What a filter makes of an array, or of several."""

    what: str
    filter: str
    size: float
    write_s: float
    read_s: float


@dataclass
class Count:
    """Bytes and seconds, added up."""

    stored: float = 0.0
    packed: float = 0.0
    wide: float = 0.0
    write_s: float = 0.0
    read_s: float = 0.0

    def add(self, other: "Count", times: float) -> None:
        """Add another so many times."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + times * value)

    def result(self, what: str, name: str) -> Packed:
        """Return the figures of all that was added."""
        stored_mib = self.stored / MIB
        size = self.packed / self.wide
        return Packed(what, name, size, self.write_s / stored_mib, self.read_s / stored_mib)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    clips: Annotated[Path, typer.Option(help="folder of videos")],
    pose: Annotated[Path | None, typer.Option(help="BlazePose's bundle, .task")] = None,
    only: Annotated[str, typer.Option(help="backbones, with commas; all")] = "all",
    repeat: Annotated[int, typer.Option(help="turns of each filter; the least counts")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure filters on the features of real clips."""
    names = backbones.names() if only == "all" else only.split(",")
    counts: dict[tuple[str, str], Count] = {}
    with tempfile.TemporaryDirectory() as folder:
        opened = list(read_clips(clips, Path(folder)))
        for name in names:
            view = SEEN.get(views_of(backbones.load(name))[0])
            times = ROWS[view] / VIEWS[view].count if view else 1.0
            for feature, array in features(name, opened, pose, Path(folder)):
                for kind, options in FILTERS.items():
                    count = measure(array, options, repeat, Path(folder) / "array.h5")
                    for what in (f"{name} {feature}", f"{name} all", "all"):
                        counts.setdefault((what, kind), Count()).add(count, times)
            if not as_json:
                print_table(of(counts, name), f"{name} ")
    rows = [count.result(*what) for what, count in counts.items()]
    if as_json:
        print(json.dumps({**machine(), "packed": [asdict(row) for row in rows]}, indent=1))
    else:
        print_table([row for row in rows if row.what == "all"], "")


def of(counts: Mapping[tuple[str, str], Count], name: str) -> list[Packed]:
    """Return what was found of a backbone."""
    return [count.result(*what) for what, count in counts.items() if what[0].startswith(f"{name} ")]


def features(
    name: str, clips: Iterable[Clip], pose: Path | None, folder: Path
) -> Iterator[tuple[str, Array]]:
    """Yield a backbone's features of each clip, as they are stored."""
    module = backbones.load(name)
    options = options_of(module, {})
    network = module.build(options)
    path = folder / f"{name}.safetensors"
    if weights_of(module, options).can_seed:
        write_seeded(path, name, 1)
    elif name == "blazepose" and pose:
        facts = {"name": name, "source": pose.name, "pretrained": "true"}
        write(path, read("pose_task", [pose]), facts)
    else:
        print(f"{name}: left out, it has no seeded weights; see --pose", file=sys.stderr)
        return
    load(path, network)
    path.unlink()
    for clip in clips:
        view: Mapping[str, Array] | Waveform = clip.waveform
        if (kind := views_of(module)[0]) == "faces":
            view = {**clip.views["segments"], "frames": pictures(clip)["crops"]}
        elif kind != "sound":
            view = clip.views[kind]
        found = extract(module, network, view, options)
        for feature in module.FEATURES:
            if found[feature].size:
                yield feature, found[feature]


def measure(array: Array, options: Mapping[str, Any], repeat: int, path: Path) -> Count:
    """Pack and unpack an array in chunks as features are stored, and compare."""
    count = Count(array.nbytes, 0, 4 * array.size, float("inf"), float("inf"))
    rows = chunk_rows(array.shape, array.dtype)
    for _ in range(repeat):
        begin = time.thread_time()
        with h5py.File(path, "w", libver=("v110", "v110")) as file:
            chunks = (rows, *array.shape[1:])
            file.create_dataset("array", data=array, chunks=chunks, **options)
        count.write_s = min(count.write_s, time.thread_time() - begin)
        with h5py.File(path, "r") as file:
            begin = time.thread_time()
            unpacked = file["array"][()]
            count.read_s = min(count.read_s, time.thread_time() - begin)
            count.packed = file["array"].id.get_storage_size()
        assert np.array_equal(unpacked, array)
    return count


def print_table(rows: Iterable[Packed], prefix: str) -> None:
    """Print a line a feature and filter."""
    for row in rows:
        print(
            f"{row.what.removeprefix(prefix):12} {row.filter:32} {row.size:6.3f} of float32, "
            f"{1000 * row.write_s:7.2f} ms a MiB to write, {1000 * row.read_s:6.2f} to read",
            flush=True,
        )
        if row.filter == list(FILTERS)[-1]:
            print()


if __name__ == "__main__":
    app()
