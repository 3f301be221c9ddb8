"""Which part of a frame a network saw: beside what its own `preprocess` does to a gradient."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from features import backbones
from features.options import axes_of, options_of, views_of
from stages.results.sight import seen_box

SIZES = ((120, 160), (160, 120), (256, 455), (224, 224))


def with_maps() -> list[str]:
    """Return the backbones of frames that give maps of regions."""
    found = []
    for name in backbones.names():
        module = backbones.load(name)
        axes = axes_of(module, options_of(module, {}))
        if any("H W" in str(each) for each in axes.values()) and "sound" not in views_of(module):
            found.append(name)
    return found


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """Return a frame whose red says how far to the right a pixel lies, whose green how far down."""
    red = np.broadcast_to((np.arange(width) + 0.5) / width, (height, width))
    green = np.broadcast_to(((np.arange(height) + 0.5) / height)[:, None], (height, width))
    frame = np.stack([red, green, np.zeros((height, width))], axis=2)
    return np.rint(255 * frame).astype(np.uint8)


def seen(module: ModuleType, options: Any, frame: NDArray[np.uint8]) -> tuple[float, ...]:
    """Return left, top, right and bottom of what a backbone sees, as shares of the frame."""
    is_snippet = "snippets" in views_of(module)
    frames = np.broadcast_to(frame, (1, 16, *frame.shape)) if is_snippet else frame[None]
    black = module.preprocess(np.zeros_like(frames), options)
    white = module.preprocess(np.full_like(frames, 255), options)
    shares = ((module.preprocess(frames, options) - black) / (white - black)).numpy()[0]
    red, green = shares[0], shares[1]
    if is_snippet:
        red, green = red[0], green[0]
    middle_row, middle_column = red[len(red) // 2], green[:, green.shape[1] // 2]
    return (
        float(middle_row[0]),
        float(middle_column[0]),
        float(middle_row[-1]),
        float(middle_column[-1]),
    )


def test_every_backbone_with_maps_is_known() -> None:
    assert with_maps() == ["places365_vgg16", "r3d101", "r3d18", "resnet50", "vgg16", "vggface"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", with_maps())
def test_the_box_is_what_preprocess_cuts_out(name: str, size: tuple[int, int]) -> None:
    module = backbones.load(name)
    for chosen in [{}, {"weights": "V2"}] if name == "resnet50" else [{}]:
        options = options_of(module, chosen)
        box = seen_box(name, vars(options), *size)
        assert box is not None
        left, top, right, bottom = seen(module, options, gradient(*size))
        wanted = (box.left, box.top, box.left + box.width, box.top + box.height)
        # the first and the last pixel that it sees lie half a pixel, of about 1 %, inside
        np.testing.assert_allclose((left, top, right, bottom), wanted, atol=0.012)


def test_of_another_module_nothing_is_known() -> None:
    assert seen_box("mine", {}, 100, 100) is None
    assert seen_box("", {}, 100, 100) is None
