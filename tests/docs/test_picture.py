import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from docs.picture import HEIGHT, MAX_BYTES, PICTURE, WIDTH
from tests.browser import chromium
from tests.clones import PROJECT


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "docs.picture"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_the_picture_is_the_beginning_of_the_page(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1 and "report/index.html is not there" in done.stderr
    (tmp_path / "report").mkdir()
    (tmp_path / "docs").mkdir()
    page = '<body style="margin: 0; background: #fff"><div style="height: 800px; background: #00f">'
    (tmp_path / "report/index.html").write_text(f"{page}</div><p style='height: 9000px'>")
    assert run(tmp_path).returncode == 0
    assert (tmp_path / PICTURE).stat().st_size < MAX_BYTES
    with Image.open(tmp_path / PICTURE) as picture:
        pixels = picture.convert("RGB")
    assert pixels.size == (WIDTH, HEIGHT)
    places = ((0, 0), (WIDTH - 1, 799), (0, 800), (WIDTH - 1, HEIGHT - 1))
    assert [pixels.getpixel(place) for place in places] == [(0, 0, 255)] * 2 + [(255,) * 3] * 2
