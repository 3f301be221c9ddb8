"""Which videos the page shows of an experiment: telling ones of each class, and those asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.cache import tables
from features.options import near
from stages.results.attention import Answer
from stages.results.files import Result

ASKED = "asked for in report.videos"
RIGHT, WRONG, UNCERTAIN = "most confident right", "most confident wrong", "most uncertain"


@dataclass(frozen=True)
class Choice:
    """A test video with the answer of a run, and why it is shown.

    Attributes:
        answer: the run and the video.
        label: its true class.
        predicted: the class that was answered.
        chances: class -> probability.
        why: ASKED, RIGHT, WRONG or UNCERTAIN.
    """

    answer: Answer
    label: str
    predicted: str
    chances: Mapping[str, float]
    why: str

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
    uncertain (of the largest entropy) of the rest.

    Args:
        result: of the experiment.
        videos: ids asked for; those that no run tested are left out.
        most: how many at most; those asked for come in any case.
    """
    asked = [
        _choice(result, row, ASKED)
        for video in dict.fromkeys(videos)
        for row in [r for r in result.predictions if r["video_id"] == video][:1]
    ]
    first = [row for row in result.predictions if row["run"] == result.runs[0]]
    left = [
        choice
        for choice in (_choice(result, row, "") for row in first)
        if choice.answer[1] not in {known.answer[1] for known in asked}
    ]
    chosen = asked
    for why in (RIGHT, WRONG, UNCERTAIN):
        for label in result.target.names:
            fitting = [choice for choice in left if _fits(choice, why, label)]
            if fitting and len(chosen) < most:
                best = min(fitting, key=lambda choice: _rank(choice, why))
                left.remove(best)
                chosen.append(replace(best, why=why))
    return chosen


def _choice(result: Result, row: tables.Row, why: str) -> Choice:
    chances = {name: float(str(row[f"p_{name}"])) for name in result.target.names}
    answer = (str(row["run"]), str(row["video_id"]))
    return Choice(answer, str(row["label"]), str(row["predicted"]), chances, why)


def _fits(choice: Choice, why: str, label: str) -> bool:
    right = choice.label == choice.predicted
    return choice.label == label and (why == UNCERTAIN or right == (why == RIGHT))


def _rank(choice: Choice, why: str) -> tuple[float, str]:
    """Return what is smallest for the video that is chosen; ties go by its id."""
    score = choice.entropy if why == UNCERTAIN else choice.chances[choice.predicted]
    return (-score, choice.answer[1])
