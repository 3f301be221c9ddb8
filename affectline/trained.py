"""What an experiment trained, and all that its features are made by, checked before it answers.

A checkpoint knows its head; where its features came from is said by the results and by the files
that they were computed of. If code, settings or weights are others now, new videos would be made
into other features than the head has learnt: that is an error, which says what has changed.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

import heads
from affectline.plan import changes
from features import backbones, detectors
from features.cache import arrays, tables
from features.cache.keys import canonical, item_key
from features.cache.store import ItemStore, store_root
from features.options import near
from features.weights.file import metadata, tensors_sha256
from heads.training.selection import split_role
from heads.training.targets import Target, of_stated
from stages.decode import wanted_views
from stages.engine.ingredients import (
    Ingredients,
    code_of_answer,
    of_faces,
    of_features,
    of_view,
)
from stages.engine.items import item_path
from stages.engine.params import Params
from stages.engine.paths import (
    FEATURES,
    PARAMS,
    RESULTS,
    VIEWS,
    WEIGHTS,
    index_of,
    weights_file,
)
from stages.engine.progress import in_a_line, reason
from stages.results.files import rounded
from stages.weights import DETECTOR

DIGITS = 12
"""Of a hash that a person is shown."""

OF_THE_VIDEO = ("stage", "video", "input")
"""Ingredients of an item that are the video's, or say nothing."""

STATED = (
    *("head", "params", "training", "roles", "shapes", "axes", "code"),
    *("run", "pretrained"),
)
"""What a checkpoint has to say of itself."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained head.

    Attributes:
        file: its weights and statistics.
        stated: what it says of itself.
        trained_on: contents of the features of each video that it was trained on, as JSON.
    """

    file: Path
    stated: Mapping[str, Any]
    trained_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Trained:
    """What answers: runs of one head, and what makes features of a video.

    Attributes:
        name: of the experiment.
        params: params.yaml with the backbones that the roles read, and no others.
        weights: the folder of their weights files.
        runs: name -> checkpoint, at least one.
        made_of: stage -> what it makes an item of, but for the video, see `made_of`.
        remarks: what a person should know of the answers.
        unproven: files that say what it was trained with, and are not here.
    """

    name: str
    params: Params
    weights: Path
    runs: Mapping[str, Checkpoint]
    made_of: Mapping[str, Ingredients]
    remarks: tuple[str, ...] = ()
    unproven: tuple[Path, ...] = ()

    @property
    def stated(self) -> Mapping[str, Any]:
        """What all its checkpoints say alike."""
        return next(iter(self.runs.values())).stated

    @property
    def target(self) -> Target:
        """What is told."""
        return of_stated(self.stated)

    @property
    def roles(self) -> dict[str, str]:
        """Role -> `<backbone>/<feature>`."""
        return dict(self.stated["roles"])


def chosen_runs(wanted: Sequence[str], known: Sequence[str], where: object) -> list[str]:
    """Return the runs that are asked for, all where none is.

    Raises:
        ValueError: there is no such run.
    """
    for run in wanted:
        if run not in known:
            raise ValueError(
                f"{where}: no run {run!r}{near(run, known)}; there are {', '.join(known)}"
            )
    return list(dict.fromkeys(wanted)) or list(known)


def of_experiment(params: Params, name: str, wanted: Sequence[str] = ()) -> Trained:
    """Return what an experiment of this project trained, as its results have it.

    Args:
        params: params.yaml.
        name: of the experiment.
        wanted: runs; all where none is named.

    Raises:
        ValueError: it has no results, lacks a file, or was trained with other code, settings or
            weights.
    """
    if name in params.experiments:
        _check_made(with_backbones(params, name, params.experiments[name].roles), name)
    about = _about(params, name)
    folder = RESULTS / name / "runs"
    names = chosen_runs(wanted, list(about["splits"]), f"experiment {name}")
    runs = {run: _of_run(folder, run) for run in names}
    stated = next(iter(runs.values())).stated
    _check_block(params, name, stated)
    reduced = with_backbones(params, name, stated["roles"])
    check_head(f"experiment {name}", stated)
    now = made_of(reduced, WEIGHTS)
    _check_origins(name, about, now)
    unproven = tuple(_check_chain(name, reduced, folder / f"{names[0]}.h5", now))
    remarks = [
        f"not all could be checked that {name} was trained with; {pulled(unproven)} brings it"
    ]
    remarks = remarks[: len(unproven)] + about_random(stated)
    return Trained(name, reduced, WEIGHTS, runs, now, tuple(remarks), unproven)


def pulled(files: Iterable[Path]) -> str:
    """Return the command that brings files of the outputs, and no others."""
    return f"`dvc pull {shlex.join(map(str, dict.fromkeys(files)))}`"


