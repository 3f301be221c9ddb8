"""What an edit of the project's own code recomputes: what it should, and nothing else."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import FrameType

import pytest

import heads
from features import backbones, detectors
from features.cache import keys
from features.cache.keys import PROJECT, code_fingerprint, defined, item_key
from features.networks import extraction
from features.video.views import View
from features.weights.file import write_seeded
from features.weights.record import weights_of
from stages import decode, extract
from stages.engine.ingredients import BACKBONE, DETECTOR, code_of_run, of_weights
from stages.engine.workers import Item, Job
from stages.weights import Part
from tests.conftest import write_clip

BACKBONES = {f"extract@{name}" for name in backbones.names()}
DETECTORS = {f"faces by {name}" for name in detectors.names()}
HEADS = {f"train a {name}" for name in heads.names()}
WEIGHTS = {f"weights@{name}" for name in [*backbones.names(), *detectors.names()]}
OWN = {f"own {weights}" for weights in WEIGHTS}
ITEMS = {"index", "frames", "sound"} | BACKBONES | DETECTORS | HEADS | WEIGHTS | OWN


EXTRACT = ("stages.extract.compute", "stages.extract.computed_together")

SOURCES = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's code."""
    root = tmp_path_factory.mktemp("project")
    for package in keys.PACKAGES:
        shutil.copytree(PROJECT / package, root / package, ignore=SOURCES)
    return root


