"""DVC follows no imports, so dvc.yaml has to list what a stage imports: here it is compared."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import heads
from features import backbones
from features.cache.keys import imported_modules, module_path

PROJECT = Path(__file__).parents[1]
PIPELINE: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())

DYNAMIC = {
    "extract": ("features/backbones/${item.module}.py", "features.backbones"),
    "weights": ("features/backbones/${item.module}.py", "features.backbones"),
    "train": ("heads/${item.head}.py", "heads"),
    "faces": ("features/${faces.detector.module}.py", None),
    "detector": ("features/${faces.detector.module}.py", None),
}
"""Stages that import a module which params.yaml names: how dvc.yaml writes it, its package."""


def has_code(path: Path) -> bool:
    """Tell whether a file is more than its docstring."""
    body = ast.parse(path.read_text()).body
    return any(not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in body)


def files(*modules: str) -> set[str]:
    paths = {module_path(name) for name in imported_modules(*modules)}
    return {p.relative_to(PROJECT).as_posix() for p in paths if has_code(p)}


def named_modules(stage: str) -> list[str]:
    """Return the modules that params.yaml may name for a stage: all, also those not in use."""
    if stage in ("faces", "detector"):
        return [f"features.{PARAMS['faces']['detector']['module']}"]
    if stage == "train":
        return [f"heads.{name}" for name in heads.names()]
    if stage in ("extract", "weights"):
        return [f"features.backbones.{name}" for name in backbones.names()]
    return []


def definition(stage: str) -> dict[str, Any]:
    block: dict[str, Any] = PIPELINE[stage]
    inner: dict[str, Any] = block.get("do", block)
    return inner


def module_of(stage: str) -> str:
    """Return the module that a stage's command runs; no value of params.yaml stands in it."""
    command = re.fullmatch(r"sh stages/run\.sh ([a-z]+)", definition(stage)["cmd"])
    assert command, definition(stage)["cmd"]
    return f"stages.{command[1]}"


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_a_stage_lists_the_files_that_it_imports(stage: str) -> None:
    deps = definition(stage)["deps"]
    listed = {dep for dep in deps if dep.endswith(".py")}
    module = module_of(stage)
    named = named_modules(stage)
    own = {module_path(name).relative_to(PROJECT).as_posix() for name in named}
    expected = files(module) | (files(*named) - own if named else set())
    if stage in DYNAMIC:
        expected.add(DYNAMIC[stage][0])
        # what one module of the folder takes from another is listed for all of them
        shared = {p for n in named for p in files(n) - files_of(n)}
        expected |= {p for p in shared if p in own}
    folders = {dep for dep in deps if (PROJECT / dep).is_dir() and dep != "heads"}
    expected = {p for p in expected if not any(Path(p).is_relative_to(f) for f in folders)}
    assert sorted(listed) == sorted(expected)
    assert len(deps) == len(set(deps))


def files_of(module: str) -> set[str]:
    return {module_path(module).relative_to(PROJECT).as_posix()}


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_a_stage_has_the_name_of_its_file_and_watches_no_setting_of_the_machine(
    stage: str,
) -> None:
    block = definition(stage)
    module = module_of(stage)
    assert module in (f"stages.{stage}", "stages.weights")
    assert not any(str(param).startswith("engine") for param in block["params"])


def test_no_output_is_persisted_or_kept_out_of_the_cache() -> None:
    for stage in PIPELINE:
        for kind in ("outs", "metrics", "plots"):
            for out in definition(stage).get(kind, []):
                settings = next(iter(out.values())) if isinstance(out, dict) else {}
                assert settings.get("cache", True) and not settings.get("persist", False)
