"""One file a paper: networks that turn the features of a video into one emotion.

The folder is the registry. A module here is a head when it has all of these names:

- `Params`: frozen dataclass of hyper-parameters, every field documented, defaults as in the paper;
- `ROLES`: the roles that it knows, or None when it takes any; where a role has a spatial map as
  its companion, that is the role `<role>_map`;
- `ALIGNED`: the roles whose rows must be the same frames (row 3 of one is row 3 of the other);
- `ATTENTION`: name of an attention output -> the roles whose rows it weighs, the first given
  wins;
- `REFERENCE`: data set -> roles, joined by "+" -> accuracy in [0, 1] that the paper reports;
- `build(params, features, classes) -> nn.Module`, `features` is role -> shape of a row, without
  the time axis;
- the network's `forward(features, mask) -> dict`, with `features` role -> float (B, T, ...) and
  `mask` role -> bool (B, T), T may differ between roles and may be 0; the dict has `logits`
  (B, classes) and every name of `ATTENTION` (B, T);
- `loss(output, labels, params) -> Tensor`, a scalar from that dict and int64 labels (B,).

The other modules are what heads share, each under its own noun: `aggregation`, `losses`,
`metrics`, `data`, `training`.

Legend of axes: B batch, T time, D feature, C channel, H height, W width, M modality.
"""

import importlib
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any, Protocol, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

_CONTRACT = ("Params", "ROLES", "ALIGNED", "ATTENTION", "REFERENCE", "build", "loss")

Shape = tuple[int, ...]
T = TypeVar("T")


class Head(Protocol):
    """What a head module offers, see the docstring of this package."""

    __name__: str
    Params: type[Any]
    ROLES: frozenset[str] | None
    ALIGNED: frozenset[str]
    ATTENTION: Mapping[str, tuple[str, ...]]
    REFERENCE: Mapping[str, Mapping[str, float]]

    def build(self, params: Any, features: Mapping[str, Shape], classes: int) -> nn.Module:
        """Return the network with fresh weights, drawn from torch's global generator."""

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, params: Any) -> Tensor:
        """Return the training loss of one batch, a scalar."""


def _is_head(module: ModuleType) -> bool:
    return all(hasattr(module, name) for name in _CONTRACT)


def names() -> list[str]:
    """Return the names of the heads that lie in this folder, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if _is_head(importlib.import_module(f"heads.{name}")))


def load(name: str) -> Head:
    """Return the head module `name`.

    Raises:
        ValueError: there is no such head; the message lists those that there are.
    """
    known = names()
    if name not in known:
        raise ValueError(f"unknown head '{name}': expected one of {', '.join(known)}")
    return cast(Head, importlib.import_module(f"heads.{name}"))


def validate(head: Head, overrides: Mapping[str, object]) -> Any:
    """Return the head's `Params` with `overrides` in place of the defaults.

    Raises:
        ValueError: a field that the head does not have, or a value it does not take.
    """
    return construct(head.Params, overrides, f"head '{head.__name__.rpartition('.')[2]}'")


def construct(kind: type[T], values: Mapping[str, object], name: str) -> T:
    """Return the dataclass `kind` made from `values` as YAML has them, types not bent.

    Args:
        kind: a dataclass.
        values: field -> value; what is absent keeps its default.
        name: what the message calls it.

    Raises:
        ValueError: an unknown field or a value that does not fit; it lists the fields.
    """
    try:
        # By way of JSON, where strict takes a list for a tuple and 1 for 1.0, and no more.
        return TypeAdapter(kind).validate_json(json.dumps(dict(values), default=str), strict=True)
    except ValidationError as error:
        found = "; ".join(
            ".".join(str(part) for part in item["loc"])
            + (": " if item["loc"] else "")
            + f"{item['msg']}, found {item['input']!r}"
            for item in error.errors(include_url=False)
        )
        known = ", ".join(field.name for field in fields(cast(Any, kind)))
        raise ValueError(f"{name}: {found} (fields are {known})") from error
