"""`affectline import`: arrays made elsewhere become a backbone of their own.

A folder of .npy or .h5 files, or a CSV that names them, is checked whole (:mod:`affectline.found`
says what is looked for), packed into one file below `data/imports/`, and named in params.yaml. What
is wrong anywhere is told at once, and nothing is written then.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from affectline.found import Found, ImportingError, Reading, find, read
from affectline.params_text import flow, parse, unparse
from features.backbones.imported import Options
from features.cache.keys import file_sha256, item_key
from features.cache.store import replacing
from features.video.listing import Video, list_videos
from features.weights.imported import Member, member, write
from stages.engine.columns import columns_of
from stages.engine.imported import DIGITS, SUFFIX
from stages.engine.params import Params, load_params
from stages.engine.paths import PARAMS
from stages.engine.section import A_NAME, NAME

IMPORTS = Path("data/imports")
"""Where what was imported lies until the weights stage has taken it."""

SHOWN = 10
"""Things that are wrong, or ids, that a message has at most."""

UNKNOWN = "unknown"

AXES = {1: "D", 2: "K D", 3: "C H W", 4: "C L H W"}
"""Of a row of so many axes, where nothing else is said: D feature, K keypoint, C channel."""

NOTICE = "made elsewhere and imported: what network made it, and of what, is not known here"


@dataclass(frozen=True)
class Choices:
    """What a person chooses; see `affectline import --help`.

    Attributes:
        root: of the data set that the arrays belong to; None for `index.root`.
        axes: of a row, or None for what its shape suggests.
        origin: what made them, in words.
        licence: of them.
        reading: how the files are read.
    """

    root: Path | None = None
    axes: str | None = None
    origin: str = UNKNOWN
    licence: str = UNKNOWN
    reading: Reading = Reading()


@dataclass(frozen=True)
class Import:
    """Arrays that are checked and can be written.

    Attributes:
        name: of the backbone.
        members: what is of each video.
        found: video_id -> where its arrays are.
        options: shape and axes of a row.
        dtype: that the rows are to be stored in.
        lacking: videos of the data set without arrays.
        strangers: ids of arrays that are no video of the data set.
    """

    name: str
    members: Sequence[Member]
    found: Mapping[str, Found]
    options: Options
    dtype: str
    lacking: Sequence[str]
    strangers: Sequence[str]


def plan(name: str, place: Path, choices: Choices, params: Params) -> Import:
    """Check arrays whole.

    Args:
        name: of the backbone to make.
        place: a folder, or a CSV.
        choices: the options.
        params: params.yaml.

    Raises:
        ImportingError: with a line for each thing that is wrong.
        ValueError: the data set cannot be listed, or there is a network of that name.
    """
    if not re.fullmatch(NAME, name):
        raise ImportingError(f"{name!r}: expected {A_NAME}")
    block = params.backbones.get(name)
    if block is not None and block.source != "imported":
        raise ImportingError(
            f"{PARAMS}: backbones.{name} is the network {block.module}: give the import another "
            "name, or take that one out"
        )
    root = choices.root or Path(params.index.root)
    columns = columns_of(params.index) if choices.root is None else {}
    videos = [video for video in list_videos(root, columns)[0] if not video.problem]
    found, strangers = _matched(find(place), videos, root)
    members, shapes, wrong = [], Counter[tuple[int, ...]](), []
    for video_id, each in found.items():
        try:
            one = member(video_id, read(each, choices.reading))
        except ImportingError as error:
            wrong.append(str(error))
            continue
        members.append(one)
        shapes[one.shapes["features"][1][1:]] += 1
    wrong += _odd(members, found, shapes)
    _raise(wrong)
    (shape,) = shapes
    kinds = {one.shapes["features"][0] for one in members}
    return Import(
        name,
        members,
        found,
        Options(shape, choices.axes or AXES.get(len(shape), "")),
        "float16" if kinds == {np.dtype(np.float16)} else "float32",
        [video.video_id for video in videos if video.video_id not in found],
        strangers,
    )


def _raise(wrong: Sequence[str]) -> None:
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise ImportingError("\n".join([*wrong[:SHOWN], *more]))


def _odd(
    members: Sequence[Member], found: Mapping[str, Found], shapes: Counter[tuple[int, ...]]
) -> list[str]:
    """Return a line for each video whose rows have another shape than most."""
    if len(shapes) < 2:
        return []
    ((usual, count),) = shapes.most_common(1)
    return [
        f"{found[each.video_id].file}: expected rows of {usual} as {count} others have, found "
        f"{shape[1:]}"
        for each in members
        for shape in [each.shapes["features"][1]]
        if shape[1:] != usual
    ]


def _matched(
    all_found: Sequence[Found], videos: Sequence[Video], root: Path
) -> tuple[dict[str, Found], list[str]]:
    """Return video_id -> its arrays, and the ids of arrays that are no video of the data set.

    Raises:
        ImportingError: no id matches, an id means several videos, a video has arrays twice, or a
            label is not that of the data set.
    """
    labels = {video.video_id: video.label for video in videos}
    by_name: dict[str, list[str]] = {}
    for video_id in labels:
        by_name.setdefault(video_id.partition("/")[2], []).append(video_id)
    classes = sorted(set(labels.values()))
    matched: dict[str, Found] = {}
    strangers, wrong = [], []
    for each in all_found:
        if each.label is not None and each.label not in classes:
            wrong.append(
                f"{each.where}: expected one of the labels {classes}, found {each.label!r}"
            )
            continue
        named = [f"{each.label}/{each.video_id}"] if each.label is not None else []
        whole = [name for name in (each.video_id, *named) if name in labels]
        ids = whole[:1] or by_name.get(each.video_id, [])
        if not ids:
            strangers.append(each.video_id)
        elif len(ids) > 1:
            wrong.append(f"{each.where}: {each.video_id} may be {' or '.join(ids[:3])}: name it so")
        elif each.label not in (None, labels[ids[0]]):
            wrong.append(
                f"{each.where}: expected the label {labels[ids[0]]!r} of {ids[0]}, found "
                f"{each.label!r}"
            )
        elif ids[0] in matched:
            wrong.append(f"{each.where}: {ids[0]} is there twice, also in {matched[ids[0]].where}")
        else:
            matched[ids[0]] = each
    _raise(wrong)
    if not matched:
        raise ImportingError(
            f"{all_found[0].where}: expected ids of the videos of {root}, such as "
            f"{', '.join(list(labels)[:3])}, found none of them but {', '.join(strangers[:3])}: "
            "call files as the ids are, or name their data set by --root"
        )
    return matched, strangers


def write_all(imports: Sequence[Import], choices: Choices) -> list[Path]:
    """Write the files and name them in params.yaml; return them."""
    files = [_write(each, choices) for each in imports]
    tree = parse(PARAMS.read_text(encoding="utf-8"))
    for each, file in zip(imports, files, strict=True):
        options = flow({"shape": list(each.options.shape), "axes": each.options.axes})
        tree["backbones"][each.name] = flow(
            {
                "module": "imported",
                "view": "none",
                "source": "imported",
                "file": file.as_posix(),
                "dtypes": flow({"features": each.dtype}),
                "options": options,
            }
        )
    with replacing(PARAMS) as partial_file:
        partial_file.write_text(unparse(tree), encoding="utf-8")
        load_params(partial_file)
    for each, file in zip(imports, files, strict=True):
        for other in IMPORTS.glob(f"{each.name}-{'?' * DIGITS}{SUFFIX}"):
            if other != file:  # what it was before
                other.unlink()
    return files


def _write(each: Import, choices: Choices) -> Path:
    facts = {
        "name": each.name,
        "source": "imported",
        "pretrained": "true",  # nothing says that they are of a random network
        "origin": choices.origin,
        "licence": choices.licence,
        "notice": NOTICE,
        "sha256": item_key({one.video_id: one.sha256 for one in each.members}),
    }
    readers = {name: partial(read, found, choices.reading) for name, found in each.found.items()}
    unnamed = IMPORTS / f".{each.name}.tmp"
    try:
        write(unnamed, each.members, readers, facts)
        file = IMPORTS / f"{each.name}-{file_sha256(unnamed)[:DIGITS]}{SUFFIX}"
        unnamed.chmod(0o444)  # the store and DVC share it by hard link
        return unnamed.replace(file)
    finally:
        unnamed.unlink(missing_ok=True)
