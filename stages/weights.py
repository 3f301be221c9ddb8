"""weights@<backbone>: the weights of one network, as one safetensors file.

The only stage that touches the network. A seeded network needs no download: its file holds the
seed. For a pretrained one the source file is taken from ``file`` of its block in params.yaml, or
downloaded, checked and kept in the store; pins of checksums go to weights.lock.json, which
belongs in git. What it is made into is an item of the store too: converted once, then linked.

    python -m stages.weights vgg16
    python -m stages.weights detector
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from features import backbones, detectors
from features.cache import claims
from features.cache.keys import file_sha256, item_key, module_path
from features.cache.store import ItemStore, link_or_copy, replacing, store_root
from features.options import options_of
from features.weights.file import (
    check_keys,
    fresh_tensors,
    metadata,
    write_pretrained,
    write_seeded,
    write_unused,
)
from features.weights.naming import Convert, Tensors, unchanged
from features.weights.record import (
    ByHand,
    Companion,
    Origin,
    Weights,
    WeightsError,
    Wheel,
    definition,
    may_be_seeded,
    weights_of,
)
from stages.engine import imported
from stages.engine.ingredients import of_weights
from stages.engine.params import Model, Params
from stages.engine.paths import weights_file
from stages.engine.previous import changed_deps, previous_file
from stages.engine.progress import StageRun, told
from stages.engine.start import item_of, launch, start

if TYPE_CHECKING:  # a seeded network's file is made without torch, and without the network
    from torch import Tensor

    from features.sources import obtain

PINS = Path("weights.lock.json")
SUFFIX = ".safetensors"
DETECTOR = "detector"
SHOWN = 8
"""Most names of dropped tensors that are printed; the weights file has all."""


def main(name: Annotated[str, item_of("backbones; or detector")]) -> None:
    """Make the weights file of the network NAME."""
    is_detector = name == DETECTOR
    params = start(name if is_detector else f"weights@{name}")
    where = "faces.detector" if is_detector else f"backbones.{name}"
    out = weights_file(name)
    if is_detector and not params.reads_faces:
        return write_none(out)
    block = block_at(where, params)
    with told(), StageRun("weights", name) as run:
        if block.source == "imported":
            imported.keep(name, Path(str(block.file)), out, run)
        elif block.source == "seeded":
            check_seedable(where, params)
            write_seeded(out, name, block.seed)
            run.count(items=1, computed=1)
        elif not (is_detector and keep_detector(out, run)):
            make_pretrained(where, params, out, run)


def keep_detector(out: Path, run: StageRun) -> bool:
    """Keep the detector's last weights where only the backbones have changed; tell whether.

    Any of them may begin to read faces, so DVC starts this stage at every change of theirs: a
    clone without a network and with an empty store has the weights nevertheless.
    """
    before = previous_file(DETECTOR, out, run.note)
    if before is None or metadata(before)["source"] == "none":
        return False
    if changed_deps(DETECTOR) - {"backbones"}:
        return False
    with replacing(out) as partial:
        link_or_copy(before, partial)
    run.count(items=1, reused=1)
    return True


def write_none(out: Path) -> None:
    """Write a file that stands for no weights: no backbone reads faces, so none are needed."""
    with StageRun("weights", DETECTOR) as run:
        write_unused(out, DETECTOR)
        run.note("no backbone of params.yaml reads faces: the detector needs no weights")


def block_at(where: str, params: Params) -> Model:
    """Return the block that stands at ``where`` in params.yaml."""
    if where == "faces.detector":
        return params.faces.detector
    return params.backbones[where.removeprefix("backbones.")]


def network_at(where: str, params: Params) -> tuple[ModuleType, Any]:
    """Return the module of the block at ``where`` in params.yaml, and its options.

    Raises:
        ValueError: no such module, it is broken, or it does not take these options.
    """
    block = block_at(where, params)
    if where == "faces.detector":
        module = detectors.load(block.module)
        return module, detectors.complete_options(
            block.module, block.options, params.faces.min_score
        )
    module = backbones.load(block.module)
    return module, options_of(module, block.options)


def check_seedable(where: str, params: Params) -> None:
    """Check that the network at ``where`` can have random weights, without torch if possible.

    Its module imports torch, so it is imported only where options are to be checked.

    Raises:
        ValueError: it cannot, there is no such module, or it does not take its options.
    """
    block = block_at(where, params)
    room = detectors if where == "faces.detector" else backbones
    if block.options or block.module not in room.names():
        module, options = network_at(where, params)
        can_seed = weights_of(module, options).can_seed
    else:
        can_seed = may_be_seeded(module_path(f"{room.__name__}.{block.module}"))
    if not can_seed:
        raise ValueError(
            f"params.yaml: {where}.source: found seeded, but {block.module} is a finished model "
            "and no network to fill with random weights; expected pretrained"
        )
    if block.file is not None:
        raise ValueError(
            f"params.yaml: {where}.file: found {block.file!r}, but source: seeded reads no file; "
            "expected source: pretrained, or no file"
        )


def make_pretrained(where: str, params: Params, out: Path, run: StageRun) -> None:
    """Bring the weights file of a pretrained network to ``out``, converted if it never was.

    Args:
        where: its block in params.yaml.
        params: params.yaml.
        out: the file to make.
        run: told what a person should know.
    """
    import torch

    from features.sources import obtain

    block, (module, options) = block_at(where, params), network_at(where, params)
    weights = weights_of(module, options)
    with torch.device("meta"):  # names and shapes only
        expected = module.build(options).state_dict()
    run.note(f"licence of the weights: {weights.licence}")
    parts = gather(where, weights, block, expected, run)
    notices = (weights.notice, *(part.notice for part in parts))
    weights = replace(weights, notice=". ".join(filter(None, notices)))
    if weights.notice:
        run.note(weights.notice)
    store, key = ItemStore(store_root()), _key(where, block, weights, expected, parts)
    with claims.held(store.root / "claims" / key):  # by another clone: it converts them for us
        is_made = store.has(key, SUFFIX)
        if not is_made:
            with store.staging() as folder:
                made = folder / f"{key}{SUFFIX}"
                _convert(where, block, weights, expected, parts, made)
                store.add(key, made)
    for part in parts:
        if part.had:
            obtain.pin(part.had, _source_store(), PINS)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        link_or_copy(store.path(key, SUFFIX), partial)
    if dropped := metadata(out).get("dropped", "").split():
        more = f" and {len(dropped) - SHOWN} more" if len(dropped) > SHOWN else ""
        shown = ", ".join(dropped[:SHOWN])
        run.note(f"dropped, as this network has no such layers: {shown}{more}")
    run.count(items=1, computed=int(not is_made), reused=int(is_made))


@dataclass(frozen=True)
class Part:
    """Files that some or all of a network's tensors lie in.

    Attributes:
        files: in the reader's order.
        reader: how to read them, a name in :data:`features.sources.readers.READERS`.
        convert: gives their tensors the network's keys.
        origin: where they come from, as the weights file will say.
        sha256: their checksums.
        notice: what a user of these files has to be told.
        had: how they were had, of a download.
        wheel: what to take out of the one file, of a package of the user's own.
        is_own: it is a checkpoint of the user's own, whose names may have prefixes, and which may
            have more layers.
    """

    files: tuple[Path, ...]
    reader: str
    convert: Convert
    origin: str
    sha256: str
    notice: str = ""
    had: "obtain.Obtained | None" = None
    wheel: Wheel | None = None
    is_own: bool = False

    def tensors(
        self, expected: Tensors, *, trust_pickle: bool
    ) -> "tuple[dict[str, Tensor], list[str]]":
        """Return the tensors by canonical key, and the keys in the file that were dropped."""
        from features.sources import obtain, own, readers

        if self.is_own:
            return own.convert_own(
                self.files[0], self.reader, expected, self.convert, trust_pickle=trust_pickle
            )
        with tempfile.TemporaryDirectory() as folder:
            files = self.files
            if self.wheel is not None:
                files = obtain.unpack(self.wheel, files[0], Path(folder))
            tensors = readers.read(self.reader, files, trust_pickle=trust_pickle)
            return readers.converted(self.convert, tensors, files[0]), []

    def code(self, *, trust_pickle: bool) -> list[str]:
        """Return the definitions that make tensors of its files, as dotted names."""
        from features.sources import readers

        entries = [f"{readers.__name__}.{readers.READERS[self.reader].__name__}"]
        if self.is_own:
            entries.append("features.sources.own.convert_own")
        if trust_pickle:
            entries.append("features.sources.pickles.main")
        return [*entries, definition(self.convert)]


def _key(where: str, block: Model, weights: Weights, expected: Tensors, parts: list[Part]) -> str:
    """Return the key of the weights file as an item: all that its bytes depend on."""
    return item_key(
        of_weights(
            where.rpartition(".")[2],
            {key: list(tensor.shape) for key, tensor in expected.items()},
            [
                (part.origin, part.sha256, part.code(trust_pickle=block.trust_pickle))
                for part in parts
            ],
            (weights.licence, weights.notice),
            fresh={key: block.seed for key in weights.fresh},
        )
    )


def _convert(
    where: str,
    block: Model,
    weights: Weights,
    expected: Tensors,
    parts: list[Part],
    out: Path,
) -> None:
    """Read the sources, check that they are this network's, and write the one file of them."""
    tensors: dict[str, Tensor] = {}
    dropped: list[str] = []
    origin, sha256 = (" ".join(p.origin for p in parts), " ".join(p.sha256 for p in parts))
    try:
        for part in parts:
            own, left = part.tensors(expected, trust_pickle=block.trust_pickle)
            tensors |= own
            dropped += left
        fresh = fresh_tensors(weights, tensors, expected, block.seed)
        check_keys(tensors | fresh, expected, origin)
    except WeightsError as error:
        waiting = [str(part.files[0]) for part in parts if part.had and part.had.is_unproven]
        if waiting:
            raise WeightsError(
                f"{error}\nNobody has published a checksum of this file, so it may also have come "
                f"damaged. To download it again, remove {' and '.join(waiting)}"
            ) from error
        raise
    name = where.rpartition(".")[2]
    write_pretrained(
        out,
        name,
        weights,
        tensors | fresh,
        origin,
        sha256,
        fresh=fresh,
        seed=block.seed,
        dropped=dropped,
    )


