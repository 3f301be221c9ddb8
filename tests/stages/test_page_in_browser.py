"""The report in Chromium: whole, without a request, usable by keyboard, fit for any window."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import yaml

from features.cache import tables
from features.cache.keys import PROJECT
from stages import report
from tests.browser import WIDTHS, visit
from tests.stages.results.made_results import FACE_AND_CONTEXT, write_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

TITLE = "<script>document.title = 'run'</script>"
CLASSES = (
    "<img src=x onerror=\"document.title='run'\">",
    "</script><script>document.title = 'run'</script>",
    "{{ joy }} & fear",
)
REASON = "<svg onload=\"document.title='run'\"></svg> is no video"
EXPERIMENTS = 13


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page of experiments on classes whose names are hostile, one video of them unusable."""
    folder = tmp_path_factory.mktemp("project")
    videos: list[tables.Row] = [
        {"video_id": f"{name}/{at}", "label": name, "status": "ok", "reason": None}
        for name in CLASSES
        for at in range(4)
    ]
    videos.append({**videos[0], "video_id": "bad", "status": "failed", "reason": REASON})
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    raw["report"]["title"] = TITLE
    raw["index"] |= {"root": "data/raw", "dataset": CLASSES[0]}
    raw["experiments"] = {
        f"caan_{number:02d}": {"head": "caan", "roles": FACE_AND_CONTEXT}
        for number in range(EXPERIMENTS)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AFFECTLINE_STORE", str(folder / ".store"))
        Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        for number, name in enumerate(raw["experiments"]):
            options = {"classes": CLASSES, "seed": number, "videos": 6, "runs": 2}
            write_result(Path("results"), name, **options)
        schema = pa.schema([(name, pa.string()) for name in videos[0]])
        tables.write(Path("data/index.parquet"), videos, schema)
        report.main()
        yield folder / "report/index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_fails_nothing_is_asked_for_and_every_picture_is_there(
    browser: "Browser", page: Path, scheme: Any
) -> None:
    with visit(browser, page, scheme=scheme) as opened:
        assert (opened.errors, opened.requests, opened.empty_pictures()) == ([], [], [])
        assert opened.page.locator("svg, img").count() > 0
        assert opened.page.locator("h1").count() == 1


def test_hostile_names_stay_text(browser: "Browser", page: Path) -> None:
    with visit(browser, page) as opened:
        assert opened.page.title() == opened.page.locator("h1").inner_text() == TITLE
        words = opened.page.locator("main").text_content() or ""
        assert all(name in words for name in (*CLASSES, REASON))
        assert opened.page.locator("main script:not([type='application/json'])").count() == 0
        assert opened.page.locator("[onerror], [onload]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(browser: "Browser", page: Path, scheme: Any) -> None:
    with visit(browser, page, scheme=scheme) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        assert opened.violations() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_any_window(browser: "Browser", page: Path, width: int) -> None:
    with visit(browser, page, width=width) as opened:
        assert opened.overflow() <= 0
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        assert opened.overflow() <= 0


def test_the_tab_key_comes_to_all_that_one_can_act_on(browser: "Browser", page: Path) -> None:
    with visit(browser, page) as opened:
        assert opened.out_of_reach() == []
        for what in ("nav a", "th button", "input[type=search]", "select", "summary"):
            assert opened.page.locator(f"{what}[data-reached]").count() > 0, what


def test_a_table_is_sorted_and_filtered_by_keyboard(browser: "Browser", page: Path) -> None:
    with visit(browser, page) as opened:
        accuracy = opened.page.locator("#accuracy")
        names = accuracy.locator("tbody tr:visible th")
        before = names.all_inner_texts()
        assert sorted(before) == [f"caan_{number:02d}" for number in range(EXPERIMENTS)]
        button = accuracy.locator("th button").first
        button.focus()
        opened.page.keyboard.press("Enter")
        assert names.all_inner_texts() == sorted(before)
        opened.page.keyboard.press("Enter")
        assert names.all_inner_texts() == sorted(before, reverse=True)
        assert accuracy.locator("th[aria-sort=descending]").count() == 1
        accuracy.locator("input[type=search]").focus()
        opened.page.keyboard.type("caan_07")
        assert names.all_inner_texts() == ["caan_07"]
        assert f"1 of {EXPERIMENTS}" in accuracy.inner_text()


def test_any_two_experiments_are_chosen_by_keyboard(browser: "Browser", page: Path) -> None:
    with visit(browser, page) as opened:
        differences = opened.page.locator("#differences")
        first = differences.locator("select").first
        first.focus()
        opened.page.keyboard.type("caan_11")
        assert first.locator("option:checked").inner_text() == "caan_11"
        assert "caan_11 less caan_00" in differences.inner_text()


def test_without_scripts_all_of_it_can_be_read(browser: "Browser", page: Path) -> None:
    with visit(browser, page, scripts=False) as opened:
        assert opened.page.locator("nav a").count() == opened.page.locator("main section").count()
        for section in opened.page.locator("main > section").all():
            assert len(section.inner_text().split()) > 5
        assert opened.page.locator("#accuracy tbody tr:visible").count() == EXPERIMENTS
        assert opened.page.locator("button:visible, select:visible, input:visible").count() == 0
        assert opened.empty_pictures() == []


def test_who_wants_less_motion_gets_none(browser: "Browser", page: Path) -> None:
    moves = """() => [document.documentElement, ...document.querySelectorAll("*")].filter(each => {
      const style = getComputedStyle(each);
      return style.scrollBehavior === "smooth" || style.animationName !== "none"
        || style.transitionDuration.split(", ").some(time => parseFloat(time) > 0); }).length"""
    with visit(browser, page, less_motion=True) as opened:
        assert opened.page.evaluate(moves) == 0
