"""How far probabilities can be taken at their word: calibration error and the reliability curve.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML
2017, eqs. 2, 3 and 5: answers are sorted into bins of equal width by their confidence, the
probability of the class that is answered. In each bin the mean confidence is held against the share
of right answers; the expected calibration error (ECE) is the mean of their distances, each bin
counted by its answers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of equal width, as in the paper's tables; a confidence between two bins is in the lower one."""


@dataclass(frozen=True)
class Reliability:
    """Answers by their confidence, bin by bin, the least sure first.

    Attributes:
        videos: int64 (BINS,), answers in each bin.
        confidence: float64 (BINS,), their mean confidence; NaN in an empty bin.
        accuracy: float64 (BINS,), share of them that is right; likewise.
    """

    videos: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """The expected calibration error, in [0, 1]."""
        gaps = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float(np.average(gaps, weights=self.videos))


def reliability(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> Reliability:
    """Return how often answers are right that are so and so sure.

    Args:
        labels: int64 (N,), positions among the classes.
        probabilities: float (N, classes), each row sums to 1; N at least 1.

    Raises:
        ValueError: no answer.
    """
    if not len(labels):
        raise ValueError("a reliability curve takes at least one answer, found none")
    sure = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    inner = np.arange(1, BINS) / BINS
    place = np.searchsorted(inner, sure, side="left")  # (inner[m - 1], inner[m]] is bin m
    videos = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            videos.astype(np.int64),
            np.bincount(place, sure, BINS) / videos,
            np.bincount(place, right, BINS) / videos,
        )
