"""Which part of a frame a network saw, so that a map of its regions lies where they are.

Backbones make frames smaller and cut out the middle (`preprocess`); a face crop they take whole.
That stands here once more, without torch, for those that give maps; a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CENTRE = {"vgg16": (256, 224), "r3d101": (112, 112)}
"""Module -> shorter side that a frame is made to, pixels, and side of the square cut out of it."""

STRETCHED = {"places365_vgg16": (256, 256, 224), "r3d18": (128, 171, 112)}
"""Module -> height and width that a frame is made to whatever its aspect, and side of the cut."""

WHOLE = ("vggface",)
"""Modules that see all of a picture."""

RESNET50 = {"V1": (256, 224), "V2": (232, 224)}
"""As CENTRE, by its option `weights`; a picture of 224 x 224 is taken as it is."""


@dataclass(frozen=True)
class Box:
    """A part of a picture, all in shares of its width or height."""

    left: float
    top: float
    width: float
    height: float


def seen_box(module: object, options: Mapping[str, object], height: int, width: int) -> Box | None:
    """Return what a backbone sees of a frame; None where it is not known of this module.

    Args:
        module: the backbone's, as `about.json` has it.
        options: likewise.
        height: of the frame as the view has it, pixels.
        width: likewise.
    """
    if module in WHOLE:
        return Box(0, 0, 1, 1)
    if module in STRETCHED:
        *size, cut = STRETCHED[str(module)]
        return _cut(size[0], size[1], cut)
    if module == "resnet50":
        side, cut = RESNET50.get(str(options.get("weights")), RESNET50["V1"])
        if (height, width) == (cut, cut):
            return Box(0, 0, 1, 1)
    elif module in CENTRE:
        side, cut = CENTRE[str(module)]
    else:
        return None
    shorter = min(height, width)
    return _cut(int(side * height / shorter), int(side * width / shorter), cut)


def _cut(height: int, width: int, cut: int) -> Box:
    """Return the square of `cut` pixels in the middle of a picture, as torchvision cuts it out."""
    top, left = round((height - cut) / 2), round((width - cut) / 2)
    return Box(left / width, top / height, cut / width, cut / height)
