"""extract@<backbone>: one backbone's named features of every video.

Reads a view and the backbone's weights; writes one HDF5 file a video and, beside the folder,
its index in Parquet.

    python -m stages.extract vgg16
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, cast

import numpy as np
import pyarrow as pa
from torch import nn

from features import backbones
from features.cache import arrays, tables
from features.networks.extraction import extract
from features.options import axes_of, options_of, views_of
from features.waveform import Samples, Waveform
from features.weights.file import load, metadata, tensors_sha256
from stages.engine.device import be_reproducible, device_of
from stages.engine.ingredients import of_features
from stages.engine.items import describe, files_below, items_of, merge_reasons, run_items
from stages.engine.outputs import check_failures, fresh_outputs, write_index
from stages.engine.paths import FEATURES, PARAMS, TABLES, VIEWS, index_of, weights_file
from stages.engine.progress import StageRun, told
from stages.engine.start import item_of, launch, start
from stages.engine.workers import Workers, workers

COLUMNS = {"rows": pa.int32(), "rows_valid": pa.int32(), "pretrained": pa.bool_()}
"""Of a backbone's index, besides those of every index."""


@dataclass(frozen=True)
class Task:
    """One video's view for one backbone."""

    view: Path
    module: str
    options: str
    precision: str
    dtypes: dict[str, str]
    weights: Path
    device: str
    ingredients: dict[str, object]


def main(backbone: Annotated[str, item_of("backbones")]) -> None:
    """Extract the features of BACKBONE."""
    params = start(f"extract@{backbone}")
    block = params.backbones[backbone]
    view, weights = VIEWS / block.view, weights_file(backbone)
    with told(f"{PARAMS}: "):
        module = backbones.load(block.module)
        chosen, dtypes = block.choices(f"backbones.{backbone}", module)
    with told():
        device, is_pretrained = device_of(params.engine), metadata(weights)["pretrained"] == "true"
    options = asdict(chosen)
    with StageRun("extract", backbone) as run:
        videos = tables.read(index_of(view), ["video_id", "content", "path"])
        if not is_pretrained:
            run.remark("its weights are seeded (random): no emotion can be read from it")
        digest = tensors_sha256(weights)
        items = items_of(
            videos,
            lambda content: of_features(block, options, dtypes, digest, content),
            lambda path, made_of: Task(
                view / path,
                block.module,
                json.dumps(options, sort_keys=True),
                block.precision,
                dtypes,
                weights,
                device,
                made_of,
            ),
        )
        # torch spreads one video over all cores; what cannot do so takes a video a core
        pool = workers(params.engine) if getattr(module, "ONE_CORE", False) else Workers(0)
        with fresh_outputs(FEATURES, run) as partial, fresh_outputs(TABLES, run) as indices:
            folder = partial / backbone
            folder.mkdir()
            outcome = run_items(run, items, compute, folder, pool)
            rows = merge_reasons(videos, outcome)
            check_failures(run, rows, params.max_failed)
            index = indices / index_of(FEATURES / backbone).name
            write_index(index, folder, rows, files_below(items), COLUMNS)


@lru_cache(maxsize=1)
def _network(name: str, options: str, weights: Path, device: str) -> nn.Module:
    module = backbones.load(name)
    be_reproducible(device)
    network = load(weights, module.build(options_of(module, json.loads(options))))
    return network.eval().to(device)


@contextmanager
def _opened(path: Path, module: ModuleType) -> Iterator[Mapping[str, arrays.Array] | Waveform]:
    """Open a video's view: its frames, or its sound in blocks."""
    if "sound" not in views_of(module):
        yield arrays.read(path)[0]
        return
    with arrays.streamed(path, ["waveform"]) as (streams, attributes):
        sound = streams["waveform"]
        rate_hz = int(str(attributes["sample_rate_hz"]))
        start_s = float(str(attributes["start_s"]))
        yield Waveform(sound.shape[0], rate_hz, cast(Iterable[Samples], sound.parts), start_s)


def compute(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Send one video's view through the network and write its features."""
    module = backbones.load(task.module)
    network = _network(task.module, task.options, task.weights, task.device)
    options = options_of(module, json.loads(task.options))
    with _opened(task.view, module) as view:
        start = time.monotonic()
        features = extract(
            module, network, view, options, dtypes=task.dtypes, precision=task.precision
        )
    seconds = time.monotonic() - start
    ((key, path),) = outputs.items()
    known = metadata(task.weights)
    axes = {name: "T" for name in features}
    axes |= {name: f"T {rows}" for name, rows in axes_of(module, options).items()}
    more = {
        "weights": known,
        "pretrained": known["pretrained"] == "true",
        "device": task.device,
        "rows": len(features["valid"]),
        "rows_valid": int(np.count_nonzero(features["valid"])),
    }
    about = describe(key, task.ingredients, axes, **more)
    arrays.write(path, features, about, arrays.PORTABLE)
    return {"forward_seconds": seconds}


if __name__ == "__main__":
    launch(main)
