"""What is told of a video: one of several classes, any number of labels, or numbers (dimensions).

A head's last layer is as wide as there are names, and means by the kind of the target:

- `class`: logits of the softmax over the classes; cross-entropy; accuracy;
- `labels`: a logit a label, each true or not by itself; binary cross-entropy; mAP, the mean over
  the labels of the average precision;
- `dimensions`: a number a dimension, in half widths of its range from the middle of it; 1 - CCC,
  the mean over the dimensions of Lin's concordance; the mean CCC.

A data set's index has its targets, see `read_targets`; without any it is the class that its column
`label` says. This module needs no torch: who reads results does not wait for it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from features.cache import tables
from features.options import near

Kind = Literal["class", "labels", "dimensions"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Label = int | tuple[float, ...]
"""What is true of a video: the position of its class; 0 or 1 a label; a number a dimension."""

MEASURES: Mapping[Kind, str] = {"class": "accuracy", "labels": "mAP", "dimensions": "CCC"}
"""What says how well a head tells a target: larger is better, and no two are to be compared."""

COLUMN = "target_"
"""In the index, the CSV's columns have this before their names."""

LABEL = "label"
"""The column that says the class where no target is declared."""

KEY = "targets"
"""Of the index's metadata."""

BETWEEN = "|"
"""Stands between labels in tables, as in the CSV."""

_PARTS = 4
"""Parts of equal numbers of videos, by which dimensions are drawn."""


