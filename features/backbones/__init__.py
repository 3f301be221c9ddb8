"""Backbones: one file a network family. The folder is the registry.

Each module has the same handful of names:

``VIEW``
    the decoded view that it reads (:mod:`features.video.views`), or a tuple of those that it can
    read; the block's ``view`` in params.yaml says which.
``FEATURES``
    feature name -> shape without the time axis, under the default options; a module whose shapes
    depend on its options has the function ``features(options)`` as well.
``AXES``
    feature name -> axes of a row as letters in their order, ``C H W``, for every feature with more
    than one; a row of one axis is ``D``. C channel, D feature and K keypoint are measured apart: a
    reader that standardises takes statistics of each of their places. L frame within a row, H and
    W are places where the same is measured: statistics are over them.
``DTYPES``
    feature name -> dtype, only for features that must not be stored as float16; ``dtypes`` of a
    block in params.yaml says otherwise.
``ONE_CORE``
    True where the network uses one core only: several videos are then computed side by side.
``WEIGHTS``
    where its weights come from (:class:`features.weights.record.Weights`), under the default
    options; ``weights(options)`` where that depends on them. A source names the function of this
    module that gives the tensors of the published file the keys of the built network.
``Options``
    a frozen dataclass of what may be chosen; empty where nothing may.
``preprocess``
    uint8 frames (T, H, W, 3) RGB or snippets (T, L, H, W, 3), options -> tensor (T, ...); of a
    sound backbone: :class:`features.waveform.Waveform`, options -> an iterator of parts, each a
    tensor (t, ...) and the start of each of its rows in the sound, seconds (t,).
``build(options)``
    the network in eval mode, float32, without its weights. ``forward`` takes a batch of rows and
    returns a dict of exactly the FEATURES, plus ``valid`` (bool, (T,)) where the network itself
    can fail on a row. Rows never influence each other.

``imported`` is no network and has neither ``preprocess`` nor ``build``: its rows were made
elsewhere and lie in its file of weights. Its ``VIEW`` is ``none``, and ``axes(options)`` stands for
``AXES``.

The first line of its docstring says what it is, a paragraph that begins with ``In:`` what it reads
and, from ``Out:`` on, what it gives: the report's feature card shows them.
``parity.csv`` holds how near each comes to an independent oracle; tests/test_parity.py writes it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from features.options import load_module, module_names, module_text

PARITY = Path(__file__).with_name("parity.csv")
"""Table of the backbones beside independent oracles."""


@dataclass(frozen=True)
class Description:
    """What a backbone's module says of itself, in words; empty where it says nothing.

    Attributes:
        title: what it is.
        reads: its input, and what is done to it before the network.
        gives: its features.
    """

    title: str
    reads: str
    gives: str


IMPORTED = "imported"
"""The module of arrays that were made elsewhere."""

CONTRACT = ("VIEW", "FEATURES", "WEIGHTS", "Options", "preprocess", "build")
"""What every backbone has; the other names are there where they are needed."""


def names() -> list[str]:
    """Return the names of the networks in this folder, in order; none is imported."""
    return [name for name in module_names(__path__) if name != IMPORTED]


def load(name: str) -> ModuleType:
    """Import the backbone module ``name``.

    Raises:
        ValueError: there is none of that name, and the message lists those that there are; it
            cannot be imported, or lacks a name of the contract.
    """
    contract = [
        each for each in CONTRACT if name != IMPORTED or each not in ("preprocess", "build")
    ]
    return load_module("backbone", __name__, __path__, name, contract)


def describe(name: str) -> Description:
    """Return what the backbone module ``name`` says of itself; it is not imported."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", _text(name))]
    contract = next((part for part in paragraphs if part.startswith("In: ")), "")
    reads, _, gives = contract.removeprefix("In: ").partition(" Out: ")
    return Description(paragraphs[0], reads, gives)


def _text(name: str) -> str:
    """Return a module's docstring without what Sphinx reads: roles and double backticks."""
    return re.sub(r"(?::\w+:)?`+~?([^`]*)`+", r"\1", module_text(__path__, name))
