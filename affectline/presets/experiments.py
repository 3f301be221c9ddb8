"""What a data set is, and which rows of the papers' tables become experiments on it.

`presets/<name>.yaml` says what a data set is, `affectline/presets/bindings.yaml` which features
the rows read and how each paper trains; the rows themselves are the heads' `REFERENCE`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import yaml
from pydantic import Field, ValidationError, model_validator

import heads
from features import backbones
from features.options import features_of, options_of
from heads import Head, Reported
from heads.training.settings import training_of
from stages.engine.params import Backbone, DecodeViews, Params
from stages.engine.section import Count, Name, Section
from stages.engine.splits import Splits

PRESETS = Path(__file__).parent
BINDINGS = "bindings"

S = TypeVar("S", bound=Section)
Part = Literal["train", "test"]


class PresetError(ValueError):
    """There is no such preset, or it does not fit params.yaml or the heads."""


# ------------------------------------------------------------------------------- presets


class FixedSplit(Section):
    """How many videos train and test."""

    train: Count
    test: Count


class Preset(Section):
    """A data set; exactly one of `splits`, `split` and `subsets` says how it is split.

    Attributes:
        title: its name, as the heads' `REFERENCE` and the report have it; null for own data.
        classes: name -> number of videos as published, null where that is not known.
        positive: classes of positive polarity, for a loss that asks.
        negative: the others.
        splits: seeded splits per class, drawn where there is no split file.
        split: sizes of the one official split; one of these sizes is drawn without its file.
        subsets: folder above the classes -> its part, null for neither.
        stills: the files are still images.
        papers: whose experiments it gets where no table is about it; empty for all.
        heads: likewise, which heads.
        notes: what a person should know.
    """

    title: str | None
    classes: dict[str, Count | None]
    positive: tuple[str, ...] = Field(default=(), strict=False)
    negative: tuple[str, ...] = Field(default=(), strict=False)
    splits: Splits | None = None
    split: FixedSplit | None = None
    subsets: dict[str, Part | None] | None = None
    stills: bool = False
    papers: tuple[str, ...] = Field(default=(), strict=False)
    heads: tuple[str, ...] = Field(default=(), strict=False)
    notes: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _fits(self) -> "Preset":
        if sum(way is not None for way in (self.splits, self.split, self.subsets)) != 1:
            raise ValueError("expected one of splits, split and subsets")
        polar = [*self.positive, *self.negative]
        if polar and sorted(polar) != sorted(self.classes):
            raise ValueError(f"expected each class once in positive or negative, found {polar}")
        return self


class Rule(Section):
    """The features of the rows that have this head and this paper.

    Attributes:
        head: of the rows; null for any.
        paper: likewise.
        here: for the rows about the preset's data set (true) or for rows about other data that
            run on it (false); null for both.
        roles: role -> feature.
        maps: role -> feature of its map.
        use_maps: which rows get maps: none, those of one role, all.
        weights: role -> backbone whose weights the head's own network of that role starts from.
    """

    head: Name | None = None
    paper: str | None = None
    here: bool | None = None
    roles: dict[Name, str] = {}
    maps: dict[Name, str] = {}
    use_maps: Literal["never", "single", "always"] | None = None
    weights: dict[Name, Name] = {}

    def holds(self, head: str, row: Reported, here: bool) -> bool:
        """Tell whether the rule is for this row; `here`: it is about the preset's data set."""
        return (
            self.head in (None, head)
            and self.paper in (None, row.paper)
            and self.here in (None, here)
        )


class Protocol(Section):
    """How a paper trains: all rows of its tables, baselines and rivals too, whatever the head.

    Attributes:
        train: settings of `train`.
        iterations: batches of the whole training, instead of `train.epochs`: a head that trains
            in phases shares them out equally, so that all rows of a table train equally long.
        notes: what of it the paper does not state, and what was chosen; shown to the user.
    """

    train: dict[str, Any]
    iterations: Count | None = None
    notes: Annotated[tuple[str, ...], Field(strict=False)]


class Bindings(Section):
    """What `affectline/presets/bindings.yaml` has: see there."""

    backbones: dict[Name, Backbone]
    views: DecodeViews
    stand_ins: dict[Name, str]
    protocols: dict[str, Protocol]
    rules: Annotated[tuple[Rule, ...], Field(strict=False)]

    def protocol(self, paper: str) -> Protocol:
        """Return how a paper trains.

        Raises:
            PresetError: no protocol stands there.
        """
        if paper not in self.protocols:
            raise PresetError(
                f"{PRESETS / BINDINGS}.yaml: expected a protocol of {paper}, found those of "
                f"{', '.join(self.protocols)}: add one"
            )
        return self.protocols[paper]


