"""The commands of dvc.yaml: which Python they run, and that no value of a person is in them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.clones import PROJECT, Clone, make_clone

LAUNCHER = PROJECT / "stages/engine/run.sh"

PROBE = """
import os, sys
print(sys.executable, os.getppid(), *sys.argv[1:], sep="|")
"""

HOSTILE = (
    "$(touch hit)",
    "`touch hit`",
    "'; touch hit; '",
    '"; touch hit; "',
    "a\ntouch hit\n",
    "a; touch hit #",
    "a | touch hit & touch hit",
    "$HOME ${PATH} ~ * ! \\",
)
"""Text that does something, or becomes something else, wherever a shell reads it."""


# ------------------------------------------------------------------------- which Python it is


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose only stage says which Python runs it, whose child it is, and with what."""
    root = tmp_path / "a project"
    (root / "stages/engine").mkdir(parents=True)
    shutil.copy(LAUNCHER, root / "stages/engine")
    (root / "stages/__init__.py").touch()
    (root / "stages/probe.py").write_text(PROBE)
    return root


def environment(folder: Path, is_complete: bool = True) -> Path:
    """Make a folder like an environment's bin: its python has the project's packages, or none."""
    folder.mkdir(parents=True)
    python = folder / "python"
    flags = "" if is_complete else "-S "  # without site-packages
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" {flags}"$@" {folder.parent.name}\n')
    python.chmod(0o755)
    return folder


