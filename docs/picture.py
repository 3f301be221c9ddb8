"""docs/report.png, the picture in README: the page's top, accuracy and attention, in light.

Needs Chromium and `report/index.html`, that of the sample.

    make picture
"""

import io
import sys
from pathlib import Path

from PIL import Image

from tests.browser import CHROMIUM, chromium, launched, visit

PAGE = Path("report/index.html")
PICTURE = Path("docs/report.png")

WIDTH, HEIGHT = 1200, 1490
"""Of the picture, in pixels."""

HIDDEN = (
    "nav, .limits, main > section:not(#accuracy, #attention), #accuracy > :not(h2, .scroll),"
    "#attention > :is(.scroll, .note) { display: none }"
)
"""Style that leaves out the other sections, and of these what explains them."""

MAX_BYTES = 300_000
"""A picture that everyone fetches with the project stays small."""


def main() -> None:
    """Write the picture.

    Raises:
        SystemExit: no Chromium, no page, or a picture that is too large.
    """
    program = chromium()
    if program is None:
        sys.exit(f"no Chromium on this machine; looked for {', '.join(CHROMIUM)}")
    if not PAGE.is_file():
        sys.exit(f"{PAGE} is not there: `dvc repro` writes it")
    with launched(program) as browser, visit(browser, PAGE.resolve(), width=WIDTH) as opened:
        opened.page.add_style_tag(content=HIDDEN)
        area = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
        data = opened.page.screenshot(full_page=True, clip=area)
    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(256)
    picture.save(PICTURE, optimize=True)
    size = PICTURE.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{PICTURE}: {size} bytes, expected at most {MAX_BYTES}: a smaller HEIGHT")
    print(f"{PICTURE}: {WIDTH} x {HEIGHT}, {size} bytes")


if __name__ == "__main__":
    main()
