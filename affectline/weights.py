"""`affectline weights`: where each network's weights come from, and whether they are there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from features.sources import obtain
from features.weights.file import (
    metadata,
)
from features.weights.imported import Imported
from features.weights.record import (
    ByHand,
    Weights,
    WeightsError,
    Wheel,
    weights_of,
)
from stages.engine.params import Params
from stages.engine.paths import weights_file
from stages.weights import PINS, _source_store, block_at, network_at


@dataclass(frozen=True)
class Standing:
    """Where the weights of one network stand.

    Attributes:
        network: its block in params.yaml.
        source: ``seeded``, ``address``, ``by hand``, ``file`` (of the user's own) or ``imported``.
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
        f"{standing.network}: {standing.to_do}"
        for standing in survey(params)
        if standing.source in ("file", "by hand", "imported")
        and not (standing.has_source or standing.is_made)
    ]


def _standing(where: str, params: Params) -> Standing:
    block = block_at(where, params)
    weights = weights_of(*network_at(where, params))
    name = where.rpartition(".")[2]
    if block.source == "imported":
        standing = _imported_standing(where, Path(str(block.file)), name)
    elif block.source == "seeded":
        facts = {"source": "seeded", "seed": str(block.seed)}
        standing = Standing(where, "seeded", f"seed {block.seed}", is_made=_is_made(name, facts))
    elif block.file is not None:
        standing = _own_standing(where, Path(block.file), weights, name)
    else:
        standing = _standing_at_address(where, weights, name)
    if standing.is_made:
        return replace(standing, to_do="")
    return replace(standing, to_do=standing.to_do or _command(where))


def _command(where: str) -> str:
    """Return the command that makes a network's weights, by the names in dvc.yaml."""
    name = where.rpartition(".")[2]
    return f"dvc repro {'detector' if where == 'faces.detector' else f'weights@{name}'}"


def _imported_standing(where: str, path: Path, name: str) -> Standing:
    file = path if path.is_file() else weights_file(name)
    facts = Imported(file).facts if file.is_file() else {}
    return Standing(
        where,
        "imported",
        path.name,
        facts.get("origin", ""),
        checksum="known",
        licence=facts.get("licence", ""),
        notice=facts.get("notice", ""),
        has_source=path.is_file(),
        is_made=_is_made(name, {"source": "imported"}),
        to_do="" if path.is_file() else f"`dvc pull weights@{name}`, or import the arrays again",
    )


def _own_standing(where: str, path: Path, weights: Weights, name: str) -> Standing:
    published = (o for o in weights.sources if not isinstance(o, Wheel) and o.filename == path.name)
    return Standing(
        where,
        "file",
        path.name,
        str(path),
        checksum=next((obtain.kind_of_checksum(o, PINS) for o in published), "none"),
        licence=weights.licence,
        notice=weights.notice,
        has_source=path.is_file(),
        is_made=_is_made(name, {"pretrained": "true"}, (path.name,)),
        to_do="" if path.is_file() else f"no such file: {path}; put it there or change `file`",
    )


def _standing_at_address(where: str, weights: Weights, name: str) -> Standing:
    origins = weights.sources
    here = [o for o in origins if obtain.is_in_store(o, _source_store(), PINS)]
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
        checksum=obtain.kind_of_checksum(origin, PINS),
        licence=weights.licence,
        notice=weights.notice,
        has_source=bool(here),
        is_made=_is_made(name, {"pretrained": "true"}, tuple(o.address for o in origins)),
        to_do=to_do,
    )


def _is_made(name: str, facts: Mapping[str, str], starts: tuple[str, ...] = ("",)) -> bool:
    """Tell whether a network's weights file says these facts, and begins its source so."""
    try:
        stated = metadata(weights_file(name))
    except WeightsError:
        return False
    return stated.items() >= facts.items() and stated["source"].startswith(starts)
