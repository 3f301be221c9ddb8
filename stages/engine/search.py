"""``experiments.<name>.search`` of params.yaml: which settings are searched, and where."""

import json
from math import isfinite, prod
from typing import Annotated, Any

from pydantic import Field, model_validator

from stages.engine.section import Name, Section


class Draw(Section):
    """What a searched setting is drawn from: one of these.

    Attributes:
        log_uniform: ends of a range above 0, drawn evenly by its logarithm.
        uniform: ends of a range.
        integer: ends of a range of whole numbers, both in it.
        choice: values.
    """

    log_uniform: list[float] | None = None
    uniform: list[float] | None = None
    integer: list[int] | None = None
    choice: list[Any] | None = None

    @property
    def of(self) -> tuple[str, list[Any]]:
        """Which of them it is, and what that holds."""
        ((kind, values),) = self.model_dump(exclude_none=True).items()
        return kind, values

    @property
    def points(self) -> int | None:
        """How many values there are; None where a range of numbers has no end of them."""
        kind, values = self.of
        if kind == "choice":
            return len({json.dumps(value, sort_keys=True) for value in values})
        return values[1] - values[0] + 1 if kind == "integer" else None

    @model_validator(mode="after")
    def _is_one_that_is_not_empty(self) -> "Draw":
        if len(given := self.model_dump(exclude_none=True)) != 1:
            found = ", ".join(given) or "nothing"
            raise ValueError(f"expected one of {', '.join(Draw.model_fields)}, found {found}")
        kind, values = self.of
        if kind == "choice":
            if not values:
                raise ValueError("choice: expected at least one value, found an empty list")
            return self
        if len(values) != 2 or not all(map(isfinite, values)):
            raise ValueError(f"{kind}: expected the two ends of a range, found {values}")
        low, high = values
        if low > high or (low == high and kind != "integer"):
            raise ValueError(
                f"{kind}: expected a range that is not empty, its lower end first, found {values}"
            )
        if kind == "log_uniform" and low <= 0:
            raise ValueError(f"{kind}: expected ends above 0, found {values}")
        return self


class Search(Section):
    """A search of settings on held-out training videos, see :mod:`heads.training.search`.

    Attributes:
        trials: settings that are tried, in each run.
        seed: of what is drawn.
        held_out: share of each class's training videos that chooses.
        space: setting of the head or of the training -> what it is drawn from.
    """

    trials: Annotated[int, Field(ge=1, le=1000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.25
    space: Annotated[dict[Name, Draw], Field(min_length=1)]

    @property
    def drawn_from(self) -> dict[str, tuple[str, list[Any]]]:
        """The space as :mod:`heads.training.settings` takes it."""
        return {name: draw.of for name, draw in self.space.items()}

    @property
    def points(self) -> int | None:
        """How many points the space has; None where it has no end of them."""
        sizes = [draw.points for draw in self.space.values()]
        return prod(size for size in sizes if size) if all(sizes) else None

    @property
    def tries(self) -> int:
        """How many settings are tried: each point once, where the space has fewer than trials."""
        return min(self.trials, self.points or self.trials)
