"""The page: sections rendered by templates into one file, their tables and figures beside it.

A section says what it shows by plain content; the templates in `templates/` make the HTML, escape
all of it, and fail at a name that they do not know. A template `attention.html` may have a style
sheet `attention.css` and a script `attention.js` beside it. In a template stand:

`content`, `inputs`
    what the section gave, and what the page is made of.
`table("name")`, `figure("name")`
    a table or figure of the section, by its name.
`picture(...)`, `sound(...)`
    a `Picture` or `Sound` of its content.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from features.cache import tables
from heads import Reported
from stages.engine.params import Backbone, Report
from stages.engine.paths import SAMPLE
from stages.engine.splits import Splits
from stages.results import figures
from stages.results.files import Result
from stages.results.table import Table, one_line

TEMPLATES = Path(__file__).parent / "templates"

MB = 10**6

PICTURES_SHARE = 0.7
"""Of the page's bytes, what pictures and sound may take: the rest is for text, tables, figures."""


class Budget:
    """Bytes that the page may still use for pictures and sound.

    Attributes:
        left: how many, as they stand in the page (base64 takes 4 for 3).
    """

    def __init__(self, size: float) -> None:
        """Start with ``size`` bytes."""
        self.left = size

    def take(self, *data: bytes) -> bool:
        """Take what files need; False, and nothing taken, where that is more than is left.

        What belongs together is asked for together.
        """
        needed = sum(-(-len(part) // 3) * 4 for part in data)
        if needed > self.left:
            return False
        self.left -= needed
        return True


@dataclass(frozen=True)
class Inputs:
    """What the page is made of.

    Attributes:
        settings: the section `report` of params.yaml.
        root: where the videos came from.
        dataset: their name, as the papers call it; None where they have none.
        videos: rows of the index.
        results: at least one experiment's; the first is the one that others are compared with.
        broken: what is wrong with heads of which `references` cannot be read.
        pictures: what is left for pictures and sound: take from it before you embed one.
        references: what the papers report of each head, `heads.references`.
        backbones: of params.yaml, by their names.
        splits: by which protocol the runs divide the videos; None where that is not known.
    """

    settings: Report
    root: Path
    dataset: str | None
    videos: Sequence[tables.Row]
    results: Sequence[Result]
    broken: Sequence[str] = ()
    pictures: Budget = field(default_factory=lambda: Budget(0))
    references: Mapping[str, Sequence[Reported]] = field(default_factory=dict)
    backbones: Mapping[str, Backbone] = field(default_factory=dict)
    splits: Splits | None = None

    @property
    def is_sample(self) -> bool:
        """Whether the videos are the built-in sample, whose planted truth a page may read."""
        return self.root == SAMPLE


@dataclass(frozen=True)
class Picture:
    """A picture for the page.

    Attributes:
        data: the file's bytes.
        kind: `image/jpeg`, `image/png`.
        alt: what it shows, in words; empty where the text beside it says it all.
        size: width and height in pixels.
    """

    data: bytes
    kind: str
    alt: str
    size: tuple[int, int]

    @property
    def address(self) -> str:
        """The data URI."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Sound:
    """A sound for the page.

    Attributes:
        data: the file's bytes.
        kind: `audio/wav`, ...
        label: what it is, in words.
    """

    data: bytes
    kind: str
    label: str

    @property
    def address(self) -> str:
        """The data URI."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: its heading; `anchor` is made of it.
        template: a file of `templates/`.
        content: what the template reads; no HTML.
        tables: name -> table, the name is the files' too and unlike any other of the page.
        figures: name -> figure made by `figures.new`, likewise.
    """

    title: str
    template: str
    content: Any
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """The id of the section in the page."""
        return slug(self.title)


def slug(name: str) -> str:
    """Return a name that is safe in a path, an id and an address: small letters, digits, -."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "unnamed"


def files(inputs: Inputs, summary: Any, sections: Sequence[Section]) -> dict[str, bytes]:
    """Return the files of the report, by their paths below its folder.

    Args:
        inputs: what the page is made of.
        summary: what the top of the page says.
        sections: in their order.
    """
    svgs = draw(sections)
    made = {"index.html": render(inputs, summary, sections, svgs).encode()}
    for name, table in _by_name(sections, "tables").items():
        path = f"tables/{slug(name)}"
        made |= {f"{path}.csv": table.csv().encode(), f"{path}.md": table.markdown().encode()}
        made[f"{path}.tex"] = table.latex(slug(name)).encode()
    for name, figure in _by_name(sections, "figures").items():
        path = f"figures/{slug(name)}"
        made |= {f"{path}.svg": svgs[name].encode(), f"{path}.png": figures.png(figure)}
    return made


def draw(sections: Sequence[Section]) -> dict[str, str]:
    """Return the figures of all sections by name, as SVG files."""
    drawn: dict[str, Figure] = _by_name(sections, "figures")
    return {name: figures.svg(figure, slug(name)) for name, figure in drawn.items()}


def render(
    inputs: Inputs, summary: Any, sections: Sequence[Section], svgs: Mapping[str, str]
) -> str:
    """Return the page; figures for which it has no room are left out, which it says.

    Args:
        inputs: what it is made of.
        summary: what its top says.
        sections: in their order.
        svgs: its figures, see `draw`.
    """
    shown: dict[str, Markup] = {}
    environment = engine()
    environment.globals["shown_figures"] = shown
    stems = ["page", *dict.fromkeys(section.template.removesuffix(".html") for section in sections)]
    style, script = (_joined(stems, kind) for kind in ("css", "js"))
    html = partial(
        environment.get_template("page.html").render,
        inputs=inputs,
        summary=summary,
        sections=sections,
        all_tables=_by_name(sections, "tables"),
        style=Markup(style),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    room = inputs.settings.max_mb * MB - len(html().encode())  # what all but figures leave
    for name, figure in _by_name(sections, "figures").items():
        svg = figures.inline(svgs[name], slug(name), str(figure.get_label()))
        if (size := len(svg.encode())) <= room:
            shown[name] = Markup(svg)
            room -= size
    return html()


def engine(*folders: Path) -> jinja2.Environment:
    """Return what renders the templates of this page, and those of other folders beside them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["slug"] = slug
    environment.filters["one_line"] = one_line
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    return environment


def _by_name(sections: Sequence[Section], kind: str) -> dict[str, Any]:
    """Return the tables, or figures, of all sections by their names."""
    pairs = [pair for section in sections for pair in getattr(section, kind).items()]
    names = [slug(name) for name, _ in pairs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{kind} of the page: expected each name once, found {repeated} again")
    return dict(pairs)


def _joined(stems: Sequence[str], kind: str) -> str:
    """Return the style sheets, or scripts, of templates, one after another."""
    paths = [TEMPLATES / f"{stem}.{kind}" for stem in stems]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
