"""Still images as videos of one frame, so that a data set of images passes through the pipeline.

The decoder opens containers of video only. An image is put into one as it is: RGB, lossless
(FFV1), one frame of one second. The views then have one row, and the rest of theirs is masked.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from affectline.presets.folder import File
from affectline.presets.split_files import Remark
from features.cache.store import replacing
from features.video.opening import MAX_PIXELS

EXTENSIONS = frozenset(".png .jpg .jpeg .bmp .tif .tiff".split())
"""File names that are taken for still images."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")


def wrap(files: Iterable[File], folder: Path) -> tuple[list[File], list[Remark]]:
    """Write a one-frame video of each image below ``folder`` and return the videos.

    An image that cannot be read stays what it is, with a remark: `index` shows it as failed.
    """
    wrapped, remarks = [], []
    for file in files:
        place = Path(file.subset or "", file.label, f"{file.inside}.mkv")
        try:
            picture = _read(file.path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            remarks.append(Remark("not a readable image", file.key, str(error)))
            wrapped.append(file)
            continue
        with replacing(folder / place) as partial:
            _write(partial, picture)
        wrapped.append(replace(file, path=folder / place))
    return wrapped, remarks


def _read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return uint8 (H, W, 3), RGB, upright."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError("no PNG, JPEG, BMP or TIFF") from None


def _write(path: Path, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    # Without "bitexact" Matroska has a random number in it, and the same image another hash.
    options = {"fflags": "+bitexact"}
    with av.open(str(path), "w", format="matroska", options=options) as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "bgr0"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
