"""Weights: where a network's numbers come from, and the one kind of file they are kept in.

A backbone module states its :class:`Weights`: addresses with checksums, licence, conversion.
The weights stage obtains a source file (:mod:`features.sources.obtain`), reads it
(:mod:`features.sources.readers`), has its keys converted by that module and writes one safetensors
file; everything after reads only that.
The keys in it are those of the built module's ``state_dict``. No pickle is ever opened there.

A *seeded* file holds no tensors, only the seed: the network is drawn when it is loaded. Every
file says in its metadata where it comes from and whether it is pretrained. Layers that no
published file holds (:attr:`Weights.fresh`) are drawn from the seed when the file is made.

What writes a seeded file or reads what a file says of itself needs no torch, and does not wait
for it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open, serialize_file

from features.cache.digests import digests
from features.cache.keys import canonical, code_fingerprint, item_key
from features.cache.store import replacing
from features.weights.naming import Tensors
from features.weights.record import Weights, WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

# ------------------------------------------------------------------------------- the file


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, the same bytes for the same content.

    The library writes metadata in the order of a hash table that differs from run to run, so
    the header is put in order afterwards.
    """
    with replacing(path) as partial:
        if tensors:
            from safetensors.torch import save_file

            ordered_tensors = {key: tensors[key].contiguous() for key in sorted(tensors)}
            save_file(ordered_tensors, partial, dict(metadata))
        else:
            serialize_file({}, partial, dict(metadata))
        partial.chmod(0o644)  # the library makes it private to the user; teams share it
        with partial.open("r+b") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            ordered = json.dumps(
                header, sort_keys=True, separators=(",", ":"), ensure_ascii=False
            ).encode()
            if len(ordered) > length:
                raise WeightsError(f"{path}: its header grew when it was put in order")
            file.seek(8)
            file.write(ordered.ljust(length))  # the format pads its header with spaces


def write_seeded(path: Path, name: str, seed: int) -> None:
    """Write the file that stands for network ``name`` with random weights of this seed.

    It names the code that draws the numbers, so that another initialisation is another file.
    """
    facts = {
        "name": name,
        "source": "seeded",
        "pretrained": "false",
        "seed": str(seed),
        "sha256": "",
        "licence": "",
        "notice": "random weights: features from them carry no meaning",
        "initialiser": item_key({"code": code_fingerprint("features.weights.seeding.initialise")}),
    }
    write(path, {}, facts)


def write_unused(path: Path, name: str) -> None:
    """Write the file that stands for network ``name`` where nothing reads what it gives."""
    notice = "nothing reads what this network gives: it has no weights"
    facts = {"name": name, "source": "none", "pretrained": "false", "notice": notice}
    write(path, {}, facts | {"sha256": "", "licence": ""})


def fresh_tensors(
    weights: Weights, tensors: Tensors, expected: Tensors, seed: int
) -> "dict[str, Tensor]":
    """Draw the layers that are new in a network whose other layers are pretrained.

    Args:
        weights: its ``fresh`` names them.
        tensors: what the source has; a new layer that is there, e.g. because somebody trained it,
            is not drawn.
        expected: the built module's ``state_dict``; only shapes are read.
        seed: the block's seed.

    Returns:
        A tensor for each key that was lacking, distributed as :mod:`features.weights.seeding` draws
        weights.
    """
    from features.weights import seeding

    lacking = [key for key in weights.fresh if key not in tensors]
    return seeding.drawn({key: expected[key].shape for key in lacking}, seed)


def write_pretrained(
    path: Path,
    name: str,
    weights: Weights,
    tensors: Tensors,
    source: str,
    sha256: str,
    *,
    fresh: Collection[str] = (),
    seed: int = 0,
    dropped: Collection[str] = (),
) -> None:
    """Write converted weights.

    Args:
        path: the file to write.
        name: the backbone.
        weights: licence and notice are taken from it.
        tensors: canonical keys.
        source: the address or file that they come from.
        sha256: checksum of that file; of several, separated by spaces.
        fresh: keys among ``tensors`` that were drawn (:func:`fresh_tensors`); the file says so.
        seed: the seed that they were drawn from.
        dropped: keys of a file of the user's own that this network does not have; the file says so.
    """
    facts = {
        "name": name,
        "source": source,
        "pretrained": "true",
        "seed": str(seed) if fresh else "",
        "sha256": sha256,
        "licence": weights.licence,
        "notice": weights.notice,
    }
    if fresh:
        facts["fresh"] = " ".join(sorted(fresh))
    if dropped:
        facts["dropped"] = " ".join(sorted(dropped))
    write(path, tensors, facts)


