"""Views: which frames of a video the backbones look at, chosen by time stamp.

A view is planned before decoding from the time stamps alone, so that the views of all enabled
backbones are united and each video is decoded once (:func:`features.video.decode`).

Sampling:
    ``segments``: the clip is cut into ``count`` equal segments and one random instant is drawn
        in each (HAMF section 4, CAAN, RDAM; temporal segment networks).
    ``uniform``: instants at i/count of the duration, i = 0 .. count-1 (Peng et al.: frame
        i*n//count of n).
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sampling = Literal["segments", "uniform"]

ROUNDING_S = 1e-6
"""An instant this close before a frame's time stamp is that frame's: stamps are rounded."""


@dataclass(frozen=True)
class View:
    """What one view asks of a video.

    Attributes:
        sampling: how instants are chosen, see the module's head.
        count: rows of the view, T.
        max_short_side: frames are shrunk until their shorter side has at most so many pixels;
            never enlarged.
    """

    sampling: Sampling
    count: int
    max_short_side: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.count < 1 or self.max_short_side < 32:
            raise ValueError(f"expected count >= 1 and max_short_side >= 32, found {self}")


def instants(view: View, start_s: float, end_s: float, seed: str) -> NDArray[np.float64]:
    """Return the ``view.count`` instants (seconds, ascending) that ``view`` looks at.

    Args:
        view: the view.
        start_s: presentation time of the first frame.
        end_s: end of the last frame.
        seed: text that seeds the random draws: the video's content hash with the user's seed,
            so that neither the file's name nor its neighbours matter.
    """
    edges = start_s + (end_s - start_s) * np.arange(view.count + 1) / view.count
    if view.sampling == "uniform":
        return edges[:-1]
    digest = hashlib.sha256(f"{view.sampling} {view.count} {seed}".encode()).digest()
    draws = np.random.default_rng(np.frombuffer(digest, np.uint32)).random(view.count)
    return edges[:-1] + draws * np.diff(edges)


def on_screen(pts_s: NDArray[np.float64], wanted_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return, without repeats, the numbers of the frames on screen at the wanted instants.

    Frame i is on screen from its time stamp until the next frame's; before the first frame the
    first is shown. A clip with fewer frames than instants gives each frame once.

    Args:
        pts_s: ascending presentation times of all frames, seconds, at least one.
        wanted_s: ascending instants, seconds.
    """
    numbers = np.searchsorted(pts_s, wanted_s + ROUNDING_S, side="right") - 1
    return np.unique(np.clip(numbers, 0, None)).astype(np.int64)
