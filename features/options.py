"""What a user may choose: a module by its name, its options, and what it says of itself then.

Needs no torch: what only asks what there is to choose does not wait for it.
"""

import ast
import difflib
import importlib
import json
import pkgutil
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def near(name: object, known: Iterable[str]) -> str:
    """Return the question whether the likeliest of the known names was meant, or nothing."""
    likeliest = difflib.get_close_matches(str(name), list(known), n=1)
    return f", did you mean {likeliest[0]!r}?" if likeliest else ""


def module_names(folder: Iterable[str]) -> list[str]:
    """Return the names of the modules in a package's folder (its ``__path__``), importing none."""
    return sorted(each.name for each in pkgutil.iter_modules(folder) if not each.ispkg)


def module_text(folder: Iterable[str], name: str) -> str:
    """Return the docstring of one of the modules of a folder; it is read and not imported.

    Args:
        folder: its package's ``__path__``.
        name: of the module.

    Returns:
        The text, or nothing where there is no such module, it is no Python or says nothing.
    """
    for path in (Path(place) / f"{name}.py" for place in folder):
        if path.is_file():
            try:
                return ast.get_docstring(ast.parse(path.read_bytes())) or ""
            except (SyntaxError, ValueError):  # whoever imports it is told what is wrong
                return ""
    return ""


def load_module(
    kind: str, package: str, folder: Iterable[str], name: str, contract: Sequence[str]
) -> ModuleType:
    """Import one of the modules of a folder, whatever is wrong with the others.

    Args:
        kind: what a message calls such a module: ``backbone``, ``detector``, ``head``.
        package: the folder's package, whose docstring says what a module of it has.
        folder: its ``__path__``.
        name: of the module.
        contract: names that it must have.

    Raises:
        ValueError: there is none of that name, and the message lists those that there are; it
            cannot be imported; or it lacks names, which are listed.
    """
    known = module_names(folder)
    if name not in known:
        raise ValueError(f"{kind} {name!r}: expected one of {', '.join(known)}{near(name, known)}")
    file = f"{package.replace('.', '/')}/{name}.py"
    try:
        module = importlib.import_module(f"{package}.{name}")
    except Exception as error:  # it may be anybody's, and anything may be wrong with it
        raise ValueError(
            f"{kind} {name!r}: {file} cannot be imported: {_place(error)}"
            f"{type(error).__name__}: {error}"
        ) from error
    if lacking := [each for each in contract if not hasattr(module, each)]:
        raise ValueError(
            f"{kind} {name!r}: {file} lacks {', '.join(lacking)}; "
            f"{package.replace('.', '/')}/__init__.py says what each is"
        )
    return module


def _place(error: Exception) -> str:
    """Return the line that an error comes from, unless its own text names it."""
    if isinstance(error, SyntaxError):
        return ""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}: "


def check_names(kind: type[Any], values: Iterable[str], name: str) -> None:
    """Check that each of `values` is a field of the dataclass `kind`, which is called `name`.

    Raises:
        ValueError: some are not; the message lists the fields, the likeliest first.
    """
    known = [field.name for field in fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        told = " ".join(f"unknown {value}{near(value, known)}" for value in unknown)
        raise ValueError(f"{name}: {told} (fields are {', '.join(known) or 'none'})")


def construct(kind: type[T], values: Mapping[str, object], name: str) -> T:
    """Return the dataclass `kind` made from `values` as YAML has them, types not bent.

    Args:
        kind: a dataclass.
        values: field -> value; what is absent keeps its default.
        name: what the message calls it.

    Raises:
        ValueError: an unknown field or a value that does not fit; it lists the fields.
    """
    known = ", ".join(field.name for field in fields(cast(Any, kind)))
    check_names(cast(Any, kind), values, name)
    try:
        # By way of JSON, where strict takes a list for a tuple and 1 for 1.0, and no more.
        text = json.dumps(dict(values), default=str, allow_nan=False)
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        found = "; ".join(_told(item) for item in error.errors(include_url=False))
        raise ValueError(f"{name}: {found} (fields are {known})") from error
    except ValueError as error:  # not a number, or infinite
        raise ValueError(f"{name}: {error} (fields are {known})") from error


def _told(item: Any) -> str:
    """Say what is wrong with one value; a check of our own says all of it."""
    where = ".".join(str(part) for part in item["loc"]) + (": " if item["loc"] else "")
    if item["type"] == "value_error":
        return f"{where}{item['ctx']['error']}"
    return f"{where}{item['msg']}, found {item['input']!r}"


def options_of(module: ModuleType, options: Mapping[str, object]) -> Any:
    """Return the module's ``Options`` made from ``options``.

    Raises:
        ValueError: an option that the module does not have, or a value that it refuses.
    """
    return construct(module.Options, options, f"options of {module.__name__.rpartition('.')[2]}")


def views_of(module: ModuleType) -> tuple[str, ...]:
    """Return the views that the module can read, the usual one first."""
    return (module.VIEW,) if isinstance(module.VIEW, str) else tuple(module.VIEW)


MEASURED, PLACES = frozenset("CDK"), frozenset("LHW")
"""Axes of a row along which other things are measured, and along which the same is elsewhere: see
``AXES`` in :mod:`features.backbones`."""


def features_of(module: ModuleType, options: Any) -> dict[str, tuple[int, ...]]:
    """Return the module's features, name -> shape of a row, under ``options``."""
    shapes = getattr(module, "features", None)
    found: dict[str, tuple[int, ...]] = shapes(options) if shapes else module.FEATURES
    return found


def axes_of(module: ModuleType, options: Any) -> dict[str, str]:
    """Return the axes of a row of each of the module's features under ``options``: ``C H W``.

    Raises:
        ValueError: the module does not name the axes of a row with several, or not as many.
    """
    found = {}
    chosen = getattr(module, "axes", None)
    known = chosen(options) if chosen else getattr(module, "AXES", {})
    for name, shape in features_of(module, options).items():
        axes = known.get(name, "D" if len(shape) == 1 else "")
        check_axes(f"{module.__name__}: AXES of {name!r}", shape, axes)
        found[name] = axes
    return found


def check_axes(where: str, shape: tuple[int, ...], axes: str) -> None:
    """Raise ValueError unless ``axes`` names as many known axes as a row of ``shape`` has."""
    known = "C, D, K, L, H or W"
    if len(axes.split()) != len(shape) or not set(axes.split()) <= MEASURED | PLACES:
        raise ValueError(
            f"{where}: expected a letter for each axis of {shape}, {known} as features/backbones "
            f"says what they mean, found {axes!r}"
        )


def dtypes_of(module: ModuleType, options: Any, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return in which dtype each feature is stored: as chosen, as the module says, or float16.

    Args:
        module: the backbone's module.
        options: its ``Options``.
        chosen: feature name -> ``float16`` or ``float32``.

    Raises:
        ValueError: a feature that the module does not give under ``options``.
    """
    names = features_of(module, options)
    if unknown := sorted(set(chosen) - set(names)):
        raise ValueError(
            f"dtypes of {module.__name__.rpartition('.')[2]}: unknown {', '.join(unknown)} "
            f"(features are {', '.join(sorted(names))})"
        )
    usual: Mapping[str, str] = getattr(module, "DTYPES", {})
    return {name: chosen.get(name, usual.get(name, "float16")) for name in names}