def metadata(path: Path) -> dict[str, str]:
    """Return what the weights file at ``path`` says of itself.

    Raises:
        WeightsError: no such file, or not a weights file.
    """
    return _read(path, with_tensors=False)[0]


def tensors_sha256(path: Path) -> str:
    """Return the hash of what a weights file gives a network: 64 hexadecimal digits.

    Tensors count with their names, types and shapes; of a seeded file the seed and the code that
    draws from it. Where they come from and under which licence makes no number.

    Raises:
        WeightsError: as :func:`metadata`.
    """
    facts = metadata(path)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header["__metadata__"] = {
            name: facts[name] for name in ("seed", "initialiser") if facts["source"] == "seeded"
        }
        digest = hashlib.sha256(canonical(header).encode())
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remembered_sha256(path: Path, store: Path) -> str:
    """Return :func:`tensors_sha256`, which a store remembers while the file is left alone.

    Half a gigabyte is read and hashed in as long as torch is imported.

    Raises:
        WeightsError: as :func:`metadata`.
    """
    with digests(store, "-tensors", tensors_sha256) as known:
        try:
            return known.sha256(path)
        except OSError:
            return tensors_sha256(path)  # which says what is wrong


def load(path: Path, module: "nn.Module") -> "nn.Module":
    """Fill a built module from the weights file at ``path`` and return it in eval mode.

    A seeded file draws the weights from its seed; the caller's random state is left as it was.

    Raises:
        WeightsError: not a weights file, or its keys and shapes are not the module's.
    """
    from features.weights import seeding

    facts, tensors = _read(path, with_tensors=True)
    if facts.get("source") == "seeded":
        seeding.initialise(module, int(facts["seed"]))
        return module.eval()
    expected = module.state_dict()
    check_keys(tensors, expected, str(path))
    for key, buffer in module.named_buffers():
        if _takes_any_length(buffer):
            buffer.resize_(tensors[key].shape)
    module.load_state_dict(tensors)
    return module.eval()


def _read(path: Path, *, with_tensors: bool) -> "tuple[dict[str, str], dict[str, Tensor]]":
    try:
        with safe_open(path, framework="pt" if with_tensors else "np") as file:
            facts = dict(sorted((file.metadata() or {}).items()))
            tensors = {key: file.get_tensor(key) for key in file.keys() if with_tensors}
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: expected a weights file (safetensors), found: {error}. "
            "Run the weights stage of this backbone again"
        ) from error
    if missing := {"name", "source", "pretrained"} - set(facts):
        raise WeightsError(
            f"{path}: expected a weights file of this project, found a safetensors file whose "
            f"metadata has no {', '.join(sorted(missing))}. Name it as `file` of its block and "
            "run the weights stage"
        )
    return facts, tensors


# --------------------------------------------------------------------------------- its keys


def check_keys(tensors: Tensors, expected: Tensors, origin: str) -> None:
    """Check that ``tensors`` have exactly the keys and shapes of ``expected``.

    An empty one-dimensional uint8 tensor in ``expected`` stands for bytes of any length.

    Raises:
        WeightsError: naming the origin, the key, what was expected and what was found.
    """
    problems = [
        f"key {key}: expected shape {_shape(expected[key])}, found none of that name"
        for key in sorted(expected.keys() - tensors.keys())
    ]
    problems += [
        f"key {key}: expected no such key, found shape {_shape(tensors[key])}"
        for key in sorted(tensors.keys() - expected.keys())
    ]
    problems += [
        f"key {key}: expected shape {_shape(slot)}, found {_shape(tensors[key])}"
        for key, slot in expected.items()
        if key in tensors and tensors[key].shape != slot.shape and not _takes(slot, tensors[key])
    ]
    if problems:
        shown = problems[:5] + [f"and {len(problems) - 5} more"] * (len(problems) > 5)
        raise WeightsError(
            f"{origin}: these are not the weights of this network as it is set up.\n  "
            + "\n  ".join(shown)
            + "\nCheck the module and its options, and run its weights stage again"
        )


def _shape(tensor: "Tensor") -> tuple[int, ...]:
    return tuple(tensor.shape)


def _takes_any_length(slot: "Tensor") -> bool:
    import torch

    return slot.dtype == torch.uint8 and slot.shape == (0,)


def _takes(slot: "Tensor", tensor: "Tensor") -> bool:
    return _takes_any_length(slot) and tensor.dtype == slot.dtype and tensor.ndim == 1
