"""The commands through which features leave the project, and arrays from elsewhere come in.

affectline export vgg16/fc6 --to huggingface
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
