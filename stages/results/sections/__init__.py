"""The sections of the page, a module each.

A module's one public function, `section(inputs)`, returns the section, or None where there is
nothing to show. Only what it names as public is called, in the order of `SECTIONS`.
"""

from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup

from stages.results.compare import paper_tables
from stages.results.page import Inputs, Section
from stages.results.sections import earlier

SECTIONS: Sequence[Callable[[Inputs], Section | None]] = ()
"""In the order of the page."""


def sections(inputs: Inputs) -> list[Section]:
    """Return the sections that have something to show."""
    made = (section(inputs) for section in SECTIONS)
    return [*_earlier(inputs), *(section for section in made if section)]


def _earlier(inputs: Inputs) -> Iterator[Section]:
    results = inputs.results
    failed = [row for row in inputs.videos if row["status"] == "failed"]
    printed = paper_tables(results, inputs.references)
    content = {
        "Accuracy": earlier.accuracy(results),
        "Differences": earlier.differences(results),
        "Beside the papers": earlier.papers(printed, inputs.dataset, inputs.broken),
        "Classes": earlier.classes(results),
        "Confusion": earlier.confusion(results),
        "Training": earlier.training(results),
        "Attention": earlier.attention(results),
        "Features": earlier.sources(results) + earlier.settings(results),
        "Videos not usable": earlier.failed(failed),
    }
    for title, shown in content.items():
        if shown:
            yield Section(title, "earlier.html", Markup(shown))
