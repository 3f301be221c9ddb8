import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import typer
import yaml
from typer.testing import CliRunner

from affectline.cli import app
from features.cache import tables
from stages.engine.params import load_params

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(in_folder: Path) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    for folder in (".dvc", ".git"):
        Path(folder).mkdir()
    return in_folder


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_the_tab_key_completes_commands_and_options() -> None:
    def completed(*words: str) -> list[str]:
        line = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        environment = {"_AFFECTLINE_COMPLETE": "complete_bash", **line}
        done = CliRunner().invoke(app, [], prog_name="affectline", env=environment)
        return done.output.split()

    assert completed("affectline", "p") == ["predict", "publish", "plan", "preset"]
    assert completed("affectline", "predict", "--mo") == ["--model"]


COMMANDS = {
    "check": [],
    "failures": [],
    "weights": [],
    "explain": ["joy/a", "vggish"],
    "compare": ["caan", "hamf"],
    "status": [],
    "plan": [],
    "work": ["--all"],
    "preset": ["--root", "."],
    "import": ["mine", "."],
    "export": ["vggish/embedding", "--to", "npy"],
    "diff": ["HEAD"],
    "predict": ["a.mp4", "--experiment", "caan"],
    "publish": ["caan", "--out", "model"],
    "doctor": ["--quick"],
    "store size": [],
    "store verify": [],
    "store gc": ["--older-than", "1"],
    "store forget": [],
}
"""Every command that needs a project, with what it must be given."""


def test_no_command_is_forgotten() -> None:
    group = typer.main.get_group(app)
    names = {
        f"{name} {inner}".strip()
        for name, command in group.commands.items()
        for inner in getattr(command, "commands", {"": None})
    }
    assert names == {*COMMANDS, "show"}


@pytest.mark.parametrize("command", COMMANDS)
def test_outside_a_project_a_command_says_where_one_must_be(command: str, in_folder: Path) -> None:
    code, said = run(*command.split(), *COMMANDS[command])
    assert code == 1 and len(said.splitlines()) == 1
    assert f"error: {in_folder}: expected a project of affectline, a folder with params" in said
    assert not list(in_folder.iterdir())


def test_below_a_project_its_folder_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data/raw").mkdir(parents=True)
    monkeypatch.chdir("data/raw")
    code, said = run("failures")
    assert code == 1 and f"found neither; `cd {project}` and run this again" in said


def test_failures_before_any_run_are_not_none(project: Path) -> None:
    code, said = run("failures")
    assert code == 1 and "data/index.parquet: not made yet; `dvc repro` makes it" in said
    assert run("explain", "joy/a", "vggish") == (1, said)


def test_a_damaged_output_is_named_with_what_to_do(project: Path) -> None:
    Path("data").mkdir()
    Path("data/index.parquet").write_text("no table")
    for command in (["failures"], ["status"], ["explain", "joy/a", "vggish"]):
        code, said = run(*command)
        assert code == 1 and said.startswith("error: data/index.parquet: expected a Parquet file")
        assert "`affectline doctor --repair` removes what is damaged" in said, said


def test_an_experiment_that_there_is_not_is_no_reason_to_run_it(project: Path) -> None:
    code, said = run("compare", "caan", "caam")
    assert code == 1 and "no experiment 'caam', did you mean 'caan'?; there are caan, " in said
    code, said = run("compare", "caan", "caan_average")
    assert (
        code == 1
        and "found: results/caan/scores.json: No such file or directory; run `dvc rep" in said
    )


def test_failures_are_told_once_with_the_stage_they_came_from(project: Path) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("video_id", "status", "reason")])
    bad = {"video_id": "joy/a", "status": "failed", "reason": "empty file"}
    late = {"video_id": "joy/b", "status": "failed", "reason": "too large for float16"}
    tables.write(Path("data/index.parquet"), [bad], schema)
    tables.write(Path("data/tables/vgg16.parquet"), [bad, late], schema)
    code, said = run("failures", "--json")
    assert code == 0
    assert [(row["video_id"], row["first_failed_in"]) for row in yaml.safe_load(said)] == [
        ("joy/a", "index"),
        ("joy/b", "vgg16"),
    ]


def test_check_tells_what_is_wrong(project: Path) -> None:
    code, said = run("check")
    assert code == 0 and "videos of data/sample: all right" in said
    before = Path("params.yaml").read_text().partition("\nmax_failed:")[0]
    line = 2 + before.count("\n")
    for wrong, right, words in (
        ("root: data/sample ", "root: data/smaple ", "index.root: found nothing at data/smaple"),
        (
            "seeded, seed: 3}",
            "pretrained, file: no.pth}",
            "backbones.vggish: no such file: no.pth",
        ),
        (
            "report:\n",
            "max_failed: 0.3\nreport:\n",
            f"max_failed: found twice, in line {line} and in ",
        ),
    ):
        text = Path("params.yaml").read_text()
        assert wrong in text
        Path("params.yaml").write_text(text.replace(wrong, right))
        code, said = run("check")
        assert code == 1 and words in said and len(said.splitlines()) == 1, said
        Path("params.yaml").write_text(text)
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "colour: red\n")
    code, said = run("check")
    assert code == 1 and "colour: unknown key" in said


def test_check_finds_what_dvc_stops_at(project: Path) -> None:
    Path("dvc.lock").write_text("a: [")
    code, said = run("check")
    assert code == 1 and "dvc.lock: expected YAML" in said and "Restore it from git" in said
    Path("dvc.lock").unlink()
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
    Path(".git").rmdir()
    assert run("check")[0] == 0
    Path(".dvc/config").unlink()
    Path(".git").mkdir()
    for folder, words in ((".git", "expected a git repository"), (".dvc", "expected DVC's setti")):
        Path(folder).rmdir()
        for command in (["check"], ["diff", "HEAD"], ["doctor", "--quick"]):
            code, said = run(*command)
            assert code == 1 and words in said and len(said.splitlines()) == 1, said


def test_weights_lists_every_network_with_what_is_to_do(project: Path) -> None:
    code, said = run("weights")
    assert code == 0
    for text in ("detector", "vggish", "seed 3", "Apache-2.0", "to do: dvc repro weights@vggish"):
        assert text in said
    code, said = run("weights", "--json")
    rows = {row["network"]: row for row in json.loads(said)}
    assert set(rows) == {
        "faces.detector",
        *(f"backbones.{name}" for name in load_params().backbones),
    }
    assert rows["backbones.vggish"]["to_do"] == "dvc repro weights@vggish"
    Path("weights.lock.json").write_text("spoilt")
    code, said = run("weights")
    assert code == 1 and "Restore it from git" in " ".join(said.split())