def _check_made(params: Params, name: str) -> None:
    """Check that an experiment has results here, and its networks their weights.

    Raises:
        ValueError: something is lacking; the message has the commands for all of it.
    """
    stages = {
        ("detector" if each == DETECTOR else f"weights@{each}"): weights_file(each)
        for each in networks(params)
    }
    stages = {f"train@{name}": RESULTS / name / "about.json"} | stages
    if lacking := [stage for stage, file in stages.items() if not file.is_file()]:
        raise ValueError(
            f"{stages[lacking[0]]}: not here, and experiment {name} needs it to answer; "
            f"`dvc pull {' '.join(lacking)}` brings what has been made, here before or by someone "
            f"else; `dvc repro train@{name}` makes it"
        )


def about_random(stated: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of a head whose features, or first weights, are random."""
    if stated["pretrained"]:
        return []
    return ["features, or first weights, are seeded (random): this says nothing about emotion"]


def _about(params: Params, name: str) -> dict[str, Any]:
    path = RESULTS / name / "about.json"
    if not path.is_file():
        known = list(params.experiments)
        raise ValueError(
            f"{PARAMS}: no experiment {name!r}{near(name, known)}; there are {', '.join(known)}"
        )
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected JSON, found: {reason(error)}") from None
    return about


def _of_run(folder: Path, run: str) -> Checkpoint:
    """Return a run's checkpoint, and which videos it was trained on."""
    checkpoint = read_checkpoint(folder / f"{run}.safetensors")
    made = arrays.read_attributes(folder / f"{run}.h5")["ingredients"]
    assert isinstance(made, dict)
    contents = frozenset(canonical(video[2]) for video in made["videos"]["train"])
    return Checkpoint(checkpoint.file, checkpoint.stated, contents)


def read_checkpoint(path: Path) -> Checkpoint:
    """Return a checkpoint and what it says of itself.

    Raises:
        ValueError: no such file, or none that this version of the project wrote.
    """
    try:
        with safe_open(path, framework="np") as file:
            stated = json.loads((file.metadata() or {}).get("affectline", "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{path}: expected a checkpoint, found: {error}; {pulled([path])} brings it where it "
            "was made, or train again"
        ) from None
    if missing := [name for name in STATED if name not in stated]:
        raise ValueError(
            f"{path}: expected a checkpoint that says its {', '.join(missing)}, found one that "
            "does not: it is of an earlier version, train again"
        )
    return Checkpoint(path, stated)


def with_backbones(params: Params, name: str, roles: Mapping[str, str]) -> Params:
    """Return params with the backbones that roles read alone.

    Raises:
        ValueError: there is no such backbone, or no network that a video could go through.
    """
    names = sorted({split_role(role, source)[0] for role, source in roles.items()})
    if lacking := [each for each in names if each not in params.backbones]:
        raise ValueError(
            f"{PARAMS}: experiment {name} was trained on the backbone {lacking[0]!r}, which is not "
            f"there; there are {', '.join(params.backbones)}"
        )
    for role, source in roles.items():
        each = split_role(role, source)[0]
        if params.backbones[each].module == backbones.IMPORTED:
            raise ValueError(
                f"experiment {name}: its role {role} reads {each}, arrays that were made elsewhere "
                "and imported: they cannot be computed of a video here, so it answers none"
            )
    return params.model_copy(update={"backbones": {each: params.backbones[each] for each in names}})


def networks(params: Params) -> list[str]:
    """Return the networks whose weights make the features: backbones, and the face detector."""
    return [*params.backbones, *([DETECTOR] if params.reads_faces else [])]


# ------------------------------------------------------------------------------ what is now


def made_of(params: Params, folder: Path) -> dict[str, Ingredients]:
    """Return stage -> what an item of it is made of, but for the video.

    Stages are `decode <view>`, `faces` and `extract@<backbone>`; code is one hash.

    Args:
        params: with the backbones that are read alone.
        folder: of the weights files.

    Raises:
        ValueError: a module or option that does not exist, weights that are not here.
    """
    stages: dict[str, Ingredients] = {}
    for name, view in wanted_views(params).items():
        stages[f"decode {name}"] = of_view("", name, view, params.decode.seed)
    if params.reads_faces:
        block = params.faces.detector
        options = detectors.complete_options(block.module, block.options, params.faces.min_score)
        digest = tensors_sha256(weights_file("detector", folder))
        stages["faces"] = of_faces(params.faces, asdict(options), digest, "")
    for name, backbone in params.backbones.items():
        module = backbones.load(backbone.module)
        chosen, dtypes = backbone.choices(f"backbones.{name}", module)
        digest = tensors_sha256(weights_file(name, folder))
        stages[f"extract@{name}"] = of_features(backbone, asdict(chosen), dtypes, digest, "")
    return {stage: without_video(ingredients) for stage, ingredients in stages.items()}


def without_video(ingredients: Mapping[str, Any]) -> Ingredients:
    """Return what an item is made of, but for its video, with one hash for the code."""
    kept = {name: value for name, value in ingredients.items() if name not in OF_THE_VIDEO}
    return kept | {"code": item_key({"code": ingredients["code"]})}


# ----------------------------------------------------------------------------------- checks


def check_same(
    where: str, stage: str, was: Mapping[str, Any], now: Mapping[str, Any], to_do: str
) -> None:
    """Check that a stage makes items of what it was made of when the head was trained.

    Raises:
        ValueError: it does not; the message says of what else.
    """
    lines = [f"{name} was {_short(old)}, is {_short(new)}" for name, old, new in changes(was, now)]
    if lines:
        raise ValueError(
            f"{where}: trained on another {stage} than is here: {'; '.join(lines)}. {to_do}"
        )


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else canonical(value)
    return in_a_line(text[:DIGITS] if len(text) == 64 else text)


def _again(name: str) -> str:
    return f"Go back to that, or train it on what is here: `dvc repro train@{name}`"


def check_head(where: str, stated: Mapping[str, Any]) -> None:
    """Check that a head answers by the code that it was trained with.

    Raises:
        ValueError: it does not, or there is no such head.
    """
    head = str(stated["head"])
    heads.load(head)
    now = item_key({"code": code_of_answer(head)})
    if stated["code"] != now:
        raise ValueError(
            f"{where}: trained with another head {head} than is here: its code was "
            f"{_short(stated['code'])}, is {_short(now)}. Take the code that it was trained with, "
            "or train it again"
        )


def _check_block(params: Params, name: str, stated: Mapping[str, Any]) -> None:
    """Check that params.yaml means the experiment that was trained."""
    block = params.experiments.get(name)
    if block is None:
        return  # removed since: its results stand for themselves
    head = heads.load(block.head)
    chosen = heads.resolve(heads.validate(head, block.overrides), block.roles)
    searched = block.search.space if block.search else ()  # each run has its own of these
    now, was = (
        {
            "head": head_name,
            "params": {key: value for key, value in params.items() if key not in searched},
            "roles": roles,
            "target": target,
        }
        for head_name, params, roles, target in (
            (
                block.head,
                asdict(chosen),
                block.roles,
                block.target or next(iter(params.index.targets), None),
            ),
            (stated["head"], stated["params"], stated["roles"], of_stated(stated).name),
        )
    )
    check_same(f"experiment {name}", f"experiment of {PARAMS}", was, now, _again(name))


def _check_origins(
    name: str, about: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]
) -> None:
    """Check what the results say of where their features came from."""
    for backbone, origin in about["features"].items():
        here = now[f"extract@{backbone}"]
        known = {key: here[key] for key in ("module", "options", "view", "code")}
        known["weights"] = metadata(weights_file(backbone))
        was = {key: origin.get(key) for key in known}
        to_do = _again(name)
        check_same(f"experiment {name}", f"backbone {backbone}", was, _as_read(known), to_do)


def _as_read(value: Mapping[str, object]) -> dict[str, Any]:
    """Return what is read of a value that was written as JSON of the results."""
    read = rounded(value)
    assert isinstance(read, dict)
    return read


def _check_chain(
    name: str, params: Params, answers: Path, now: Mapping[str, Mapping[str, Any]]
) -> Iterator[Path]:
    """Check what the features of a test video were made of, from its frames on.

    Yields:
        Files that say it and are not here; what comes after one of them is not compared.
    """
    made = arrays.read_attributes(answers)["ingredients"]
    assert isinstance(made, dict)
    video_id, _, contents = made["videos"]["test"][0]
    to_do = f"`dvc repro train@{name}` brings all of it up to date"
    where = f"experiment {name}"
    for backbone, block in params.backbones.items():
        stages = [(f"extract@{backbone}", FEATURES / backbone)]
        frames = "segments" if block.view == "faces" else block.view
        if block.view == "faces":
            stages.append(("faces", VIEWS / "faces"))
        stages.append((f"decode {frames}", VIEWS / frames))
        content: str | None = contents[backbone]
        for stage, folder in stages:
            item = _recorded(folder, video_id)
            if item is None:
                yield from (file for file in [index_of(folder)] if not file.is_file())
                yield folder / item_path(video_id)
            if item is None or content is None:
                content = None
                continue
            if item.content != content:
                raise ValueError(
                    f"{where}: what lies in {folder} of {video_id} is not what it was trained on "
                    f"(content {_short(content)}, found {_short(item.content)}); {to_do}"
                )
            was = without_video(item.made_of)
            check_same(where, stage, was, now[stage], to_do)
            content = str(item.made_of.get("input"))


@dataclass(frozen=True)
class _Recorded:
    """What lies here of a video's item: hash of its numbers, and what it was made of."""

    content: str
    made_of: Mapping[str, Any]


def _recorded(folder: Path, video_id: str) -> _Recorded | None:
    """Return a video's item by its index, out of the output or the store; None where it is not."""
    index = index_of(folder)
    if not index.is_file():
        return None
    rows = tables.read(index, ["video_id", "key", "content", "path"])
    for row in rows:
        if row["video_id"] == video_id and row["key"]:
            stored = ItemStore(store_root()).path(str(row["key"]), ".h5")
            for file in (folder / str(row["path"]), stored):
                if file.is_file():
                    made = arrays.read_attributes(file)["ingredients"]
                    assert isinstance(made, dict)
                    return _Recorded(str(row["content"]), made)
    return None
