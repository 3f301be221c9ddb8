"""Pages as a browser shows them: the system's Chromium, without a network, and axe's rules.

A page is opened as a user opens it, from disk. Whatever else it asks for is noted and refused.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names under which systems have it."""

WIDTHS = (360, 768, 1280, 1920)
"""From a telephone to a wide screen, in CSS pixels."""

HEIGHT = 900
"""Of a window, in CSS pixels."""

STANDARD = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""Tags of the rules of axe that a page keeps: WCAG 2.2 at level AA, and its advice."""

HANGING_MS = 3_600_000
"""After so long nothing comes any more; Playwright's own 30 s are too few for a busy machine."""

Scheme = Literal["light", "dark"]


def chromium() -> str | None:
    """Return the path of the system's Chromium, None where there is none."""
    paths = (shutil.which(name) for name in CHROMIUM)
    return next((path for path in paths if path), None)


@contextmanager
def launched(program: str) -> Iterator["Browser"]:
    """Give a running Chromium."""
    from playwright.sync_api import sync_playwright

    options = ["--disable-dev-shm-usage"]  # small in containers
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # there is none for root
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=options, timeout=HANGING_MS)
        yield running
        running.close()


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

    def overflows(self, widths: Sequence[int]) -> dict[int, int]:
        """Return width of the window -> pixels by which the page is wider, where it is.

        The window is drawn to one width after the other, as a reader draws it.
        """
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        found = {}
        for width in widths:
            self.page.set_viewport_size({"width": width, "height": HEIGHT})
            found[width] = int(self.page.evaluate(script))
        return {width: pixels for width, pixels in found.items() if pixels > 0}

    def empty_pictures(self) -> list[str]:
        """Return the pictures that show nothing: images not loaded, SVG without a shape."""
        script = """() => [
          ...[...document.images].filter(image => !(image.complete && image.naturalWidth > 0)),
          ...[...document.querySelectorAll("svg")].filter(svg => !svg.querySelector(
            "path, line, rect, circle, text, use, image, polyline, polygon")),
        ].map(picture => picture.outerHTML.slice(0, 200))"""
        return list(self.page.evaluate(script))

    def empty_backgrounds(self) -> list[str]:
        """Return the backgrounds that are no image; scripts must run, or no image tells."""
        script = """async () => (await Promise.all(
          [...new Set([...document.querySelectorAll("*")].map(
            each => getComputedStyle(each).backgroundImage.match(/url\\("(.*)"\\)/)?.[1]))]
          .filter(address => address).map(address => new Promise(done => {
            const image = new Image();
            image.onload = () => done([]);
            image.onerror = () => done([address.slice(0, 200)]);
            image.src = address; })))).flat()"""
        return list(self.page.evaluate(script))

    def violations(self) -> list[str]:
        """Return what axe finds, a line for each element."""
        from axe_playwright_python.sync_playwright import Axe

        tags = {"type": "tag", "values": list(STANDARD)}
        options = {"runOnly": tags, "resultTypes": ["violations"]}
        found: list[dict[str, Any]] = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
            for each in found
            for node in each["nodes"]
        ]

    def out_of_reach(self) -> list[str]:
        """Return what one can act on and the Tab key does not come to."""
        step = """() => { const now = document.activeElement;
          if (now === document.body || now.dataset.first) return false;
          if (!document.querySelector("[data-reached]")) now.dataset.first = "yes";
          now.dataset.reached = "yes"; return true; }"""
        self.page.keyboard.press("Tab")
        while self.page.evaluate(step):
            self.page.keyboard.press("Tab")
        script = """() => [...document.querySelectorAll(
            "a[href], button, input, select, summary, audio[controls], [tabindex='0']")]
          .filter(each => each.checkVisibility() && !each.dataset.reached)
          .map(each => each.outerHTML.slice(0, 200))"""
        return list(self.page.evaluate(script))


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
        viewport={"width": width, "height": HEIGHT},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce" if less_motion else "no-preference",
    )
    context.set_default_timeout(HANGING_MS)
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
