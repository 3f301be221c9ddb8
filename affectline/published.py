"""The folder of a published head, as it is read: checked whole before anything of it is used.

Nothing in it is run and no path in it is followed: files have the names that are known here, and
each checkpoint, in safetensors, is compared with the checksum in model.json before it is opened.
Weights of backbones do not lie in it: they are made here, and compared with those that it names.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from affectline.trained import (
    Checkpoint,
    Trained,
    about_random,
    check_head,
    check_same,
    chosen_runs,
    made_of,
    networks,
    read_checkpoint,
    with_backbones,
)
from features.cache.claims import scratch
from features.cache.keys import file_sha256
from features.cache.store import link_or_copy, store_root
from features.sources.download import DownloadError
from features.weights.file import metadata, tensors_sha256, write_seeded
from features.weights.record import WeightsError
from stages.engine.params import Backbone, Decode, Faces, Model, Params
from stages.engine.paths import WEIGHTS, weights_file
from stages.engine.progress import StageRun, reason
from stages.engine.section import Name, Section
from stages.weights import DETECTOR, SUFFIX, make_pretrained

MODEL, CARD, RUNS = "model.json", "README.md", "runs"
"""What lies in the folder; in the last a checkpoint a run."""

LARGEST_BYTES = 1 << 20
"""Of model.json: it is a page of settings."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Run = Annotated[str, Field(pattern=r"^split_[A-Za-z0-9_-]{1,80}$")]
AnyModel = TypeVar("AnyModel", bound=Model)


class Settings(Section):
    """What of params.yaml makes the features."""

    decode: Decode
    faces: Faces
    backbones: Annotated[dict[Name, Backbone], Field(min_length=1)]


class Weights(Section):
    """The weights of a network, which do not lie in the folder.

    Attributes:
        tensors: hash of what the network is given.
        facts: what its weights file says of itself: source, checksum, licence, seed.
    """

    tensors: Sha256
    facts: dict[str, str]


class Published(Section):
    """What model.json says.

    Attributes:
        format: of the folder.
        name: of the experiment.
        runs: run -> hash of its checkpoint.
        settings: what of params.yaml makes the features.
        made_of: stage -> what it makes an item of, see `affectline.trained.made_of`.
        weights: network -> its weights.
        commit: of the project that published it; empty where it is in no git repository.
        software: that it was published with.
    """

    format: Literal[1]
    name: Name
    runs: Annotated[dict[Run, Sha256], Field(min_length=1)]
    settings: Settings
    made_of: dict[str, dict[str, Any]]
    weights: dict[Name, Weights]
    commit: str
    software: dict[str, str]


def file_of(run: str) -> Path:
    """Return where a run's checkpoint lies in the folder."""
    return Path(RUNS) / f"{run}.safetensors"


def read_model(folder: Path) -> Published:
    """Return what a folder's model.json says.

    Raises:
        ValueError: there is none, or it is not what `affectline publish` writes.
    """
    path = folder / MODEL
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"more than {LARGEST_BYTES:,} bytes")
        return Published.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        found = f"{place}: {first['msg']}"
    except (OSError, ValueError, RecursionError) as error:
        found = reason(error)
    raise ValueError(f"{path}: expected what `affectline publish` writes, found: {found}")


@contextmanager
def of_folder(params: Params, folder: Path, wanted: Sequence[str] = ()) -> Iterator[Trained]:
    """Yield what a published folder holds; the weights files that it needs are here meanwhile.

    Args:
        params: params.yaml of this project: how this machine works.
        folder: of `affectline publish`.
        wanted: runs; all where none is named.

    Raises:
        ValueError: a file that is not the published one, or code or weights that are others here.
    """
    model = read_model(folder)
    names = chosen_runs(wanted, list(model.runs), folder)
    runs = {run: _checkpoint(folder, run, model.runs[run]) for run in names}
    stated = runs[names[0]].stated
    check_head(str(folder), stated)
    reduced = with_backbones(_with_settings(params, model), model.name, stated["roles"])
    needed = networks(reduced)
    if set(needed) != set(model.weights):
        raise ValueError(
            f"{folder / MODEL}: expected the weights of {', '.join(sorted(needed))}, found those "
            f"of {', '.join(sorted(model.weights)) or 'no network'}"
        )
    with scratch(store_root() / "unfinished") as unfinished:
        for name in needed:
            _bring(folder, name, model.weights[name], reduced, unfinished)
        now = made_of(reduced, unfinished)
        _check_made_of(folder, model, now)
        remarks = tuple(about_random(stated))
        yield Trained(model.name, reduced, unfinished, runs, now, remarks)


