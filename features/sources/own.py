"""Files of one's own: weights that a user has trained or brought, ``file`` of a block.

The file may be a published one under any name, or ``torch.save(model.state_dict())`` after
training: then its tensors lie under prefixes and wrappers of training code, beside layers that the
network here does not have.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from features.sources.readers import SUFFIXES, converted, opened_apart, safetensors, unwrapped
from features.weights.naming import Convert, Tensors, unchanged
from features.weights.record import Origin, WeightsError, Wheel

PREFIXES = ("module.", "model.", "backbone.", "encoder.")
"""What training code puts before the names of a network's tensors, also several in a row."""

CHECKPOINTS = ("checkpoint", "safetensors")
"""Readers of files that training code writes too; of any other kind is the published file alone."""

CLASSIFIERS = ("fc", "classifier", "head", "heads")
"""First names of layers that may be left over: a network here ends before its classifier."""


def reader_of(path: Path, origins: Sequence[Origin]) -> tuple[str, Origin | None]:
    """Return how a file of one's own is read, and the published one that it is like.

    That is the one of its name, else the first that its suffix belongs to. A safetensors file is
    like a checkpoint, and where none is published like nothing.

    Args:
        path: the file; it is not opened.
        origins: where its weights are published.

    Raises:
        WeightsError: no suffix of theirs; the message lists those that would do.
    """
    name = path.name.lower()
    for origin in origins:
        if not isinstance(origin, Wheel) and origin.filename == path.name:
            return origin.reader, origin
    if name.endswith(SUFFIXES["safetensors"]):
        return "safetensors", next((o for o in origins if o.reader == "checkpoint"), None)
    for origin in origins:
        if name.endswith(SUFFIXES.get(origin.reader, ())):
            return origin.reader, origin
    readers = ["safetensors", *(origin.reader for origin in origins)]
    suffixes = sorted({suffix for reader in readers for suffix in SUFFIXES.get(reader, ())})
    raise WeightsError(f"{path}: expected a file named {' or '.join(suffixes)}, found another")


def convert_own(
    path: Path,
    reader: str,
    expected: Tensors,
    convert: Convert = unchanged,
    *,
    trust_pickle: bool = False,
) -> tuple[dict[str, Tensor], list[str]]:
    """Read a checkpoint of the user's own.

    Its tensors may lie under one of WRAPPERS (:mod:`features.sources.readers`). Of the prefixes in
    it, those of PREFIXES and rows of them, the one counts under which most of the network lies: it
    is taken off, and what lies elsewhere is dropped. Under it, what the conversion drops is
    dropped, and layers of CLASSIFIERS that the network does not have. All else is left for
    :func:`features.weights.file.check_keys`.

    Args:
        path: the file.
        reader: one of CHECKPOINTS.
        expected: the built module's ``state_dict``; names and shapes are read.
        convert: gives the tensors of the published file the names of the network.
        trust_pickle: as in :func:`features.sources.readers.read`.

    Returns:
        The tensors by canonical key, and the keys in the file that were dropped, in order.

    Raises:
        WeightsError: it is no such file, or the network lies in it under two prefixes.
    """
    with tempfile.TemporaryDirectory() as name:
        file = opened_apart(path, Path(name)) if trust_pickle else path
        tensors = safetensors([file]) if reader == "safetensors" else unwrapped(file)
    readings = _readings(tensors, convert, expected, path)
    sizes = {prefix: len(reading.keys() & expected.keys()) for prefix, reading in readings.items()}
    most = max(sizes.values(), default=0)
    best = [prefix for prefix, size in sizes.items() if size == most] if most else [""]
    own = {id(tensor) for tensor in tensors.values()}  # and not made by the conversion
    taken = {
        prefix: own & {id(tensor) for tensor in readings.get(prefix, {}).values()}
        for prefix in best
    }
    if any(taken[prefix] != taken[best[0]] for prefix in best):
        raise WeightsError(
            f"{path}: expected one network, found tensors of this one's names after each of "
            f"{', '.join(map(repr, best))}. Save the one that you mean to a file of its own"
        )
    dropped = sorted(key for key, tensor in tensors.items() if id(tensor) not in taken[best[0]])
    return readings.get(best[0], {}), dropped


def _readings(
    tensors: Tensors, convert: Convert, expected: Tensors, path: Path
) -> dict[str, dict[str, Tensor]]:
    """Return prefix -> the network that lies under it, as far as the conversion knows it there.

    Raises:
        WeightsError: the conversion knows none of them; it says why of what has no prefix.
    """
    readings: dict[str, dict[str, Tensor]] = {}
    refusals: list[WeightsError] = []
    for prefix in _prefixes(tensors):
        try:
            readings[prefix] = _under(tensors, prefix, convert, expected, path)
        except WeightsError as error:
            refusals.append(error)
    if refusals and not readings:
        raise refusals[0]
    return readings


def _prefixes(tensors: Tensors) -> list[str]:
    """Return the prefixes that the names of tensors begin with, none first."""
    prefixes = {""}
    for key in tensors:
        end = 0
        while part := next((part for part in PREFIXES if key.startswith(part, end)), None):
            end += len(part)
            prefixes.add(key[:end])
    return sorted(prefixes)


def _under(
    tensors: Tensors, prefix: str, convert: Convert, expected: Tensors, path: Path
) -> dict[str, Tensor]:
    """Return the tensors that lie under a prefix by canonical key, without surplus classifiers."""
    plain = {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
    fitting = {  # a conversion drops a first layer of other input; one's own may be this network's
        key: value
        for key, value in plain.items()
        if key in expected and value.shape == expected[key].shape
    }
    return {
        key: value
        for key, value in {**converted(convert, plain, path), **fitting}.items()
        if key in expected or key.partition(".")[0] not in CLASSIFIERS
    }
