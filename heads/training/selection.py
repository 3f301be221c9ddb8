"""Which videos an experiment trains and tests on: those that have every feature it reads.

Reads what the stages leave behind: the index of the videos (label, status, splits), and the table
of all backbones' features. A role string is `<backbone>/<feature>`, for example `vggface/fc6`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.cache import tables
from heads.training.targets import (
    LABEL,
    Declared,
    Label,
    Target,
    chosen,
    column_of,
    labels_of,
    names_of,
    read_targets,
)

# A class that a run never sees cannot be answered; with one video it has no triplet, but a loss.
MIN_TRAIN_VIDEOS = 1

_OK = "ok"
_SPLIT_COLUMN = "split_"
_PARTS = ("train", "test")


@dataclass(frozen=True)
class FeatureRow:
    """One row of a backbone's index: the file of one video, or why there is none."""

    path: Path
    key: str
    content: str
    pretrained: bool
    status: str
    reason: str


@dataclass(frozen=True)
class Video:
    """A video that every backbone in use has features for.

    Attributes:
        video_id: `<label>/<name>`.
        label: what is true of it, by the selection's target.
        files: backbone -> feature file.
        keys: backbone -> key that the file must carry.
        contents: backbone -> hash of what is in it, by which a run knows its features.
        group: speaker, film, session, ... that must not train and validate; None where the index
            has no groups.
    """

    video_id: str
    label: Label
    files: dict[str, Path]
    keys: dict[str, str]
    contents: dict[str, str]
    group: str | None = None


@dataclass(frozen=True)
class Split:
    """Positions in `Selection.videos` of one run's training and test videos."""

    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """The videos of an experiment.

    Attributes:
        target: what is told; `Video.label` is by it.
        videos: sorted by `video_id`.
        missing: `video_id` -> reason, the videos that are left out.
        splits: name of the split column -> its videos.
        pretrained: false when any of the features comes from seeded weights.
    """

    target: Target
    videos: tuple[Video, ...]
    missing: dict[str, str]
    splits: dict[str, Split]
    pretrained: bool


def split_role(role: str, source: str) -> tuple[str, str]:
    """Return (backbone, feature) of a role string `<backbone>/<feature>`.

    Raises:
        ValueError: another form.
    """
    backbone, slash, feature = source.partition("/")
    if not backbone or not slash or not feature or "/" in feature:
        raise ValueError(
            f"role '{role}': expected '<backbone>/<feature>' as in 'vggface/fc6', found '{source}'"
        )
    return backbone, feature


def read_features(root: Path, backbones: Collection[str]) -> dict[str, dict[str, FeatureRow]]:
    """Return backbone -> `video_id` -> row of the table of all features.

    Args:
        root: folder that has `tables.parquet`, and the files in `features/<backbone>`.
        backbones: names.

    Raises:
        ValueError: no features of one of them (the message lists those that there are), or a table
            that is none.
    """
    path = root / "tables.parquet"
    columns = ("backbone", "video_id", "key", "content", "path", "pretrained", "status", "reason")
    features: dict[str, dict[str, FeatureRow]] = {}
    for row in tables.read(path, columns):
        backbone = str(row["backbone"])
        videos = features.setdefault(backbone, {})
        if backbone not in backbones:  # a path for each row is most of the time
            continue
        videos[str(row["video_id"])] = FeatureRow(
            path=root / "features" / backbone / str(row["path"] or ""),
            key=str(row["key"] or ""),
            content=str(row["content"] or ""),
            pretrained=bool(row["pretrained"]),
            status=str(row["status"]),
            reason=str(row["reason"] or "no reason given"),
        )
    if unknown := sorted(set(backbones) - set(features)):
        raise ValueError(
            f"{path}: no features of backbone '{unknown[0]}', there are {sorted(features)}: "
            "extract them, or correct the experiment's roles"
        )
    return {backbone: features[backbone] for backbone in sorted(backbones)}


