"""Layouts: the ways in which published weight files name their tensors, made canonical.

Canonical keys are those of the built module's ``state_dict``. A layout is a function from the
source's files to a dict of them; what a file holds beyond what we build is dropped by name,
never by default.
"""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from features.pose_bundle import MEMBERS, bundle
from features.weights import WeightsError

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


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch checkpoint that holds a plain mapping of names to tensors, as data only.

    Floating-point tensors come back as float32.

    Raises:
        WeightsError: it holds anything else. Nothing in it is executed.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no checkpoint raises errors of any kind
        raise WeightsError(
            f"{path}: expected a PyTorch checkpoint of tensors only, found {_other(path, error)}. "
            "A pickle can run any code when it is opened, so it is not opened here. Save its "
            "tensors as .safetensors on a machine where you trust it, and name that file"
        ) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        kinds = (
            sorted({type(value).__name__ for value in content.values()})
            if isinstance(content, Mapping)
            else [type(content).__name__]
        )
        raise WeightsError(
            f"{path}: expected a mapping of names to tensors, found {', '.join(kinds)}"
        )
    return {key: _float32(value) for key, value in content.items()}


def _other(path: Path, error: Exception) -> str:
    """Say what a refused checkpoint holds besides tensors, without executing it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # torch lists them for its newer format only; then it names the first
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))
    if names:
        return "Python objects in it: " + ", ".join(sorted(names))
    return f"something else ({type(error).__name__})"


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


# ---------------------------------------------------------------------------------- layouts


def vgg16(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert torchvision's VGG-16; its fc7 and fc8 (``classifier.3``, ``.6``) are dropped."""
    return _without(tensors_of(files[0]), "classifier.3", "classifier.6")


def vgg_face_dag(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert pytorch-mcn's VGG-Face (Caffe's layer names) to torchvision's; fc7, fc8 dropped."""
    stems = {name: f"features.{place}" for name, place in VGG_FACE_DAG_CONVS.items()}
    stems["fc6"] = "classifier.0"
    kept = _without(tensors_of(files[0]), "fc7", "fc8")
    converted = {}
    for key, tensor in kept.items():
        stem, _, kind = key.rpartition(".")
        converted[f"{stems[stem]}.{kind}" if stem in stems else key] = tensor
    return converted


def torchvggish(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert torchvggish's network: the keys are ours already."""
    return tensors_of(files[0])


def vggish_pca(files: Sequence[Path]) -> dict[str, Tensor]:
    """Convert AudioSet's PCA of VGGish (``.npz``, float64) to the keys ``pca.*`` in float32."""
    path = files[0]
    wanted = {"pca_eigen_vectors": "pca.eigen_vectors", "pca_means": "pca.means"}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: np.asarray(arrays[key]) for key in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path}: expected a NumPy archive of {', '.join(wanted)}, found: {error}"
        ) from error
    if set(found) != set(wanted):
        raise WeightsError(f"{path}: expected the arrays {sorted(wanted)}, found {sorted(found)}")
    tensors = {wanted[key]: torch.from_numpy(value).float() for key, value in found.items()}
    tensors["pca.means"] = tensors["pca.means"].reshape(-1)
    return tensors


def tflite(files: Sequence[Path]) -> dict[str, Tensor]:
    """Take a TFLite model as it is, as bytes under the key ``model``."""
    content = files[0].read_bytes()
    if content[4:8] != b"TFL3":  # the FlatBuffers file identifier of TFLite's schema
        raise WeightsError(
            f"{files[0]}: expected a TFLite model (bytes 4 to 8 are TFL3), found {content[:8]!r}"
        )
    return _as_bytes(content)


def pose_task(files: Sequence[Path]) -> dict[str, Tensor]:
    """Take a MediaPipe pose bundle (``.task``) as it is, as bytes under the key ``model``."""
    path = files[0]
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: expected a pose bundle (a zip), found: {error}") from error
    if not set(MEMBERS) <= names:
        raise WeightsError(
            f"{path}: expected a pose bundle with {' and '.join(MEMBERS)}, found {sorted(names)}"
        )
    return _as_bytes(path.read_bytes())


def pose_pair(files: Sequence[Path]) -> dict[str, Tensor]:
    """Bundle a pose detector and a pose landmark model (``.tflite``) into a ``.task``."""
    for path in files:
        tflite([path])
    return _as_bytes(bundle(files[0].read_bytes(), files[1].read_bytes()))


def canonical(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read a safetensors file whose keys are canonical already, e.g. one made by this project."""
    try:
        tensors = load_file(files[0])
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{files[0]}: expected a safetensors file, found: {error}") from error
    return {key: _float32(tensor) for key, tensor in tensors.items()}


def _without(tensors: Mapping[str, Tensor], *stems: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.rpartition(".")[0] not in stems}


def _as_bytes(content: bytes) -> dict[str, Tensor]:
    return {"model": torch.frombuffer(bytearray(content), dtype=torch.uint8)}


LAYOUTS: dict[str, Callable[[Sequence[Path]], dict[str, Tensor]]] = {
    "vgg16": vgg16,
    "vgg_face_dag": vgg_face_dag,
    "torchvggish": torchvggish,
    "vggish_pca": vggish_pca,
    "tflite": tflite,
    "pose_task": pose_task,
    "pose_pair": pose_pair,
    "canonical": canonical,
}

SUFFIXES = {
    "vgg16": (".pth", ".pt"),
    "vgg_face_dag": (".pth", ".pt"),
    "torchvggish": (".pth", ".pt"),
    "vggish_pca": (".npz",),
    "tflite": (".tflite",),
    "pose_task": (".task",),
    "canonical": (".safetensors",),
}
"""File names by which a user's own file is recognised; a ``pose_pair`` comes in packages only."""


def layout_of(path: Path, accepted: Sequence[str]) -> str:
    """Return the layout of a user's own file: the first of ``accepted`` with its suffix.

    Raises:
        WeightsError: none has; the message lists the suffixes that would do.
    """
    for layout in accepted:
        if path.suffix.lower() in SUFFIXES.get(layout, ()):
            return layout
    suffixes = sorted({suffix for layout in accepted for suffix in SUFFIXES.get(layout, ())})
    raise WeightsError(f"{path}: expected a file named {' or '.join(suffixes)}, found another")


def convert(layout: str, files: Sequence[Path]) -> dict[str, Tensor]:
    """Read the files of a source and return their tensors by canonical key.

    Raises:
        WeightsError: a file is not what its layout says. Nothing in it is executed.
    """
    return LAYOUTS[layout](files)
