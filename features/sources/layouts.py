"""Layouts: the ways in which published weight files name their tensors, made canonical.

Canonical keys are those of the built module's ``state_dict``. A layout is a function from the
source's files to a dict of them; what a file holds beyond what we build is dropped by name,
never by default.

Files are read as data. A pickle that holds more than data is refused, or, where the user has said
that they trust it, opened in a process of its own (:mod:`features.sources.pickles`).
"""

import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from features.sources import archives, pickles
from features.weights.record import WeightsError

VGG_FACE_DAG_CONVS = {
    "conv1_1": 0, "conv1_2": 2,
    "conv2_1": 5, "conv2_2": 7,
    "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21,
    "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip
"""Caffe's layer names, and the layers' places in torchvision's ``vgg16().features``.

Source: module names of https://github.com/albanie/pytorch-mcn (vgg_face_dag.py) beside
torchvision 0.29 models/vgg.py, configuration D.
"""

RETINAFACE_FILES = {
    "detection_Resnet50_Final": "facexlib",
    "Resnet50_Final": "facexlib",  # biubug6's own name for it
    "retinaface_resnet50_2020-07-20": "ternaus",
}
"""How the names of published RetinaFace weights begin, and whose they are."""

NUMBERS = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8}
    | {torch.int8, torch.int16, torch.int32, torch.int64}
)
"""Types of the tensors of published weights; others cannot be made float32 exactly, or at all."""


Tensors = Mapping[str, Tensor]


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch checkpoint that holds a mapping of names to tensors, as data only.

    Floating-point tensors come back as float32.

    Args:
        path: the checkpoint.

    Raises:
        WeightsError: it holds anything else. Nothing in it is executed.
    """
    return _float32(path, _mapping(path, _as_data(path)))


def _mapping(path: Path, content: object) -> Tensors:
    """Return what a checkpoint holds, which has to be a mapping of names to tensors."""
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise WeightsError(
            f"{path}: expected a mapping of names to tensors, found {_kinds(content)}"
        )
    return content


def _as_data(path: Path) -> object:
    """Return what a checkpoint holds, or what a process of its own made of it."""
    try:
        if zipfile.is_zipfile(path):
            archives.sizes(path)  # PyTorch itself unpacks whatever it is told to
        if _is_safetensors(path):
            return pickles.nested(load_file(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except (archives.ArchiveError, pickles.PickleError) as error:
        raise WeightsError(str(error)) from error
    except Exception as error:  # a file that is no checkpoint raises errors of any kind
        expected = f"{path}: expected a PyTorch checkpoint of tensors only, found"
        objects = _objects_in(path, error)
        if not objects:
            raise WeightsError(
                f"{expected} something else or a damaged file ({type(error).__name__})"
            ) from error
        raise WeightsError(
            f"{expected} Python objects in it: {', '.join(objects)}. A pickle can run any code "
            "when it is opened, so it is not opened here. Save its tensors as .safetensors on a "
            "machine where you trust it, and name that file; or, if you trust whoever made it, "
            "set `trust_pickle: true` in its block: it is then opened in a process of its own"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file begins as safetensors do: the length of a header, and its brace."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and 8 + int.from_bytes(head[:8], "little") <= path.stat().st_size


def _opened_apart(path: Path, folder: Path) -> Path:
    """Return a checkpoint, or where its tensors alone lie under its name, made by a process."""
    if not path.name.lower().endswith(PICKLES):
        return path
    try:
        _as_data(path)
    except WeightsError:
        apart = folder / "apart"
        apart.mkdir()
        try:
            return pickles.open_apart(path, apart).rename(folder / path.name)
        except pickles.PickleError as error:
            raise WeightsError(str(error)) from error
    return path


def _kinds(content: object) -> str:
    """Say what a checkpoint holds instead of what was expected."""
    if isinstance(content, Mapping):
        return ", ".join(sorted({type(value).__name__ for value in content.values()})) or "nothing"
    return type(content).__name__


def _objects_in(path: Path, error: Exception) -> list[str]:
    """Say what a refused checkpoint holds besides tensors, without executing it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # torch lists them for its newer format only; then it names the first
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, UnicodeDecodeError):
        names.append("text of Python 2")
    return sorted(set(names))


