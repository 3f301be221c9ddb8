"""Parity certificates: each backbone's numbers beside those of an independent oracle.

A module here is named after the backbone's; its ``certificates()`` yields the comparisons.
``tests/test_parity.py`` checks them and keeps PARITY.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Certificate:
    """One feature of one backbone, computed by us and by an oracle.

    Attributes:
        backbone: the module's name.
        feature: what was compared, a feature's name or a step of the preprocessing.
        oracle: what it was compared with, one line.
        input: on what, one line.
        reference: the oracle's numbers, float32.
        ours: our numbers, float32, of the same shape.
    """

    backbone: str
    feature: str
    oracle: str
    input: str
    reference: NDArray[np.float32]
    ours: NDArray[np.float32]

    def differences(self, ours: NDArray[np.generic]) -> tuple[float, float, float]:
        """Return largest absolute, largest relative difference and cosine of ``ours``.

        The relative difference is that of the largest absolute one to the largest reference
        value: a value near zero has no say.
        """
        reference, other = (a.astype(np.float64).ravel() for a in (self.reference, ours))
        absolute = float(np.abs(reference - other).max(initial=0.0))
        scale = float(np.abs(reference).max(initial=0.0)) or 1.0
        norms = float(np.linalg.norm(reference) * np.linalg.norm(other))
        cosine = float(reference @ other) / norms if norms else 1.0
        return absolute, absolute / scale, cosine
