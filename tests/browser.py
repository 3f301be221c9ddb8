"""Pages as a browser shows them: the system's Chromium, without a network, and axe's rules.

A page is opened as a user opens it, from disk. Whatever else it asks for is noted and refused.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names under which systems have it."""

WIDTHS = (360, 768, 1280, 1920)
"""From a telephone to a wide screen, in CSS pixels."""

STANDARD = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""Tags of the rules of axe that a page keeps: WCAG 2.2 at level AA, and its advice."""

Scheme = Literal["light", "dark"]


@contextmanager
def launched() -> Iterator["Browser"]:
    """Give a running Chromium; skip the tests that want one where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    programs = [path for name in CHROMIUM if (path := shutil.which(name))]
    if not programs:
        pytest.skip(f"no Chromium on this machine; looked for {', '.join(CHROMIUM)}")
    options = ["--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium has none for root
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=programs[0], args=options)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that is open.

    Attributes:
        page: of Playwright.
        errors: what the console and failing scripts said.
        requests: addresses that it asked for, but for itself; none was answered.
    """

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))

    def empty_pictures(self) -> list[str]:
        """Return the pictures that show nothing: images not loaded, SVG without an element."""
        script = """() => [
          ...[...document.images].filter(image => !(image.complete && image.naturalWidth > 0)),
          ...[...document.querySelectorAll("svg")].filter(svg => !svg.querySelector(
            "path, line, rect, circle, text, use, image, polyline, polygon")),
        ].map(picture => picture.outerHTML.slice(0, 200))"""
        return list(self.page.evaluate(script))

    def violations(self) -> list[str]:
        """Return what axe finds, a line for each element."""
        axe = pytest.importorskip(
            "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
        )
        options = {"runOnly": {"type": "tag", "values": list(STANDARD)}}
        found: list[dict[str, Any]] = (
            axe.Axe().run(self.page, options=options).response["violations"]
        )
        return [
            f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
            for each in found
            for node in each["nodes"]
        ]

    def reached_by_tab(self) -> list[str]:
        """Return a selector of each element that the Tab key comes to, in its order."""
        script = """() => { const now = document.activeElement;
          if (!now || now === document.body || now.dataset.reached) return null;
          now.dataset.reached = "yes";
          return now.tagName.toLowerCase() + [...now.classList].map(name => "." + name).join("")
            + (now.id ? "#" + now.id : ""); }"""
        reached: list[str] = []
        self.page.keyboard.press("Tab")
        while name := self.page.evaluate(script):
            reached.append(name)
            self.page.keyboard.press("Tab")
        return reached


@contextmanager
def visit(
    browser: "Browser",
    file: Path,
    *,
    width: int = 1280,
    scheme: Scheme = "light",
    scripts: bool = True,
    less_motion: bool = False,
) -> Iterator[Visit]:
    """Open a page from disk in a fresh window.

    Args:
        browser: of `launched`.
        file: the page.
        width: of the window, in CSS pixels.
        scheme: what the reader prefers.
        scripts: whether they may run.
        less_motion: whether the reader prefers that.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce" if less_motion else "no-preference",
    )
    opened = Visit(context.new_page())

    def answer(route: "Route") -> None:
        if route.request.url == file.as_uri():
            route.continue_()
        else:
            opened.requests.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on(
        "console",
        lambda said: opened.errors.append(said.text) if said.type in ("error", "warning") else None,
    )
    opened.page.goto(file.as_uri())
    yield opened
    context.close()
