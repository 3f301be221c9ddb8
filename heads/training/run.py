"""What one run leaves: answers, attention, how the training went, and the network's state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from features.cache.arrays import Array
from heads import Attention, Rows
from heads.training.scores import THRESHOLD
from heads.training.targets import Kind, Target


@dataclass(frozen=True)
class Epoch:
    """Training loss of one epoch, the mean over the videos drawn, as they were drawn.

    Attributes:
        phase: name of it.
        loss: that mean.
        measured: the target's measure (accuracy, mAP, CCC) of the answers while it was trained.
        validation: the same on the validation videos after it, NaN where there are none.
    """

    phase: str
    loss: float
    measured: float
    validation: float


@dataclass(frozen=True)
class Run:
    """What one run gives; rows are the test videos in the order they were asked for.

    Attributes:
        video_ids: of the test videos.
        target: what is told.
        labels: what is true: int64 (N,), positions among the classes; else float64 (N, width).
        values: float32 (N, width), see `heads.training.answer.Answer`.
        attention: name -> one float32 array a video: (T,) or (T, ...), T its own number of rows,
            for an attention over rows; (M,) for one over roles.
        weighed: name -> what its weights belong to.
        pts_s: role -> one float64 (T,) a video, presentation times of its rows in seconds, for
            the roles that an attention weighs.
        kept: number of the epoch whose network answered, counted from 1 over all phases.
        curve: one `Epoch` an epoch.
        state: weights and input statistics; loads into `build_network`.
    """

    video_ids: tuple[str, ...]
    target: Target
    labels: NDArray[Any]
    values: NDArray[np.float32]
    attention: dict[str, list[NDArray[np.float32]]]
    weighed: dict[str, Attention]
    pts_s: dict[str, list[NDArray[np.float64]]]
    kept: int
    curve: list[Epoch]
    state: dict[str, Tensor]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class (N,), or whether each label is answered (N, labels)."""
        if self.target.kind == "class":
            return np.asarray(self.values.argmax(axis=1), np.int64)
        return np.asarray(self.values >= THRESHOLD, np.int64)


def run_arrays(run: Run) -> tuple[dict[str, Array], dict[str, str]]:
    """Return a run as named arrays for an array file, and the names of their axes.

    Of a class there are `label`, `predicted` and `probabilities`, of labels likewise, a column
    each; of dimensions `label` and `estimates`.
    An attention `<name>` lies in `attention:<name>`, the weights of all videos one after the
    other. If it is over rows, `role:<name>` names their role, `rows:<role>` (videos,) has how
    many belong to each video, and `pts_s:<role>` their times; if it is over roles,
    `roles:<name>` names them.
    """
    answers: dict[str, Array] = {
        "video_id": np.array([name.encode() for name in run.video_ids]),
        **_told(run),
        "kept": np.array([run.kept], dtype=np.int64),
        "epoch_phase": np.array([epoch.phase.encode() for epoch in run.curve]),
        "epoch_loss": np.array([epoch.loss for epoch in run.curve]),
        f"epoch_{run.target.measure}": np.array([epoch.measured for epoch in run.curve]),
        "epoch_validation": np.array([epoch.validation for epoch in run.curve]),
    }
    axes = {"video_id": "video", "kept": "one"}
    for name, array in _told(run).items():
        axes[name] = "video" if array.ndim == 1 else f"video {_COLUMN[run.target.kind]}"
    axes |= {name: "epoch" for name in answers if name.startswith("epoch_")}
    axes |= {f"role:{name}": "one" for name, of in run.weighed.items() if isinstance(of, Rows)}
    for name, weights in run.attention.items():
        weighed = run.weighed[name]
        path = f"attention:{name}"
        if isinstance(weighed, Rows):
            answers[path] = np.concatenate(weights)
            answers[f"role:{name}"] = np.array([weighed.role.encode()])
            axes[path] = "row" + " map" * (answers[path].ndim - 1)
        else:
            answers[path] = np.stack(weights)
            answers[f"roles:{name}"] = np.array([role.encode() for role in weighed.roles])
            axes |= {path: "video role", f"roles:{name}": "role"}
    for role, times in run.pts_s.items():
        answers[f"rows:{role}"] = np.array([len(part) for part in times], dtype=np.int64)
        answers[f"pts_s:{role}"] = np.concatenate(times)
        axes |= {f"rows:{role}": "video", f"pts_s:{role}": "row"}
    return answers, axes


_COLUMN: Mapping[Kind, str] = {"class": "class", "labels": "label", "dimensions": "dimension"}
"""Kind of a target -> name of the axis of what is told."""


def _told(run: Run) -> dict[str, Array]:
    """Return what is true of the videos and what was answered."""
    if run.target.kind == "dimensions":
        return {"label": run.labels, "estimates": run.values}
    return {
        "label": run.labels.astype(np.int64),
        "predicted": run.predicted,
        "probabilities": run.values,
    }