@dataclass(frozen=True)
class Declared:
    """A target as `index.targets` declares it, see `stages.engine.params.Target`."""

    name: str
    kind: Kind
    columns: tuple[str, ...]
    names: tuple[str, ...] = ()
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Target:
    """What a head is to tell.

    Attributes:
        kind: see this module.
        names: of the classes, the labels or the dimensions.
        range: lowest and highest value of dimensions, None of other kinds.
        name: in `index.targets`; None where the data set declares none.
        weights: of the classes in the training loss, see `balanced`; none are all alike. They are
            of a run, and no part of what files say of a target.
    """

    kind: Kind
    names: tuple[str, ...]
    range: tuple[float, float] | None = None
    name: str | None = None
    weights: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Size of the last layer."""
        return len(self.names)

    @property
    def measure(self) -> str:
        """What says how well it is told."""
        return MEASURES[self.kind]

    def stated(self) -> dict[str, object]:
        """Return what files say of it, for `of_stated`; of one of the classes their names alone."""
        if self.kind == "class" and self.name is None:
            return {"classes": self.names}
        return {"target": {n: value for n, value in asdict(self).items() if n != "weights"}}

    def told(self, label: Label) -> str | list[float]:
        """Return what is true of a video as tables and keys have it."""
        if self.kind == "dimensions":
            return list(cast(tuple[float, ...], label))
        return BETWEEN.join(names_of(self, label))


def balanced(target: Target, labels: Sequence[Label]) -> Target:
    """Return a target whose loss counts all classes alike, however many videos they have.

    The weight of a class is N / (K n) where n of N videos are of it and of K classes in all: over
    the videos the mean weight is 1, as in scikit-learn's `compute_class_weight("balanced")`.

    Args:
        target: of the data set.
        labels: of the training videos.

    Raises:
        ValueError: there are no classes.
    """
    if target.kind != "class":
        raise ValueError(
            f"train.class_weights: balanced is of classes, found the target {target.name!r} of "
            f"kind {target.kind}: set it to none"
        )
    counts = Counter(labels)
    weights = (len(labels) / (target.width * counts[label]) for label in range(target.width))
    return replace(target, weights=tuple(weights))


def names_of(target: Target, label: Label) -> list[str]:
    """Return the class of a video, or its labels."""
    if isinstance(label, int):
        return [target.names[label]]
    return [name for name, is_so in zip(target.names, label, strict=True) if is_so]


def of_classes(names: Sequence[str]) -> Target:
    """Return the target of a data set that declares none."""
    return Target("class", tuple(names))


def of_stated(stated: Mapping[str, Any]) -> Target:
    """Return the target that `Target.stated` wrote, read back from JSON.

    Raises:
        ValueError: there is none.
    """
    if "classes" in stated:
        return of_classes(stated["classes"])
    if "target" not in stated:
        raise ValueError("expected 'classes' or 'target', found neither")
    raw = stated["target"]
    low_high = tuple(raw["range"]) if raw["range"] else None
    return Target(raw["kind"], tuple(raw["names"]), low_high, raw["name"])


def metadata_of(declared: Sequence[Declared]) -> dict[str, str]:
    """Return what the index says of its targets, empty where there are none."""
    return {KEY: json.dumps([asdict(each) for each in declared])} if declared else {}


def read_targets(index: Path) -> list[Declared]:
    """Return the targets that an index declares."""
    raw = json.loads(tables.read_metadata(index).get(KEY, "[]"))
    return [
        Declared(
            each["name"],
            each["kind"],
            tuple(each["columns"]),
            tuple(each["names"]),
            tuple(each["range"]) if each["range"] else None,
        )
        for each in raw
    ]


def chosen(index: Path, declared: Sequence[Declared], wanted: str | None) -> Declared | None:
    """Return the target of a name, the first where it is None; None where none is declared.

    Raises:
        ValueError: there is no such target.
    """
    known = {each.name: each for each in declared}
    if wanted is None:
        return declared[0] if declared else None
    if wanted not in known:
        raise ValueError(
            f"{index}: no target {wanted!r}{near(wanted, known)}, there are {sorted(known)}: run "
            "`dvc repro index`, or correct the experiment's target"
        )
    return known[wanted]


def labels_of(
    rows: Sequence[tables.Row], declared: Declared | None
) -> tuple[Target, dict[str, Label]]:
    """Return a target and what is true of each video.

    Args:
        rows: of the index.
        declared: the target; None for the class that the column `label` says.
    """
    if declared is None or declared.kind == "class":
        column = LABEL if declared is None else column_of(declared.columns[0])
        names = tuple(sorted({str(row[column]) for row in rows}))
        name = None if declared is None else declared.name
        return Target("class", names, None, name), {
            str(row["video_id"]): names.index(str(row[column])) for row in rows
        }
    names = declared.names or declared.columns
    target = Target(declared.kind, names, declared.range, declared.name)
    columns = [column_of(column) for column in declared.columns]
    labels: dict[str, Label] = {}
    for row in rows:
        if declared.kind == "labels":
            cell = str(row[columns[0]]).split(BETWEEN)
            labels[str(row["video_id"])] = tuple(float(name in cell) for name in names)
        else:
            numbers = (float(cast(float, row[column])) for column in columns)
            labels[str(row["video_id"])] = tuple(numbers)
    return target, labels


def column_of(column: str) -> str:
    """Return the name that a column of the CSV has in the index."""
    return column if column == LABEL else f"{COLUMN}{column}"


def strata(target: Target, labels: Sequence[Label]) -> list[int]:
    """Return the stratum of each video, from which parts of a data set are drawn evenly.

    That is its class; of its labels the one that the fewest videos have, those without any label
    together; of one dimension the quarter of the videos by its value, of several the half by each
    of the first two.

    Args:
        target: of the data set.
        labels: of its videos.
    """
    if target.kind == "class":
        return [cast(int, label) for label in labels]
    values = np.array(labels, dtype=np.float64).reshape(len(labels), target.width)
    if target.kind == "labels":
        counts = Counter(np.nonzero(values)[1].tolist())
        order = sorted(range(target.width), key=lambda name: (counts[name], name))
        has = [np.flatnonzero(row[order]) for row in values]
        return [order[int(own[0])] if len(own) else target.width for own in has]
    if target.width == 1:
        return _parts(values[:, 0], _PARTS)
    halves = zip(_parts(values[:, 0], 2), _parts(values[:, 1], 2), strict=True)
    return [2 * first + second for first, second in halves]


def _parts(values: NDArray[np.float64], parts: int) -> list[int]:
    """Return which of so many parts of equal numbers each value is in; the same share one."""
    edges = np.quantile(values, np.arange(1, parts) / parts)
    return [int(part) for part in np.searchsorted(edges, values, side="left")]
