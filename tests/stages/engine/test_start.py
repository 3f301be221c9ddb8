import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from affectline.cli import app
from features.cache import keys
from stages.engine import start
from stages.engine.checks import check_all
from stages.engine.params import Params, ParamsError, load_params
from stages.engine.paths import PIPELINE
from stages.engine.start import check_watched, stage_item, stage_names

PROJECT = Path(__file__).parents[3]
HEAD = "from heads.pooling import *  # noqa: F403\n"


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("vgg16", "vgg16"),
        ("extract@vgg16", "vgg16"),
        ("dvc.yaml:extract@vgg16", "vgg16"),
        ("../a@b:c/dvc.yaml:extract@vgg16", "vgg16"),
        ("detector", "detector"),
        ("../dvc.yaml:detector", "detector"),
    ],
)
def test_a_stage_knows_its_item_by_dvcs_name_or_by_its_own(name: str, item: str) -> None:
    assert stage_item(name) == item


def params(**changes: Any) -> Params:
    raw: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    return Params.model_validate(raw | changes)


@pytest.fixture
def project(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's code, in which a head of one's own stands in params.yaml."""
    for pattern in ("*.yaml", "stages/**/*.py", "features/**/*.py", "heads/**/*.py", "sample/*.py"):
        for path in PROJECT.glob(pattern):
            copy = in_folder / path.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    raw = yaml.safe_load(Path("params.yaml").read_text())
    experiment = {"head": "mine", "roles": {"sound": "vggish/embedding"}}
    raw["experiments"] = {"own": experiment}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    # this imports the first project
    monkeypatch.setattr("stages.engine.checks.check_modules", lambda _: None)
    for module in (keys, start):
        monkeypatch.setattr(module, "PROJECT", in_folder)
    for remembered in (keys._source, keys._definition, keys._fingerprint, start._has_code):
        remembered.cache_clear()
    return in_folder


def test_dvc_watches_all_that_the_projects_own_stages_import(project: Path) -> None:
    Path("heads/mine.py").write_text("import torch\n")
    own = load_params()
    check_watched(own, stage_names(own))
    check_watched(params(), stage_names(params()))


@pytest.mark.parametrize(
    ("file", "line", "advice"),
    [
        ("heads/mylib.py", "from heads.mylib import SCALE", "move it to heads/layers/, which is"),
        ("heads/mylib.py", "import heads.mylib", "move it to heads/layers/, which is"),
        ("heads/mylib.py", "from . import mylib", "move it to heads/layers/, which is"),
        ("heads/mylib.py", "from .mylib import SCALE", "move it to heads/layers/, which is"),
        ("heads/own/part.py", "from heads.own.part import SCALE", "move it to heads/layers/"),
        ("mylib.py", "import mylib", "older code made; add `m"),
        ("mine/part.py", "def f():\n    from mine import part", "older code made; add `m"),
        ("heads/lstm.py", "from heads import lstm", "move it to heads/layers/"),
    ],
)
def test_an_import_that_no_dependency_covers_is_refused_with_the_line_to_write(
    project: Path, file: str, line: str, advice: str
) -> None:
    Path("heads/mine.py").write_text(f"{line}\n")
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("SCALE = 2\n")
    own = load_params()
    with pytest.raises(ParamsError, match=rf"dvc\.yaml: train imports {file}, which none") as said:
        check_watched(own, ["train@own"])
    assert advice in str(said.value)
    text = PIPELINE.read_text()
    assert f"add `{file}` to the deps of train" in str(said.value)
    PIPELINE.write_text(text.replace('"heads/${item.head}.py"', file, 1))
    with pytest.raises(ParamsError, match=r"train imports heads/mine\.py"):
        check_watched(own, ["train@own"])
    added = text.replace("heads/layers, heads/training", f"heads/layers, heads/training, {file}")
    PIPELINE.write_text(added)
    check_watched(own, ["train@own"])


def test_check_and_status_and_the_stage_itself_refuse_it_and_no_other_stage_does(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("heads/mine.py").write_text("from heads import mylib\n")
    Path("heads/mylib.py").write_text("SCALE = 2\n")
    with pytest.raises(ParamsError, match=r"train imports heads/mylib\.py"):
        check_all(load_params())
    asked = CliRunner().invoke(app, ["status"])
    assert asked.exit_code == 1 and "train imports heads/mylib.py" in asked.output
    with pytest.raises(SystemExit):
        start.start("train@own")
    assert "train imports heads/mylib.py" in " ".join(capsys.readouterr().err.split())
    start.start("extract@vggish")


@pytest.mark.parametrize("file", ["heads/layers/mylib.py", "heads/layers/deep/mylib.py"])
def test_the_folder_of_shared_parts_is_watched_as_a_whole(project: Path, file: str) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("SCALE = 2\n")
    name = file.removesuffix(".py").replace("/", ".")
    Path("heads/mine.py").write_text(f"import {name}\n\ndef build():\n    return {name}.SCALE\n")
    check_watched(load_params(), ["train@own"])
    assert f"{name}.SCALE" in keys.code_fingerprint("heads.mine.build")


@pytest.mark.parametrize(
    ("module", "kinds"),
    [
        ("features/backbones/vggish.py", {"weights", "extract"}),
        ("features/detectors/blazeface.py", {"detector", "faces"}),
        ("sample/clips.py", {"sample"}),
    ],
)
def test_every_stage_that_imports_it_is_named(project: Path, module: str, kinds: set[str]) -> None:
    Path("heads/mine.py").write_text("import torch\n")
    Path("features/mylib.py").write_text("SCALE = 2\n")
    path = Path(module)
    path.write_text("from features import mylib\n" + path.read_text())
    own = load_params()
    with pytest.raises(ParamsError) as said:
        check_watched(own, stage_names(own))
    lines = str(said.value).splitlines()
    assert {line.split()[1] for line in lines} == kinds and len(lines) == len(kinds)
    assert all("features/mylib.py" in line and "features/networks/" in line for line in lines)


def test_a_file_of_text_alone_needs_no_watching(project: Path) -> None:
    Path("heads/notes.py").write_text('"""Nothing but words."""\n')
    Path("heads/mine.py").write_text("from heads import notes\n")
    check_watched(load_params(), ["train@own"])


def test_a_name_that_params_yaml_does_not_have_ends_the_stage_in_a_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage, section in (
        ("extract@nope", "backbones"),
        ("weights@$(nope)", "backbones"),
        ("train@nope", "experiments"),
    ):
        with pytest.raises(SystemExit):
            start.start(stage)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and f"expected one of {section} in params.yaml" in lines[0]


STAGES = sorted(path.stem for path in (PROJECT / "stages").glob("[a-z]*.py"))


def command(monkeypatch: pytest.MonkeyPatch, stage: str, *arguments: str) -> int:
    """Run a stage as its command does, in this process; return its exit status."""
    path = PROJECT / "stages" / f"{stage}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    return int(str(ended.value.code))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_ends_in_one_line_where_there_is_no_params_yaml(
    stage: str,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    item = ["nope"] if stage in ("weights", "extract", "train") else []
    assert command(monkeypatch, stage, *item) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: params.yaml: no such file here; run from the project's root"


@pytest.mark.parametrize("stage", ["weights", "extract", "train"])
def test_an_item_that_params_yaml_lacks_ends_the_command_in_one_line(
    stage: str,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    assert command(monkeypatch, stage, "nope") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 'nope': expected one of ")


@pytest.mark.parametrize("stage", ["decode", "extract", "faces", "report", "train"])
def test_what_the_stage_before_has_not_made_ends_a_stage_without_a_traceback(
    stage: str,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    raw = load_params()
    item = {"extract": [next(iter(raw.backbones))], "train": [next(iter(raw.experiments))]}
    assert command(monkeypatch, stage, *item.get(stage, [])) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and "data/" in last


def test_a_mistake_of_ours_ends_a_stage_in_pythons_own_traceback(in_folder: Path) -> None:
    code = (
        "from stages.engine.start import launch\n"
        "def main() -> None:\n"
        "    rows = ['thousands of lines'] * 2\n"
        "    raise RuntimeError('a mistake')\n"
        "launch(main)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback") and ended.stderr.endswith("a mistake\n")
    assert "thousands of lines" not in ended.stderr


SLOW = {"torch", "torchvision", "mediapipe", "matplotlib", "sklearn"}
"""Packages that take long to import, each of which one part of the project uses."""


def test_stages_start_with_the_slow_packages_that_they_use_and_no_other() -> None:
    stages = ("sample", "index", "decode", "weights", "faces", "tables", "report", "extract")
    stages += ("train",)
    code = (
        "import importlib, sys\n"
        f"for stage in {stages}:\n"
        "    importlib.import_module(f'stages.{stage}')\n"
        f"    print(*sorted({SLOW} & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    lines = ended.stdout.split("\n")[: len(stages)]
    so_far = dict(zip(stages, lines, strict=True))
    assert {so_far[stage] for stage in stages[:6]} == {""}
    assert so_far["report"] == "matplotlib"  # for its curves
    assert so_far["train"] == "matplotlib torch"


def test_a_device_that_is_always_there_is_found_without_torch() -> None:
    code = (
        "import sys\n"
        "from stages.engine.device import cache_bytes, device_of\n"
        "from stages.engine.params import Engine\n"
        "engine = Engine(device='cpu')\n"
        "assert device_of(engine) == 'cpu' and cache_bytes(engine) > 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


STAGE = '''
from stages.engine.start import launch

def compute() -> None:
    """What a process elsewhere is to find by its name."""

def main() -> None:
    print(compute.__module__)

if __name__ == "__main__":
    launch(main)
'''


def test_what_a_stage_defines_is_known_elsewhere_by_its_name(in_folder: Path) -> None:
    Path("toy.py").write_text(STAGE)
    done = subprocess.run(
        [sys.executable, "-m", "toy"],
        env=os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{in_folder}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "toy\n"
