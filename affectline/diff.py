"""How far features moved between two git revisions: what to look at before replacing shared ones.

Features are found as dvc.lock of each revision names them, in DVC's cache or its remote, whatever
lies in the outputs now; nothing in the workspace changes. Videos are matched by their id; equal
keys are equal features and are not read.
"""

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from affectline.plan import changes
from features.cache import arrays, tables
from features.video.views import FRAME_ARRAYS
from stages.engine.dvc_lock import Output, cache_folder, listing, object_path
from stages.engine.paths import LOCK
from stages.engine.previous import fetch_objects
from stages.engine.progress import in_a_line

WORKSPACE = "workspace"
"""What the second revision is called where none is named: dvc.lock as it lies here."""

STAGE = "extract@"


class RevisionError(ValueError):
    """A revision cannot be compared: it is not there, or its features are not."""


@dataclass(frozen=True)
class Moved:
    """How far one feature of one video moved; `None` where no row is valid in both.

    Attributes:
        video_id: whose.
        feature: name of the array.
        rows: valid in both revisions: the numbers are over these.
        rows_in_one: valid in one revision only.
        cosine: of the row that turned most, -1 to 1; a row of zeros beside another has 0.
        mean_cosine: over the rows.
        largest: absolute change of a number.
        relative: `largest` as a share of the largest number there was; None where all were zero.
    """

    video_id: str
    feature: str
    rows: int
    rows_in_one: int
    cosine: float | None
    mean_cosine: float | None
    largest: float | None
    relative: float | None


@dataclass(frozen=True)
class Difference:
    """One backbone in two revisions.

    Attributes:
        backbone: its name.
        found_in: ``both``, ``first`` or ``second``.
        videos: with features in both.
        same: of them, those whose features have the same key.
        changed: ingredients of a key that differ, e.g. ``weights``, ``code.features.faces``.
        moved: features of the others, those that turned most first.
        only_first: videos with features in the first revision only.
        only_second: and in the second only.
        not_comparable: video id -> why (other shapes, a damaged file).
    """

    backbone: str
    found_in: str
    videos: int = 0
    same: int = 0
    changed: tuple[str, ...] = ()
    moved: tuple[Moved, ...] = ()
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()
    not_comparable: tuple[tuple[str, str], ...] = ()


def diff(first: str, second: str | None = None) -> list[Difference]:
    """Return how far the features of each backbone moved from revision ``first`` to ``second``.

    Args:
        first: anything that git takes for a commit.
        second: likewise; None is the workspace.

    Raises:
        RevisionError: no such revision, no dvc.lock or no features in it, or features that are
            neither in DVC's cache nor in its remote.
    """
    names = (first, second or WORKSPACE)
    locks = (locked_features(first), locked_features(second))
    for name, lock in zip(names, locks, strict=True):
        if not lock:
            raise RevisionError(
                f"{name}: expected stages {STAGE}<backbone> in dvc.lock, found none"
            )
    differences = []
    for backbone in dict.fromkeys([*locks[0], *locks[1]]):
        pair = [lock.get(backbone) for lock in locks]
        if pair[0] is None or pair[1] is None:
            differences.append(Difference(backbone, "second" if pair[0] is None else "first"))
            continue
        sides = [
            Side.read(name, backbone, outputs)
            for name, outputs in zip(names, (pair[0], pair[1]), strict=True)
        ]
        differences.append(_compare(backbone, *sides))
    return differences


# ------------------------------------------------------------------------------- revisions


