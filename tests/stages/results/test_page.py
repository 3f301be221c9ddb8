import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from stages.results import figures, page
from stages.results.page import Budget, Picture, Section, Sound, draw, files, render, slug
from stages.results.sections import SECTIONS, sections
from stages.results.summary import summary
from stages.results.table import Column, Table
from tests.stages.results.made_page import ATTENTION, FACE, Text, inputs_of, page_of
from tests.stages.results.made_results import write_result

HOSTILE = (
    "<b>joy</b>",
    'a & "b"',
    "</script><script>alert(1)</script>",
    "{{ 7*7 }} $x$ \\input{x}",
)


def test_a_page_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", attention=ATTENTION, phases=("local", "global"))
    second = write_result(tmp_path, "face", head="pooling", roles=FACE, validation=True, seed=1)
    html = page_of(inputs_of(first, second))
    text = Text(html)
    assert text.open == []
    assert len(text.ids) == len(set(text.ids))
    assert all(a.startswith(("#", "data:")) for a in text.addresses)
    assert "http:" not in html and "https:" not in html and "@import" not in html
    assert 'name="viewport" content="width=device-width' in html
    nav = re.findall(r'<li><a href="#([a-z-]+)">', html)
    assert nav == re.findall(r'<section id="([a-z-]+)"', html) and len(nav) > 6


def test_headings_are_in_order_and_there_is_one_first(tmp_path: Path) -> None:
    html = page_of(inputs_of(write_result(tmp_path, "caan"), write_result(tmp_path, "b", seed=1)))
    levels = [int(tag[1]) for tag in Text(html).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    html = page_of(inputs_of(write_result(tmp_path, "caan")))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    assert policy and script
    sha256 = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{sha256}'" in policy[1] and "default-src 'none'" in policy[1]


def test_hostile_names_stay_text_in_every_file(tmp_path: Path) -> None:
    roles = {'<i>"role"': "vggface/fc6"}
    results = [
        write_result(tmp_path, name, head="pooling", roles=roles, classes=HOSTILE, seed=seed)
        for seed, name in enumerate(("one", "two"))
    ]
    results[1].about["missing"] = {"<u>video</u>": "<s>why</s>"}
    inputs = inputs_of(*results, title="<em>title", dataset="<q>data")
    made = files(inputs, summary(inputs), sections(inputs))
    html = made["index.html"].decode()
    assert not {"b", "i", "u", "s", "em", "q"} & {
        tag for tag in Text(re.sub(r"<span class=.strip.*?</span>", "", html)).tags
    } - {"b"}
    assert "<b>joy" not in html and "{{ 7*7 }}" in html and "alert(1)</script>" not in html
    assert html.count("<script") == html.count("</script>") == 2
    for name, data in made.items():
        assert re.fullmatch(r"(figures|tables)/[a-z0-9-]+\.[a-z]+|index\.html", name)
        if name.endswith(".tex"):
            assert b"\\input" not in data and b" $x$" not in data
        if name.endswith((".svg", ".md")):
            assert b"<b>" not in data and b"<script>" not in data


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", attention=ATTENTION, seed=n) for n in range(2)]
    inputs = inputs_of(*results)
    one, other = (files(inputs, summary(inputs), sections(inputs)) for _ in range(2))
    assert one == other
    kinds = {Path(name).suffix for name in one}
    assert kinds == {".html", ".csv", ".md", ".tex", ".svg", ".png"}


def test_sections_have_titles_of_their_own() -> None:
    titles = [module.TITLE for module in SECTIONS]
    assert len({slug(title) for title in titles}) == len(titles)


def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, template: str) -> None:
    """Put a template `toy.html` beside those of the page."""
    for path in page.TEMPLATES.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "toy.html").write_text(template)
    monkeypatch.setattr(page, "TEMPLATES", tmp_path)


def test_a_template_that_asks_for_what_is_not_there_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(write_result(tmp_path / "results", "caan"))
    toy(monkeypatch, tmp_path, "{{ content.nothing }}")
    with pytest.raises(Exception, match="no attribute 'nothing'"):
        render(inputs, summary(inputs), [Section("Toy", "toy.html", {})], {})


def test_a_figure_that_has_no_room_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(write_result(tmp_path / "results", "caan"), max_mb=1.0)
    toy(monkeypatch, tmp_path, '{{ figure("small") }}{{ figure("large") }}')
    drawings = {"small": figures.new("one"), "large": figures.new("many")}
    drawings["small"].subplots().plot([1, 2])
    drawings["large"].subplots().pcolormesh(np.linspace(0, 1, 10_000).reshape(100, 100))
    part = Section("Toy", "toy.html", {}, figures=drawings)
    html = render(inputs, summary(inputs), [part], draw([part]))
    assert html.count("<svg") == 1 and len(html) < 300_000
    assert "larger than report.max_mb allows. figures/large.svg" in Text(html)


def test_names_of_tables_are_taken_once() -> None:
    table = Table((Column("a"),), [], "c")
    parts = [Section("A", "x.html", {}, {name: table}) for name in ("a b", "A-B")]
    with pytest.raises(ValueError, match=r"tables of the page: .*\['a-b'\]"):
        render(inputs_of(), None, parts, {})


def test_pictures_and_sound_have_words_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(write_result(tmp_path / "results", "caan"))
    toy(monkeypatch, tmp_path, "{{ picture(content[0]) }}{{ sound(content[1]) }}")
    content = (
        Picture(b"\1", "image/png", 'a "dot"', (3, 2)),
        Sound(b"\2", "audio/wav", "a <beep>"),
    )
    html = render(inputs, summary(inputs), [Section("Toy", "toy.html", content)], {})
    assert '<img src="data:image/png;base64,AQ==" alt="a &#34;dot&#34;" width="3"' in html
    assert 'src="data:audio/wav;base64,Ag==" aria-label="a &lt;beep&gt;"' in html


def test_a_budget_counts_what_base64_makes_of_bytes() -> None:
    budget = Budget(16)
    assert budget.take(b"123456") and budget.left == 8
    assert not budget.take(b"1234567") and budget.left == 8
    assert not budget.take(b"123", b"1234") and budget.take(b"123", b"123") and budget.left == 0


@pytest.mark.parametrize(
    ("name", "safe"), [("../../etc/Passwd", "etc-passwd"), ("あ", "unnamed"), ("A b", "a-b")]
)
def test_a_slug_is_safe_in_a_path(name: str, safe: str) -> None:
    assert slug(name) == safe
