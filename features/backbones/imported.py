"""Arrays made elsewhere, under the name of a backbone: no network of ours has computed them.

`affectline import` checks them and packs them into one file, which the block names as `file`; what
they are, and by what network, only their maker knows.

In: no view: the rows lie in the file. Out: ``features``, rows of the shape that the block's
``options`` have.
"""

from dataclasses import dataclass

from features.options import check_axes
from features.weights.record import Weights

VIEW = "none"

FEATURE = "features"

WEIGHTS = Weights(licence="unknown", sources=(), can_seed=False)


@dataclass(frozen=True)
class Options:
    """What was imported.

    Attributes:
        shape: of a row, without the time axis.
        axes: of a row, letters as :mod:`features.backbones` explains them, ``K D``.
    """

    shape: tuple[int, ...] = (1,)
    axes: str = "D"

    def __post_init__(self) -> None:
        """Raise ValueError unless the axes are those of the shape."""
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape: expected the sizes of a row, found {list(self.shape)}")
        check_axes("axes", self.shape, self.axes)


FEATURES = {FEATURE: Options().shape}


def features(options: Options) -> dict[str, tuple[int, ...]]:
    """Return the one feature: its shape is what was imported."""
    return {FEATURE: options.shape}


def axes(options: Options) -> dict[str, str]:
    """Return the axes of its rows."""
    return {FEATURE: options.axes}