@pytest.fixture
def project(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project's code, which fingerprints are then taken of; edits are undone."""
    before = {path: path.read_bytes() for path in copy.rglob("*.py")}
    monkeypatch.setattr(keys, "PROJECT", copy)
    yield copy
    for path, content in before.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


source, definition = keys._source.__wrapped__, keys._definition.__wrapped__


@cache
def source_of(module: str, _text: str) -> object:
    return source(module)


@cache
def definition_in(module: str, name: str, _text: str) -> tuple[str, frozenset[str]]:
    return definition(module, name)


@pytest.fixture(scope="module", autouse=True)
def unchanged_modules_are_read_once() -> Iterator[None]:
    """Remember what is taken from a module by its text; `codes` reads all texts anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_source", lambda module: source_of(module, text_of(module)))
        patch.setattr(
            keys,
            "_definition",
            lambda module, name: definition_in(module, name, text_of(module)),
        )
        yield
    keys._fingerprint.cache_clear()


@cache
def text_of(module: str) -> str:
    return keys.module_path(module).read_text(encoding="utf-8")


def codes() -> dict[str, str]:
    """Return for each kind of item what its code gives to its key."""
    text_of.cache_clear()
    keys._fingerprint.cache_clear()
    made = {
        "index": code_fingerprint("stages.index.compute"),
        "frames": code_fingerprint("stages.decode._write_frames"),
        "sound": code_fingerprint("stages.decode._write_sound"),
    }
    for name in detectors.names():
        entries = defined(f"features.detectors.{name}", DETECTOR)
        made[f"faces by {name}"] = code_fingerprint("stages.faces.compute", *entries)
    for name in backbones.names():
        entries = defined(f"features.backbones.{name}", BACKBONE)
        made[f"extract@{name}"] = code_fingerprint(*EXTRACT, *entries)
    for name in heads.names():
        made[f"train a {name}"] = code_of_run(name)
    return {name: item_key({"code": code}) for name, code in made.items()} | keys_of_weights()


def keys_of_weights() -> dict[str, str]:
    """Return the key of each network's published weights, and of a checkpoint of one's own."""
    found = {}
    for room in (backbones, detectors):
        for name in room.names():
            module = room.load(name)
            weights = weights_of(module, module.Options())
            companions = [source for part in weights.companions for source in part.sources]
            parts = [
                Part((), source.reader, source.convert, "an address", "a checksum")
                for source in [*weights.sources, *companions]
            ]
            own = Part((), "checkpoint", parts[0].convert, "a.pth", "a checksum", is_own=True)
            for kind, files in (("weights", parts), ("own weights", [own])):
                sources = [(f.origin, f.sha256, f.code(trust_pickle=False)) for f in files]
                fresh = dict.fromkeys(weights.fresh, 7)
                found[f"{kind}@{name}"] = item_key(of_weights(name, {}, sources, ("", ""), fresh))
    return found


@pytest.fixture(scope="module")
def before(unchanged_modules_are_read_once: None) -> dict[str, str]:
    return codes()


Changed = Callable[[], set[str]]


@pytest.fixture
def changed(before: dict[str, str], project: Path) -> Changed:
    """Return a function that gives the items whose code is another one than before."""

    def names() -> set[str]:
        after = codes()
        return {name for name in ITEMS if after[name] != before[name]}

    return names


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("features/video/listing.py", ".mp4 .m4v", ".mp4 .xyz .m4v"),
        ("features/backbones/vgg16.py", "https://", "https://mirror."),
        ("features/backbones/vgg16.py", 'licence="', 'licence="another '),
        ("features/backbones/vggface.py", 'licence="', 'licence="another '),
        ("heads/caan.py", "\nREFERENCE", "\nREFERENCE = ()\nREFERENCE"),
        ("features/video/opening.py", '"empty file"', '"there is nothing in it"'),
        ("features/networks/extraction.py", "the network gave {found}", "found shapes"),
        ("features/cache/tables.py", "import", "import os\nimport"),
        ("features/cache/arrays.py", "LARGEST_BYTES = 8 << 30", "LARGEST_BYTES = 9 << 30"),
        ("features/cache/arrays.py", "Zstd(clevel=1)", "Zstd(clevel=2)"),
        ("features/cache/pixels.py", "LEVEL = 1", "LEVEL = 2"),
        ("features/sources/archives.py", "LARGEST_BYTES = 4 << 30", "LARGEST_BYTES = 5 << 30"),
        ("features/sources/pickles.py", "TIME_LIMIT_S = 600.0", "TIME_LIMIT_S = 900.0"),
        ("features/detectors/retinaface.py", "github.com/xinntao", "mirror.com/xinntao"),
        ("stages/extract.py", '"rows_valid": pa.int32()', '"rows_valid": pa.int64()'),
        ("stages/engine/kit.py", '    "h5py",\n', '    "h5py",\n    "rich",\n'),
    ],
)
def test_what_makes_no_number_is_in_no_key(
    project: Path, changed: Changed, file: str, old: str, new: str
) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))
    assert changed() == set()


def test_a_field_of_the_probe_is_the_index_s_alone(project: Path, changed: Changed) -> None:
    field = "    height: int\n"
    edit(project / "features/video/probe.py", field, f"{field}    depth: int = 8\n")
    assert changed() == {"index"}


@pytest.mark.parametrize(
    ("file", "old", "new", "concerned"),
    [
        ("stages/decode.py", 'seed=f"{task.seed} {', 'seed=f"{task.seed}, {', {"frames"}),
        ("features/video/views.py", "ROUNDING_S = 1e-6", "ROUNDING_S = 1e-5", {"frames"}),
        (
            "stages/faces.py",
            "margin=params.margin\n        )",
            "margin=0\n        )",
            DETECTORS,
        ),
        ("features/faces.py", "CROP = 224", "CROP = 112", DETECTORS),
        (
            "features/detectors/retinaface.py",
            "def build(",
            "SIZE = 3\n\n\ndef build(size=SIZE, *, ",
            {"faces by retinaface"},
        ),
        ("stages/extract.py", "built).eval()", "built).train()", BACKBONES),
        ("features/networks/extraction.py", "BATCH = 12", "BATCH = 8", BACKBONES),
        (
            "features/backbones/vgg16.py",
            "def preprocess(",
            "def preprocess(*_, ",
            {"extract@vgg16"},
        ),
        (
            "features/weights/file.py",
            "    module.load_state_dict(tensors)\n",
            "    module.load_state_dict(tensors, strict=False)\n",
            BACKBONES | DETECTORS | HEADS,
        ),
        (
            "features/backbones/vgg16.py",
            "SHORTER_SIDE_PX = 256",
            "SHORTER_SIDE_PX = 255",
            {"extract@vgg16"},
        ),
        (
            "features/backbones/vgg16.py",
            'without(tensors, "classifier.3", "classifier.6")',
            'without(tensors, "classifier.3")',
            {"weights@vgg16", "own weights@vgg16"},
        ),
        (
            "features/backbones/vggface.py",
            "kernel_HWIO.permute(3, 2, 0, 1)",
            "kernel_HWIO.permute(3, 2, 1, 0)",
            {"weights@vggface"},
        ),
        (
            "features/backbones/vggish.py",
            '"pca_means": "pca.means"}',
            '"pca_mean": "pca.means"}',
            {"weights@vggish"},
        ),
        (
            "features/detectors/retinaface.py",
            "network.{key",
            "net.{key",
            {"weights@retinaface", "own weights@retinaface"},
        ),
        (
            "features/networks/vgg16.py",
            '"conv1_1": "features.0"',
            '"conv1_0": "features.0"',
            {
                f"{k}@{n}"
                for k in ("weights", "own weights")
                for n in ("vggface", "places365_vgg16")
            },
        ),
        (
            "features/weights/naming.py",
            "    return {**counters, **tensors}",
            "    return {**tensors, **counters}",
            {
                f"{kind}@{name}"
                for kind in ("weights", "own weights")
                for name in ("r3d101", "r3d18", "resnet18_mfcc", "resnet50", "retinaface")
            },
        ),
        (
            "features/weights/seeding.py",
            "torch.Generator().manual_seed(seed)",
            "torch.Generator().manual_seed(seed + 1)",
            {"weights@resnet18_mfcc", "own weights@resnet18_mfcc"},
        ),
        ("features/sources/readers.py", ".astype(np.float32)", "", {"weights@vggface"}),
        (
            "features/sources/readers.py",
            "allow_pickle=False",
            "allow_pickle=bool(0)",
            {"weights@vggish"},
        ),
        ("features/sources/own.py", '"backbone.", "enc', '"back_bone.", "enc', OWN),
        ("features/weights/file.py", '"pretrained": "true"', '"pretrained": "yes"', WEIGHTS | OWN),
        (
            "features/cache/arrays.py",
            "whole = ",
            "whole = None or ",
            ITEMS - {"index"} - WEIGHTS - OWN,
        ),
        ("stages/engine/device.py", '":4096:8"', '":16:8"', BACKBONES | DETECTORS | HEADS),
        ("heads/rdam.py", "def build(", "def build(*_, ", {"train a rdam"}),
        (
            "heads/layers/losses.py",
            "def triplet(",
            "@(lambda function: function)\ndef triplet(",
            {"train a caan", "train a hamf", "train a quality_aware"},
        ),
    ],
)
def test_what_makes_numbers_is_in_the_keys_of_what_it_makes(
    project: Path, changed: Changed, file: str, old: str, new: str, concerned: set[str]
) -> None:
    edit(project / file, old, new)
    assert changed() == concerned


def test_a_constant_behind_a_relative_import_counts(project: Path, changed: Changed) -> None:
    path = project / "features/networks/imagenet.py"
    for backbone in ("vgg16", "resnet50"):
        file = project / f"features/backbones/{backbone}.py"
        text = file.read_text()
        absolute = "from features.networks.imagenet import"
        assert absolute in text
        file.write_text(text.replace(absolute, "from ..networks.imagenet import"))
    assert changed() == set()
    path.write_text(path.read_text().replace("MEAN = (0.485", "MEAN = (0.5"))
    assert {"extract@vgg16", "extract@resnet50"} <= changed() < BACKBONES


# ----------------------------------------------------------------- beside what really runs


def definition_of(frame: FrameType) -> str | None:
    """Return the definition that a frame runs a part of, None if it is none of the project's."""
    path = Path(frame.f_code.co_filename)
    outer = frame.f_code.co_qualname.split(".")[0]
    if outer.startswith("<") or not path.is_relative_to(PROJECT):
        return None
    parts = path.relative_to(PROJECT).with_suffix("").parts
    name = ".".join([*(part for part in parts if part != "__init__"), outer])
    return name if parts[0] in keys.PACKAGES else None


def functions_run(work: Callable[[], object]) -> set[str]:
    """Return the project's functions and classes that ``work`` calls, but for bookkeeping."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        name = definition_of(frame) if event == "call" else None
        if name is None or name in called:
            return
        above: FrameType | None = frame
        while above is not None:
            if keys._is_bookkeeping(definition_of(above) or ""):
                return
            above = above.f_back
        called.add(name)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return called


VIEWS = {"segments": View("segments", 3, 64), "snippets": View("snippets", 1, 64, 16)}


def decoded(tmp_path: Path) -> dict[str, Path]:
    clip = write_clip(tmp_path / "clip.mp4", sound_s=2.0)
    names = {"a" * 64: "segments", "b" * 64: "snippets", "c" * 64: "sound"}
    views = {key: (name, VIEWS.get(name)) for key, name in names.items()}
    made_of: dict[str, dict[str, object]] = dict.fromkeys(names, {})
    task = decode.Task(clip, "1" * 64, 0, views, made_of)
    files = {key: tmp_path / f"{name}.h5" for key, name in names.items()}
    decode.compute(task, files)
    return {names[key]: file for key, file in files.items()}


def test_every_function_that_decodes_is_in_the_key(tmp_path: Path) -> None:
    called = functions_run(lambda: decoded(tmp_path))
    assert {"features.video.decode.decode", "features.video.sound.decoded"} <= called
    parts = ("stages.decode.compute", "stages.decode._write_frames", "stages.decode._write_sound")
    assert called <= set(code_fingerprint(*parts))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "view"), [("resnet50", "segments"), ("r3d18", "snippets"), ("vggish", "sound")]
)
def test_every_function_that_extracts_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, view: str
) -> None:
    for module in (extraction, extract):
        monkeypatch.setattr(module, "BATCH", 1)  # nothing is filled up: it takes seconds
    module, file = backbones.load(name), decoded(tmp_path)[view]
    weights = tmp_path / "weights.safetensors"
    write_seeded(weights, name, 1)
    options = json.dumps(asdict(module.Options()))
    network = extract.Network(name, options, "float32", weights, "cpu")
    task = extract.Task(file, network, {}, {})
    paths = {"d" * 64: tmp_path / "features.h5"}
    job = Job(Item("joy/clip", {"d" * 64: "joy/clip.h5"}, task), ("d" * 64,), paths)
    extract._loaded.cache_clear()
    called = functions_run(lambda: extract.compute(task, paths))
    called |= functions_run(
        lambda: list(extract.computed_together(network, print, (each for each in [job])))
    )
    assert f"features.backbones.{name}.preprocess" in called
    entries = defined(f"features.backbones.{name}", BACKBONE)
    assert called <= set(code_fingerprint(*EXTRACT, *entries))
