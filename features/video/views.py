"""Views: which frames of a video the backbones look at, chosen by time stamp.

A view is planned before decoding from the time stamps alone, so that the views of all enabled
backbones are united and each video is decoded once (:func:`features.video.decode.decode`).

Sampling:
    ``segments``: the clip is cut into ``count`` equal segments and one random instant is drawn
        in each (HAMF section 4, CAAN, RDAM; temporal segment networks).
    ``snippets``: in each of ``count`` equal segments ``length`` consecutive frames from a random
        start (VAANet section 3.1: ten segments, sixteen frames).
    ``uniform``: instants at i/count of the duration, i = 0 .. count-1 (Peng et al.: frame
        i*n//count of n).
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sampling = Literal["segments", "uniform", "snippets"]

FRAME_ARRAYS = ("index", "pts_s", "valid")
"""Arrays of a view, and of the features made of it, that say of each row which frame it is."""

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
        length: frames of a row, L; more than one only for ``snippets``.
    """

    sampling: Sampling
    count: int
    max_short_side: int
    length: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.count < 1 or self.max_short_side < 32 or self.length < 1:
            raise ValueError(
                f"expected count and length >= 1 and max_short_side >= 32, found {self}"
            )
        if self.length > 1 and self.sampling != "snippets":
            raise ValueError(f"expected length 1 for {self.sampling}, found {self.length}")


def choose(view: View, pts_s: NDArray[np.float64], end_s: float, seed: str) -> NDArray[np.int64]:
    """Return the numbers of the frames that ``view`` takes, in order of time.

    Args:
        view: the view.
        pts_s: ascending presentation times of all frames, seconds, at least one.
        end_s: end of the last frame.
        seed: see :func:`instants`.

    Returns:
        (T,) distinct numbers, T at most ``view.count``; for ``snippets`` (count, length).
    """
    if view.sampling == "snippets":
        return _snippets(view, pts_s, end_s, seed)
    return on_screen(pts_s, instants(view, float(pts_s[0]), end_s, seed))


def _snippets(view: View, pts_s: NDArray[np.float64], end_s: float, seed: str) -> NDArray[np.int64]:
    """Return the frames of each snippet.

    A snippet that does not fit into its segment runs on into the next one, or starts earlier at
    the clip's end; a clip of fewer frames than a snippet is repeated from its start.
    """
    edges = _edges(view, float(pts_s[0]), end_s)
    first = np.searchsorted(pts_s, edges[:-1] - ROUNDING_S)
    after = np.searchsorted(pts_s, edges[1:] - ROUNDING_S)
    starts = np.maximum(after - view.length, first) - first + 1  # how many may be drawn
    start = first + np.floor(_draws(view, seed) * starts).astype(np.int64)
    start = np.clip(start, 0, max(0, len(pts_s) - view.length))
    return (start[:, None] + np.arange(view.length)) % len(pts_s)


def instants(view: View, start_s: float, end_s: float, seed: str) -> NDArray[np.float64]:
    """Return the ``view.count`` instants (seconds, ascending) that ``view`` looks at.

    Args:
        view: the view.
        start_s: presentation time of the first frame.
        end_s: end of the last frame.
        seed: text that seeds the random draws: the video's content hash with the user's seed,
            so that neither the file's name nor its neighbours matter.
    """
    edges = _edges(view, start_s, end_s)
    if view.sampling == "uniform":
        return edges[:-1]
    return edges[:-1] + _draws(view, seed) * np.diff(edges)


def _edges(view: View, start_s: float, end_s: float) -> NDArray[np.float64]:
    """Return the ends of ``view.count`` equal segments, seconds."""
    edges: NDArray[np.float64] = np.arange(view.count + 1) / view.count
    return start_s + (end_s - start_s) * edges


def _draws(view: View, seed: str) -> NDArray[np.float64]:
    """Return one number in [0, 1) for each row."""
    digest = hashlib.sha256(f"{view.sampling} {view.count} {seed}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32)).random(view.count)


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
