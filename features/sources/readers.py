"""Readers: the kinds of files that weights are published in, read as data.

A reader is a function from a source's files to the tensors in them by the names that they have
there; giving them the names of the network is the backbone's (``convert`` of its sources).

A pickle that holds more than data is refused, or, where the user has said that they trust it,
opened in a process of its own (:mod:`features.sources.pickles`). Sizes are checked before
anything is unpacked.
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
from features.weights.naming import Convert, Tensors
from features.weights.record import WeightsError, definition

NUMBERS = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8}
    | {torch.int8, torch.int16, torch.int32, torch.int64}
)
"""Types of the tensors of published weights; others cannot be made float32 exactly, or at all."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training code saves the tensors, beside facts of the run."""


# ------------------------------------------------------------------------------- checkpoints


def checkpoint(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read a PyTorch checkpoint that is a mapping of names to tensors, or a zip of one."""
    path = files[0]
    if path.suffix.lower() == ".zip":
        return _unzipped(path, lambda inner: checkpoint([inner]))
    return _float32(path, _mapping(path, _as_data(path)))


def unwrapped(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint as training code saves it, its tensors perhaps under one of WRAPPERS.

    Raises:
        WeightsError: there are no tensors in any of these places.
    """
    if path.suffix.lower() == ".zip":
        return _unzipped(path, unwrapped)
    content = _as_data(path)
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if key in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    return _float32(path, _mapping(path, content))


def _unzipped(path: Path, read_one: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read the one checkpoint in a zip."""
    try:
        members = [name for name in archives.sizes(path) if name.endswith((".pth", ".pt"))]
        if len(members) != 1:
            raise WeightsError(f"{path}: expected one checkpoint (.pth) in it, found {members}")
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder, f"{path.name}:{Path(members[0]).name}")
            return read_one(archives.unpack(path, members[0], unpacked))
    except archives.ArchiveError as error:
        raise WeightsError(f"{path}: expected a zip of a checkpoint, found: {error}") from error


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


def opened_apart(path: Path, folder: Path) -> Path:
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


# ------------------------------------------------------------------------------------ arrays


def safetensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read a safetensors file, e.g. one made by this project."""
    try:
        tensors = load_file(files[0])
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{files[0]}: expected a safetensors file, found: {error}") from error
    return _float32(files[0], tensors)


def keras(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read weights that Keras 1 or 2 saved (HDF5), in the order of the network, axes as there.

    Kernels of convolutions are (height, width, in, out).
    """
    path = files[0]
    try:
        with h5py.File(path, "r") as file:
            group = _inside(file, "model_weights") if "model_weights" in file else file
            return {
                name: torch.from_numpy(dataset[()].astype(np.float32))
                for name, dataset in _keras_weights(group).items()
            }
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: expected weights saved by Keras 1 or 2 (HDF5 with the attribute "
            f"layer_names), found: {error}"
        ) from error


def _keras_weights(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the weights of each layer by name, in the order of the network.

    Their sizes are checked before anything is read: HDF5 unpacks without a limit.
    """
    weights: dict[str, h5py.Dataset] = {}
    total = 0
    for layer_name in (_text(name) for name in group.attrs["layer_names"]):
        layer = _inside(group, layer_name)
        for weight_name in (_text(name) for name in layer.attrs["weight_names"]):
            dataset = _inside(layer, weight_name)
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
                raise ValueError(f"{weight_name} holds no numbers")
            packed = dataset.id.get_create_plist().get_nfilters()
            if packed or dataset.is_virtual or dataset.external:
                raise ValueError(f"{weight_name} is packed or lies in another file")
            if dataset.nbytes > dataset.id.get_storage_size():
                raise ValueError(f"{weight_name} declares more bytes than it stores")
            if weight_name in weights:
                raise ValueError(f"{weight_name} stands there twice")
            weights[weight_name] = dataset
            total += dataset.nbytes
    if total > archives.LARGEST_BYTES:
        raise ValueError(f"arrays of {total:,} bytes")
    return weights


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


def numpy_archive(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read a NumPy archive (``.npz``) of plain arrays."""
    path = files[0]
    try:
        archives.sizes(path)
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}
    except (OSError, TypeError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path}: expected a NumPy archive of numbers, found: {error}"
        ) from error
    return _float32(path, tensors)


# ------------------------------------------------------------------------------------- bytes


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


def keys_in(path: Path) -> frozenset[str]:
    """Return the keys of a safetensors file; none of any other, whose names may be others."""
    try:
        with safe_open(path, framework="pt") as file:
            return frozenset(file.keys())
    except (OSError, SafetensorError):
        return frozenset()


def _as_bytes(content: bytes) -> dict[str, Tensor]:
    return {"model": torch.frombuffer(bytearray(content), dtype=torch.uint8)}


# --------------------------------------------------------------------------- which and how

READERS: dict[str, Callable[[Sequence[Path]], dict[str, Tensor]]] = {
    "checkpoint": checkpoint,
    "safetensors": safetensors,
    "numpy": numpy_archive,
    "keras": keras,
    "tflite": tflite,
    "pose_task": pose_task,
    "pose_pair": pose_pair,
}

SUFFIXES = {
    "checkpoint": (".pth", ".pt", ".zip"),
    "safetensors": (".safetensors",),
    "numpy": (".npz",),
    "keras": (".h5", ".hdf5"),
    "tflite": (".tflite",),
    "pose_task": (".task",),
}
"""File names by which a user's own file is recognised; a ``pose_pair`` comes in packages only."""

PICKLES = (".pth", ".pt", ".tar", ".pkl", ".pickle", ".bin")
"""File names of pickles: those that a user may trust to be opened."""


def read(reader: str, files: Sequence[Path], *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a source's files by the names that they have there.

    Args:
        reader: a name in READERS.
        files: the source's files, in its order.
        trust_pickle: whether a pickle that is more than data may be opened, in a process of its
            own (:mod:`features.sources.pickles`).

    Returns:
        Floating-point tensors are float32.

    Raises:
        WeightsError: a file is not what its reader expects. Nothing in it is executed here.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if trust_pickle:
            files = [opened_apart(path, folder) for path in files]
        return READERS[reader](files)


def converted(convert: Convert, tensors: Tensors, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by the keys of the network.

    Raises:
        WeightsError: the conversion does not know such a file; the message names it.
    """
    try:
        return convert(tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: {definition(convert)} expects other tensors than these: "
            f"{type(error).__name__}: {error}"
        ) from error
