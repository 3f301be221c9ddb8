"""extract@<backbone>: one backbone's named features of every video.

Reads a view and the backbone's weights; writes one HDF5 file a video and, beside the folder,
its index in Parquet.

    python -m stages.extract vgg16
"""

import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Annotated, Any, Literal, cast

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from features import backbones
from features.cache import arrays, tables
from features.cache.keys import code_fingerprint, defined, item_key
from features.cache.store import store_root
from features.networks import runtimes, streams
from features.networks.extraction import (
    BATCH,
    Forward,
    Passage,
    Piece,
    batch_of,
    forward_of,
    through,
)
from features.options import axes_of, options_of, views_of
from features.waveform import Samples, Waveform
from features.weights.file import load, metadata, remembered_sha256
from stages.engine import imported
from stages.engine.ahead import ahead
from stages.engine.device import (
    BFLOAT16_COST,
    be_reproducible,
    check_precision,
    cores_kept,
    device_of,
    has_bfloat16,
    readers_of,
    use_one_core,
)
from stages.engine.ingredients import of_features
from stages.engine.items import (
    describe,
    files_below,
    inputs_of,
    items_of,
    merge_reasons,
    run_items,
    software,
)
from stages.engine.outputs import check_failures, fresh_outputs, write_index
from stages.engine.params import Params
from stages.engine.paths import FEATURES, PARAMS, TABLES, VIEWS, WEIGHTS, index_of, weights_file
from stages.engine.progress import StageRun, told
from stages.engine.readers import made_ahead
from stages.engine.runtime import fastest
from stages.engine.start import item_of, launch, start
from stages.engine.trouble import sendable
from stages.engine.workers import Input, Job, Result, Results, Work, networks, workers

COLUMNS = {"rows": pa.int32(), "rows_valid": pa.int32(), "pretrained": pa.bool_()}
"""Of a backbone's index, besides those of every index."""

AHEAD = 4
"""Parts of views that wait for the network at most: a part is a batch of a video's frames, or 64
rows of its sound."""

BATCH_ON_GPU = 48
"""Rows that go through a network on a GPU at once; as on a CPU, a batch always has so many."""

BEHIND = 4
"""Videos whose features wait to be packed at most."""


@dataclass(frozen=True)
class Network:
    """A backbone's network as it is to be run.

    Attributes:
        module: the backbone's.
        options: its own, as JSON.
        precision: of products and convolutions.
        weights: the file.
        device: where it runs.
        runtime: ``torch``, or on a CPU ``openvino``, or the faster (``auto``).
        sha256: of its code, options and weights; a trial of its runtimes is remembered by it.
        readers: processes that read and prepare frames ahead of it; 0: a thread does.
    """

    module: str
    options: str
    precision: str
    weights: Path
    device: str
    runtime: Literal["auto", "torch", "openvino"] = "torch"
    sha256: str = ""
    readers: int = 0

    @property
    def batch(self) -> int:
        """Rows that go through it at once."""
        return BATCH_ON_GPU if self.device == "cuda" else BATCH


@dataclass(frozen=True)
class Task:
    """One video's view for one backbone."""

    view: Path
    network: Network
    dtypes: dict[str, str]
    ingredients: dict[str, object]


def main(backbone: Annotated[str, item_of("backbones")]) -> None:
    """Extract the features of BACKBONE."""
    params = start(f"extract@{backbone}")
    block = params.backbones[backbone]
    view, weights = VIEWS / block.view, weights_file(backbone)
    with told(f"{PARAMS}: "):
        block.choices(f"backbones.{backbone}", backbones.load(block.module))
    with told():
        device, is_pretrained = device_of(params.engine), metadata(weights)["pretrained"] == "true"
        check_precision(f"backbones.{backbone}", block.precision, device)
    with StageRun("extract", backbone) as run:
        videos = tables.read(index_of(view), ["video_id", "content", "path"])
        if block.source == "imported":
            run.remark("they were imported: what made them is not known here")
            videos, inputs = imported.inputs(videos, weights)
        else:
            inputs = inputs_of(videos, view)
        if not is_pretrained:
            run.remark("its weights are seeded (random): no emotion can be read from it")
        if block.precision == "bfloat16" and device == "cpu" and not has_bfloat16():
            run.note(
                "precision bfloat16: this processor has no products of it and is about "
                f"{BFLOAT16_COST} times slower than in float32"
            )
        make = imported.work if block.source == "imported" else work
        made: Work[Any] = make(params, backbone, inputs)
        with fresh_outputs(FEATURES, run) as unfinished, fresh_outputs(TABLES, run) as indices:
            folder = unfinished / backbone
            folder.mkdir()
            outcome = run_items(run, made, folder)
            rows = merge_reasons(videos, outcome)
            check_failures(run, rows, params.max_failed)
            index = indices / index_of(FEATURES / backbone).name
            write_index(index, folder, rows, files_below(made.items), COLUMNS)


