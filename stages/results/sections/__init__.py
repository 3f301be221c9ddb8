"""The sections of the page, a module each.

A module has the `TITLE` of its section and one public function, `section(inputs)`, which returns
it, or None where there is nothing to show.
"""

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
    features,
    leaks,
    papers,
    protocol,
    settings,
    training,
)

SECTIONS = (
    accuracy,
    differences,
    corpora,
    papers,
    classes,
    confusion,
    calibration,
    attention,
    training,
    protocol,
    data,
    leaks,
    features,
    settings,
)
"""In the order of the page."""


def sections(inputs: Inputs) -> list[Section]:
    """Return the sections that have something to show."""
    made = (module.section(inputs) for module in SECTIONS)
    return [section for section in made if section]