# --------------------------------------------------------------------------------- its sources


def gather(
    where: str, weights: Weights, block: Model, expected: Tensors, run: StageRun
) -> list[Part]:
    """Return the files that the tensors ``expected`` lie in, checked but not yet read.

    Files of companions are obtained only where ``expected`` has keys of theirs.
    """
    from features.sources import readers

    own = Path(block.file) if block.file is not None else None
    if own is None:
        parts = [_downloaded(where, weights.sources, run)]
    else:
        parts = [_own(own, weights.sources, run, weights.convert_of)]
    has = readers.keys_in(own) if own is not None else frozenset()
    for companion in weights.companions:
        wanted = {key for key in expected if key.startswith(companion.prefix)}
        if wanted and not wanted <= has:
            parts.append(_companion(where, companion, own, run))
    return parts


def _source_store() -> Path:
    return store_root() / "sources"


def _downloaded(where: str, origins: tuple[Origin, ...], run: StageRun) -> Part:
    from features.sources import obtain
    from features.sources.download import DownloadError

    def track(mebibytes: Iterator[int], total: float | None) -> Iterable[int]:
        return run.track(mebibytes, total=total and round(total), unit="MiB")

    try:
        had = obtain.obtain(origins, _source_store(), PINS, track)
    except DownloadError as error:
        by_hand = " or ".join(o.address for o in origins if not isinstance(o, Wheel))
        raise DownloadError(
            f"{where}: {error}\nDownload it by hand from {by_hand} and set `file` of {where} in "
            "params.yaml to its path"
        ) from error
    for refusal in had.refusals:
        run.note(f"not from {refusal}")
    run.note(f"from {had.source.address}")
    source = had.source
    return Part(had.files, source.reader, source.convert, source.address, had.sha256, had=had)


