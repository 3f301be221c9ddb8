"""weights@<backbone>: the weights of one network, as one safetensors file.

The only stage that touches the network. A seeded network needs no download: its file holds the
seed. For a pretrained one the source file is taken from ``file`` of its block in params.yaml, or
downloaded, checked and kept in the store; pins of checksums go to weights.lock.json, which
belongs in git. What it is made into is an item of the store too: converted once, then linked.

    python -m stages.weights vgg16
    python -m stages.weights detector
"""

import importlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated

import torch
import typer
from torch import Tensor

from features import backbones, claims, layouts, sources
from features.cache import (
    ItemStore,
    code_fingerprint,
    file_sha256,
    item_key,
    link_or_copy,
    replacing,
    store_root,
)
from features.download import DownloadError
from features.options import options_of
from features.weights import (
    ByHand,
    Companion,
    Origin,
    Weights,
    WeightsError,
    Wheel,
    check_keys,
    fresh_tensors,
    metadata,
    weights_of,
    write_pretrained,
    write_seeded,
    write_unused,
)
from stages.console import StageRun, fail
from stages.params import Model, Params
from stages.paths import weights_file
from stages.previous import changed_deps, previous_file
from stages.start import stage_item, start

PINS = Path("weights.lock.json")
SUFFIX = ".safetensors"
DETECTOR = "detector"
SHOWN = 8
"""Most names of dropped tensors that are printed; the weights file has all."""


def main(
    name: Annotated[
        str,
        typer.Argument(
            help="name in params.yaml, backbones; or detector",
            envvar="DVC_STAGE",
            parser=stage_item,
        ),
    ],
) -> None:
    """Make the weights file of the network NAME."""
    is_detector = name == DETECTOR
    params = start(name if is_detector else f"weights@{name}")
    where = "faces.detector" if is_detector else f"backbones.{name}"
    out = weights_file(name)
    if is_detector and not params.reads_faces:
        return write_none(out)
    try:
        block, module = network_at(where, params)
        options = options_of(module, block.options)
        weights = weights_of(module, options)
        with StageRun("weights", name) as run:
            if block.source == "seeded":
                _check_seedable(where, block, weights)
                write_seeded(out, name, block.seed)
                run.count(items=1, computed=1)
            elif not (is_detector and keep_detector(out, run)):
                with torch.device("meta"):  # names and shapes only
                    expected = module.build(options).state_dict()
                make_pretrained(where, block, weights, expected, out, run)
    except (WeightsError, DownloadError, ValueError, OSError) as error:
        raise fail(str(error)) from None


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


def network_at(where: str, params: Params) -> tuple[Model, ModuleType]:
    """Return the block that stands at ``where`` in params.yaml, and its module.

    Raises:
        ValueError: there is no module of that name.
    """
    if where == "faces.detector":
        module = params.faces.detector.module
        try:
            return params.faces.detector, importlib.import_module(f"features.{module}")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"params.yaml: {where}.module: expected a detector in features/, found {module!r}"
            ) from error
    block = params.backbones[where.removeprefix("backbones.")]
    return block, backbones.load(block.module)


def _check_seedable(where: str, block: Model, weights: Weights) -> None:
    if not weights.can_seed:
        raise ValueError(
            f"params.yaml: {where}.source: found seeded, but {block.module} is a finished model "
            "and no network to fill with random weights; expected pretrained"
        )
    if block.file is not None:
        raise ValueError(
            f"params.yaml: {where}.file: found {block.file!r}, but source: seeded reads no file; "
            "expected source: pretrained, or no file"
        )


