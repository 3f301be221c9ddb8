"""The report in Chromium: whole, without a request, usable by keyboard, fit for any window."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from features.cache import tables
from heads import Attention, Roles, Rows
from stages import report
from stages.results.files import write_json
from tests.browser import WIDTHS, visit
from tests.papers import papers_params
from tests.stages.results.made_results import FACE_AND_CONTEXT, write_result
from tests.stages.results.made_views import noise, write_faces, write_sound, write_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

TITLE = "<script>document.title = 'run'</script>"
CLASSES = (
    "<img src=x onerror=\"document.title='run'\">",
    "'\"><svg onload=document.title='run'>",
    "{{ joy }} & fear",
)
DATASET = "</script></style><script>document.title = 'run'</script>"
REASON = "<svg onload=\"document.title='run'\"></svg> is no video"
EXPERIMENTS = 13
READS = {
    "face": ("faces", "vggface/fc6"),
    "context": ("segments", "vgg16/fc6"),
    "sound": ("sound", "vggish/embedding"),
}
"""Role -> view and feature, of the first experiment."""

ATTENTION: Mapping[str, tuple[Attention, tuple[int, ...]]] = {
    "frame_scores": (Rows("face"), ()),
    "regions": (Rows("context"), (2, 3)),
    "sound_scores": (Rows("sound"), ()),
    "modality_scores": (Roles(("face", "context")), (2,)),
}


def write_seen(folder: Path) -> None:
    """Write an experiment that weighs all that can be shown, and what it saw and heard."""
    roles = {role: feature for role, (_, feature) in READS.items()}
    options = {"classes": CLASSES, "videos": 6, "runs": 2, "attention": ATTENTION}
    result = write_result(folder, "caan_00", roles=roles, **options)
    features = {
        feature.split("/")[0]: {**origin, "view": view, "module": module, "options": {}}
        for view, feature in READS.values()
        for module in [feature.split("/")[0]]
        for origin in [result.about["features"][module]]
    }
    write_json(result.folder / "about.json", result.about | {"features": features})
    pts_s = np.arange(6) / 2
    for number, video in enumerate({str(row["video_id"]) for row in result.predictions}):
        write_view("segments", video, noise(6, 60, 80, seed=number), pts_s)
        write_faces(video, pts_s, {row: [(20, 15, 40, 35)] for row in range(5)})
        write_sound(video, 3.0)


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
    raw = yaml.safe_load(papers_params())
    raw["report"]["title"] = TITLE
    raw["index"] |= {"root": "data/raw", "dataset": DATASET}
    raw["experiments"] = {
        f"caan_{number:02d}": {"head": "caan", "roles": FACE_AND_CONTEXT}
        for number in range(EXPERIMENTS)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AFFECTLINE_STORE", str(folder / ".store"))
        Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        write_seen(Path("results"))
        for seed, name in enumerate(list(raw["experiments"])[1:]):
            options = {"classes": CLASSES, "seed": seed, "videos": 6, "runs": 2}
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
        assert opened.empty_backgrounds() == []
        assert opened.page.locator("#attention .seen-cell > i[class^=p]").count() > 20
        assert opened.page.locator("#attention audio").count() > 0
        assert opened.page.locator("h1").count() == 1


def test_hostile_names_stay_text(browser: "Browser", page: Path) -> None:
    with visit(browser, page) as opened:
        assert opened.page.title() == opened.page.locator("h1").inner_text() == TITLE
        words = opened.page.locator("main").text_content() or ""
        assert all(name in words for name in (*CLASSES, REASON, DATASET))
        assert opened.page.locator("main script:not([type='application/json'])").count() == 0
        assert opened.page.locator("[onerror], [onload]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(browser: "Browser", page: Path, scheme: Any) -> None:
    with visit(browser, page, scheme=scheme) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        assert opened.violations() == []


def test_the_page_fits_any_window(browser: "Browser", page: Path) -> None:
    unfold = "document.querySelectorAll('details').forEach(d => { d.open = true })"
    with visit(browser, page) as opened:
        folded = opened.overflows(WIDTHS)
        opened.page.evaluate(unfold)
        assert (folded, opened.overflows(WIDTHS)) == ({}, {})


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
        for select, name in zip(
            differences.locator("select").all(), ("caan_11", "caan_03"), strict=True
        ):
            select.focus()
            opened.page.keyboard.type(name)
            assert select.locator("option:checked").inner_text() == name
        assert "caan_11 less caan_03" in differences.inner_text()


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