def _own(
    path: Path,
    origins: tuple[Origin, ...],
    run: StageRun,
    convert_of: Callable[[str], Convert] | None = None,
) -> Part:
    """Take a file of the user's own; its origin is its name, not its place on their disk."""
    from features.sources import obtain
    from features.sources.own import CHECKPOINTS, reader_of

    if not path.is_file():
        raise WeightsError(f"{path}: no such file; it is named as `file` in params.yaml")
    wheel = next((origin for origin in origins if isinstance(origin, Wheel)), None)
    if wheel is not None and path.suffix == ".whl":
        sha256 = file_sha256(path)
        return Part((path,), wheel.reader, wheel.convert, path.name, sha256, wheel=wheel)
    sha256 = obtain.check_own(path, origins, PINS, run.note)
    reader, origin = reader_of(path, origins)
    convert = origin.convert if origin is not None else unchanged
    if convert_of is not None:
        convert = convert_of(path.name)
    notice = origin.notice if isinstance(origin, ByHand) else ""
    is_own = reader in CHECKPOINTS
    return Part((path,), reader, convert, path.name, sha256, notice, is_own=is_own)


def _companion(where: str, companion: Companion, own: Path | None, run: StageRun) -> Part:
    """Return a companion's files: from beside the user's own file, or downloaded."""
    for source in companion.sources:
        if own is not None and (beside := own.with_name(source.filename)).is_file():
            return _own(beside, companion.sources, run)
    return _downloaded(where, companion.sources, run)


if __name__ == "__main__":
    launch(main)