def make_pretrained(
    where: str,
    block: Model,
    weights: Weights,
    expected: Mapping[str, Tensor],
    out: Path,
    run: StageRun,
) -> None:
    """Bring the weights file of a pretrained network to ``out``, converted if it never was.

    Args:
        where: its block in params.yaml.
        block: that block.
        weights: what its module knows of them.
        expected: the built module's ``state_dict``; names and shapes are read.
        out: the file to make.
        run: told what a person should know.
    """
    run.note(f"licence of the weights: {weights.licence}")
    parts = gather(where, weights, block, expected, run)
    notices = (weights.notice, *(layouts.NOTICES.get(part.layout) for part in parts))
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
            sources.pin(part.had, _source_store(), PINS)
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
        files: in the layout's order.
        layout: how to read them.
        origin: where they come from, as the weights file will say.
        sha256: their checksums.
        had: how they were had, of a download.
        wheel: what to take out of the one file, of a package of the user's own.
        is_own: it is a file of the user's own, whose names may have prefixes and more layers.
    """

    files: tuple[Path, ...]
    layout: str
    origin: str
    sha256: str
    had: sources.Obtained | None = None
    wheel: Wheel | None = None
    is_own: bool = False

    def tensors(
        self, expected: Mapping[str, Tensor], *, trust_pickle: bool
    ) -> tuple[dict[str, Tensor], list[str]]:
        """Return the tensors by canonical key, and the keys in the file that were dropped."""
        if self.is_own:
            return layouts.convert_own(
                self.layout, self.files[0], expected, trust_pickle=trust_pickle
            )
        with tempfile.TemporaryDirectory() as folder:
            files = self.files
            if self.wheel is not None:
                files = sources.unpack(self.wheel, files[0], Path(folder))
            return layouts.convert(self.layout, files, trust_pickle=trust_pickle), []


def _key(
    where: str,
    block: Model,
    weights: Weights,
    expected: Mapping[str, Tensor],
    parts: list[Part],
) -> str:
    """Return the key of the weights file as an item: all that its bytes depend on."""
    return item_key(
        {
            "stage": "weights",
            "name": where.rpartition(".")[2],
            "shapes": {key: list(tensor.shape) for key, tensor in expected.items()},
            "sources": [[part.layout, part.origin, part.sha256] for part in parts],
            "licence": weights.licence,
            "notice": weights.notice,
            "fresh": [*weights.fresh, block.seed] if weights.fresh else [],
            "code": code_fingerprint("features.layouts", "features.seeding"),
        }
    )


def _convert(
    where: str,
    block: Model,
    weights: Weights,
    expected: Mapping[str, Tensor],
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
    where: str, weights: Weights, block: Model, expected: Mapping[str, Tensor], run: StageRun
) -> list[Part]:
    """Return the files that the tensors ``expected`` lie in, checked but not yet read.

    Files of companions are obtained only where ``expected`` has keys of theirs.
    """
    own = Path(block.file) if block.file is not None else None
    if own is None:
        parts = [_downloaded(where, weights.sources, run)]
    else:
        parts = [_own(own, weights.sources, run)]
    has = layouts.keys_in(own) if own is not None else frozenset()
    for companion in weights.companions:
        wanted = {key for key in expected if key.startswith(companion.prefix)}
        if wanted and not wanted <= has:
            parts.append(_companion(where, companion, own, run))
    return parts


def _source_store() -> Path:
    return store_root() / "sources"


def _downloaded(where: str, origins: tuple[Origin, ...], run: StageRun) -> Part:
    def track(mebibytes: Iterator[int], total: float | None) -> Iterable[int]:
        return run.track(mebibytes, total=total and round(total), unit="MiB")

    try:
        had = sources.obtain(origins, _source_store(), PINS, track)
    except DownloadError as error:
        by_hand = " or ".join(o.address for o in origins if not isinstance(o, Wheel))
        raise DownloadError(
            f"{where}: {error}\nDownload it by hand from {by_hand} and set `file` of {where} in "
            "params.yaml to its path"
        ) from error
    for refusal in had.refusals:
        run.note(f"not from {refusal}")
    run.note(f"from {had.source.address}")
    return Part(had.files, had.source.layout, had.source.address, had.sha256, had=had)


def _own(path: Path, origins: tuple[Origin, ...], run: StageRun) -> Part:
    """Take a file of the user's own; its origin is its name, not its place on their disk."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; it is named as `file` in params.yaml")
    wheel = next((origin for origin in origins if isinstance(origin, Wheel)), None)
    if wheel is not None and path.suffix == ".whl":
        return Part((path,), wheel.layout, path.name, file_sha256(path), wheel=wheel)
    sha256 = sources.check_own(path, origins, PINS, run.note)
    named = (o.layout for o in origins if not isinstance(o, Wheel) and o.filename == path.name)
    layout = next(named, None) or layouts.layout_of(
        path, [*(origin.layout for origin in origins), "canonical"]
    )
    return Part((path,), layout, path.name, sha256, is_own=True)


def _companion(where: str, companion: Companion, own: Path | None, run: StageRun) -> Part:
    """Return a companion's files: from beside the user's own file, or downloaded."""
    for source in companion.sources:
        if own is not None and (beside := own.with_name(source.filename)).is_file():
            return _own(beside, companion.sources, run)
    return _downloaded(where, companion.sources, run)