def _float32(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with floating-point ones in float32, their sizes checked before.

    A tensor of four bytes can say that it is of any size: its shape may repeat what it stores.
    """
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.dtype not in NUMBERS:
            raise WeightsError(
                f"{path}: expected tensors of ordinary numbers, found {key} in {tensor.dtype}, "
                f"{tensor.layout}"
            )
    total = sum(tensor.numel() * max(tensor.element_size(), 4) for tensor in tensors.values())
    if total > archives.LARGEST_BYTES:
        allowed = f"allowed are {archives.LARGEST_BYTES:,}"
        raise WeightsError(f"{path}: its tensors would take {total:,} bytes, {allowed}")
    return {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in tensors.items()
    }


# ---------------------------------------------------------------------------------- layouts


def vgg16(tensors: Tensors) -> dict[str, Tensor]:
    """Name torchvision's VGG-16; its fc7 and fc8 (``classifier.3``, ``.6``) are dropped."""
    return _without(tensors, "classifier.3", "classifier.6")


def vgg_face_dag(tensors: Tensors) -> dict[str, Tensor]:
    """Name pytorch-mcn's VGG-Face (Caffe's layer names) as torchvision; fc7, fc8 are dropped."""
    stems = {name: f"features.{place}" for name, place in VGG_FACE_DAG_CONVS.items()}
    stems["fc6"] = "classifier.0"
    kept = _without(tensors, "fc7", "fc8")
    converted = {}
    for key, tensor in kept.items():
        stem, _, kind = key.rpartition(".")
        converted[f"{stems[stem]}.{kind}" if stem in stems else key] = tensor
    return converted


def vgg16_places365(tensors: Tensors) -> dict[str, Tensor]:
    """Name network dissection's VGG-16 of Places365: torchvision's parts, Caffe's layer names.

    Its fc7 and fc8a are dropped.
    """
    stems = {f"features.{name}": f"features.{n}" for name, n in VGG_FACE_DAG_CONVS.items()}
    stems["classifier.fc6"] = "classifier.0"
    kept = _without(tensors, "classifier.fc7", "classifier.fc8a")
    converted = {}
    for key, tensor in kept.items():
        stem, _, kind = key.rpartition(".")
        converted[f"{stems.get(stem, stem)}.{kind}"] = tensor
    return converted


def resnet(tensors: Tensors) -> dict[str, Tensor]:
    """Name a ResNet of torchvision or a 3D one of Hara's; the classifier (``fc``) is dropped."""
    return _counted(_without(tensors, "fc"))


def resnet18_but_first(tensors: Tensors) -> dict[str, Tensor]:
    """Name torchvision's ResNet-18 for input that is no picture: ``conv1`` and ``fc`` dropped.

    The first convolution that takes its place is new, see
    :attr:`features.weights.record.Weights.fresh`.
    """
    return _counted(_without(tensors, "conv1", "fc"))


def swin(tensors: Tensors) -> dict[str, Tensor]:
    """Name torchvision's Swin Transformers; their classifier (``head``) is dropped."""
    return _without(tensors, "head")


def torchvggish(tensors: Tensors) -> dict[str, Tensor]:
    """Name torchvggish's network: the keys are ours already."""
    return dict(tensors)


NAMINGS: dict[str, Callable[[Tensors], dict[str, Tensor]]] = {
    "vgg16": vgg16,
    "vgg_face_dag": vgg_face_dag,
    "vgg16_places365": vgg16_places365,
    "resnet50": resnet,
    "r3d18": resnet,
    "resnet18_but_first": resnet18_but_first,
    "hara": resnet,
    "swin": swin,
    "torchvggish": torchvggish,
}
"""Layouts of one checkpoint: what makes the names of its tensors canonical."""


def vgg_face_keras(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert deepface's VGG-Face (Keras, ``.h5``) to torchvision's keys; fc7 and fc8 are dropped.

    Its fully connected layers are convolutions: fc6 is one of 7x7. Keras's kernels are
    (height, width, in, out). What its first layer takes for red is not known, see NOTICES.
    """
    path = files[0]
    try:
        with h5py.File(path, "r") as file:
            kernels = _keras_layers(
                _inside(file, "model_weights") if "model_weights" in file else file
            )
            shapes = [kernel.shape for kernel, _ in kernels]
            if len(shapes) != len(VGG_FACE_DAG_CONVS) + 3 or any(len(s) != 4 for s in shapes):
                raise WeightsError(
                    f"{path}: expected 16 convolutions (VGG-Face, its last three fully connected), "
                    f"found layers of the shapes {shapes}"
                )
            arrays = [(kernel[()], bias[()]) for kernel, bias in kernels[:-2]]
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{path}: expected weights saved by Keras 1 or 2 (HDF5 with the attribute "
            f"layer_names), found: {error}"
        ) from error
    tensors: dict[str, Tensor] = {}
    stems = [f"features.{place}" for place in VGG_FACE_DAG_CONVS.values()] + ["classifier.0"]
    for stem, (kernel_HWIO, bias) in zip(stems, arrays, strict=True):
        weight_OIHW = torch.from_numpy(kernel_HWIO.astype(np.float32)).permute(3, 2, 0, 1)
        is_linear = stem.startswith("classifier")
        weight = weight_OIHW.flatten(1) if is_linear else weight_OIHW  # C, H, W in this order
        tensors[f"{stem}.weight"] = weight.contiguous()
        tensors[f"{stem}.bias"] = torch.from_numpy(bias.astype(np.float32))
    return tensors


def _keras_layers(group: h5py.Group) -> list[tuple[h5py.Dataset, h5py.Dataset]]:
    """Return kernel and bias of each layer that has weights, in the order of the network.

    Their sizes are checked before anything is read: HDF5 unpacks without a limit.
    """
    layers, total = [], 0
    for name in group.attrs["layer_names"]:
        layer = _inside(group, _text(name))
        datasets = [_inside(layer, _text(weight)) for weight in layer.attrs["weight_names"]]
        if not datasets:
            continue  # a pool, a dropout
        kernel, bias = datasets
        for dataset in datasets:
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
                raise ValueError(f"{_text(name)} holds no numbers")
            packed = dataset.id.get_create_plist().get_nfilters()
            if packed or dataset.is_virtual or dataset.external:
                raise ValueError(f"{_text(name)} is packed or lies in another file")
            if dataset.nbytes > dataset.id.get_storage_size():
                raise ValueError(f"{_text(name)} declares more bytes than it stores")
            total += dataset.nbytes
        layers.append((kernel, bias))
    if total > archives.LARGEST_BYTES:
        raise ValueError(f"arrays of {total:,} bytes")
    return layers


def _inside(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return what lies under ``name`` in a group; links that could lead elsewhere are refused."""
    place = group
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or part not in place:
            raise KeyError(name)
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link to elsewhere")
        place = place[part]
    return place


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def vggish_pca(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert AudioSet's PCA of VGGish (``.npz``, float64) to the keys ``pca.*`` in float32."""
    path = files[0]
    wanted = {"pca_eigen_vectors": "pca.eigen_vectors", "pca_means": "pca.means"}
    try:
        archives.sizes(path)
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: np.asarray(arrays[key]) for key in arrays.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path}: expected a NumPy archive of {', '.join(wanted)}, found: {error}"
        ) from error
    if set(found) != set(wanted):
        raise WeightsError(f"{path}: expected the arrays {sorted(wanted)}, found {sorted(found)}")
    tensors = {wanted[key]: torch.from_numpy(value).float() for key, value in found.items()}
    tensors["pca.means"] = tensors["pca.means"].reshape(-1)
    return tensors


def retinaface_facexlib(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert biubug6's RetinaFace, which facexlib publishes; the tensor ``origin`` says so."""
    return _retinaface(files[0], "facexlib")


def retinaface_ternaus(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert ternaus's RetinaFace, a checkpoint or a zip of it; ``origin`` says so."""
    return _retinaface(files[0], "ternaus")


def retinaface(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert a RetinaFace of which only the file's name tells whose it is.

    Keys and shapes are the same in both, the input is not: a wrong guess would find faces, only
    fewer of them. So nothing is guessed.
    """
    return _retinaface(files[0], None)


def _retinaface(path: Path, origin: str | None) -> dict[str, Tensor]:
    """Put the network under ``network.``, without ``DataParallel``'s prefix, beside ``origin``."""
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        tensors = canonical([path])
        if "origin" in tensors:  # made by this project
            return tensors
    else:
        tensors = _zipped_tensors(path) if suffix == ".zip" else tensors_of(path)
    if origin is None:
        names = (name for name in RETINAFACE_FILES if path.name.startswith(name))
        if (name := next(names, None)) is None:
            raise WeightsError(
                f"{path}: expected a name that tells whose weights these are "
                f"({', '.join(f'{name}...' for name in RETINAFACE_FILES)}). ternaus's and "
                "facexlib's have the same keys and need different input: say which with "
                "`weights: ternaus` or `weights: facexlib` in the options of the detector's block"
            )
        origin = RETINAFACE_FILES[name]
    plain = {f"network.{key.removeprefix('module.')}": value for key, value in tensors.items()}
    mark = torch.frombuffer(bytearray(origin.encode()), dtype=torch.uint8)
    return {**_counted(plain), "origin": mark}


def _zipped_tensors(path: Path) -> dict[str, Tensor]:
    """Read the one checkpoint in a zip."""
    try:
        members = [name for name in archives.sizes(path) if name.endswith((".pth", ".pt"))]
        if len(members) != 1:
            raise WeightsError(f"{path}: expected one checkpoint (.pth) in it, found {members}")
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder, f"{path.name}:{Path(members[0]).name}")
            return tensors_of(archives.unpack(path, members[0], unpacked))
    except archives.ArchiveError as error:
        raise WeightsError(f"{path}: expected a zip of a checkpoint, found: {error}") from error


def tflite(files: Sequence[Path]) -> dict[str, Tensor]:
    """Take a TFLite model as it is, as bytes under the key ``model``."""
    content = files[0].read_bytes()
    _check_tflite(content, str(files[0]))
    return _as_bytes(content)


def _check_tflite(content: bytes, origin: str) -> None:
    if content[4:8] != b"TFL3":  # the FlatBuffers file identifier of TFLite's schema
        raise WeightsError(
            f"{origin}: expected a TFLite model (bytes 4 to 8 are TFL3), found {content[:8]!r}"
        )


def pose_task(files: Sequence[Path]) -> dict[str, Tensor]:
    """Take a MediaPipe pose bundle (``.task``) as it is, as bytes under the key ``model``."""
    from features.sources.pose_bundle import (
        MEMBERS,  # MediaPipe is slow to import, and seldom needed
    )

    path = files[0]
    try:
        for name in MEMBERS:
            _check_tflite(archives.read(path, name), f"{path}: {name}")
    except archives.ArchiveError as error:
        raise WeightsError(
            f"{path}: expected a pose bundle with {' and '.join(MEMBERS)}, found: {error}"
        ) from error
    return _as_bytes(path.read_bytes())


def pose_pair(files: Sequence[Path]) -> dict[str, Tensor]:
    """Bundle a pose detector and a pose landmark model (``.tflite``) into a ``.task``."""
    from features.sources.pose_bundle import bundle

    for path in files:
        tflite([path])
    return _as_bytes(bundle(files[0].read_bytes(), files[1].read_bytes()))


def canonical(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read a safetensors file whose keys are canonical already, e.g. one made by this project."""
    try:
        tensors = load_file(files[0])
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{files[0]}: expected a safetensors file, found: {error}") from error
    return _float32(files[0], tensors)


def keys_in(path: Path) -> frozenset[str]:
    """Return the keys of a safetensors file; none of any other, whose keys need a layout."""
    try:
        with safe_open(path, framework="pt") as file:
            return frozenset(file.keys())
    except (OSError, SafetensorError):
        return frozenset()


def _without(tensors: Mapping[str, Tensor], *stems: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.rpartition(".")[0] not in stems}


def _counted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the batch counters of norms, which PyTorch 0.4 and older did not save; they start at 0.

    They count training steps and have no part in any feature.
    """
    counters = {
        key.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for key in tensors
        if key.endswith(".running_mean")
    }
    return {**counters, **tensors}


def _as_bytes(content: bytes) -> dict[str, Tensor]:
    return {"model": torch.frombuffer(bytearray(content), dtype=torch.uint8)}


def _checkpoint(layout: str) -> Callable[[Sequence[Path]], dict[str, Tensor]]:
    """Return the reader of a layout that is one checkpoint."""
    naming = NAMINGS[layout]
    return lambda files: naming(tensors_of(files[0]))


LAYOUTS: dict[str, Callable[[Sequence[Path]], dict[str, Tensor]]] = {
    **{layout: _checkpoint(layout) for layout in NAMINGS},
    "vgg_face_keras": vgg_face_keras,
    "vggish_pca": vggish_pca,
    "retinaface": retinaface,
    "retinaface_facexlib": retinaface_facexlib,
    "retinaface_ternaus": retinaface_ternaus,
    "tflite": tflite,
    "pose_task": pose_task,
    "pose_pair": pose_pair,
    "canonical": canonical,
}

SUFFIXES = {
    "vgg16": (".pth", ".pt"),
    "vgg_face_dag": (".pth", ".pt"),
    "vgg16_places365": (".pth", ".pt"),
    "resnet50": (".pth", ".pt"),
    "swin": (".pth", ".pt"),
    "torchvggish": (".pth", ".pt"),
    "vggish_pca": (".npz",),
    "hara": (".pth", ".pt"),
    "r3d18": (".pth", ".pt"),
    "resnet18_but_first": (".pth", ".pt"),
    "retinaface": (".pth", ".pt", ".zip", ".safetensors"),
    "retinaface_facexlib": (".pth", ".pt", ".safetensors"),
    "retinaface_ternaus": (".zip", ".pth", ".pt", ".safetensors"),
    "tflite": (".tflite",),
    "pose_task": (".task",),
    "canonical": (".safetensors",),
    "vgg_face_keras": (".h5", ".hdf5"),
}
"""File names by which a user's own file is recognised; a ``pose_pair`` comes in packages only."""

PICKLES = (".pth", ".pt", ".tar", ".pkl", ".pickle", ".bin")
"""File names of pickles: those that a user may trust to be opened."""

NOTICES = {
    "vgg_face_keras": "deepface's file: nobody has stated in which order its first layer takes "
    "red, green and blue (deepface gives it blue first), so its features are not verified; here "
    "red comes first. Prefer vgg_face_dag.pth",
}
"""What a user has to be told of a layout."""


def layout_of(path: Path, accepted: Sequence[str]) -> str:
    """Return the layout of a user's own file: the first of ``accepted`` with its suffix.

    Raises:
        WeightsError: none has; the message lists the suffixes that would do.
    """
    for layout in accepted:
        if path.name.lower().endswith(SUFFIXES.get(layout, ())):
            return layout
    suffixes = sorted({suffix for layout in accepted for suffix in SUFFIXES.get(layout, ())})
    raise WeightsError(f"{path}: expected a file named {' or '.join(suffixes)}, found another")


def convert(layout: str, files: Sequence[Path], *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Read the files of a source and return their tensors by canonical key.

    Args:
        layout: a name in LAYOUTS.
        files: the source's files, in the layout's order.
        trust_pickle: whether a pickle that is more than data may be opened, in a process of its
            own (:mod:`features.sources.pickles`).

    Raises:
        WeightsError: a file is not what its layout says. Nothing in it is executed here.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if trust_pickle:
            files = [_opened_apart(path, folder) for path in files]
        return LAYOUTS[layout](files)


# ------------------------------------------------------------------------- files of one's own

PREFIXES = ("module.", "model.", "backbone.", "encoder.")
"""What training code puts before the names of a network's tensors, also several in a row."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training code saves the tensors, beside facts of the run."""

CLASSIFIERS = ("fc", "classifier", "head", "heads")
"""First names of layers that may be left over: a network here ends before its classifier."""


def convert_own(
    layout: str, path: Path, expected: Tensors, *, trust_pickle: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """Read a file of the user's own, e.g. ``torch.save(model.state_dict())`` after training.

    Its tensors may lie under one of WRAPPERS. Of the prefixes in it, those of PREFIXES and rows of
    them, the one counts under which most of the network lies: it is taken off, and what lies
    elsewhere is dropped. Under it, what the layout drops is dropped, and layers of CLASSIFIERS
    that the network does not have. All else is left for :func:`features.weights.file.check_keys`.

    Args:
        layout: a name in LAYOUTS; those that are no checkpoint are read as they are published.
        path: the file.
        expected: the built module's ``state_dict``; names and shapes are read.
        trust_pickle: as :func:`convert`.

    Returns:
        The tensors by canonical key, and the keys in the file that were dropped, in order.

    Raises:
        WeightsError: it is no such file, or the network lies in it under two prefixes.
    """
    if layout not in {*NAMINGS, "canonical"}:
        return convert(layout, [path], trust_pickle=trust_pickle), []
    with tempfile.TemporaryDirectory() as name:
        file = _opened_apart(path, Path(name)) if trust_pickle else path
        tensors = canonical([file]) if layout == "canonical" else _unwrapped(file)
    naming = NAMINGS.get(layout, dict)
    readings = {prefix: _under(tensors, prefix, naming, expected) for prefix in _prefixes(tensors)}
    sizes = {prefix: len(found.keys() & expected.keys()) for prefix, found in readings.items()}
    most = max(sizes.values(), default=0)
    best = [prefix for prefix, size in sizes.items() if size == most] if most else [""]
    if len(best) > 1:
        raise WeightsError(
            f"{path}: expected one network, found tensors of this one's names after each of "
            f"{', '.join(map(repr, best))}. Save the one that you mean to a file of its own"
        )
    found = readings.get(best[0], {})
    kept = {id(tensor) for tensor in found.values()}
    return found, sorted(key for key, tensor in tensors.items() if id(tensor) not in kept)


def _unwrapped(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, wherever in it they lie."""
    content = _as_data(path)
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if key in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    return _float32(path, _mapping(path, content))


def _prefixes(tensors: Tensors) -> list[str]:
    """Return the prefixes that the names of tensors begin with, none first."""
    found = {""}
    for key in tensors:
        end = 0
        while part := next((part for part in PREFIXES if key.startswith(part, end)), None):
            end += len(part)
            found.add(key[:end])
    return sorted(found)


def _under(
    tensors: Tensors,
    prefix: str,
    naming: Callable[[Tensors], dict[str, Tensor]],
    expected: Tensors,
) -> dict[str, Tensor]:
    """Return the tensors that lie under a prefix by canonical key, without surplus classifiers."""
    plain = {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
    fitting = {  # the layout drops a first layer of other input; one's own may be this network's
        key: value
        for key, value in plain.items()
        if key in expected and value.shape == expected[key].shape
    }
    return {
        key: value
        for key, value in {**naming(plain), **fitting}.items()
        if key in expected or key.partition(".")[0] not in CLASSIFIERS
    }
