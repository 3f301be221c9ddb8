"""Checks of what a head is given: the ranges of its hyper-parameters, the shapes of its rows.

Each raises a ValueError that says what was expected and what was found.
"""

from dataclasses import fields
from types import NoneType
from typing import Any, Literal, get_args

from heads.training.targets import Target


def check_at_least(params: Any, least: float, *names: str) -> None:
    """Raise ValueError where a field of the dataclass `params` is below `least`.

    Of a tuple its smallest number counts; null passes.
    """
    kinds = {field.name: field.type for field in fields(params)}
    for name in names:
        value = getattr(params, name)
        if value is None or (min(value) if isinstance(value, tuple) else value) >= least:
            continue
        or_null = " or null" if NoneType in get_args(kinds[name]) else ""
        raise ValueError(f"{name} must be at least {least}{or_null}, found {value}")


def check_odd(params: Any, *names: str) -> None:
    """Raise ValueError where a field of `params`, the side of a kernel, is not odd and above 0."""
    for name in names:
        if getattr(params, name) < 1 or getattr(params, name) % 2 == 0:
            raise ValueError(f"{name} must be odd and above 0, found {getattr(params, name)}")


def check_share(params: Any, *names: str) -> None:
    """Raise ValueError where a field of `params`, the share that is dropped, is not in [0, 1)."""
    for name in names:
        if not 0 <= getattr(params, name) < 1:
            raise ValueError(
                f"{name} must be at least 0 and below 1, found {getattr(params, name)}"
            )


def check_weights(params: Any, *names: str) -> None:
    """Raise ValueError unless these fields of `params`, weights of losses, are an effective sum.

    None may be below 0, and one must be above it.
    """
    check_at_least(params, 0, *names)
    if not any(getattr(params, name) > 0 for name in names):
        raise ValueError(f"one of {', '.join(names)} must be above 0, found 0 for all")


def check_trains(target: Target, params: Any, *names: str) -> None:
    """Raise ValueError where a target has no classes and all these weights of losses are 0.

    A triplet loss, which needs classes, would be all that is left.
    """
    if target.kind != "class" and not any(getattr(params, name) > 0 for name in names):
        raise ValueError(
            "its triplet loss needs one of several classes, found the target "
            f"{target.name!r} of kind {target.kind} and nothing else that trains it: set "
            f"{' or '.join(names)} above 0"
        )


def check_row(
    head: str,
    role: str,
    shape: tuple[int, ...],
    axes: Literal[1, 3],
    todo: str = "name another feature for it",
) -> None:
    """Raise ValueError unless the row of a role is a vector, or with three axes a map.

    Args:
        head: name of the head, and
        role: of the role, as the message has them.
        shape: of a row, without the time axis.
        axes: how many it must have.
        todo: what the message ends with.
    """
    if len(shape) != axes:
        expected = "rows of one axis" if axes == 1 else "rows (C, H, W)"
        raise ValueError(
            f"role '{role}' of {head} takes {expected}, found the shape {shape}: {todo}"
        )