# ------------------------------------------------------------------------------ how things are


@dataclass(frozen=True)
class Standing:
    """Where the weights of one network stand.

    Attributes:
        network: its block in params.yaml.
        source: ``seeded``, ``address``, ``by hand`` or ``file`` (of the user's own).
        file: name of the source file or package; of a seeded network its seed.
        origin: the whole address, or the path of the user's file.
        checksum: ``known`` (published), ``prefix`` (its first digits are), ``pinned`` at a first
            download, ``none``.
        licence: of the weights.
        notice: what goes with the licence.
        has_source: the source file is here.
        is_made: the weights file is here, and made as params.yaml now says.
        to_do: what to do where it is not.
    """

    network: str
    source: str
    file: str
    origin: str = ""
    checksum: str = ""
    licence: str = ""
    notice: str = ""
    has_source: bool = False
    is_made: bool = False
    to_do: str = ""


def survey(params: Params) -> list[Standing]:
    """Return where the weights of each network that is used stand. Opens no source file.

    Raises:
        ValueError: a module or option in params.yaml that does not exist.
        DownloadError: the file of pins is spoilt.
    """
    used = [f"backbones.{name}" for name in params.backbones]
    if params.reads_faces:
        used.insert(0, "faces.detector")
    return [_standing(where, params) for where in used]


def lacking(params: Params) -> list[str]:
    """Return a line for each network whose weights only a person can bring, and has not brought."""
    return [
        f"{found.network}: {found.to_do}"
        for found in survey(params)
        if found.source in ("file", "by hand") and not (found.has_source or found.is_made)
    ]


def _standing(where: str, params: Params) -> Standing:
    block, module = network_at(where, params)
    weights = weights_of(module, options_of(module, block.options))
    name = where.rpartition(".")[2]
    if block.source == "seeded":
        facts = {"source": "seeded", "seed": str(block.seed)}
        found = Standing(where, "seeded", f"seed {block.seed}", is_made=_is_made(name, facts))
    elif block.file is not None:
        found = _own_standing(where, Path(block.file), weights, name)
    else:
        found = _standing_at_address(where, weights, name)
    if found.is_made:
        return replace(found, to_do="")
    return replace(found, to_do=found.to_do or _command(where))


def _command(where: str) -> str:
    """Return the command that makes a network's weights, by the names in dvc.yaml."""
    name = where.rpartition(".")[2]
    return f"dvc repro {'detector' if where == 'faces.detector' else f'weights@{name}'}"


def _own_standing(where: str, path: Path, weights: Weights, name: str) -> Standing:
    published = (o for o in weights.sources if not isinstance(o, Wheel) and o.filename == path.name)
    return Standing(
        where,
        "file",
        path.name,
        str(path),
        checksum=next((sources.kind_of_checksum(o, PINS) for o in published), "none"),
        licence=weights.licence,
        notice=weights.notice,
        has_source=path.is_file(),
        is_made=_is_made(name, {"pretrained": "true"}, (path.name,)),
        to_do="" if path.is_file() else f"no such file: {path}; put it there or change `file`",
    )


def _standing_at_address(where: str, weights: Weights, name: str) -> Standing:
    origins = weights.sources
    here = [o for o in origins if sources.is_in_store(o, _source_store(), PINS)]
    origin = (*here, *origins)[0]
    to_do = ""
    is_by_hand = all(isinstance(o, ByHand) for o in origins)
    if is_by_hand:
        to_do = f"get {' or '.join(o.address for o in origins)} and set `file` of {where}"
    elif not here:
        to_do = f"{_command(where)}, which downloads {origin.address}"
    return Standing(
        where,
        "by hand" if is_by_hand else "address",
        origin.requirement if isinstance(origin, Wheel) else origin.filename,
        origin.address,
        checksum=sources.kind_of_checksum(origin, PINS),
        licence=weights.licence,
        notice=weights.notice,
        has_source=bool(here),
        is_made=_is_made(name, {"pretrained": "true"}, tuple(o.address for o in origins)),
        to_do=to_do,
    )


def _is_made(name: str, facts: Mapping[str, str], starts: tuple[str, ...] = ("",)) -> bool:
    """Tell whether a network's weights file says these facts, and begins its source so."""
    try:
        found = metadata(weights_file(name))
    except WeightsError:
        return False
    return found.items() >= facts.items() and found["source"].startswith(starts)


if __name__ == "__main__":
    typer.run(main)
