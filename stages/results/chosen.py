"""Which videos the page shows of an experiment: telling ones of each name, and those asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.cache import tables
from features.options import near
from heads.training.scores import THRESHOLD
from heads.training.targets import BETWEEN, Kind, Target
from stages.results.attention import Answer
from stages.results.files import Result

ASKED = "asked for in report.videos"
RIGHT, WRONG, UNCERTAIN = "most confident right", "most confident wrong", "most uncertain"
NEAREST, TOO_HIGH, TOO_LOW = "told nearest", "told most too high", "told most too low"

REASONS: Mapping[Kind, tuple[str, ...]] = {
    "class": (RIGHT, WRONG, UNCERTAIN),
    "labels": (RIGHT, WRONG, UNCERTAIN),
    "dimensions": (NEAREST, TOO_HIGH, TOO_LOW),
}
"""Kind of a target -> why videos are shown: one of each class, label or dimension for each."""


@dataclass(frozen=True)
class Choice:
    """A test video with the answer of a run, and why it is shown.

    Attributes:
        answer: the run and the video.
        label: what is true, in words.
        predicted: what was answered, in words.
        chances: class, or label -> probability; none of dimensions.
        why: ASKED, or one of `REASONS`.
        of: the class, label or dimension that it is shown for; empty where it was asked for.
        detail: how sure the answer is, in words.
    """

    answer: Answer
    label: str
    predicted: str
    chances: Mapping[str, float]
    why: str
    of: str = ""
    detail: str = ""

    @property
    def entropy(self) -> float:
        """Of the probabilities, in nats."""
        shares = np.array([chance for chance in self.chances.values() if chance > 0])
        return float(-(shares * np.log(shares)).sum())


def check_videos(asked: Sequence[str], videos: Sequence[tables.Row]) -> None:
    """Check that the videos asked for are videos of the index.

    Raises:
        ValueError: one is not.
    """
    known = sorted(str(row["video_id"]) for row in videos)
    if unknown := [video for video in asked if video not in known]:
        raise ValueError(
            "report.videos: expected ids of videos as data/index.parquet has them "
            f"(<label>/<name>), found {', '.join(unknown)}{near(unknown[0], known)}"
        )


def choose(result: Result, videos: Sequence[str], most: int) -> list[Choice]:
    """Return the videos that are shown of an experiment, no video twice, the first ones first.

    First those asked for, in the first run that tested them. Then of the first run's test videos
    the most confident right answer of each class, then the wrong ones, then what is the most
    uncertain (of the largest entropy) of the rest. Of labels likewise, each label by itself: right
    are those that a video has. Of each dimension the video whose value is told nearest, then those
    told most too high, then those told most too low.

    Args:
        result: of the experiment.
        videos: ids asked for; those that no run tested are left out.
        most: how many at most; those asked for come in any case.
    """
    target = result.target
    asked = [
        _choice(target, row, ASKED)
        for video in dict.fromkeys(videos)
        for row in [r for r in result.predictions if r["video_id"] == video][:1]
    ]
    known = {choice.answer[1] for choice in asked}
    left = [
        (_choice(target, row, ""), row)
        for row in result.predictions
        if row["run"] == result.runs[0] and row["video_id"] not in known
    ]
    chosen = asked
    for why in REASONS[target.kind]:
        for name in target.names:
            worths = [
                (worth, place)
                for place, (choice, row) in enumerate(left)
                if (worth := _worth(target, choice, row, why, name)) is not None
            ]
            if worths and len(chosen) < most:
                _, place = min(worths, key=lambda each: (-each[0], left[each[1]][0].answer[1]))
                choice, _ = left.pop(place)
                chosen.append(replace(choice, why=why, of=name))
    return chosen


def _choice(target: Target, row: tables.Row, why: str) -> Choice:
    answer = (str(row["run"]), str(row["video_id"]))
    if target.kind == "dimensions":
        true, told = (
            ", ".join(f"{n} {_number(row, f'{side}_{n}'):.3g}" for n in target.names)
            for side in ("true", "predicted")
        )
        return Choice(answer, true, told, {}, why)
    chances = {name: _number(row, f"p_{name}") for name in target.names}
    label, predicted = str(row["label"]), str(row["predicted"])
    if target.kind == "class":
        detail = f"{100 * chances[predicted]:.0f} %"
        if label != predicted:
            detail += f", {label} {100 * chances[label]:.0f} %"
        return Choice(answer, label, predicted, chances, why, detail=detail)
    either = {*label.split(BETWEEN), *predicted.split(BETWEEN)}
    shares = (f"{name} {100 * chances[name]:.0f} %" for name in target.names if name in either)
    label, predicted = (text.replace(BETWEEN, ", ") or "none" for text in (label, predicted))
    return Choice(answer, label, predicted, chances, why, detail=f"({', '.join(shares)})")


def _number(row: tables.Row, column: str) -> float:
    return float(str(row[column]))


def _worth(target: Target, choice: Choice, row: tables.Row, why: str, name: str) -> float | None:
    """Return how well a video shows what is asked of a name; None where it does not."""
    if target.kind == "dimensions":
        off = _number(row, f"predicted_{name}") - _number(row, f"true_{name}")
        if why == NEAREST:
            return -abs(off)
        return abs(off) if off != 0 and (off > 0) == (why == TOO_HIGH) else None
    if target.kind == "labels":
        chance, has = choice.chances[name], name in str(row["label"]).split(BETWEEN)
        if why == UNCERTAIN:
            return -abs(chance - THRESHOLD)
        is_right = has == (name in str(row["predicted"]).split(BETWEEN))
        shows = (is_right and has) if why == RIGHT else not is_right
        return abs(chance - THRESHOLD) if shows else None
    if row["label"] != name:
        return None
    if why == UNCERTAIN:
        return choice.entropy
    is_right = row["label"] == row["predicted"]
    return choice.chances[choice.predicted] if is_right == (why == RIGHT) else None
