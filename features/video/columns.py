"""Columns of a data set's CSV beyond path, label and split: how the text of a cell is read.

A reader takes a cell's text and raises a ValueError that says what was expected and what was found;
`features.video.listing` adds the file, the line and the column.
"""

import math
from collections.abc import Callable, Sequence

from features.options import near

Cell = str | float | tuple[str, ...]
"""What a cell says: a name, a number, or some of the names of a list."""

Reader = Callable[[str], Cell]

BETWEEN = "|"
"""Stands between the labels of a cell."""


def name(text: str) -> str:
    """Return the name that a cell holds, as it stands."""
    if not text or text.strip() != text:
        raise ValueError(f"expected a name without space around it, found {text!r}")
    return text


def labels(names: Sequence[str]) -> Reader:
    """Return a reader of cells `joy|surprise`: some of `names`, in their order; none is allowed."""

    def read(text: str) -> tuple[str, ...]:
        parts = [part.strip() for part in text.split(BETWEEN)] if text.strip() else []
        for part in parts:
            if part not in names:
                raise ValueError(
                    f"expected labels of {', '.join(names)}, with {BETWEEN} between them, found "
                    f"{part!r}{near(part, names)}"
                )
        if len(set(parts)) < len(parts):
            raise ValueError(f"expected each label once, found {text!r}")
        return tuple(each for each in names if each in parts)

    return read


def number(low: float, high: float) -> Reader:
    """Return a reader of numbers from `low` to `high`, both included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(
                f"expected a number from {low:g} to {high:g}, found {text!r}"
            ) from None
        if math.isnan(value) or not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}, found {text}")
        return value

    return read
