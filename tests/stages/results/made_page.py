"""Pages of made-up results, and what a test reads in one."""

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import heads
from features.cache import tables
from heads import Roles, Rows
from stages.engine.params import Report
from stages.results.files import Result
from stages.results.page import Budget, Inputs, Section, draw, render
from stages.results.sections import sections
from stages.results.summary import summary
from tests.stages.results.made_results import CLASSES

VIDEOS: list[tables.Row] = [
    {"video_id": f"{name}/{at}", "label": name, "status": "ok", "reason": None}
    for name in CLASSES
    for at in range(12)
]
FACE = {"face": "vggface/fc6"}
REFERENCES, _ = heads.references()
ATTENTION = {
    "frame_scores": (Rows("face"), ()),
    "regions": (Rows("face"), (2, 3)),
    "channels": (Rows("face"), (5,)),
    "modality_scores": (Roles(("face", "context")), (2,)),
}


def inputs_of(
    *results: Result,
    dataset: str | None = "HEIV",
    root: str = "data/raw",
    title: str = "a title",
    videos: Sequence[tables.Row] = VIDEOS,
    broken: Sequence[str] = (),
    references: Mapping[str, Sequence[heads.Reported]] = REFERENCES,
    max_mb: float = 10.0,
) -> Inputs:
    """Return what a page of these results is made of."""
    return Inputs(
        Report(title=title, max_mb=max_mb),
        Path(root),
        dataset,
        videos,
        results,
        broken,
        Budget(0.7 * max_mb * 1e6),
        references,
    )


def page_of(inputs: Inputs, *only: ModuleType) -> str:
    """Return the page, of the sections of these modules alone where some are given."""
    parts = [module.section(inputs) for module in only] if only else sections(inputs)
    shown: list[Section] = [part for part in parts if part]
    return render(inputs, summary(inputs), shown, draw(shown))


class Text(HTMLParser):
    """The words of a page, its tags, and whether they close in order."""

    EMPTY = ("meta", "img", "br", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.ids += [str(v) for k, v in attrs if k == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def __contains__(self, text: str) -> bool:
        return text in " ".join(self.words)


def table_rows(page: str, name: str) -> list[list[str]]:
    """Return the body of a table of the page: a list of cells a row, as text."""
    table = re.search(rf'<table id="table-{name}">.*?<tbody>(.*?)</tbody>', page, re.S)
    assert table, name
    cells = r"<t[hd][^>]*>(.*?)</t[hd]>"
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(cells, row, re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", table[1], re.S)
    ]
