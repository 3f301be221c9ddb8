"""Face detectors: one file each. The folder is the registry.

Each module has the same handful of names:

``ONE_CORE``
    True where the network uses one core only: several videos are then computed side by side.
``LANDMARKS``
    names of the points of a face, in the order in which it gives them;
    :data:`features.faces.TEMPLATE` has the places of those that are known.
``WEIGHTS``
    where its weights come from (:class:`features.weights.record.Weights`), under the default
    options; ``weights(options)`` where that depends on them. A source names the function of this
    module that gives the tensors of the published file the keys of the built network.
``Options``
    a frozen dataclass of what may be chosen, ``min_score`` among it: the least score of a face,
    0..1, which params.yaml has as ``faces.min_score``.
``build(options)``
    the network without its weights, a :class:`features.faces.Detector`.

Optional: ``FREE_AXES``, the axes of a network's input whose lengths follow the frames. A detector
that has it is a :class:`features.faces.NetworkDetector`: on a CPU another runtime may compute it.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from features.options import load_module, module_names, options_of

CONTRACT = ("ONE_CORE", "LANDMARKS", "WEIGHTS", "Options", "build")
"""What every detector has."""


def names() -> list[str]:
    """Return the names of the detector modules in this folder, in order; none is imported."""
    return module_names(__path__)


def load(name: str) -> ModuleType:
    """Import the detector module ``name``.

    Raises:
        ValueError: there is none of that name, and the message lists those that there are; it
            cannot be imported, or lacks a name of the contract.
    """
    return load_module("detector", __name__, __path__, name, CONTRACT)


def complete_options(name: str, options: Mapping[str, object], min_score: float) -> Any:
    """Return a detector's Options: those of its block in params.yaml, and the least score.

    Raises:
        ValueError: no such detector, an option that it does not have, or a value that it refuses.
    """
    if "min_score" in options:
        raise ValueError(
            "params.yaml: faces.detector.options: found min_score, expected it as faces.min_score"
        )
    return options_of(load(name), {**options, "min_score": min_score})
