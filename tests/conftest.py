"""Clips that the tests make: each frame carries its own number as its brightness."""

import fractions
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import settings

from features.waveform import Waveform
from tests import warm
from tests.browser import CHROMIUM, chromium, launched

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py
if "PYTEST_VERSION" in os.environ:  # the cores are for tests side by side; benchmarks have them all
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # a hundred processes would compile the project again
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

MakeClip = Callable[..., Path]

HANGING_S = 3600.0
"""After this long a command hangs: no test is about how fast a machine is."""


def heed_ctrl_c() -> None:
    """Undo what a shell does to commands in its background, the tests perhaps: they ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests last, and skip what needs a GPU where there is none."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path in slow)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch  # slow to import

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="there is no GPU here"))


def pytest_sessionfinish() -> None:
    """End what tests have started for all of them."""
    warm.close()


def brightness(number: int) -> int:
    """Return the grey level of frame ``number``: 4 apart, so that a codec cannot mix them up."""
    return 16 + 4 * (number % 50)


def write_clip(
    path: Path,
    *,
    frames: int = 20,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    sound_s: float = 0.0,
    channels: int = 1,
    sample_rate_hz: int = 16_000,
    pts: Sequence[int] | None = None,
    pixel_aspect: fractions.Fraction | None = None,
    picture: bool = True,
    options: dict[str, str] | None = None,
    clock_hz: int = 1000,
) -> Path:
    """Write a clip whose frame i is plain grey of ``brightness(i)``, with a 440 Hz tone.

    AVI has a place for each tick of ``clock_hz``: there it has to be ``fps``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = None
        if picture:
            video = container.add_stream(codec, rate=fps)
            video.width, video.height, video.pix_fmt = *size, pixel_format
            if codec == "libx264":
                video.options = {"crf": "10", "preset": "ultrafast"}
            video.options |= options or {}
            if pixel_aspect:
                video.codec_context.sample_aspect_ratio = pixel_aspect
            video.codec_context.time_base = fractions.Fraction(1, clock_hz)
        audio = None
        if sound_s:
            audio = container.add_stream("aac", rate=sample_rate_hz)
            audio.layout = "mono" if channels == 1 else "stereo"
        if video is not None:
            for number in range(frames):
                grey = np.full((size[1], size[0], 3), brightness(number), np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.time_base = fractions.Fraction(1, 1000)
                frame.pts = pts[number] if pts else round(number * 1000 / fps)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if audio is not None:
            time = np.arange(int(sound_s * sample_rate_hz)) / sample_rate_hz
            tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
            block = np.stack([tone, np.zeros_like(tone)][:channels])
            sound = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block), format="fltp", layout=audio.layout.name
            )
            sound.sample_rate = sample_rate_hz
            resampler = av.AudioResampler("fltp", audio.layout.name, sample_rate_hz, 1024)
            for part in [*resampler.resample(sound), *resampler.resample(None)]:
                container.mux(audio.encode(part))
            container.mux(audio.encode())
    return path


def waveform(samples: np.ndarray, rate_hz: int, block: int = 10_000) -> Waveform:
    """Return a sound that is in memory as one that comes in blocks."""
    blocks = (samples[first : first + block] for first in range(0, len(samples), block))
    return Waveform(len(samples), rate_hz, blocks)


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """Return a function that writes a clip below the test's folder: ``make_clip(name, ...)``."""

    def make(name: str = "clip.mp4", **options: object) -> Path:
        return write_clip(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Give the system's Chromium; a test that wants it is skipped where there is none."""
    pytest.importorskip("axe_playwright_python", reason="playwright and axe are not installed")
    program = chromium()
    if program is None:
        pytest.skip(f"no Chromium on this machine; looked for {', '.join(CHROMIUM)}")
    with launched(program) as running:
        yield running


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLINE_STORE", str(tmp_path / ".store"))
    yield tmp_path
