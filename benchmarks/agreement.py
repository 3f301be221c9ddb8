"""How far the numbers agree between threads, instruction sets and versions of libraries.

Each environment is a process of its own that makes the same arrays from the same clips: decoded
frames, sound, crops, log-mel, MFCC, and the features of each backbone with seeded weights. What it
makes is compared with what this environment makes, array by array. The table of
docs/reproducibility.md is from it.

    python benchmarks/agreement.py --clips DIR
    pip install --no-deps --target /tmp/av18.0 av==18.0.0
    python benchmarks/agreement.py --clips DIR --other 'av 18.0=/tmp/av18.0' --json

Of another machine: `--record FILE` there and `--against FILE` here.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import torch
import typer
from numpy.typing import NDArray

from features import backbones
from features.backbones import resnet18_mfcc
from features.cache.keys import file_sha256
from features.detectors import blazeface, retinaface
from features.faces import align, crop, shots
from features.networks.extraction import extract
from features.networks.mel import BANDS, EXAMPLE_FRAMES, SAMPLE_RATE_HZ, examples
from features.options import dtypes_of, options_of, views_of
from features.video.decode import decode, padded
from features.video.opening import VideoError
from features.video.sound import decoded
from features.video.views import View
from features.waveform import Waveform, resampled
from features.weights.file import load, write_seeded
from features.weights.record import weights_of
from features.weights.seeding import initialise
from stages.engine.device import be_reproducible
from stages.engine.items import software

PROJECT = Path(__file__).resolve().parents[1]

Array = NDArray[np.generic]
Named = dict[str, Array]

VIEWS = {
    "segments": View("segments", 6, 720),
    "uniform": View("uniform", 6, 256),
    "snippets": View("snippets", 2, 128, 16),
}
"""Of params.yaml, with fewer rows."""

SECONDS = 20
"""Of a clip's sound, at most."""

BOX = (0.31, 0.22, 0.62, 0.71)
"""Of a face that is taken to be there, x0 y0 x1 y1 as shares of the frame."""

POINTS = {"right eye": (0.4, 0.4), "left eye": (0.55, 0.42), "mouth": (0.47, 0.6)}
"""Of that face, x y as shares of the frame."""

NO_EXAMPLE = np.zeros((0, EXAMPLE_FRAMES, BANDS), np.float32)
""":func:`features.networks.mel.examples` of a sound that is too short."""

ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "the same again": {},
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "torch without AVX-512": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "all without AVX-512": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    },
}
"""What is compared with this environment: name -> environment variables.

`ATEN_CPU_CAPABILITY` is of torch's own loops; its convolutions are oneDNN's, its products MKL's.
FFmpeg, soxr and MediaPipe choose by themselves and cannot be told.
"""


@dataclass(frozen=True)
class Agreement:
    """How far the numbers of a kind agree over all clips.

    Attributes:
        kind: e.g. ``frames segments`` or ``vgg16 fc6``; ``vgg16 fc6 stored`` is in its own dtype.
        numbers: how many.
        differ: share that are not the same.
        largest: largest difference.
        relative: largest difference of a number, as a share of the larger of the two; of those
            alone that are at least a thousandth of the largest, as of the others all is rounding.
        of_norm: norm of the difference as a share of the norm of the numbers.
        cosine: of the numbers of both, least over the clips.
        missing: clips whose arrays are in one alone, or of other shapes there.
    """

    kind: str
    numbers: int
    differ: float
    largest: float
    relative: float
    of_norm: float
    cosine: float
    missing: int


app = typer.Typer(add_completion=False)


