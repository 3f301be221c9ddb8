"""The sections of the page, a module each.

A module has the `TITLE` of its section and one public function, `section(inputs)`, which returns
it, or None where there is nothing to show.
"""

from collections.abc import Iterator

from markupsafe import Markup

from stages.results.page import Inputs, Section
from stages.results.sections import (
    accuracy,
    attention,
    classes,
    confusion,
    differences,
    earlier,
    papers,
    settings,
    training,
)

SECTIONS = (accuracy, differences, papers, classes, confusion, training, attention, settings)
"""In the order of the page."""


def sections(inputs: Inputs) -> list[Section]:
    """Return the sections that have something to show."""
    made = (module.section(inputs) for module in SECTIONS)
    return [*(section for section in made if section), *_earlier(inputs)]


def _earlier(inputs: Inputs) -> Iterator[Section]:
    results = inputs.results
    failed = [row for row in inputs.videos if row["status"] == "failed"]
    content = {
        "Features": earlier.sources(results),
        "Videos not usable": earlier.failed(failed),
    }
    for title, shown in content.items():
        if shown:
            yield Section(title, "earlier.html", Markup(shown))