def work(
    params: Params, backbone: str, videos: Iterable[Input], folder: Path = WEIGHTS
) -> Work[Task]:
    """Return what there is to extract.

    Args:
        params: params.yaml.
        backbone: a name in it.
        videos: files of the view that it reads.
        folder: of the weights files.
    """
    block, weights = params.backbones[backbone], weights_file(backbone, folder)
    module = backbones.load(block.module)
    one_core = getattr(module, "ONE_CORE", False)
    device = "cpu" if one_core else device_of(params.engine)
    check_precision(f"backbones.{backbone}", block.precision, device)
    chosen, dtypes = block.choices(f"backbones.{backbone}", module)
    options, digest = asdict(chosen), remembered_sha256(weights, store_root())
    has_choice = device == "cuda" or (device == "cpu" and block.precision == "float32")
    has_choice = has_choice and not one_core
    runtime = params.engine.runtime if has_choice else "torch"
    code = code_fingerprint(*defined(f"features.backbones.{block.module}", ("build",)))
    sha256 = item_key({"code": code, "options": options, "weights": digest})
    text = json.dumps(options, sort_keys=True)
    readers = 0 if block.view == "sound" else readers_of(params.engine, device)
    network = Network(
        block.module, text, block.precision, weights, device, runtime, sha256, readers
    )
    items = items_of(
        videos,
        lambda content: of_features(block, options, dtypes, digest, content),
        lambda file, made_of: Task(file, network, dtypes, made_of),
    )
    if one_core:  # torch spreads a batch over all cores; what cannot do so takes a video a core
        return Work(items, compute, workers(params.engine), weights=(weights,))
    pool, together = networks(params.engine, device), partial(computed_together, network)
    return Work(items, compute, pool, together, weights=(weights,))


@lru_cache(maxsize=1)
def _loaded(network: Network) -> nn.Module:
    module = backbones.load(network.module)
    be_reproducible(network.device, network.precision)
    built = module.build(options_of(module, json.loads(network.options)))
    return load(network.weights, built).eval().to(network.device)


class Running:
    """A network at work.

    Attributes:
        runtime: that computes it.
        at_once: how many batches it computes side by side, in threads.
        seconds: that it took; of batches side by side each counts for its share.
    """

    def __init__(self, network: Network, note: Callable[[str], None] = lambda line: None) -> None:
        self.runtime = "torch"
        self.at_once = 1
        self.seconds = 0.0
        self._counting = Lock()
        self._network = network
        self._note = note
        self._forward: Forward | None = None

    def begin(self, rows: Tensor) -> None:
        """Make ready, when its first rows are there."""
        if self._forward is not None or not len(rows):
            return
        network = self._network
        if network.device == "cuda":
            self.runtime, self._forward = streams.on_gpu(
                _loaded(network),
                network.precision,
                _batch(rows, network.batch),
                may_record=network.runtime == "auto",
                note=self._note,
            )
            self.at_once = streams.IN_FLIGHT
            return
        if network.runtime == "torch":
            self._forward = forward_of(_loaded(network), network.precision)
            return
        with told():
            self.runtime, self._forward = fastest(
                store_root(),
                network.sha256,
                lambda: _loaded(network),
                _batch(rows, network.batch),
                wanted=network.runtime,
                note=self._note,
                at_once=runtimes.side_by_side(),
            )
        if self.runtime == "openvino":
            self.at_once = runtimes.side_by_side()
        _loaded.cache_clear()  # what the other runtime needs no more

    def __call__(self, rows: Tensor) -> Mapping[str, Tensor]:
        """Compute rows."""
        assert self._forward is not None
        start = time.monotonic()
        outputs = self._forward(rows)
        with self._counting:
            self.seconds += (time.monotonic() - start) / self.at_once
        return outputs


