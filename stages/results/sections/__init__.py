"""The sections of the page, a module each.

Those of classes read the results that tell one of several classes; labels and dimensions have
sections of their own, so that no two measures stand in one ranking.

A module has the `TITLE` of its section and one public function, `section(inputs)`, which returns
it, or None where there is nothing to show.
"""

from dataclasses import replace

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

SECTIONS = (
    accuracy,
    differences,
    labels,
    dimensions,
    corpora,
    papers,
    classes,
    confusion,
    calibration,
    attention,
    training,
    protocol,
    search,
    data,
    leaks,
    features,
    settings,
)
"""In the order of the page."""

OF_CLASSES = (
    accuracy,
    differences,
    corpora,
    papers,
    classes,
    confusion,
    calibration,
    attention,
    training,
    leaks,
)
"""Those that read answers of one of several classes; copies are shown whatever is told."""


def sections(inputs: Inputs) -> list[Section]:
    """Return the sections that have something to show."""
    of_classes = replace(inputs, results=of_kind(inputs.results, "class"))
    made = (
        module.section(of_classes if module in OF_CLASSES else inputs)
        for module in SECTIONS
        if module not in OF_CLASSES or module is leaks or of_classes.results
    )
    return [section for section in made if section]
