"""The commands through which features leave the project, and arrays from elsewhere come in.

affectline export vgg16/fc6 --to huggingface
affectline import visual ver/visual audio ver/audio --root ver/videos.csv
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What a feature can be exported as."""

    npy = "npy"
    parquet = "parquet"
    webdataset = "webdataset"
    huggingface = "huggingface"
    csv = "csv"


def export(
    source: Annotated[str, typer.Argument(help="<backbone>/<feature>, e.g. vgg16/fc6")],
    to: Annotated[Format, typer.Option(help="the format")],
    out: Annotated[
        Path | None,
        typer.Option(help="folder to make [default: exports/<backbone>_<feature>_<format>]"),
    ] = None,
) -> None:
    """Write a feature of all videos for others to read, with labels, splits and a card."""
    from affectline.export import export as write
    from affectline.project import open_project
    from stages.engine.checks import in_project
    from stages.engine.progress import say

    with in_project():
        folder, videos = write(open_project(".", None, None), source, to.value, out)
    say(f"export: {videos} videos in {folder}, README.md there says what they are")


def import_arrays(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME DIR [NAME DIR]...",
            help="a name for the backbone, and the folder or CSV of its arrays",
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(help="data set that they belong to: a folder or CSV [default: index.root]"),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="of a row, e.g. 'K D' [default: D, K D, C H W or C L H W]"),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="name of the rows in .h5 files that have several arrays")
    ] = None,
    origin: Annotated[str, typer.Option(help="what made them, in words")] = "unknown",
    licence: Annotated[str, typer.Option(help="their licence")] = "unknown",
    mask_nan: Annotated[
        bool, typer.Option("--mask-nan", help="rows with NaN mean nothing, and are no error")
    ] = False,
) -> None:
    """Take arrays made elsewhere as backbones of their own, checked, for every head to read."""
    from affectline.found import ImportingError, Reading
    from affectline.importing import Choices, plan, write_all
    from stages.engine.checks import in_project
    from stages.engine.params import load_params
    from stages.engine.progress import say

    choices = Choices(root, axes, origin, licence, Reading(dataset, mask_nan))
    with in_project():
        if len(pairs) % 2 or len(set(pairs[::2])) < len(pairs[::2]):
            raise ImportingError(f"expected NAME DIR, each name once, found {' '.join(pairs)}")
        params = load_params()
        places = zip(pairs[::2], map(Path, pairs[1::2]), strict=True)
        imports = [plan(name, place, choices, params) for name, place in places]
        write_all(imports, choices)
    for each in imports:
        shape = "×".join(map(str, each.options.shape))
        say(
            f"import: {each.name}: {len(each.members)} videos, rows of {shape} ({each.options.axes}"
            f"), {each.dtype}; heads read it as {each.name}/features"
        )
        for ids, what in (
            (each.strangers, "are no videos of the data set and left out"),
            (each.lacking, "of its videos have none"),
        ):
            if ids:
                say(f"import: {each.name}: {len(ids)} {what}, e.g. {', '.join(ids[:3])}")