def _with_settings(params: Params, model: Published) -> Params:
    """Return params with the settings of a published head, and how this machine works."""
    settings = model.settings
    faces = settings.faces.model_copy(update={"detector": plain(settings.faces.detector)})
    networks = {name: plain(block) for name, block in settings.backbones.items()}
    return params.model_copy(
        update={"decode": settings.decode, "faces": faces, "backbones": networks}
    )


def _checkpoint(folder: Path, run: str, sha256: str) -> Checkpoint:
    path = folder / file_of(run)
    try:
        found = None if path.is_symlink() else file_sha256(path)
    except OSError as error:
        raise ValueError(f"{path}: expected the checkpoint of a run: {reason(error)}") from None
    if found != sha256:
        raise ValueError(
            f"{path}: expected the file that was published (sha256 {sha256[:12]}), found "
            f"{found[:12] if found else 'a link'}: copy the folder again"
        )
    checkpoint = read_checkpoint(path)
    if checkpoint.stated["run"] != run:
        raise ValueError(f"{path}: expected {run}, found {checkpoint.stated['run']}")
    return checkpoint


def _check_made_of(folder: Path, model: Published, now: Mapping[str, Mapping[str, Any]]) -> None:
    code = f" (commit {model.commit})" if model.commit else ""
    to_do = f"Take the code that it was published with{code}, or train again with this"
    for stage in sorted({*model.made_of, *now}):
        was, here = model.made_of.get(stage, {}), now.get(stage, {})
        check_same(str(folder), stage, was, here, to_do)


# --------------------------------------------------------------------------------- weights


def _bring(folder: Path, name: str, weights: Weights, params: Params, out: Path) -> None:
    """Have the weights file of a network in ``out``: made of its seed, taken from here, or fetched.

    Raises:
        ValueError: it cannot be had, or is another than the head was trained with.
    """
    path = weights_file(name, out)
    where = "faces.detector" if name == DETECTOR else f"backbones.{name}"
    block: Model = params.faces.detector if name == DETECTOR else params.backbones[name]
    if block.source == "seeded":
        write_seeded(path, name, block.seed)
    elif known := _known(weights):
        link_or_copy(known, path)
    else:
        try:
            with StageRun("predict", f"weights {name}") as run:
                make_pretrained(where, params, path, run)
        except (WeightsError, DownloadError) as error:
            source = weights.facts.get("source", "")
            raise ValueError(
                f"{folder}: the weights of {name} cannot be had: {error}\nIt was trained with "
                f"{source} (sha256 {weights.facts.get('sha256', '')}); name that as `file` of a "
                "backbone in params.yaml and make it with `dvc repro weights@<backbone>`: then it "
                "is found here"
            ) from None
    found = tensors_sha256(path)
    if found != weights.tensors:
        raise ValueError(
            f"{folder}: the weights of {name} that can be had here are others than those that it "
            f"was trained with (sha256 {weights.tensors[:12]}, here {found[:12]})"
        )


def _known(weights: Weights) -> Path | None:
    """Return a weights file of this project with these tensors, None where there is none."""
    for path in sorted(WEIGHTS.glob(f"*{SUFFIX}")):
        facts = metadata(path)
        is_alike = all(facts.get(n) == weights.facts.get(n) for n in ("source", "sha256"))
        if is_alike and tensors_sha256(path) == weights.tensors:
            return path
    return None


def plain(block: AnyModel) -> AnyModel:
    """Return a network's block without what belongs to one machine and to one person's trust."""
    return block.model_copy(update={"file": None, "trust_pickle": False})
