"""Groups of videos that belong together, a speaker's or a film's: drawn whole, or guessed by name.

Who knows a speaker from training knows more than the emotion; so groups stay on one side.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean

from heads.training.targets import COLUMN

_PREFIX = re.compile(r"[^_\-. ]+(?=[_\-. ])")
"""What a name begins with, up to a sign that parts words."""

_RAVDESS = re.compile(r"\d\d(?:-\d\d){5}-(\d\d)")
"""RAVDESS names a file by seven numbers, of which the last is the actor's."""

_LEAST_GROUPS, _LEAST_VIDEOS, _LEAST_SHARE = 3, 3, 0.9
_PARTED = 0.5
_ROUNDING = 1e-12
_SHOWN = 3
"""So many groups are named in a message."""


def draw_groups(labels: Sequence[Sequence[Hashable]], share: float) -> list[int]:
    """Return groups that have together about a share of each class, stratified as far as they go.

    Groups are tried in their order, again and again; one is taken, or put back, where that brings
    the classes' shares nearer to the wanted one (sum of squares). One at least is taken, the
    nearest, and none without which a class would have no video left.

    Args:
        labels: of the videos of each group.
        share: of each class, above 0 and below 1.

    Returns:
        Positions among the groups; none where each has the last videos of a class.
    """
    counts = [Counter(group) for group in labels]
    total = sum(counts, Counter[Hashable]())
    taken = Counter[Hashable]()

    def distance(more: Counter[Hashable], sign: int) -> float:
        return sum(((taken[name] + sign * more[name]) / total[name] - share) ** 2 for name in total)

    def leaves_some(more: Counter[Hashable]) -> bool:
        return all(taken[name] + more[name] < total[name] for name in more)

    drawn: set[int] = set()
    nearest, before = distance(taken, 0), math.inf
    while nearest < before:  # a pass more may put one back, or take one for which there is room now
        before = nearest
        for position, more in enumerate(counts):
            sign = -1 if position in drawn else 1
            if distance(more, sign) < nearest - _ROUNDING and (sign < 0 or leaves_some(more)):
                drawn ^= {position}
                for name, count in more.items():
                    taken[name] += sign * count
                nearest = distance(taken, 0)
    if not drawn:
        allowed = [position for position, more in enumerate(counts) if leaves_some(more)]
        drawn = {*sorted(allowed, key=lambda position: distance(counts[position], 1))[:1]}
    return sorted(drawn)


def guess_groups(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the group of each video that names suggest; empty where they suggest none.

    A group is what names begin with, up to the first `_`, `-`, `.` or space (`actor07_happy_2`), or
    the actor of RAVDESS. That is taken for groups if

    - at least nine in ten videos share theirs with another video,
    - there are at least three, of three videos each in the mean,
    - more than half of them have videos of several classes, so that they are no classes, and
    - where they are numbers, more than half have several videos of one class: else it is a
      numbering of each class's videos.

    Args:
        labels: video_id `<label>/<name>` -> label.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for video_id in labels:
        if group := _group_of(video_id.partition("/")[2]):
            groups[group].append(video_id)
    shared = {group: videos for group, videos in groups.items() if len(videos) > 1}
    videos = sum(map(len, shared.values()))
    if len(shared) < _LEAST_GROUPS or videos < max(
        _LEAST_SHARE * len(labels), _LEAST_VIDEOS * len(shared)
    ):
        return {}
    classes = {group: Counter(labels[each] for each in ids) for group, ids in shared.items()}
    if fmean(len(counts) > 1 for counts in classes.values()) <= 0.5:
        return {}
    if all(group.isdecimal() for group in shared) and (
        fmean(max(counts.values()) > 1 for counts in classes.values()) <= 0.5
    ):
        return {}
    return {video_id: group for group, ids in shared.items() for video_id in ids}


def _group_of(name: str) -> str | None:
    if ravdess := _RAVDESS.fullmatch(name):
        return ravdess[1]
    prefix = _PREFIX.match(name)
    return prefix[0] if prefix else None


def _labels(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return the label of each video; where a data set has none, all that its targets say of it."""
    labels = {str(row["video_id"]): str(row["label"]) for row in rows}
    if len({*labels.values()}) > 1:
        return labels
    return {
        str(row["video_id"]): str([cell for name, cell in row.items() if name.startswith(COLUMN)])
        for row in rows
    }


def ignored_groups(rows: Sequence[Mapping[str, object]], runs: Sequence[str]) -> str | None:
    """Return a line on groups that names suggest and the runs ignore; None where there are none.

    They do if, in the mean over the runs, more than half of the groups that test train as well.

    Args:
        rows: of the index: `video_id`, `label`, `status`, the targets' and the runs' columns.
        runs: names of the columns.
    """
    usable = [row for row in rows if row["status"] == "ok"]
    groups = guess_groups(_labels(usable))
    shares, example = [], ""
    for run in runs:
        sides: dict[str, dict[str, str]] = {"train": {}, "test": {}}
        for row in usable:
            video_id, side = str(row["video_id"]), row[run]
            if side is not None and video_id in groups:
                sides[str(side)].setdefault(groups[video_id], video_id)
        both = sorted(sides["train"].keys() & sides["test"].keys())
        if sides["test"]:
            shares.append(len(both) / len(sides["test"]))
        if both and not example:
            train, test = (sides[side][both[0]] for side in ("train", "test"))
            example = f"{train} trains and {test} tests in {run}"
    if not shares or fmean(shares) <= _PARTED:
        return None
    names = sorted(set(groups.values()))
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return (
        f"names suggest {len(names)} groups ({shown}) that the splits ignore: {example}. If they "
        "are people, films or sessions, index.splits.groups keeps them apart (docs/protocols.md)"
    )
