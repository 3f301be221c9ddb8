"""The sections of the page, a module each.

Those of classes read the results that tell one of several classes; labels and dimensions have
sections of their own, so that no two measures stand in one ranking. Corpora, attention and training
show all, each by its own measure.

A module has the `TITLE` of its section and one public function, `section(inputs)`, which returns
it, or None where there is nothing to show.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

from heads.training.targets import Kind
from stages.results.page import Inputs, Section
from stages.results.sections import (
    accuracy,
    attention,
    calibration,
    classes,
    confusion,
    corpora,
    data,
    differences,
    dimensions,
    features,
    labels,
    leaks,
    papers,
    protocol,
    search,
    settings,
    training,
)
from stages.results.told import of_kind

SECTIONS: Mapping[ModuleType, Kind | None] = {
    accuracy: "class",
    differences: "class",
    labels: None,
    dimensions: None,
    corpora: None,
    papers: "class",
    classes: "class",
    confusion: "class",
    calibration: "class",
    attention: None,
    training: None,
    protocol: None,
    search: None,
    data: None,
    leaks: "class",
    features: None,
    settings: None,
}
"""In the order of the page: section -> the kind of target whose results it reads; None: all."""


def sections(inputs: Inputs) -> list[Section]:
    """Return the sections that have something to show."""
    made = []
    for module, kind in SECTIONS.items():
        results = inputs.results if kind is None else of_kind(inputs.results, kind)
        if results or module is leaks:  # copies are shown whatever is told
            made.append(module.section(replace(inputs, results=results)))
    return [section for section in made if section]
