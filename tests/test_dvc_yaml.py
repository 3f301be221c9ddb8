"""DVC follows no imports: dvc.yaml names the rooms that a stage imports from, and here it is held
to what the stage really imports."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import heads
from features import backbones, detectors
from features.cache.keys import imported_modules, module_path

PROJECT = Path(__file__).parents[1]
TEXT = (PROJECT / "dvc.yaml").read_text()
PIPELINE: dict[str, Any] = yaml.safe_load(TEXT)["stages"]

NAMED = {
    "features/backbones/${item.module}.py": [
        f"features.backbones.{name}" for name in (*backbones.names(), backbones.IMPORTED)
    ],
    "features/detectors/${faces.detector.module}.py": [
        f"features.detectors.{name}" for name in detectors.names()
    ],
    "heads/${item.head}.py": [f"heads.{name}" for name in heads.names()],
}
"""How dvc.yaml writes the one module that params.yaml names, and what that may be."""

CODE = ("affectline", "features", "heads", "sample", "stages")


def definition(stage: str) -> dict[str, Any]:
    block: dict[str, Any] = PIPELINE[stage]
    inner: dict[str, Any] = block.get("do", block)
    return inner


def code_deps(stage: str) -> list[str]:
    deps: list[str] = definition(stage)["deps"]
    return [dep for dep in deps if dep.split("/")[0] in CODE]


def module_of(stage: str) -> str:
    """Return the module that a stage's command runs; no value of params.yaml stands in it."""
    command = re.fullmatch(r"sh stages/engine/run\.sh ([a-z]+)", definition(stage)["cmd"])
    assert command, definition(stage)["cmd"]
    return f"stages.{command[1]}"


def has_code(path: Path) -> bool:
    """Tell whether a file is more than its docstring."""
    body = ast.parse(path.read_text()).body
    return any(not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in body)


def reached(*modules: str) -> set[Path]:
    """Return the files with code that modules import, from the project's root."""
    paths = {module_path(name) for name in imported_modules(*modules)}
    return {path.relative_to(PROJECT) for path in paths if has_code(path)}


def cases() -> list[tuple[str, str | None]]:
    """Return each stage with each module that params.yaml may name for it."""
    found: list[tuple[str, str | None]] = []
    for stage in PIPELINE:
        named = [module for dep in code_deps(stage) for module in NAMED.get(dep, [])]
        found += [(stage, module) for module in named] or [(stage, None)]
    return found


@pytest.mark.parametrize(("stage", "module"), cases())
def test_each_file_that_a_stage_reaches_lies_under_a_dependency(
    stage: str, module: str | None
) -> None:
    deps = [dep for dep in code_deps(stage) if dep not in NAMED]
    if module:
        deps.append(module.replace(".", "/") + ".py")
    files = reached(module_of(stage), *([module] if module else []))
    assert not {file for file in files if not any(file.is_relative_to(dep) for dep in deps)}


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_no_dependency_is_idle_and_there_are_few(stage: str) -> None:
    deps = code_deps(stage)
    named = [module for dep in deps for module in NAMED.get(dep, [])]
    files = reached(module_of(stage), *named)
    plain = [dep for dep in deps if dep not in NAMED]
    assert not {dep for dep in plain if not any(file.is_relative_to(dep) for file in files)}
    assert len(deps) == len(set(deps)) <= 12
    nested = {
        dep for dep in plain for other in plain if dep != other and dep.startswith(f"{other}/")
    }
    assert not nested


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_no_dependency_covers_a_second_backbone_detector_or_head(stage: str) -> None:
    plain = [dep for dep in code_deps(stage) if dep not in NAMED]
    modules = [Path(module.replace(".", "/") + ".py") for each in NAMED.values() for module in each]
    covered = {module for module in modules if any(module.is_relative_to(dep) for dep in plain)}
    # the page has the papers' tables and what backbones say of themselves
    shown = {module for module in covered if module.parts[-2] in ("heads", "backbones")}
    assert covered == (shown if stage == "report" else set())


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_no_stage_reaches_the_command(stage: str) -> None:
    assert not {file for file in reached(module_of(stage)) if file.parts[0] == "affectline"}


@pytest.mark.parametrize("each", [n for modules in NAMED.values() for n in modules])
def test_no_backbone_detector_or_head_imports_another(each: str) -> None:
    room = each.rpartition(".")[0]
    others = {module for modules in NAMED.values() for module in modules} - {each}
    assert not imported_modules(each) & {name for name in others if name.startswith(f"{room}.")}


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


def test_dvc_yaml_can_be_read_by_a_person() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_the_artifact_is_a_folder_that_no_stage_makes() -> None:
    artifacts = yaml.safe_load(TEXT)["artifacts"]
    assert {name: entry["path"] for name, entry in artifacts.items()} == {"model": "model"}
    outs = [out for stage in PIPELINE for out in definition(stage).get("outs", [])]
    assert not [out for out in outs if str(out).startswith("model")]
