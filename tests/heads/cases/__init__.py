"""Small heads for the suite over all heads: one module a head, named as the head.

Each module has `CASES`: name -> `Case`. The suite (`tests/heads/test_heads.py`) runs all of them.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    """A head built small for one set of roles.

    Attributes:
        shapes: role -> shape of a row, without the time axis.
        params: what differs from the head's defaults; no dropout, so that both modes compare.
        normalised: attention outputs that sum to 1 over the real rows, or roles, of a video.
        ordered: the order of rows matters.
        rows: numbers of rows that are tried.
        absent: a row that is not there differs from a row of zeros.
        steps: of the optimiser (Adam) at most, and
        learning_rate: with which 16 random videos are learnt by heart.
    """

    shapes: Shapes
    params: Mapping[str, object] = field(default_factory=dict)
    normalised: tuple[str, ...] = ()
    ordered: bool = False
    rows: tuple[int, ...] = (1, 2, 40)
    absent: bool = True
    steps: int = 150
    learning_rate: float = 0.01


def all_cases() -> dict[str, tuple[str, Case]]:
    """Return `<head>: <case>` -> head, case."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        cases: Mapping[str, Case] = importlib.import_module(f"{__name__}.{module.name}").CASES
        found |= {f"{module.name}: {name}": (module.name, case) for name, case in cases.items()}
    return found
