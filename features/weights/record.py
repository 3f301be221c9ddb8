"""A network's weights on record: where they come from, under which licence and checksum.

Needs no torch: who only asks where weights come from does not wait for it.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from features.weights.naming import Convert, unchanged


class WeightsError(ValueError):
    """A weights file, or a file to make one from, is not what it should be."""


def _check_digits(digits: str | None, name: str) -> None:
    if digits is not None and (not 8 <= len(digits) <= 64 or set(digits) - set("0123456789abcdef")):
        raise ValueError(f"{name}: expected 8 to 64 lower-case hex digits, found {digits}")


def definition(convert: Convert) -> str:
    """Return the dotted name of a conversion, by which its code is in the key of what it makes.

    Raises:
        ValueError: it is no function at the top of a module.
    """
    name: str = getattr(convert, "__qualname__", repr(convert))
    if not name.isidentifier():
        raise ValueError(f"convert: expected a function at the top of a module, found {name}")
    return f"{convert.__module__}.{name}"


@dataclass(frozen=True)
class Source:
    """A file at an address.

    Attributes:
        url: where it lies.
        sha256: 64 hexadecimal digits, or the first of them (8 or more), or None where nobody
            has published any: then the first download is pinned, see
            :mod:`features.sources.obtain`.
        size_bytes: its exact size, or None where unknown.
        convert: a function at the top of the module: gives its tensors the keys of the built
            module's ``state_dict``. :mod:`features.weights.naming` has what several share.
        reader: how it is read: a name in :data:`features.sources.readers.READERS`.
    """

    url: str
    sha256: str | None
    size_bytes: int | None
    convert: Convert = unchanged
    reader: str = "checkpoint"

    def __post_init__(self) -> None:
        """Check the address, the checksum's form and the conversion."""
        definition(self.convert)
        if urlsplit(self.url).scheme not in ("http", "https") or not self.filename:
            raise ValueError(f"{self.url}: expected http:// or https:// and a file's name")
        _check_digits(self.sha256, self.url)

    @property
    def filename(self) -> str:
        """The file's name at its address."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]

    @property
    def address(self) -> str:
        """The address, for messages."""
        return self.url


@dataclass(frozen=True)
class Wheel:
    """Files inside a package of the package index: a carrier that mirrors reach.

    Attributes:
        requirement: the exact package, e.g. ``mediapipe==0.10.21``.
        members: path in the package and full sha256 of each file, in the reader's order.
        convert: as in :class:`Source`.
        reader: as in :class:`Source`.
    """

    requirement: str
    members: tuple[tuple[str, str], ...]
    convert: Convert = unchanged
    reader: str = "checkpoint"

    def __post_init__(self) -> None:
        """Check the conversion."""
        definition(self.convert)

    @property
    def address(self) -> str:
        """The package and its files, for messages."""
        names = ", ".join(member.rsplit("/", 1)[-1] for member, _ in self.members)
        return f"package index: {self.requirement} ({names})"


@dataclass(frozen=True)
class ByHand:
    """A file that only a person can fetch: its page gives it to a browser and to nothing else.

    It is never downloaded; as ``file`` of a block it is read like the file of a :class:`Source`.

    Attributes:
        page: where it is to be had.
        filename: its name there.
        convert: as in :class:`Source`.
        reader: as in :class:`Source`.
        sha256: as in :class:`Source`.
        size_bytes: as in :class:`Source`.
        notice: what a user of this file has to be told, besides the weights' own notice.
    """

    page: str
    filename: str
    convert: Convert = unchanged
    reader: str = "checkpoint"
    sha256: str | None = None
    size_bytes: int | None = None
    notice: str = ""

    def __post_init__(self) -> None:
        """Check the checksum's form and the conversion."""
        definition(self.convert)
        _check_digits(self.sha256, self.filename)

    @property
    def address(self) -> str:
        """The page and the file, for messages."""
        return f"{self.page} ({self.filename})"


Origin = Source | Wheel | ByHand


@dataclass(frozen=True)
class Companion:
    """A second file that some keys lie in, fetched only where the built module has such keys."""

    prefix: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Weights:
    """What a backbone module knows of its weights.

    Attributes:
        licence: licence of the weights, by name.
        sources: the same weights at one or more addresses, tried in order.
        notice: what the user has to be told at a download, e.g. non-commercial use only.
        companions: further files for some of the keys.
        can_seed: False where there is no architecture to fill with random numbers (models
            that come as bytes).
        fresh: keys of layers that are new here, so that no published file has them; where a
            file lacks them they are drawn from the block's seed (:func:`fresh_tensors`).
        convert_of: where the name of a user's own file tells how it is converted: name ->
            conversion. None: as the published file that it is like.
    """

    licence: str
    sources: tuple[Origin, ...]
    notice: str = ""
    companions: tuple[Companion, ...] = ()
    can_seed: bool = True
    fresh: tuple[str, ...] = ()
    convert_of: Callable[[str], Convert] | None = None


def weights_of(module: ModuleType, options: object) -> Weights:
    """Return what a module knows of its weights: its ``weights(options)``, else its WEIGHTS."""
    choose = getattr(module, "weights", None)
    weights: Weights = choose(options) if choose else module.WEIGHTS
    return weights


def may_be_seeded(path: Path) -> bool:
    """Tell whether a module's file says nowhere that its weights cannot be seeded.

    It is read and not imported, which would import torch.

    Raises:
        ValueError: it is no Python.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno}: expected Python, found: {error.msg}") from None
    return not any(
        isinstance(node, ast.keyword)
        and node.arg == "can_seed"
        and isinstance(node.value, ast.Constant)
        and node.value.value is False
        for node in ast.walk(tree)
    )
