"""Of the built-in sample: which rows show the class, and whether attention ranks them.

The sample's truth says in which frames and modalities of a clip its class is planted. The report
reads it, and nothing else does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.engine.paths import TRUTH
from stages.results.attention import Values
from stages.results.pictures import Rows

Planted = NDArray[np.bool_]

SHOWS = {"faces": ("face",), "sound": ("sound",)}
"""View -> modalities of the sample that can be seen in it, or heard; whole frames show both."""

WHOLE_FRAME = ("face", "scene")

LEAST = 0.5
"""Share of a row, the frames of a snippet or a stretch of sound, that must be planted."""

DRAWS = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Clip:
    """What is planted in a clip.

    Attributes:
        modalities: those that show its class, of `face`, `scene` and `sound`.
        frames: numbers of the first frame and of the one behind the last, of each interval.
        seconds: likewise, in seconds.
    """

    modalities: tuple[str, ...]
    frames: tuple[tuple[int, int], ...]
    seconds: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Ranking:
    """How well weights rank what is planted.

    Attributes:
        auc: mean over the videos of the area under the ROC curve.
        low: end of its 95 % interval, by a bootstrap over videos; None where one video counts.
        high: the other end.
        videos: that count: others have no planted row of this modality, or no other.
    """

    auc: float
    low: float | None
    high: float | None
    videos: int


def read_truth(path: Path = TRUTH) -> dict[str, Clip]:
    """Return video_id -> what is planted; nothing where there is no such file.

    Raises:
        ValueError: the file is not what the stage `sample` writes.
    """
    if not path.is_file():
        return {}
    try:
        clips: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["clips"]
        return {video_id: _clip(facts) for video_id, facts in clips.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the truth about the sample's clips, found: {error!r}; run "
            "`dvc repro sample`"
        ) from error


def _clip(facts: Mapping[str, Any]) -> Clip:
    parts = facts["intervals"]
    return Clip(
        tuple(facts["modalities"]),
        tuple((part["start_frame"], part["stop_frame"]) for part in parts),
        tuple((part["start_s"], part["stop_s"]) for part in parts),
    )


def shows(clip: Clip, view: str) -> bool:
    """Tell whether a clip shows its class in what a view has of it."""
    return bool(set(clip.modalities) & set(SHOWS.get(view, WHOLE_FRAME)))


def planted_rows(clip: Clip, view: str, rows: Rows) -> Planted:
    """Return (T,), which rows of a view of frames show the class."""
    inside = np.zeros(rows.index.shape, bool)
    for start, stop in clip.frames if shows(clip, view) else ():
        inside |= (rows.index >= start) & (rows.index < stop)
    planted: Planted = inside if inside.ndim == 1 else inside.mean(axis=1) >= LEAST
    return planted


def planted_stretches(clip: Clip, starts_s: Values, seconds: float) -> Planted:
    """Return (T,), in which stretches of sound, `seconds` long each, the class is heard."""
    heard = np.zeros(len(starts_s))
    for start, stop in clip.seconds if shows(clip, "sound") else ():
        heard += np.clip(
            np.minimum(stop, starts_s + seconds) - np.maximum(start, starts_s), 0, None
        )
    planted: Planted = heard >= LEAST * seconds
    return planted


def video_auc(weights: Values, planted: Planted) -> float | None:
    """Return the AUC of one video's weights; None where all rows are planted, or none is."""
    if planted.all() or not planted.any():
        return None
    from sklearn.metrics import roc_auc_score  # slow to import, and only the sample needs it

    return float(roc_auc_score(planted, weights))


def ranking(aucs: Mapping[str, Sequence[float | None]]) -> Ranking | None:
    """Return the mean over videos and its interval; None where no video counts.

    Args:
        aucs: video_id -> the AUC in each run that tested it, None where there is none; a video
            counts once, with the mean of its runs.
    """
    known = {video: [auc for auc in values if auc is not None] for video, values in aucs.items()}
    means = np.array([np.mean(values) for _, values in sorted(known.items()) if values])
    if not len(means):
        return None
    low = high = None
    if len(means) > 1:
        drawn = np.random.default_rng(0).integers(0, len(means), (DRAWS, len(means)))
        low, high = (float(end) for end in np.quantile(means[drawn].mean(axis=1), [0.025, 0.975]))
    return Ranking(float(means.mean()), low, high, len(means))
