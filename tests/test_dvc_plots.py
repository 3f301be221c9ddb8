"""The page of `dvc plots`: drawn without a network, and no name in the results runs as a script."""

import base64
import configparser
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dvc_render import ImageRenderer, VegaRenderer, render_html
from dvc_render.vega_templates import TEMPLATES

from tests.browser import WIDTHS, visit
from tests.clones import PROJECT, make_clone
from tests.stages.results.made_results import write_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = PROJECT / ".dvc/plots/page.html"

PAIRS = [("joy", "joy"), ("joy", "joy"), ("joy", "fear"), ("fear", "joy"), ("anger", "fear")]
"""Label and answer; anger is never answered."""

Rows = Sequence[Mapping[str, object]]


def plot(template: str, rows: Rows, x: str, y: str, title: str = "a plot") -> VegaRenderer:
    """Return a plot as `dvc plots` makes it of rows, which have their revision in `rev`."""
    return VegaRenderer(
        [dict(row) for row in rows],
        f"{title}.csv",
        template=template,
        title=title,
        x=x,
        y=y,
        anchors_y_definitions=[{"filename": f"{title}.csv", "field": y}],
    )


def confusion(rev: str = "workspace", pairs: Sequence[tuple[str, str]] = PAIRS) -> Rows:
    return [{"actual": label, "predicted": answer, "rev": rev} for label, answer in pairs]


def curve(rev: str = "workspace", less: float = 0) -> Rows:
    """Return two runs of four epochs, as text: so DVC reads a CSV."""
    return [
        {"run": run, "epoch": str(at), "accuracy": str(at / 5 - less - 0.1 * run), "rev": rev}
        for run in range(2)
        for at in range(1, 5)
    ]


SCORES = [
    {"class": name, "f1": str(f1), "rev": rev}
    for rev, scores in {"workspace": (0.25, 0.75), "main": (0.5, 0.0)}.items()
    for name, f1 in zip(("fear", "joy"), scores, strict=True)
]


def written(folder: Path, *plots: VegaRenderer | ImageRenderer) -> Path:
    """Write the page of plots as `dvc plots show` does."""
    return Path(render_html(list(plots), folder / "index.html", PAGE))


def test_dvc_takes_this_page_which_lets_one_script_run_and_names_no_address() -> None:
    config = configparser.ConfigParser()
    config.read(PROJECT / ".dvc/config")
    assert PROJECT / ".dvc" / config["plots"]["html_template"].strip() == PAGE
    text = PAGE.read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in text
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]


def test_a_file_without_rows_is_no_plot(browser: "Browser", tmp_path: Path) -> None:
    none, some = (
        plot("confusion", [], "predicted", "actual"),
        plot("smooth", curve(), "epoch", "accuracy"),
    )
    with visit(browser, written(tmp_path, none, some)) as opened:
        assert opened.page.locator("main section").count() == 1 and opened.errors == []


@pytest.mark.parametrize("template", [template.DEFAULT_NAME for template in TEMPLATES])
def test_every_template_of_dvc_is_drawn(browser: "Browser", tmp_path: Path, template: str) -> None:
    kind = template.split("_")[0]
    made = {
        "confusion": plot(template, confusion(), "predicted", "actual"),
        "bar": plot(template, SCORES, "f1", "class"),
    }.get(kind) or plot(template, curve(), "epoch", "accuracy")
    with visit(browser, written(tmp_path, made)) as opened:
        page = opened.page
        assert page.locator("h2").all_inner_texts() == ["a plot"]
        assert (
            page.locator("main .cells" if kind == "confusion" else "main figure > svg").count() == 1
        )
        assert (opened.errors, opened.requests, opened.empty_pictures()) == ([], [], [])


def test_a_confusion_has_a_row_for_a_label_and_a_column_for_an_answer(
    browser: "Browser", tmp_path: Path
) -> None:
    names, counts = ["anger", "fear", "joy"], Counter(PAIRS)
    rows = [*confusion(), *confusion("main", PAIRS[:1])]
    made = plot("confusion_normalized", rows, "predicted", "actual")
    with visit(browser, written(tmp_path, made)) as opened:
        now, before = opened.page.locator(".cells").all()
        assert [table.locator("caption").inner_text() for table in (now, before)] == [
            "workspace",
            "main",
        ]
        assert now.locator("thead th").all_inner_texts() == names
        assert now.locator("tbody th").all_inner_texts() == names
        assert now.locator("tbody td").all_inner_texts() == [
            str(counts[label, answer]) for label in names for answer in names
        ]
        shares = now.locator("tbody td").evaluate_all(
            "cells => cells.map(cell => Number(cell.style.getPropertyValue('--share')))"
        )
        assert shares == pytest.approx([0, 1, 0, 0, 0, 1, 0, 1 / 3, 2 / 3])
        note = opened.page.locator("figcaption").inner_text()
        assert note.startswith("Rows: actual. Columns: predicted.")


def numbers(text: str | None) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+", text or "")]


def test_a_line_is_the_mean_of_the_runs_on_axes_from_0_to_1(
    browser: "Browser", tmp_path: Path
) -> None:
    made = plot("smooth", [*curve(), *curve("main", 0.1)], "epoch", "accuracy")
    with visit(browser, written(tmp_path, made)) as opened:
        page = opened.page
        assert page.locator(".key li").all_inner_texts() == ["workspace", "main"]
        texts = page.locator("main figure > svg text").all_text_contents()
        assert texts == ["1", "2", "3", "4", *("0", "0.2", "0.4", "0.6", "0.8", "1")] + [
            "epoch",
            "accuracy",
        ]
        lines = page.locator("main figure > svg line").all()
        heights = [float(line.get_attribute("y1") or "nan") for line in lines[4:]]
        bottom, top = heights[0], heights[-1]
        for path, less in zip(page.locator("path.mean").all(), (0, 0.1), strict=True):
            points = np.reshape(numbers(path.get_attribute("d")), (-1, 2))
            values = (bottom - points[:, 1]) / (bottom - top)
            assert values == pytest.approx(np.arange(1, 5) / 5 - 0.05 - less)
            assert np.diff(points[:, 0]) == pytest.approx(points[1, 0] - points[0, 0])
        assert page.locator("main figure > svg circle").count() == 16


