"""MediaPipe's Tasks API, kept quiet and kept at home: what our MediaPipe networks share.

Two habits of the library are handled here and nowhere else:

It writes progress and warnings of its own making to standard error, and no setting of version
1.2 stops it: :func:`quiet` holds such lines back and lets every other line through.

Its packages since 0.10.35 post usage figures (task, run times, versions; no pixels) to
play.googleapis.com (https://github.com/google-ai-edge/mediapipe/issues/6291), without a switch.
Videos here may be confidential and stages other than weights have no business on the network,
so :func:`base_options` hands it an empty list of certificate authorities: no connection can be
trusted, and nothing is sent. A failed attempt to connect remains; a firewall can refuse that.
"""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:  # mediapipe is slow to import, and a look at the options does not need it
    import mediapipe
    from mediapipe.tasks.python import BaseOptions

NOISE = re.compile(
    rb"INFO: |[IW]\d{4} \d\d:\d\d|"
    rb"WARNING: (Logging before|All log messages before|Read-only tensor)"
)
"""How a line of no interest begins: LiteRT's and absl's information and warnings."""

_stderr = threading.RLock()


def rgb_image(frame_HWC: NDArray[np.uint8]) -> "mediapipe.Image":
    """Return an RGB frame, uint8 (H, W, 3), as the Tasks API takes it."""
    import mediapipe

    data = np.ascontiguousarray(frame_HWC)
    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=data)


def base_options(model: Tensor) -> "BaseOptions":
    """Return options for a Tasks API object that runs a model on the CPU.

    Args:
        model: the model's bytes, uint8 (N,).

    Raises:
        ValueError: there are no bytes: the module has not been given its weights.
    """
    from mediapipe.tasks.python import BaseOptions

    class OfflineOptions(BaseOptions):  # type: ignore[misc]  # the package has no types
        """MediaPipe's options with no certificate authority to trust."""

        def to_ctypes(self) -> object:
            options = super().to_ctypes()
            options.ca_bundle_path = os.devnull.encode()
            return options

    if model.numel() == 0:
        raise ValueError(
            "expected the bytes of a MediaPipe model, found none: a built module has no weights "
            "before features.weights.file.load"
        )
    return OfflineOptions(model_asset_buffer=model.cpu().numpy().tobytes())


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back MediaPipe's noise on standard error; what else is written there follows after.

    The file descriptor itself is redirected, because the lines come from C++. They come at the
    first use of a model and now and then after, as when a frame is not aligned in memory.
    """
    with _stderr, tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not NOISE.match(line):
                    os.write(2, line)
