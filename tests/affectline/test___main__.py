"""Which code the command runs: that of the project it is asked about."""

import subprocess
import sys
from pathlib import Path

from tests.clones import PROJECT

START = "from affectline.__main__ import main; main()"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an environment has it, in a folder that is not on Python's path."""
    return subprocess.run(
        [sys.executable, "-P", "-c", START, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"},
        text=True,
        capture_output=True,
        check=False,
    )


def test_in_a_project_the_projects_code_runs_and_not_the_installed_one(tmp_path: Path) -> None:
    (tmp_path / "affectline").mkdir()
    (tmp_path / "affectline/__init__.py").touch()
    (tmp_path / "affectline/cli.py").write_text(
        "import sys\ndef app(prog_name): print(prog_name, *sys.argv[1:])\n"
    )
    assert "expected a project" in run(tmp_path, "check").stderr
    (tmp_path / "dvc.yaml").touch()
    done = run(tmp_path, "check", "a b")
    assert (done.returncode, done.stdout) == (0, "affectline check a b\n"), done.stderr


def test_outside_a_project_one_line_says_what_the_command_needs(tmp_path: Path) -> None:
    done = run(tmp_path, "status")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path}: expected a project of affectline")