@app.command()
def main(
    clips: Annotated[Path, typer.Option(help="folder of videos")],
    weights: Annotated[
        Path | None, typer.Option(help="a clone's data/weights: its detector and blazepose too")
    ] = None,
    only: Annotated[str, typer.Option(help="backbones, with commas; all, or none")] = "all",
    other: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of libraries to use instead")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="write the arrays there, no more")] = None,
    against: Annotated[Path | None, typer.Option(help="compare with that file alone")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare what environments make of the same clips."""
    if record:
        write(record, clips, weights, only)
        return
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch) / "here.h5"
        arguments = [f"--clips={clips.resolve()}", f"--only={only}"]
        arguments += [f"--weights={weights.resolve()}"] if weights else []
        run(here, arguments, {})
        tables = {}
        if against:
            tables[against.name] = compare(here, against)
            if not as_json:
                print_table(against.name, tables[against.name])
        else:
            environments = dict(ENVIRONMENTS) if not other else {}
            for each in other or []:
                name, _, folder = each.partition("=")
                environments[name] = {"PYTHONPATH": str(Path(folder).resolve())}
            for name, environment in environments.items():
                there = Path(scratch) / "there.h5"
                run(there, arguments, environment)
                tables[name] = compare(here, there)
                if not as_json:
                    print_table(name, tables[name])
        if as_json:
            report: dict[str, Any] = {"here": read_software(here)}
            report |= {name: [asdict(row) for row in rows] for name, rows in tables.items()}
            print(json.dumps(report, indent=1))


def run(path: Path, arguments: list[str], environment: Mapping[str, str]) -> None:
    """Record the arrays of an environment, in a process of its own, at ``path``."""
    folders = [environment.get("PYTHONPATH", ""), str(PROJECT), os.environ.get("PYTHONPATH", "")]
    python_path = os.pathsep.join(filter(None, folders))
    path.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, __file__, *arguments, f"--record={path}"],
        env={**os.environ, **environment, "PYTHONPATH": python_path},
        check=True,
    )


# ------------------------------------------------------------------------------ one environment


@dataclass(frozen=True)
class Clip:
    """What a clip gives to the networks: arrays of each view, its sound and its rate."""

    name: str
    views: Mapping[str, Named]
    sound: NDArray[np.float32]
    rate_hz: int

    @property
    def waveform(self) -> Waveform:
        """Its sound, to be gone through."""
        return Waveform(len(self.sound), self.rate_hz, [self.sound])


def write(path: Path, clips: Path, weights: Path | None, only: str) -> None:
    """Write what this process makes of all clips to a file: ``<clip>|<kind>`` -> array."""
    be_reproducible("cpu")
    names = {"all": backbones.names(), "none": []}.get(only, only.split(","))
    with tempfile.TemporaryDirectory() as folder, h5py.File(path, "w") as file:
        opened = list(read_clips(clips, Path(folder)))
        for clip in opened:
            made = {f"frames {name}": view["frames"] for name, view in clip.views.items()}
            for kind, array in (made | pictures(clip) | sounds(clip)).items():
                file[f"{clip.name}|{kind}"] = array
        for kind, clip, array in detected(opened, weights):
            file[f"{clip.name}|{kind}"] = array
        for name in names:
            for kind, clip, array in features(name, opened, weights, Path(folder)):
                file[f"{clip.name}|{kind}"] = array
        file.attrs["software"] = json.dumps(software())  # all that it used is imported now


def read_clips(clips: Path, folder: Path) -> Iterator[Clip]:
    """Decode the videos of a folder; what cannot be decoded is told and left out."""
    for path in sorted(path for path in clips.iterdir() if path.is_file()):
        try:
            views = decode(path, VIEWS, seed=f"0 {file_sha256(path)}").views
            with decoded(path, folder) as waveform:
                sound = np.concatenate([np.zeros(0, np.float32), *waveform.blocks])
        except VideoError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        rows = {name: padded(view, VIEWS[name].count) for name, view in views.items()}
        rate_hz = waveform.sample_rate_hz
        yield Clip(path.name, rows, sound[: SECONDS * rate_hz], rate_hz)


def pictures(clip: Clip) -> Named:
    """Return what faces cuts out of frames, for a face that is taken to be in a fixed place."""
    frames = clip.views["segments"]["frames"]
    size = np.array(frames.shape[2:0:-1], np.float32)
    box = (np.array(BOX, np.float32).reshape(2, 2) * size).ravel()
    points = np.array(list(POINTS.values()), np.float32) * size
    return {
        "crops": np.stack([crop(frame, box, margin=0.25) for frame in frames]),
        "crops aligned": np.stack(
            [align(frame, box, points, list(POINTS), margin=0.25) for frame in frames]
        ),
        "shots": shots(frames, clip.views["segments"]["valid"], cut=0.2),
    }


def sounds(clip: Clip) -> Named:
    """Return the sound, resampled, and what the backbones of sound make of it."""
    if not len(clip.sound):
        return {}
    blocks = resampled([clip.sound], clip.rate_hz, SAMPLE_RATE_HZ)
    mfcc = [rows for rows, _ in resnet18_mfcc.preprocess(clip.waveform)]
    return {
        "sound": clip.sound,
        "sound 16 kHz": np.concatenate(list(blocks)),
        "log-mel": np.concatenate([*(rows for rows, _ in examples(clip.waveform)), NO_EXAMPLE]),
        "MFCC": np.concatenate([rows.numpy() for rows in mfcc]),
    }


def detected(clips: list[Clip], weights: Path | None) -> Iterator[tuple[str, Clip, Array]]:
    """Yield what the detectors make of each clip: (kind, clip, array)."""
    retina = retinaface.build(retinaface.Options(max_size=320))
    initialise(retina, 1)
    blaze = blazeface.build(blazeface.Options(min_score=0.5))
    if weights:
        load(weights / "detector.safetensors", blaze)
    for clip in clips:
        frames = clip.views["segments"]["frames"][:2]
        inputs = retina.prepare(frames)
        yield "retinaface input", clip, inputs.numpy()
        with torch.inference_mode():
            yield "retinaface boxes", clip, retina.network(inputs)[0].numpy()
        if weights:
            found = blaze.detect_batch(clip.views["segments"]["frames"])
            yield "blazeface boxes", clip, np.concatenate([faces.boxes for faces in found])
            yield "blazeface scores", clip, np.concatenate([faces.scores for faces in found])


def features(
    name: str, clips: list[Clip], weights: Path | None, folder: Path
) -> Iterator[tuple[str, Clip, Array]]:
    """Yield a backbone's features of each clip, float32, and as they are stored."""
    module = backbones.load(name)
    options = options_of(module, {})
    path = folder / "seeded.safetensors"
    if weights_of(module, options).can_seed:
        write_seeded(path, name, 1)
    elif weights and (weights / f"{name}.safetensors").is_file():
        path = weights / f"{name}.safetensors"
    else:
        print(f"{name}: left out, it has no seeded weights; see --weights", file=sys.stderr)
        return
    network = load(path, module.build(options))
    stored = dtypes_of(module, options, {})
    for clip in clips:
        view: Named | Waveform = clip.waveform
        if (kind := views_of(module)[0]) == "faces":
            view = {**clip.views["segments"], "frames": pictures(clip)["crops"]}
        elif kind != "sound":
            view = clip.views[kind]  # type: ignore[assignment]
        wide = dict.fromkeys(stored, "float32")
        found = extract(module, network, view, options, dtypes=wide)
        for feature, dtype in stored.items():
            values = found[feature][found["valid"]]
            yield f"{name} {feature}", clip, values
            yield f"{name} {feature} stored", clip, values.astype(dtype)


# ------------------------------------------------------------------------------------ comparison


def compare(here: Path, there: Path) -> list[Agreement]:
    """Compare two files of :func:`write`, kind by kind over all clips."""
    with h5py.File(here) as one, h5py.File(there) as other:
        kinds: dict[str, list[tuple[Array, Array] | None]] = {}
        for name in dict.fromkeys([*one, *other]):
            is_pair = name in one and name in other and one[name].shape == other[name].shape
            pair = (one[name][()], other[name][()]) if is_pair else None
            kinds.setdefault(name.partition("|")[2], []).append(pair)
    return [agreement(kind, pairs) for kind, pairs in kinds.items()]


def agreement(kind: str, pairs: list[tuple[Array, Array] | None]) -> Agreement:
    """Return how far arrays agree; None stands for a clip whose arrays cannot be compared."""
    there = [pair for pair in pairs if pair is not None]
    a, b = (
        np.concatenate([np.zeros(0), *(pair[side].ravel().astype(np.float64) for pair in there)])
        for side in (0, 1)
    )
    difference, size = np.abs(a - b), np.maximum(np.abs(a), np.abs(b))
    counts = size >= size.max(initial=0) / 1000
    ratio = np.divide(difference, size, out=np.zeros_like(size), where=counts & (size > 0))
    norm = float(np.linalg.norm(a))
    return Agreement(
        kind=kind,
        numbers=a.size,
        differ=float(np.mean(a != b)) if a.size else 0.0,
        largest=float(difference.max(initial=0)),
        relative=float(ratio.max(initial=0)),
        of_norm=float(np.linalg.norm(difference)) / norm if norm else 0.0,
        cosine=min((cosine(*pair) for pair in there), default=1.0),
        missing=len(pairs) - len(there),
    )


def cosine(one: Array, other: Array) -> float:
    """Return the cosine of two arrays as vectors; 1 where both are zeros."""
    a, b = (array.ravel().astype(np.float64) for array in (one, other))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))


def print_table(name: str, rows: list[Agreement]) -> None:
    """Print a line a kind; kinds that are the same to the bit in one line."""
    print(f"\n{name}", flush=True)
    same = [row.kind for row in rows if not row.differ and not row.missing]
    print(f"  the same to the bit: {', '.join(same) or 'none'}")
    for row in rows:
        if row.kind not in same:
            print(
                f"  {row.kind:28} {row.differ:7.2%} differ, by at most {row.largest:.2g} "
                f"({row.relative:.1e} of the number), {row.of_norm:.1e} of the norm, "
                f"1 - cosine {1 - row.cosine:.1e}"
                + (f", {row.missing} clips not alike" if row.missing else "")
            )


def read_software(path: Path) -> dict[str, str]:
    """Return what a file of :func:`write` was made with."""
    with h5py.File(path) as file:
        named: dict[str, str] = json.loads(file.attrs["software"])
        return named


if __name__ == "__main__":
    app()