def select_videos(
    index: Path, root: Path, roles: Mapping[str, str], wanted: str | None = None
) -> Selection:
    """Return the videos that have every feature an experiment reads, and the splits over them.

    Args:
        index: the index of the videos, Parquet: `video_id`, `label`, `status`, `reason` and the
            columns `split_<run>` that say `train`, `test` or null (not in that run). Where it has
            `class`, that is what is told, and a video without one is in no run.
        root: folder of the features and their table, see `read_features`.
        roles: role -> `<backbone>/<feature>`.
        wanted: name of the data set's target; None for the first.

    Raises:
        ValueError: a malformed role or index, no such target, or a split that cannot be trained on.
    """
    backbones = {split_role(role, source)[0] for role, source in roles.items()}
    features = read_features(root, backbones)
    rows = tables.read(index, ("video_id", "label", "status", "reason"))
    declared = read_targets(index)
    rows = _with_common_classes(rows, declared)
    rows.sort(key=lambda row: str(row["video_id"]))
    target, labels = labels_of(rows, chosen(index, declared, wanted))
    columns = sorted({name for row in rows for name in row if name.startswith(_SPLIT_COLUMN)})
    if not columns:
        raise ValueError(
            f"{index}: expected columns of runs, {_SPLIT_COLUMN}00 and so on, found none: run "
            "`dvc repro index`"
        )
    videos: list[Video] = []
    missing: dict[str, str] = {}
    parts: list[dict[str, object]] = []
    pretrained = True
    for row in rows:
        video_id = str(row["video_id"])
        reason = _why_missing(video_id, row, features)
        if reason is not None:
            missing[video_id] = reason
            continue
        feature_rows = {backbone: table[video_id] for backbone, table in features.items()}
        pretrained &= all(item.pretrained for item in feature_rows.values())
        videos.append(
            Video(
                video_id=video_id,
                label=labels[video_id],
                files={backbone: item.path for backbone, item in feature_rows.items()},
                keys={backbone: item.key for backbone, item in feature_rows.items()},
                contents={backbone: item.content for backbone, item in feature_rows.items()},
                group=None if row.get("group") is None else str(row["group"]),
            )
        )
        parts.append({name: row[name] for name in columns})
    splits = {name: _read_split(index, name, parts) for name in columns}
    for name, split in splits.items():
        _check_split(index, name, split, videos, target, missing)
    return Selection(target, tuple(videos), missing, splits, pretrained)


def _with_common_classes(
    rows: Sequence[tables.Row], declared: Sequence[Declared]
) -> list[tables.Row]:
    """Return the rows with the classes that all corpora have, where the index has several.

    They are those of the first target; who has none of them is in no run.
    """
    column = column_of(declared[0].columns[0]) if declared else LABEL
    return [
        row | {column: row["class"]} if "class" in row else row
        for row in rows
        if row.get("class", "") is not None
    ]


def _why_missing(
    video_id: str, row: tables.Row, features: Mapping[str, Mapping[str, FeatureRow]]
) -> str | None:
    """Return why a video cannot be used, None when it can."""
    if row["status"] != _OK:
        return str(row["reason"])
    for backbone, table in features.items():
        if video_id not in table:
            return f"{backbone}: not in the index of its features"
        if table[video_id].status != _OK:
            return f"{backbone}: {table[video_id].reason}"
    return None


def _read_split(index: Path, name: str, parts: Sequence[Mapping[str, object]]) -> Split:
    """Return the positions whose cell in column `name` says train, and test."""
    odd = {part[name] for part in parts} - {*_PARTS, None}
    if odd:
        raise ValueError(f"{index}: column {name} must hold train, test or null, found {odd}")
    train, test = (
        tuple(n for n, part in enumerate(parts) if part[name] == wanted) for wanted in _PARTS
    )
    return Split(train, test)


def _check_split(
    index: Path,
    name: str,
    split: Split,
    videos: Sequence[Video],
    target: Target,
    missing: Mapping[str, str],
) -> None:
    """Raise ValueError for a run without test videos, or too few to train on.

    A class, or a label, needs a video that has it; dimensions need two of different values.
    """
    left_out = f"{len(missing)} videos were left out"
    if missing:
        left_out += f", the first: {next(f'{k}: {why}' for k, why in missing.items())}"
    if not split.test:
        raise ValueError(f"{index}: {name} has no test video ({left_out})")
    trained = [videos[position].label for position in split.train]
    if target.kind == "dimensions":
        values = np.array(trained).reshape(len(trained), target.width)
        if flat := [n for n, of in zip(target.names, values.T, strict=True) if len({*of}) < 2]:
            raise ValueError(
                f"{index}: {name} must train on videos of different {flat[0]}, found "
                f"{len(trained)} videos and one value ({left_out})"
            )
        return
    tested = [videos[position].label for position in split.test]
    if not any(names_of(target, one) for one in tested):
        raise ValueError(f"{index}: {name} must test on a video that has a label ({left_out})")
    counts = Counter(label for one in trained for label in names_of(target, one))
    few = {label: counts[label] for label in target.names if counts[label] < MIN_TRAIN_VIDEOS}
    if few:
        what = "class" if target.kind == "class" else "label"
        raise ValueError(
            f"{index}: {name} must train on at least {MIN_TRAIN_VIDEOS} videos of each {what}, "
            f"found {few} ({left_out}): add such videos or remove the {what}"
        )
