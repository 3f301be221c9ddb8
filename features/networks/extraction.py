"""Extraction: one video's view through one backbone.

A video is a batch of its own, cut into chunks of fixed size. So a feature does not depend on
which other videos were computed with it, and the same inputs give the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.options import dtypes_of, features_of
from features.video.views import FRAME_ARRAYS
from features.waveform import Waveform

Array = NDArray[np.generic]

CHUNK = 12
"""Rows that go through a network at once; on a CPU more are slower, as they leave its caches."""

LARGEST_HALF = 65504.0
"""Largest number that float16 holds."""


class ExtractionError(ValueError):
    """A video's features cannot be kept; the message is the reason that its row shows."""


def extract(
    module: ModuleType,
    network: nn.Module,
    view: Mapping[str, Array] | Waveform,
    options: Any,
    *,
    dtypes: Mapping[str, str] | None = None,
    precision: str = "float32",
) -> dict[str, Array]:
    """Return the named features of one video.

    Args:
        module: the backbone's module.
        network: its network in eval mode, on its device.
        view: arrays of the view's file, ``frames`` with ``index``, ``pts_s``, ``valid``; or the
            sound, which goes through the network as it comes.
        options: the module's ``Options``.
        dtypes: feature -> ``float16`` or ``float32``, where it is to be another than usual.
        precision: ``float32``, or ``bfloat16`` for products and convolutions in that type.

    Returns:
        Each of the module's features, (T, ...), in its dtype, and ``index``, ``pts_s``, ``valid``
        (T,). Rows that are not valid are zeros.

    Raises:
        ExtractionError: a feature is not finite or too large for its dtype.
    """
    if isinstance(view, Waveform):
        starts: list[NDArray[np.float64]] = [np.zeros(0)]
        outputs = _forward(network, _sound(module, view, options, starts), precision)
        pts_s = view.start_s + np.concatenate(starts)
        rows = np.arange(len(pts_s))
        arrays: dict[str, Array] = {
            "index": rows.astype(np.int64),
            "pts_s": pts_s,
            "valid": np.ones(len(pts_s), bool),
        }
    else:
        rows = np.flatnonzero(view["valid"])
        inputs = module.preprocess(view["frames"][rows], options)
        arrays = {name: view[name].copy() for name in FRAME_ARRAYS}
        if arrays["index"].ndim == 2:  # a snippet is where its first frame is
            arrays |= {name: arrays[name][:, 0] for name in ("index", "pts_s")}
        outputs = _forward(network, [inputs], precision)
    if "valid" in outputs:
        arrays["valid"][rows] = outputs.pop("valid")
    total = len(arrays["valid"])
    stored = dtypes_of(module, options, dtypes or {})
    for name, shape in features_of(module, options).items():
        values = outputs.get(name, np.zeros((0, *shape), np.float32))
        arrays[name] = _placed(name, values, rows, total, shape, np.dtype(stored[name]))
    return arrays


def _sound(
    module: ModuleType, waveform: Waveform, options: Any, starts: list[NDArray[np.float64]]
) -> Iterator[Tensor]:
    """Yield a sound's rows as the module makes them; their times go to ``starts``."""
    if not waveform.samples:  # a video without sound has no rows
        return
    for rows, start_s in module.preprocess(waveform, options):
        starts.append(start_s)
        yield rows


def _forward(
    network: nn.Module, parts: Iterable[Tensor], precision: str
) -> dict[str, NDArray[np.float32]]:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    results: dict[str, list[Tensor]] = {}
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(), half:
        for chunk in _chunks(parts):
            for name, value in network(chunk.to(device, non_blocking=True)).items():
                if value.dtype == torch.bfloat16:
                    value = value.float()
                results.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values).numpy() for name, values in results.items()}


def _chunks(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the rows of all parts, CHUNK at a time, the last ones fewer."""
    held: list[Tensor] = []
    for part in parts:
        rows = torch.cat([*held, part]) if held else part
        whole = len(rows) - len(rows) % CHUNK
        for first in range(0, whole, CHUNK):
            yield rows[first : first + CHUNK]
        held = [rows[whole:]] if whole < len(rows) else []
    yield from held


def _placed(
    name: str,
    values: NDArray[np.float32],
    rows: NDArray[np.intp],
    total: int,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
) -> Array:
    """Put the values of ``rows`` into an array of all rows, checked and in its dtype."""
    if values.shape != (len(rows), *shape):
        raise ExtractionError(
            f"{name}: the network gave {values.shape}, its FEATURES promise {(len(rows), *shape)}"
        )
    largest = float(np.abs(values).max(initial=0))
    if not np.isfinite(largest):
        raise ExtractionError(f"{name}: the network gave numbers that are not finite")
    if dtype == np.float16 and largest > LARGEST_HALF:
        raise ExtractionError(
            f"{name}: {largest:.3g} is too large for float16; write `dtypes: {{{name}: float32}}` "
            "into the backbone's block in params.yaml"
        )
    array = np.zeros((total, *shape), dtype)
    array[rows] = values
    return array
