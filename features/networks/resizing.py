"""Resizing: the middle of resized pictures, the same numbers as torchvision's of 8-bit pictures.

A picture is resampled along its rows and then along its columns. Each is a product with a matrix of
few entries, of which only what the cut keeps is computed: that takes a third of the time of torch's
own resampling, whose entries they are. Source: ``resize`` and ``center_crop`` of torchvision 0.29
transforms/functional.py.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

LARGEST = 255.0

MOST_TAPS = 4
"""Products that are summed for a number in the order of torch's resampling, to the bit: with more,
which a picture that shrinks by half or cubic interpolation needs, its compiled loop has another."""


def resized_middle(
    frames: NDArray[np.uint8], size_px: tuple[int, ...], side_px: int, *, is_bicubic: bool = False
) -> Tensor:
    """Return the middle of resized frames: whole numbers 0..255, float32 (T, 3, side, side).

    Args:
        frames: uint8 (T, H, W, 3) RGB. Their float32 lies in memory, several times.
        size_px: size to resize to, antialiased: (shorter side,), with the aspect kept, or
            (height, width), without; neither side less than ``side_px``.
        side_px: of the square that is cut out.
        is_bicubic: resampled by cubic instead of linear interpolation.
    """
    frame_px = frames.shape[1:3]
    resized_px = size_of(frame_px, size_px)
    mode = "bicubic" if is_bicubic else "bilinear"
    (rows, along_H), (columns, along_W) = (
        _weights(*sizes, side_px, mode) for sizes in zip(frame_px, resized_px, strict=True)
    )
    if max(map(_most_taps, (along_H, along_W))) <= MOST_TAPS:
        middle_TCHW = _products(frames[:, rows, columns], along_H, along_W)
    else:
        frames_TCHW = torch.from_numpy(np.array(frames, order="C")).permute(0, 3, 1, 2).float()
        whole_TCHW = interpolate(frames_TCHW, resized_px, mode=mode, antialias=True)
        top, left = (_first(after_px, side_px) for after_px in resized_px)
        middle_TCHW = whole_TCHW[:, :, top : top + side_px, left : left + side_px]
    return middle_TCHW.clamp_(0, LARGEST).round_()  # cubic interpolation overshoots


def size_of(frame_px: tuple[int, ...], size_px: tuple[int, ...]) -> tuple[int, ...]:
    """Return height and width that frames of such height and width are resized to."""
    if len(size_px) == 2:
        return size_px
    height, width = frame_px
    longer_px = int(size_px[0] * max(frame_px) / min(frame_px))
    return (size_px[0], longer_px) if height <= width else (longer_px, size_px[0])


def _first(after_px: int, side_px: int) -> int:
    return round((after_px - side_px) / 2)


@lru_cache(maxsize=64)
def _weights(before_px: int, after_px: int, side_px: int, mode: str) -> tuple[slice, Tensor]:
    """Return what each of the ``side_px`` middle pixels of a resized line takes of those before.

    Returns:
        Which pixels are taken from at all, n of them; and sparse, (side_px, n): torch's own
        weights, which it shows of an identity.
    """
    identity = torch.eye(before_px)[None, None]
    whole: Tensor = interpolate(identity, (before_px, after_px), mode=mode, antialias=True)[0, 0].T
    first = _first(after_px, side_px)
    middle = whole[first : first + side_px]
    taken = middle.any(dim=0).nonzero()
    span = slice(int(taken[0]), int(taken[-1]) + 1)
    return span, middle[:, span].to_sparse().coalesce()


def _most_taps(weights: Tensor) -> int:
    return int(weights.indices()[0].bincount().max())


def _products(frames: NDArray[np.uint8], along_H: Tensor, along_W: Tensor) -> Tensor:
    """Resample frames, (T, H, W, C) -> float32 (T, C, side, side), by the weights of each axis."""
    count, height, width, colours = frames.shape
    side = len(along_H)
    frames_WTCH = torch.from_numpy(np.ascontiguousarray(frames.transpose(2, 0, 3, 1))).float()
    narrow_WTCH = torch.sparse.mm(along_W, frames_WTCH.view(width, -1))
    narrow_HTCW = narrow_WTCH.view(side, count, colours, height).permute(3, 1, 2, 0)
    middle_HTCW: Tensor = torch.sparse.mm(along_H, narrow_HTCW.reshape(height, -1))
    return middle_HTCW.view(side, count, colours, side).permute(1, 2, 0, 3)