def test_a_bar_is_as_long_as_its_number_from_zero(browser: "Browser", tmp_path: Path) -> None:
    with visit(browser, written(tmp_path, plot("bar_horizontal", SCORES, "f1", "class"))) as opened:
        bars = opened.page.locator("main rect").all()
        lengths = [float(bar.get_attribute("width") or "nan") for bar in bars]
        words = [bar.locator("title").text_content() for bar in bars]
        assert words == ["workspace, fear: 0.25", "main, fear: 0.5"] + [
            "workspace, joy: 0.75",
            "main, joy: 0",
        ]
        assert np.divide(lengths, lengths[1]) == pytest.approx([0.5, 1, 1.5, 0])


def test_the_numbers_of_a_plot_are_there_for_who_asks(browser: "Browser", tmp_path: Path) -> None:
    with visit(browser, written(tmp_path, plot("bar_horizontal", SCORES, "f1", "class"))) as opened:
        opened.page.keyboard.press("Tab")
        opened.page.keyboard.press("Enter")
        cells = opened.page.locator("details td").all_inner_texts()
        assert cells == [str(value) for row in SCORES for value in row.values()]


def test_a_template_of_ones_own_and_a_picture_are_shown_too(
    browser: "Browser", tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"data": {"values": "<DVC_METRIC_DATA>"}, "mark": "arc", "title": "an arc"}')
    square = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/%3E"
    image = ImageRenderer([{"rev": "workspace", "src": square}], "square.svg")
    page = written(tmp_path, plot(str(own), SCORES, "f1", "class"), image)
    with visit(browser, page) as opened:
        assert opened.page.locator("h2").all_inner_texts() == ["an arc", "square.svg"]
        assert opened.page.locator("main td").count() == 3 * len(SCORES)
        assert opened.page.locator("main img").get_attribute("alt") == "square.svg, workspace"
        assert (opened.errors, opened.requests, opened.empty_pictures()) == ([], [], [])


HOSTILE = (
    "<img src=x onerror=\"document.title='run'\">",
    "</template><script>document.title='run'</script>",
    "</script><script>document.title='run'</script>",
    "{scripts}<script src='https://example.org/x.js'></script>",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_in_the_results_runs_or_fetches(
    browser: "Browser", tmp_path: Path, name: str
) -> None:
    pairs = [(name, name), ("joy", name)]
    first = plot("confusion", confusion(name, pairs), "predicted", "actual", name)
    second = plot("bar_horizontal", SCORES, "f1", "class", "the next")
    with visit(browser, written(tmp_path, first, second)) as opened:
        assert opened.page.title() == "Plots"
        assert opened.requests == []
        if "</script>" not in name:  # with it, DVC's own script block has ended before
            assert name in opened.page.locator("tbody th").all_inner_texts()
            assert opened.errors == []
        if "</template>" not in name:
            assert "the next" in opened.page.locator("h2").all_inner_texts()


@pytest.fixture
def all_plots(tmp_path: Path) -> Path:
    revs = ("workspace", "main", "0123abc")
    return written(
        tmp_path,
        plot("bar_horizontal", SCORES, "f1", "class", "caan: F1 of each class"),
        plot(
            "confusion_normalized",
            [row for rev in revs for row in confusion(rev)],
            "predicted",
            "actual",
            "caan: what was taken for what",
        ),
        plot(
            "smooth",
            [row for at, rev in enumerate(revs) for row in curve(rev, at / 20)],
            "epoch",
            "accuracy",
            "caan: training accuracy",
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(browser: "Browser", all_plots: Path, scheme: Any) -> None:
    with visit(browser, all_plots, scheme=scheme) as opened:
        for summary in opened.page.locator("summary").all():
            summary.click()
        assert opened.violations() == []


def test_the_page_fits_any_window(browser: "Browser", all_plots: Path) -> None:
    with visit(browser, all_plots) as opened:
        assert opened.overflows(WIDTHS) == {}


def test_without_scripts_the_page_says_where_the_numbers_are(
    browser: "Browser", all_plots: Path
) -> None:
    with visit(browser, all_plots, scripts=False) as opened:
        assert "below results/" in opened.page.locator("noscript").inner_text()


@pytest.mark.slow
def test_what_dvc_plots_show_writes_is_drawn(browser: "Browser", tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone")
    names = ("caan", "average")
    clone.params(
        experiments={name: {"head": "pooling", "roles": {"face": "f/a"}} for name in names}
    )
    for name in names:
        write_result(clone.root / "results", name)
    clone.run("dvc", "plots", "show")
    with visit(browser, clone.root / "dvc_plots/index.html") as opened:
        assert opened.page.locator("h2").all_inner_texts() == [
            f"{name}: {what}"
            for name in names
            for what in ("F1 of each class", "what was taken for what", "training")
        ]
        assert opened.page.locator(".cells").count() == 2
        assert opened.page.locator("main figure > svg").count() == 4
        assert (opened.errors, opened.requests, opened.empty_pictures()) == ([], [], [])