def locked_features(revision: str | None) -> dict[str, list[Output]]:
    """Return backbone -> outputs of its extract stage, as dvc.lock of a revision has them.

    Raises:
        RevisionError: no such revision, or no dvc.lock that can be read in it.
    """
    name = revision or WORKSPACE
    text = _lock_text(revision)
    try:
        stages = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)).get("stages", {})
        return {
            stage.removeprefix(STAGE): [
                Output(stage, Path(out["path"]), str(out["md5"]), int(out.get("size", 0)))
                for out in stage_entry["outs"]
            ]
            for stage, stage_entry in stages.items()
            if stage.startswith(STAGE)
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise RevisionError(f"{name}: expected dvc.lock as DVC writes it, found: {text}") from error


def _lock_text(revision: str | None) -> str:
    if revision is None:
        if not LOCK.is_file():
            raise RevisionError(f"{WORKSPACE}: expected dvc.lock, found none; run `dvc repro`")
        return LOCK.read_text(encoding="utf-8")
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise RevisionError(
            f"{revision}: expected a commit, branch or tag of this repository, found none; "
            "`git log --oneline -- dvc.lock` lists those with other outputs"
        )
    text = _git("show", f"{commit.strip()}:./{LOCK}")
    if text is None:
        raise RevisionError(f"{revision}: expected dvc.lock in that commit, found none")
    return text


def _git(*arguments: str) -> str | None:
    """Return what a git command prints, None where it fails."""
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, encoding="utf-8", check=False
    )
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True)
class Side:
    """A backbone in one revision.

    Attributes:
        revision: its name, for a person.
        rows: video id -> row of the index, of those that have features.
        objects: video id -> md5 of its file.
    """

    revision: str
    rows: dict[str, tables.Row]
    objects: dict[str, str]

    @classmethod
    def read(cls, revision: str, backbone: str, outputs: Sequence[Output]) -> "Side":
        """Read the index and the listing of a backbone's outputs, fetched if need be.

        Raises:
            RevisionError: they are neither in DVC's cache nor in its remote.
        """
        what = f"{revision}: the features of {backbone}"
        _bring(what, [output.md5 for output in outputs])
        cache = cache_folder()
        tree: dict[Path, str] = {}
        rows: list[tables.Row] = []
        for output in outputs:
            if output.is_folder:
                tree |= listing(cache, output) or {}
            else:
                rows = tables.read(object_path(cache, output.md5), ["video_id", "key", "path"])
        root = next(output.path for output in outputs if output.is_folder)
        usable = {str(row["video_id"]): row for row in rows if row["path"]}
        lacking = [name for name, row in usable.items() if root / str(row["path"]) not in tree]
        if lacking:
            raise RevisionError(f"{what}: expected a file of {lacking[0]} in {root}, found none")
        return cls(revision, usable, {n: tree[root / str(r["path"])] for n, r in usable.items()})


def _bring(what: str, md5s: Iterable[str]) -> None:
    """Have objects in DVC's cache; what is missing is fetched.

    Raises:
        RevisionError: some are neither in the cache nor in the remote.
    """
    cache = cache_folder()
    absent = {md5 for md5 in md5s if not object_path(cache, md5).is_file()}
    refusal = fetch_objects(absent) if absent else None
    still = sorted(md5 for md5 in absent if not object_path(cache, md5).is_file())
    if still:
        raise RevisionError(
            f"{what} are neither in DVC's cache nor in its remote: {len(still)} objects are "
            f"missing, e.g. {still[0]}"
            + (f" ({refusal})" if refusal else "; whoever made them has to `dvc push` them")
        )


# ------------------------------------------------------------------------------ comparison


def _compare(backbone: str, first: Side, second: Side) -> Difference:
    shared = sorted(first.rows.keys() & second.rows.keys())
    others = [name for name in shared if first.rows[name]["key"] != second.rows[name]["key"]]
    for side in (first, second):
        _bring(
            f"{side.revision}: the features of {backbone}", [side.objects[name] for name in others]
        )
    moved: list[Moved] = []
    bad: list[tuple[str, str]] = []
    changed: dict[str, None] = {}
    cache = cache_folder()
    for name in others:
        try:
            (was, was_said), (now, now_said) = (
                arrays.read(object_path(cache, side.objects[name])) for side in (first, second)
            )
        except arrays.ArrayFileError as error:
            bad.append((name, str(error)))
            continue
        changed |= dict.fromkeys(_changed(was_said, now_said))
        if reason := _other_shapes(was, now):
            bad.append((name, reason))
        else:
            moved += measure(name, was, now)
    return Difference(
        backbone,
        "both",
        len(shared),
        len(shared) - len(others),
        tuple(changed),
        tuple(sorted(moved, key=_worst_first)),
        tuple(sorted(first.rows.keys() - second.rows.keys())),
        tuple(sorted(second.rows.keys() - first.rows.keys())),
        tuple(bad),
    )


def _changed(was: Mapping[str, object], now: Mapping[str, object]) -> Iterator[str]:
    before, after = was.get("ingredients"), now.get("ingredients")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from (name for name, _was, _now in changes(before, after))


def _other_shapes(was: Mapping[str, arrays.Array], now: Mapping[str, arrays.Array]) -> str | None:
    shapes = [
        {name: array.shape for name, array in side.items() if name not in FRAME_ARRAYS}
        for side in (was, now)
    ]
    parts = [
        f"{name} was {shapes[0].get(name, 'not there')}, is {shapes[1].get(name, 'not there')}"
        for name in sorted({*shapes[0], *shapes[1]})
        if shapes[0].get(name) != shapes[1].get(name)
    ]
    return "; ".join(parts) or None