def run(
    project: Path, path: str, *command: str, program: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing but a PATH; ``program`` is what runs under the command's name."""
    return subprocess.run(
        command,
        executable=program,
        cwd=project,
        env={"PATH": path, "PYTHONPATH": ""},
        text=True,
        capture_output=True,
        check=False,
    )


BARE = "/usr/bin:/bin"
NO_DVC = ("sh", "-c", 'sh -c "sh stages/engine/run.sh probe; exit \\$?"; exit $?')
"""Starts the stage below two shells: no Python is near."""


def probed(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


def test_the_python_of_the_dvc_at_work_runs_the_stage_where_nothing_is_active(
    project: Path,
) -> None:
    dvc = "import os, subprocess; print(os.getpid(), flush=True); subprocess.run({}, check=True)"
    direct = ["sh", "stages/engine/run.sh", "probe", "a b", "$c"]
    for command in (direct, ["sh", "-c", "sh stages/engine/run.sh probe 'a b' '$c'; true"]):
        done = run(project, BARE, sys.executable, "-c", dvc.format(command))
        first, parent, *arguments = probed(done)
        pid, _, program = first.partition("\n")
        assert program == sys.executable
        assert arguments == ["a b", "$c"]
        if command is direct:
            assert parent == pid, "a stage ends with its dvc, which has to be its parent"


def test_the_python_of_an_active_environment_runs_it_where_dvc_lives_alone(
    project: Path, tmp_path: Path
) -> None:
    conda = environment(tmp_path / "envs/conda/bin")
    alone = str(environment(tmp_path / "pipx/bin", is_complete=False) / "python")
    path = f"{conda}:{BARE}"
    assert probed(run(project, path, *NO_DVC))[2:] == ["conda"]
    start = "import subprocess; subprocess.run(['sh', 'stages/engine/run.sh', 'probe'], check=True)"
    assert probed(run(project, path, alone, "-c", start, program=sys.executable))[2:] == ["conda"]


def test_the_projects_own_environment_is_found_where_none_is_active(project: Path) -> None:
    environment(project / ".venv/bin")
    assert probed(run(project, BARE, *NO_DVC))[2:] == [".venv"]


def test_where_there_is_no_environment_a_line_says_what_to_do(
    project: Path, tmp_path: Path
) -> None:
    poor = environment(tmp_path / "bin", is_complete=False)
    done = run(project, f"{poor}:{BARE}", *NO_DVC)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.count("\n") == 1
    assert "no Python with the project's packages" in done.stderr and "dvc checkout" in done.stderr


# -------------------------------------------------------------------- the plan at the start

DVC = """
import subprocess
for shell in ([], ["sh", "-c", '"$@"; exit $?', "sh"]):
    subprocess.run([*shell, "sh", "stages/engine/run.sh", "probe"], check=True)
"""
"""Stands for dvc: it runs two stages, the second below one more shell."""


def planned(project: Path, *arguments: str, plan: str = "print('the plan')") -> list[str]:
    """Return what a dvc with these arguments tells beside what its two stages say."""
    (project / "affectline").mkdir(exist_ok=True)
    (project / "affectline/__init__.py").touch()
    (project / "affectline/__main__.py").write_text(f"import sys\n{plan}")
    dvc = project / "dvc"
    dvc.write_text(DVC)
    done = run(project, BARE, sys.executable, *(str(dvc), *arguments))
    assert done.returncode == 0 and done.stdout.count(sys.executable) == 2, done.stderr
    return done.stderr.splitlines()


def test_the_first_stage_of_a_repro_prints_the_plan_of_all(project: Path) -> None:
    for _ in range(2):  # another dvc, another plan
        assert planned(project, "repro", plan="print(sys.argv[1:])") == ["['plan']"]
    assert planned(project, "repro", "--force", "-k") == ["the plan"]


@pytest.mark.parametrize(
    "arguments", [["repro", "train@caan"], ["repro", "-f", "report"], ["exp", "run"], []]
)
def test_who_asks_for_some_stages_gets_no_plan_of_all(project: Path, arguments: list[str]) -> None:
    assert planned(project, *arguments) == []


def test_a_plan_that_fails_or_cannot_be_noted_keeps_no_stage_from_its_work(project: Path) -> None:
    assert planned(project, "repro", plan="sys.exit('what the stage says too')") == []
    shutil.rmtree(project / "logs")
    (project / "logs").touch()  # no folder, as on a disk that is full or read-only
    assert planned(project, "repro") == []


# ------------------------------------------------------------- what stands in a command line


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return make_clone(tmp_path_factory.mktemp("commands"))


def commands(clone: Clone) -> dict[str, str]:
    """Return the command of each stage, as DVC has it with all values of params.yaml filled in."""
    with Repo(str(clone.root)) as repo:
        return {stage.addressing.rpartition(":")[2]: stage.cmd for stage in repo.index.stages}


@pytest.mark.slow
def test_no_value_of_params_yaml_reaches_a_command(clone: Clone) -> None:
    before = set(commands(clone).values())
    raw = yaml.safe_load((clone.root / "params.yaml").read_text())
    backbone, experiment = raw["backbones"]["vggish"], raw["experiments"]["sound_average"]
    for text in HOSTILE:
        named = {"module": text, "view": text, "source": text, "file": text, "options": {text: 1}}
        clone.params(
            index__root=text,
            index__dataset=text,
            report__title=text,
            faces__detector={**raw["faces"]["detector"], "module": text},
            backbones={text: {**backbone, **named}},
            experiments={text: {**experiment, "head": text, "roles": {text: f"{text}/{text}"}}},
        )
        made = commands(clone)
        assert {f"extract@{text}", f"train@{text}"} <= set(made)
        assert set(made.values()) == before
    (clone.root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


@pytest.mark.slow
def test_a_folder_of_any_name_is_indexed_by_a_dvc_that_is_not_on_the_path(clone: Clone) -> None:
    root = "data/" + "".join(HOSTILE[:3]) + '"\n$HOME'
    (clone.root / "data/raw").mkdir(parents=True)
    for name in ("a", "b"):
        clone.add_clip("joy", int(name == "b"), name, seconds=1.0)
    (clone.root / "data/raw").rename(clone.root / root)
    clone.params(index__root=root, engine__workers=1, engine__runtime="torch")
    dvc = str(Path(sys.executable).with_name("dvc"))
    clone.run("env", f"PATH={BARE}", dvc, "repro", "--single-item", "index")
    assert [row["video_id"] for row in clone.table("data/index")] == ["joy/a", "joy/b"]
    assert not list(clone.root.rglob("hit"))


@pytest.mark.slow
def test_a_hostile_name_is_refused_and_nothing_of_it_runs(clone: Clone) -> None:
    raw = yaml.safe_load((clone.root / "params.yaml").read_text())
    for name in ("$(touch hit)", "../../heads"):
        clone.params(backbones={**raw["backbones"], name: raw["backbones"]["vggish"]})
        said = clone.run("dvc", "repro", "--single-item", f"weights@{name}", ok=False)
        assert name in said and "Traceback" not in said
        assert not (clone.root / "hit").exists()
        assert (clone.root / "heads/caan.py").is_file()
    clone.params(backbones=raw["backbones"])
