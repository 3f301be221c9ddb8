import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stages.results import figures

HOSTILE = '$x$ <script>alert("1")</script> & url(#m) \x01 あ'
PROJECT = Path(__file__).parents[3]


def page_css() -> str:
    return (PROJECT / "stages/results/templates/page.css").read_text()


def drawn(name: str = HOSTILE) -> Figure:
    figure = figures.new("three & <points>")
    axes = figure.subplots()
    axes.plot([1, 2, 3], marker="o", color=figures.PALETTE[0])
    axes.set_xlabel(name)
    axes.grid()
    return figure


def test_a_file_is_svg_with_its_text_as_text() -> None:
    root = ElementTree.fromstring(figures.svg(drawn(), "f"))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert HOSTILE.replace("\x01", " ") in texts


def test_the_same_figure_has_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from stages.results import figures\n"
        "from tests.stages.results.test_figures import drawn\n"
        "sys.stdout.write(figures.svg(drawn('x'), 'f'))\n"
    )
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\nsvg.hashsalt: a\n")
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"MATPLOTLIBRC": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == figures.svg(drawn("x"), "f") == figures.svg(drawn("x"), "f")
    assert figures.png(drawn()) == figures.png(drawn())


def test_a_figure_of_the_page_has_its_ink_and_ids_of_its_own() -> None:
    svg = figures.inline(figures.svg(drawn(), "f"), "accuracy", 'three "points"')
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'three "points"'
    assert (
        figures.INK not in svg
        and "currentColor" in svg
        and figures.PALETTE[0] not in svg
        and "var(--colour-0)" in svg
    )
    assert "xmlns" not in svg and "http" not in svg and "<style" not in svg
    assert "<script>" not in svg and "alert(" in svg
    ids = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    named = {element.attrib["href"] for element in root.iter() if "href" in element.attrib}
    clips = {e.attrib["clip-path"] for e in root.iter() if "clip-path" in e.attrib}
    assert named and {name[1:] for name in named} <= ids
    assert clips and {clip[5:-1] for clip in clips} <= ids
    assert all(name.startswith("accuracy-") for name in ids)
    other = ElementTree.fromstring(figures.inline(figures.svg(drawn(), "f"), "classes", ""))
    assert not ids & {element.attrib.get("id") for element in other.iter()}


def test_a_png_is_as_large_as_print_and_white(tmp_path: Path) -> None:
    (tmp_path / "f.png").write_bytes(figures.png(drawn()))
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.size == (1020, 720) and picture.convert("RGB").getpixel((0, 0)) == (255,) * 3


def luminance(colour: tuple[float, ...]) -> float:
    """Return the relative luminance of WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    low, high = sorted(
        luminance(tuple(int(c[at : at + 2], 16) / 255 for at in (1, 3, 5))) for c in (one, other)
    )
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_in_light_and_in_dark() -> None:
    light, dark = page_css().split("prefers-color-scheme: dark", 1)
    grounds = [re.findall(r"--ground: (#\w{6})", part)[0] for part in (light, dark)]
    by_scheme = [re.findall(r"--colour-\d: (#\w{6})", part) for part in (light, dark)]
    assert tuple(by_scheme[0]) == figures.PALETTE
    assert all(contrast(colour, grounds[0]) >= 3 for colour in figures.PALETTE[:4])
    assert all(contrast(colour, grounds[1]) >= 4.5 for colour in by_scheme[1])


def test_names_above_a_map_do_not_lie_over_each_other() -> None:
    figure = figures.new("a map", 2, 2)
    axes = figure.subplots()
    names = ["anticipation", "happiness", "sadness"]
    figures.draw_heat(axes, np.eye(3), names, names)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
    assert all(one.x1 <= other.x0 for one, other in pairwise(boxes))


def test_a_map_names_its_rows_and_columns_and_its_cells() -> None:
    figure = figures.new("a map")
    axes = figure.subplots()
    figures.draw_heat(axes, np.array([[0.25, 1.0]]), ["a"], ["x" * 40, "y"])
    assert [text.get_text() for text in axes.texts] == ["25", "100"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["x" * 15 + "…", "y"]
    (cells,) = axes.collections
    ((faint, full),) = cells.get_array()
    assert faint[3] < full[3] <= 0.7
