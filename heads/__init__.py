"""One file a paper: networks that turn the features of a video into one emotion.

The folder is the registry: each module in it is a head, and has all of these names:

- `Params`: frozen dataclass of hyper-parameters, every field documented, defaults as in the paper;
- `ROLES`: the roles that it knows, or None when it takes any; a spatial map that belongs to the
  role `face` is the role `face_map`, and has the same rows;
- `ALIGNED`: the roles whose rows must be the same frames (row 3 of one is row 3 of the other);
- `REFERENCE`: what the papers report of it, `Reported`, a row a cell of a table; made of literals
  and of what the file itself defines, as it is read without the rest (`references`);
- `build(params, features, classes) -> Network` (`heads.layers.network`) with fresh weights, drawn
  from torch's global generator; `features` is role -> shape of a row, without the time axis, and
  `classes` are the names of what the last layer tells: classes, or the labels or dimensions of
  another target (`heads.training.targets`), which `Network.aim` then names.

A head that trains a published network itself, on the rows of a role, has `STARTS` too: role -> the
module in features/backbones that has this network. An experiment's `weights` then name whose
weights it starts from.

What heads share lies below: `layers` and `training`, a module a noun. This package needs no torch:
what reads results does not wait for it.

Legend of axes: B batch, T time, D feature, C channel, H height, W width, M modality.
"""

import __future__

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, cast

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

    def build(self, params: Any, features: Mapping[str, Shape], classes: Sequence[str]) -> Any:
        """Return a `heads.layers.network.Network`; `classes` are the names of the emotions."""


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


def references() -> tuple[dict[str, Sequence[Reported]], list[str]]:
    """Return head -> its `REFERENCE`, and of each head of which it cannot be read why, a line each.

    No head is imported, as torch comes with it: of the file only the statement of `REFERENCE` is
    run, and those that it names, with nothing but `Reported` and Python's own names in reach.
    """
    tables: dict[str, Sequence[Reported]] = {}
    broken: list[str] = []
    for name in names():
        try:
            tables[name] = _reference(name)
        except ValueError as error:
            broken.append(str(error))
    return tables, broken


def _reference(name: str) -> Sequence[Reported]:
    """Return the `REFERENCE` of a head.

    Raises:
        ValueError: it is no Python, lacks it, or it needs more than is in reach.
    """
    where = f"head {name!r}: heads/{name}.py"
    spec = PathFinder.find_spec(f"{__name__}.{name}", __path__)
    file = cast(str, spec and spec.origin)
    try:
        tree = ast.parse(Path(file).read_bytes(), file)
    except SyntaxError as error:
        raise ValueError(f"{where} cannot be read: SyntaxError: {error}") from error
    tree.body = list(_needed("REFERENCE", tree.body))
    if not tree.body:
        raise ValueError(f"{where} defines no REFERENCE; heads/__init__.py says what it is")
    known: dict[str, Any] = {"Reported": Reported}
    as_text = __future__.annotations.compiler_flag  # annotations may name what is not in reach
    try:
        exec(compile(tree, file, "exec", as_text, dont_inherit=True), known)  # as an import would
    except Exception as error:  # it may be anybody's, and anything may be wrong with it
        raise ValueError(
            f"{where}: REFERENCE is read by itself, expected literals and what the file defines, "
            f"found {type(error).__name__}: {error}"
        ) from error
    return cast(Sequence[Reported], known["REFERENCE"])


def _needed(name: str, statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield, in order, the statements of a module that define a name, and what those name."""
    needed: set[int] = set()
    waiting = [name]
    for wanted in waiting:  # grows while it is walked
        for number, statement in enumerate(statements):
            if number not in needed and wanted in _defined(statement):
                needed.add(number)
                value = statement.value if isinstance(statement, ast.AnnAssign) else statement
                nodes = ast.walk(value) if value else ()
                waiting += [node.id for node in nodes if isinstance(node, ast.Name)]
    yield from (statements[number] for number in sorted(needed))


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that an assignment or a function's definition defines, of others none."""
    if isinstance(statement, ast.FunctionDef):
        return [statement.name]
    targets: Sequence[ast.expr]
    if isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
    nodes = (node for target in targets for node in ast.walk(target))
    return [node.id for node in nodes if isinstance(node, ast.Name)]


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