def _batch(rows: Tensor, size: int) -> Tensor:
    """Return a batch of rows, which are repeated until it is full."""
    times = -(-size // len(rows))
    return rows[:size].repeat(times, *[1] * (rows.ndim - 1))[:size].contiguous()


def computed_together(
    network: Network,
    note: Callable[[str], None],
    jobs: Generator[Job[Task] | None, None, None],
) -> Results[Task]:
    """Make the features of videos that share batches.

    A thread reads and prepares ahead of the network, or has processes do it, another packs behind
    it; each has one core.
    """
    videos: dict[Passage, Job[Task]] = {}
    packing: deque[tuple[Job[Task], Future[None] | None]] = deque()
    forward, counted = Running(network, note), 0.0
    by = software()  # before those threads set how many cores they have
    with (
        cores_kept(),
        closing(ahead(_pieces(network, jobs, videos), AHEAD)) as pieces,
        ThreadPoolExecutor(1, initializer=use_one_core) as packer,
    ):
        begun = _begun(pieces, forward)
        for passage in through(begun, forward, network.batch, lambda: forward.at_once):
            if passage is None:  # others wait for what is claimed here, and we for what they claim
                while packing:
                    yield _outcome(*packing.popleft(), forward.seconds - counted)
                    counted = forward.seconds
                continue
            job = videos.pop(passage)
            future = (
                packer.submit(_pack, job.item.task, passage, job.paths, forward.runtime, by)
                if job.paths
                else None
            )
            packing.append((job, future))
            while packing and (len(packing) > BEHIND or _is_done(packing[0][1])):
                yield _outcome(*packing.popleft(), forward.seconds - counted)
                counted = forward.seconds
        for job, future in packing:
            yield _outcome(job, future, forward.seconds - counted)
            counted = forward.seconds


def _begun(pieces: Iterable[Piece], forward: Running) -> Iterator[Piece]:
    """Yield ``pieces``, and have the network made ready when the first rows come."""
    for piece in pieces:
        if piece is not None and piece[1] is not None:
            forward.begin(piece[1])
        yield piece


def _is_done(future: Future[None] | None) -> bool:
    return future is None or future.done()


def _outcome(
    job: Job[Task], future: Future[None] | None, seconds: float
) -> tuple[Job[Task], Result]:
    """Wait until a video is packed; ``seconds`` of the network since the last one go with it."""
    error = future.exception() if future else None
    counts = {"forward_seconds": seconds} if future else None
    return job, error or counts


def _pieces(
    network: Network,
    jobs: Generator[Job[Task] | None, None, None],
    videos: dict[Passage, Job[Task]],
) -> Generator[Piece, None, None]:
    """Yield the rows of all videos, in a thread of its own; ``videos`` gets the job of each."""
    use_one_core()
    if network.readers:
        yield from _from_readers(network, jobs, videos)
        return
    for job in jobs:
        if job is None:
            yield None
            continue
        passage = _passage(job.item.task)
        videos[passage] = job
        if job.paths:
            yield from _rows(job.item.task, passage)
        yield passage, None


def _from_readers(
    network: Network,
    jobs: Generator[Job[Task] | None, None, None],
    videos: dict[Passage, Job[Task]],
) -> Generator[Piece, None, None]:
    """Yield the rows of all videos, which processes have prepared."""
    for job, whole in made_ahead(jobs, _read, network.readers):
        if job is None:
            yield None
            continue
        passage = _passage(job.item.task)
        videos[passage] = job
        if whole is not None:
            passage.error, passage.known, parts = whole
            for rows in parts:
                yield passage, rows
        yield passage, None


def _read(task: Task) -> tuple[Exception | None, dict[str, arrays.Array], list[Tensor]]:
    """Return a video's rows as its network reads them: why there are none, what is known, rows."""
    passage = _passage(task)
    parts = [piece[1] for piece in _rows(task, passage) if piece and piece[1] is not None]
    return sendable(passage.error), passage.known, [] if passage.error else parts


def _passage(task: Task) -> Passage:
    module = backbones.load(task.network.module)
    return Passage(module, options_of(module, json.loads(task.network.options)))


def _rows(task: Task, passage: Passage) -> Iterator[Piece]:
    """Yield the rows of a video's view, as the network reads them."""
    try:
        with _opened(task.view, backbones.load(task.network.module)) as view:
            for rows in passage.inputs(view):
                yield passage, rows
    except Exception as error:  # one video's failure is its row's reason
        passage.error = error


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


def _pack(
    task: Task,
    passage: Passage,
    outputs: Mapping[str, Path],
    runtime: str,
    by: Mapping[str, str],
) -> None:
    """Write the features of a video whose rows are through; ``by`` names the software."""
    features = passage.arrays(task.dtypes)
    ((key, path),) = outputs.items()
    module = backbones.load(task.network.module)
    options = options_of(module, json.loads(task.network.options))
    known = metadata(task.network.weights)
    axes = {name: "T" for name in features}
    axes |= {name: f"T {rows}" for name, rows in axes_of(module, options).items()}
    more = {
        "weights": known,
        "pretrained": known["pretrained"] == "true",
        "device": task.network.device,
        "runtime": runtime,
        "software": dict(by),
        "rows": len(features["valid"]),
        "rows_valid": int(np.count_nonzero(features["valid"])),
    }
    about = describe(key, task.ingredients, axes, **more)
    arrays.write(path, features, about, arrays.COMPACT)


def compute(task: Task, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Send one video's view through the network by itself and write its features."""
    passage, forward = _passage(task), Running(task.network)
    size = batch_of(backbones.load(task.network.module))
    for _ in through(_begun(_rows(task, passage), forward), forward, size):
        pass
    _pack(task, passage, outputs, forward.runtime, software())
    return {"forward_seconds": forward.seconds}


if __name__ == "__main__":
    launch(main)