def of_imported(bindings: Bindings, params: Params) -> Bindings:
    """Return bindings where each role reads the imported backbone of its name, and nothing else.

    For a data set of features alone.
    """
    imported = {name: b for name, b in params.backbones.items() if b.source == "imported"}
    rule = Rule(roles={name: f"{name}/features" for name in imported})
    return bindings.model_copy(update={"backbones": imported, "rules": (rule,)})


def names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml") if path.stem != BINDINGS)


def load_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        PresetError: there is none of this name, or its file is wrong.
    """
    if name not in names():
        raise PresetError(f"unknown preset {name!r}: expected one of {', '.join(names())}")
    return _load(name, Preset)


def load_bindings() -> Bindings:
    """Return the bindings.

    Raises:
        PresetError: their file is wrong.
    """
    return _load(BINDINGS, Bindings)


def _load(name: str, kind: type[S]) -> S:
    path = PRESETS / f"{name}.yaml"
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise PresetError(f"{path}: {error}") from error


# ----------------------------------------------------------------------------- experiments


@dataclass(frozen=True)
class Planned:
    """An experiment that is a row of a paper's table, or several that are the same.

    Attributes:
        name: its name in params.yaml.
        head: its head.
        rows: what the papers report of it, the row it is named for first.
        roles: role -> feature.
        overrides: hyper-parameters.
        train: training settings.
        weights: role -> backbone, see `Rule`.
    """

    name: str
    head: str
    rows: tuple[Reported, ...]
    roles: Mapping[str, str]
    overrides: Mapping[str, object]
    train: Mapping[str, object]
    weights: Mapping[str, str]

    def reported(self) -> str:
        """Return what the papers report of it, e.g. `HAMF, MHED, Table 4: 63.08`."""
        return "; ".join(
            f"{row.paper}, {row.data}, {row.table}: {100 * row.accuracy:.2f}" for row in self.rows
        )

    def block(self) -> dict[str, object]:
        """Return its block of params.yaml."""
        block: dict[str, object] = {"head": self.head, "roles": dict(self.roles)}
        if self.weights:
            block["weights"] = dict(self.weights)
        if self.overrides:
            block["with"] = dict(self.overrides)
        if self.train:
            block["train"] = dict(self.train)
        return block


def reported(paper: str | None = None) -> list[tuple[str, Reported]]:
    """Return (head, row) of all heads' `REFERENCE`, or those of one paper.

    Raises:
        PresetError: no row is of this paper.
    """
    rows = [(name, row) for name in heads.names() for row in heads.load(name).REFERENCE]
    papers = sorted({row.paper for _, row in rows})
    if paper is None:
        return rows
    chosen = [(head, row) for head, row in rows if row.paper.casefold() == paper.casefold()]
    if not chosen:
        raise PresetError(f"unknown paper {paper!r}: expected one of {', '.join(papers)}")
    return chosen


def choose(preset: Preset, rows: Sequence[tuple[str, Reported]]) -> list[tuple[str, Reported]]:
    """Return the rows about this data set; where there is none, the fullest of each head and paper.

    The fullest has the most roles, and of these the best accuracy.
    """
    here = [(head, row) for head, row in rows if row.data == preset.title]
    if here:
        return here
    best: dict[tuple[str, str], Reported] = {}
    for head, row in rows:
        if row.paper not in (preset.papers or (row.paper,)):
            continue
        if head not in (preset.heads or (head,)):
            continue
        other = best.get((head, row.paper))
        if other is None or _fullness(row) > _fullness(other):
            best[head, row.paper] = row
    return [(head, row) for (head, _), row in best.items()]


def _fullness(row: Reported) -> tuple[int, float]:
    return len(row.roles), row.accuracy


def plan_experiments(
    preset: Preset,
    rows: Sequence[tuple[str, Reported]],
    bindings: Bindings,
    params: Params,
    training_videos: int,
    epochs: int | None = None,
) -> tuple[list[Planned], list[str]]:
    """Return the experiments of these rows, and a line for each row that cannot run.

    Rows that are the same network on the same features, trained alike, are one experiment.

    Args:
        preset: the data set.
        rows: what to run, see `choose`.
        bindings: features and training.
        params: of the project, for what an experiment does not override.
        training_videos: of a run, to turn iterations into epochs.
        epochs: of every experiment, instead of the papers'.
    """
    planned: dict[str, Planned] = {}
    same: dict[object, str] = {}
    left_out = []
    for head, row in rows:
        here = row.data == preset.title
        rules = [rule for rule in bindings.rules if rule.holds(head, row, here)]
        features = _features(row, rules)
        missing = [role for role in row.roles if role not in features]
        if missing:
            left_out.append(f"{_cell(row)} ({head}): no feature for {', '.join(missing)}")
            continue
        weights = {
            role: name for rule in rules for role, name in rule.weights.items() if role in features
        }
        module = heads.load(head)
        overrides = {**_polarity(module, preset), **_values(row.params)}
        settings = heads.validate(module, overrides)
        if why := _misfit(module, settings, features, bindings, preset):
            left_out.append(f"{_cell(row)} ({head}): {why}")
            continue
        protocol = bindings.protocol(row.paper)
        train = dict(protocol.train)
        if epochs is not None:
            train["epochs"] = epochs
        elif protocol.iterations is not None:
            phases = _phases(module, settings, features, bindings, preset)
            batch_videos = training_of(params.train | train).batch_videos
            batches = phases * math.ceil(training_videos / batch_videos)
            train["epochs"] = math.ceil(protocol.iterations / batches)
        identity = (
            head,
            frozenset(features.items()),
            frozenset(weights.items()),
            repr(heads.resolve(settings, features)),
            repr(training_of(params.train | train)),
        )
        if identity in same:
            name = same[identity]
            planned[name] = replace(planned[name], rows=(*planned[name].rows, row))
            continue
        name = same[identity] = _experiment_name(head, row, preset, planned)
        planned[name] = Planned(name, head, (row,), features, overrides, train, weights)
    return list(planned.values()), left_out


def _cell(row: Reported) -> str:
    return f"{row.paper}, {row.table}, {row.name}"


def _features(row: Reported, rules: Iterable[Rule]) -> dict[str, str]:
    """Return role -> feature of a row, maps included, as far as the rules know one."""
    roles: dict[str, str] = {}
    maps: dict[str, str] = {}
    use_maps = "never"
    for rule in rules:
        roles |= rule.roles
        maps |= rule.maps
        use_maps = rule.use_maps or use_maps
    features = {role: roles[role] for role in row.roles if role in roles}
    if use_maps == "always" or (use_maps == "single" and len(row.roles) == 1):
        features |= {f"{role}_map": maps[role] for role in features if role in maps}
    return features


def _misfit(
    module: Head,
    settings: Any,
    features: Mapping[str, str],
    bindings: Bindings,
    preset: Preset,
) -> str:
    """Return why a head cannot read imported features; nothing where it can, or none is imported.

    The features that the bindings choose for a role themselves are known to fit.
    """
    if all(block.source != "imported" for block in bindings.backbones.values()):
        return ""
    try:
        _phases(module, settings, features, bindings, preset)
    except (ValueError, RuntimeError) as error:
        return " ".join(str(error).split())
    return ""


def _phases(
    module: Head,
    settings: Any,
    features: Mapping[str, str],
    bindings: Bindings,
    preset: Preset,
) -> int:
    """Return in how many phases a network with these settings trains on these features."""
    shapes = {}
    for role, source in features.items():
        name, _, feature = source.partition("/")
        backbone = bindings.backbones[name]
        network = backbones.load(backbone.module)
        shapes[role] = features_of(network, options_of(network, backbone.options))[feature]
    classes = tuple(preset.classes) or ("one", "other")
    with torch.device("meta"):  # shapes alone, no memory
        return len(module.build(settings, shapes, classes).phases())


def _polarity(module: Head, preset: Preset) -> dict[str, object]:
    """Return the polarity of the classes for a head that has to know it and does not."""
    asked = {item.name for item in fields(module.Params)}
    if not preset.positive or not {"positive", "negative"} <= asked:
        return {}
    default = module.Params()
    known = {name.casefold() for name in (*default.positive, *default.negative)}
    if {name.casefold() for name in preset.classes} <= known:
        return {}
    return {"positive": list(preset.positive), "negative": list(preset.negative)}


def _values(params: Mapping[str, object]) -> dict[str, object]:
    """Return params as YAML has them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in params.items()}


def _experiment_name(head: str, row: Reported, preset: Preset, taken: Mapping[str, object]) -> str:
    """Return `hamf_t4_g2`, or where the row is of another data set `hamf`, `pooling_caan`."""
    paper = _slug(row.paper)
    if row.data == preset.title:
        name = f"{paper}_t{''.join(re.findall(r'[0-9]+', row.table))}_{_slug(row.name)}"
    else:
        name = head if head == paper else f"{head}_{paper}"
    choices = [name, f"{name}_{head}"]
    number = 2
    while (name := choices.pop(0)) in taken:
        choices.append(f"{choices[-1] if choices else name}_{number}")
        number += 1
    return name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")
