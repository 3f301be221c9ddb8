"""How every stage starts: params.yaml is right, the name is in it, and DVC watches all its code.

A stage is a ``main`` that begins with :func:`start` and that :func:`launch` runs. What a person can
mend ends it in a line (:func:`stages.engine.progress.told`).

DVC follows no imports: a file of ours that a stage imports and no dependency of dvc.yaml covers
could change, and DVC would skip the stage and keep what the older code made.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import typer

from features.cache.keys import PROJECT, imported_modules, module_path
from stages.engine import checked
from stages.engine.params import Params, ParamsError, load_params, read_yaml
from stages.engine.paths import PIPELINE
from stages.engine.progress import told

SHARED = {"heads": "heads/layers", "features": "features/networks"}
"""Folder -> where in it modules of one's own lie that dvc.yaml watches as a whole."""


def stage_item(name: str) -> str:
    """Return what a stage works on: ``vgg16`` of ``extract@vgg16``, or of ``vgg16`` itself.

    DVC tells a stage its name in DVC_STAGE, with the path of dvc.yaml in front where it was
    started in another folder: ``../dvc.yaml:extract@vgg16``.
    """
    return name.rpartition(":")[2].rpartition("@")[2]


def item_of(section: str) -> Any:
    """Return the argument of a stage that works on one item of a section of params.yaml."""
    return typer.Argument(
        help=f"name in params.yaml, {section}", envvar="DVC_STAGE", parser=stage_item
    )


def launch(main: Callable[..., None]) -> None:
    """Run a stage's ``main`` as the command that dvc.yaml has.

    A mistake of ours ends in Python's own traceback; typer's prints every variable as well, and
    arrays and rows make that a thousand lines.

    The module is taken by its name: what is defined in ``__main__`` no process elsewhere finds.
    """
    if spec := main.__globals__.get("__spec__"):
        main = getattr(importlib.import_module(spec.name), main.__name__)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()


def start(stage: str) -> Params:
    """Return params.yaml for a stage that starts; what is wrong ends it, a line each.

    Args:
        stage: name as in dvc.yaml, ``extract@vgg16``.
    """
    with told():
        params = load_params()
        check_name(params, stage)
        if not checked.is_known(params):
            check_watched(params, [stage])
    return params


def check_name(params: Params, stage: str) -> None:
    """Check that params.yaml has what a stage is to work on.

    Raises:
        ParamsError: it has not; the message lists what it has.
    """
    kind, _, item = stage.partition("@")
    section = {"weights": "backbones", "extract": "backbones", "train": "experiments"}.get(kind)
    known = getattr(params, section) if section else {}
    if section and item not in known:
        raise ParamsError(f"{item!r}: expected one of {section} in params.yaml: {', '.join(known)}")


def stage_names(params: Params) -> list[str]:
    """Return the names of all stages as DVC has them, ``weights@vgg16``."""
    features = [f"{kind}@{name}" for name in params.backbones for kind in ("weights", "extract")]
    runs = [f"train@{name}" for name in params.experiments]
    return ["sample", "index", "decode", "detector", "faces", *features, "tables", *runs, "report"]


def stage_modules(params: Params) -> set[str]:
    """Return the modules of ours that any stage imports."""
    named = {name for stage in stage_names(params) for name in _modules(params, stage)}
    return imported_modules(*filter(_is_there, named))


def check_watched(params: Params, stages: list[str], pipeline: Path = PIPELINE) -> None:
    """Check that dvc.yaml covers all files of ours that the stages import.

    Args:
        params: params.yaml.
        stages: names as in dvc.yaml, ``extract@vgg16``.
        pipeline: dvc.yaml; where there is none, DVC runs nothing.

    Raises:
        ParamsError: with what to write, for each file.
    """
    if not pipeline.is_file():
        return
    blocks = read_yaml(pipeline).get("stages") or {}
    lines = {}  # once for all items of a stage
    for stage in stages:
        kind = stage.partition("@")[0]
        if kind in blocks:
            deps = list(_deps(blocks[kind], params, stage))
            for file in _files(params, stage):
                if not any(file.is_relative_to(dep) for dep in deps):
                    lines[kind, file] = _advice(kind, file)
    if lines:
        raise ParamsError("\n".join(f"{pipeline}: {line}" for line in lines.values()))


def _advice(kind: str, file: PurePosixPath) -> str:
    folder = SHARED.get(file.parts[0])
    move = f"move it to {folder}/, which is watched, or " if folder else ""
    return (
        f"{kind} imports {file}, which none of its deps covers: DVC would not see a change of it "
        f"and keep what its older code made; {move}add `{file}` to the deps of {kind}"
    )


def _deps(block: Mapping[str, Any], params: Params, stage: str) -> Iterator[PurePosixPath]:
    """Yield the deps of a stage, the values of params.yaml filled in."""
    kind, _, item = stage.partition("@")
    values: dict[str, Any] = params.model_dump(by_alias=True)
    section = values["experiments" if kind == "train" else "backbones"]
    values |= {"key": item, "item": section.get(item)}
    for dep in block.get("do", block).get("deps", ()):
        path = dep if isinstance(dep, str) else next(iter(dep))
        yield PurePosixPath(re.sub(r"\$\{([^}]*)\}", lambda match: _value(values, match[1]), path))


def _value(values: Any, place: str) -> str:
    for part in place.strip().split("."):
        values = values[part]
    return str(values)


def _files(params: Params, stage: str) -> list[PurePosixPath]:
    """Return the files of ours with code that a stage imports, from the project's root."""
    names = [name for name in _modules(params, stage) if _is_there(name)]
    paths = (module_path(name) for name in sorted(imported_modules(*names)))
    return [PurePosixPath(p.relative_to(PROJECT).as_posix()) for p in paths if _has_code(p)]


def _modules(params: Params, stage: str) -> list[str]:
    """Return the modules that a stage runs: its own, and the one that params.yaml names for it."""
    kind, _, item = stage.partition("@")
    own = "stages.weights" if kind == "detector" else f"stages.{kind}"
    if kind in ("detector", "faces"):
        return [own, f"features.detectors.{params.faces.detector.module}"]
    if kind in ("weights", "extract"):
        return [own, f"features.backbones.{params.backbones[item].module}"]
    if kind == "train":
        return [own, f"heads.{params.experiments[item].head}"]
    return [own]


def _is_there(name: str) -> bool:
    """Tell whether a module exists; one that does not is told where its name is looked up."""
    try:
        return module_path(name).is_file()
    except ModuleNotFoundError:
        return False


@cache
def _has_code(path: Path) -> bool:
    """Tell whether a file is more than its docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in body)
