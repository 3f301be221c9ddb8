"""One file a paper: networks that turn the features of a video into one emotion.

The folder is the registry: each module in it is a head, and has all of these names:

- `Params`: frozen dataclass of hyper-parameters, every field documented, defaults as in the paper;
- `ROLES`: the roles that it knows, or None when it takes any; a spatial map that belongs to the
  role `face` is the role `face_map`, and has the same rows;
- `ALIGNED`: the roles whose rows must be the same frames (row 3 of one is row 3 of the other);
- `REFERENCE`: what the papers report of it, `Reported`, a row a cell of a table;
- `build(params, features, classes) -> Network` with fresh weights, drawn from torch's global
  generator; `features` is role -> shape of a row, without the time axis.

A head that trains a published network itself, on the rows of a role, has `STARTS` too: role -> the
module in features/backbones that has this network. An experiment's `weights` then name whose
weights it starts from.

What heads share lies below: `layers` and `training`, a module a noun.

Legend of axes: B batch, T time, D feature, C channel, H height, W width, M modality.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, cast

from torch import Tensor, nn
from torch.nn import functional

from features.options import construct, load_module, module_names

CONTRACT = ("Params", "ROLES", "ALIGNED", "REFERENCE", "build")

Shape = tuple[int, ...]


class Rows(NamedTuple):
    """An attention over the rows of `role`: a weight a row (B, T), or a map a row (B, T, ...)."""

    role: str


class Roles(NamedTuple):
    """An attention over modalities: (B, M), a weight for each of `roles`, in this order."""

    roles: tuple[str, ...]


Attention = Rows | Roles


class Network(nn.Module):
    """What `build` returns: a network that names its attention and trains in phases.

    Attributes:
        attention: name of an output of `forward` -> what it weighs; set it in `__init__`.
        starts: role -> part that may start from weights, see `STARTS`; set it in `__init__`.
    """

    attention: Mapping[str, Attention]
    starts: Mapping[str, nn.Module]

    def __init__(self) -> None:
        """Start without attention, and with nothing that starts from weights."""
        super().__init__()
        self.attention = {}
        self.starts = {}

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), T may differ between roles and may be 0.
            mask: role -> bool (B, T), false where there is no such row: what stands there, NaN
                as well, has no influence.

        Returns:
            `logits` (B, classes), every name of `attention`, and what `loss` needs.
        """
        raise NotImplementedError

    def phases(self) -> dict[str, Sequence[nn.Module]]:
        """Return name -> modules that train in that phase, in order; the rest is frozen then.

        Each phase takes `Training.epochs` epochs. One phase of everything, unless a head says
        otherwise.
        """
        return {"all": [self]}

    def frozen(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor], phase: str
    ) -> dict[str, Tensor]:
        """Return what the part that a phase does not train gives of a batch, for `resume`.

        It is asked for once a phase of each video, in eval mode, and kept in memory. Nothing, as
        by default, where there is no such part: then every epoch calls `forward`.

        Args:
            features: as of `forward`.
            mask: likewise.
            phase: one of `phases`.

        Returns:
            Name -> (B, ...): a row a video, of the same shape in every batch.
        """
        return {}

    def resume(self, frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `logits` and what `loss` needs in that phase, from what `frozen` gave."""
        raise NotImplementedError

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the training loss of one batch in a phase, a scalar; cross-entropy by default.

        Args:
            output: what `forward` returned.
            labels: (B,) int64.
            phase: one of `phases`.
        """
        return functional.cross_entropy(output["logits"], labels)


@dataclass(frozen=True)
class Reported:
    """One accuracy that a paper reports: a row of one of its tables.

    An experiment is that row when it has the head, the roles (maps aside) and these params.

    Attributes:
        paper: short name, `HAMF`.
        table: `Table 4`.
        data: `MHED`, `VideoEmotion-8`, `Ekman-6`, `HEIV`, `CAER`, ...
        name: what the table calls the row, `G2`.
        roles: of the experiment.
        accuracy: in [0, 1].
        params: the hyper-parameters that the table varies, all of them.
        classes: class -> accuracy on its videos (its recall), in [0, 1], where the table has it.
    """

    paper: str
    table: str
    data: str
    name: str
    roles: tuple[str, ...]
    accuracy: float
    params: Mapping[str, object] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)


class Head(Protocol):
    """What a head module offers, see the docstring of this package."""

    __name__: str
    Params: ClassVar[type[Any]]
    ROLES: frozenset[str] | None
    ALIGNED: frozenset[str]
    REFERENCE: Sequence[Reported]

    def build(self, params: Any, features: Mapping[str, Shape], classes: Sequence[str]) -> Network:
        """Return the network with fresh weights; `classes` are the names of the emotions."""


def names() -> list[str]:
    """Return the names of the heads in this folder, in order; none is imported."""
    return module_names(__path__)


def load(name: str) -> Head:
    """Return the head module `name`; what is wrong with another is no matter.

    Raises:
        ValueError: there is no such head, and the message lists those that there are; it cannot
            be imported, or lacks a name of the contract.
    """
    return cast(Head, load_module("head", __name__, __path__, name, CONTRACT))


def loadable() -> tuple[dict[str, Head], list[str]]:
    """Return the heads by name, and of each that is broken what is wrong with it, a line each."""
    loaded: dict[str, Head] = {}
    broken: list[str] = []
    for name in names():
        try:
            loaded[name] = load(name)
        except ValueError as error:
            broken.append(str(error))
    return loaded, broken


def resolve(params: Any, roles: Collection[str]) -> Any:
    """Return hyper-parameters with the value in place of a null that stands for one.

    Two experiments of a head on the same features are the same network where these are equal.

    Args:
        params: of a head; its `Params` has a method `resolved(roles)` where null stands for
            something.
        roles: of the experiment, maps included.
    """
    return params.resolved(roles) if hasattr(params, "resolved") else params


def starts(head: Head) -> Mapping[str, str]:
    """Return the head's `STARTS`: role -> backbone module whose network it trains itself."""
    modules: Mapping[str, str] = getattr(head, "STARTS", {})
    return modules


def validate(head: Head, overrides: Mapping[str, object]) -> Any:
    """Return the head's `Params` with `overrides` in place of the defaults.

    Raises:
        ValueError: a field that the head does not have, or a value it does not take.
    """
    return construct(head.Params, overrides, f"head '{head.__name__.rpartition('.')[2]}'")