def measure(
    video_id: str, was: Mapping[str, arrays.Array], now: Mapping[str, arrays.Array]
) -> list[Moved]:
    """Return how far each feature of a video moved.

    Args:
        video_id: whose.
        was: arrays of a feature file, rows first: the features and ``valid`` (T,).
        now: the same arrays in the same shapes.
    """
    valid = [side["valid"].astype(bool) for side in (was, now)]
    both, in_one = valid[0] & valid[1], int(np.count_nonzero(valid[0] ^ valid[1]))
    moved = []
    for name in sorted(set(was) - set(FRAME_ARRAYS)):
        a, b = (side[name][both].astype(np.float64) for side in (was, now))
        if a.size == 0:
            moved.append(Moved(video_id, name, 0, in_one, None, None, None, None))
            continue
        a_TD, b_TD = a.reshape(len(a), -1), b.reshape(len(b), -1)
        cosines_T = _cosines(a_TD, b_TD)
        largest, scale = float(np.abs(a_TD - b_TD).max()), float(np.abs(a_TD).max())
        moved.append(
            Moved(
                video_id,
                name,
                len(a_TD),
                in_one,
                float(cosines_T.min()),
                float(cosines_T.mean()),
                largest,
                largest / scale if scale else None,
            )
        )
    return moved


def _cosines(a_TD: NDArray[np.float64], b_TD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (T,) cosine of each pair of rows: 1 where both are zeros, 0 where one is."""
    norms_T = np.linalg.norm(a_TD, axis=1) * np.linalg.norm(b_TD, axis=1)
    equal_T = (a_TD == b_TD).all(axis=1)
    cosines_T = (a_TD * b_TD).sum(axis=1) / np.where(norms_T == 0, 1, norms_T)
    return np.where(equal_T, 1.0, np.clip(cosines_T, -1, 1))


def _worst_first(moved: Moved) -> tuple[float, float, str, str]:
    """Sort by cosine, then by relative change; what cannot be measured comes first."""
    if moved.cosine is None:
        return (-2, 0, moved.video_id, moved.feature)
    relative = float("inf") if moved.relative is None else moved.relative
    return (moved.cosine, -relative, moved.video_id, moved.feature)


# -------------------------------------------------------------------------- for a person


def as_tables(differences: Sequence[Difference], worst: int) -> Iterator[RenderableType]:
    """Yield what a person sees: all backbones, then of each what moved most, ``worst`` rows."""
    yield _summary(differences)
    for part in differences:
        if part.moved:
            table = Table(title=part.backbone, title_justify="left")
            for column in ("video", "feature", "rows", "cosine", "mean", "largest", "relative"):
                table.add_column(column, overflow="fold")
            for moved in part.moved[:worst]:
                rows = f"{moved.rows}" + (
                    f" ({moved.rows_in_one} in one)" * bool(moved.rows_in_one)
                )
                numbers = (_short(moved.cosine), _short(moved.mean_cosine), _short(moved.largest))
                share = "–" if moved.relative is None else f"{moved.relative:.2%}"
                names = (in_a_line(moved.video_id), in_a_line(moved.feature))
                table.add_row(*names, rows, *numbers, share)
            yield table
        left = len(part.moved) - worst
        if left > 0:
            yield f"{part.backbone}: {left} more rows, `--worst` or `--json` shows them"
        for text, videos in (("before", part.only_first), ("after", part.only_second)):
            if videos:
                named = ", ".join(videos[:worst]) + ", …" * (len(videos) > worst)
                yield in_a_line(f"{part.backbone}: {len(videos)} videos only {text}: {named}")
        for video_id, reason in part.not_comparable[:worst]:
            yield in_a_line(f"{part.backbone}: {video_id} cannot be compared: {reason}")


def _summary(differences: Sequence[Difference]) -> Table:
    table = Table(title="features", title_justify="left")
    for column in ("backbone", "videos", "same", "moved", "lowest cosine", "largest", "changed"):
        table.add_column(column, overflow="fold")
    for part in differences:
        if part.found_in != "both":
            where = {"first": "before", "second": "after"}[part.found_in]
            table.add_row(part.backbone, "–", "–", "–", "–", "–", f"only {where}")
            continue
        cosines = [moved.cosine for moved in part.moved if moved.cosine is not None]
        largest = [moved.largest for moved in part.moved if moved.largest is not None]
        table.add_row(
            part.backbone,
            str(part.videos),
            str(part.same),
            str(part.videos - part.same),
            _short(min(cosines, default=None)),
            _short(max(largest, default=None)),
            in_a_line(", ".join(part.changed)),
        )
    return table


def _short(number: float | None) -> str:
    return "–" if number is None else f"{number:.4g}"
