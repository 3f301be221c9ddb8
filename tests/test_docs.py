"""README and docs/: links resolve, commands exist, code blocks do what the text says."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import dvc.exceptions
import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from dvc.cli import parse_args
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel
from setuptools import find_packages

from affectline.cli import app
from features import backbones, detectors
from features.cache.arrays import read
from heads import names as head_names
from heads.training.settings import Training
from stages.engine.params import Params
from stages.results.sections import SECTIONS
from tests.clones import PROJECT, Clone, make_light_clone

DOCS = sorted((PROJECT / "docs").glob("*.md"))
PAGES = [*(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *DOCS]
COMMAND = typer.main.get_command(app)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, kind: str) -> list[str]:
    """Return the blocks of a page that are of a kind, ``console`` or ``python``."""
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.S | re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of a page's console blocks."""
    for line in "".join(blocks(page, "console")).splitlines():
        if words := shlex.split(line, comments=True):
            yield words


# ---------------------------------------------------------------------------------- the pages


def test_the_readme_is_short_and_begins_with_what_one_types() -> None:
    lines = (PROJECT / "README.md").read_text().splitlines()
    assert len(lines) <= 130
    assert [words[:2] for words in commands(PROJECT / "README.md")][:2] == [
        ["make", "repro"],
        ["make", "test"],
    ]
    assert "make test" in (PROJECT / ".ci/run").read_text()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as public hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings}


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(other), f"{page.name}: {target}"


def test_every_page_of_docs_is_reached_from_the_readme() -> None:
    text = (PROJECT / "README.md").read_text()
    assert [page.name for page in DOCS if f"(docs/{page.name})" not in text] == []


@every_page
def test_every_path_that_is_named_in_the_project_exists(page: Path) -> None:
    tracked = ("affectline", "stages", "features", "heads", "sample", "benchmarks", "tests", "docs")
    named = re.findall(rf"`((?:{'|'.join(tracked)})/[\w./]*)`", page.read_text())
    worked_through = {"features/backbones/mobilenet.py", "heads/query.py"}
    absent = [name for name in named if not (PROJECT / name).exists()]
    assert set(absent) <= worked_through


# ------------------------------------------------------------------------------- the commands


@every_page
def test_every_command_is_one_that_there_is(page: Path) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for words in commands(page):
        program, *arguments = words
        if program == "affectline":
            check_affectline(arguments)
        elif program == "dvc":
            parse_args(arguments)  # exits where DVC does not know them
        elif program == "make":
            assert all(re.search(rf"^{name}: ", makefile, re.M) for name in arguments), words
        else:
            assert words == ["source", ".venv/bin/activate"], words


def check_affectline(arguments: list[str]) -> None:
    """Let Typer read the arguments of `affectline`; it raises an error at what it does not know."""
    command: Any = COMMAND
    while (inner := subcommands(command)) and arguments != ["--help"]:
        name, *arguments = arguments
        command = inner[name]
    if arguments != ["--help"]:
        command.make_context(command.name, list(arguments))


def subcommands(command: Any) -> dict[str, Any]:
    """Return name -> command of a group, nothing of a command that is none."""
    return getattr(command, "commands", {})


@every_page
def test_every_command_within_a_sentence_is_one_that_there_is(page: Path) -> None:
    for name in re.findall(r"`affectline ([a-z]+)", page.read_text()):
        assert name in subcommands(COMMAND), f"{page.name}: affectline {name}"


def test_the_reference_has_every_command() -> None:
    lines = [words[1:] for words in commands(PROJECT / "docs/reference.md")]
    known = [
        [name, *inner]
        for name, command in subcommands(COMMAND).items()
        for inner in ([[name] for name in subcommands(command)] or [[]])
    ]
    assert len(known) > 10
    assert [words for words in known if words not in [line[: len(words)] for line in lines]] == []


# ------------------------------------------------------------------------------- the reference


def keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Yield the keys of params.yaml: ``index.root``, ``backbones.<name>.view``."""
    for name, field in model.model_fields.items():
        place = f"{above}{field.alias or name}"
        kinds = [field.annotation, *get_args(field.annotation)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            yield place
        for kind in inner:
            is_one = kind is field.annotation or isinstance(field.annotation, UnionType)
            yield from keys(kind, f"{place}.{'' if is_one else '<name>.'}")


def test_the_reference_has_every_key_of_params_yaml() -> None:
    text = (PROJECT / "docs/reference.md").read_text()
    known = {re.sub(r"^decode\.views\.\w+\.", "decode.views.<view>.", key) for key in keys(Params)}
    known = known - {"train", "experiments"} | {f"train.{part.name}" for part in fields(Training)}
    assert len(known) > 50
    described = set(re.findall(r"`([a-z_]+(?:\.[a-z_<>]+)*)`", text))
    assert known - described == set()
    sections = {name.partition(".")[0] for name in known}
    strangers = {name for name in described - known if name.partition(".")[0] in sections}
    assert {name for name in strangers if "." in name and not name.endswith(".py")} <= {
        "experiments.<name>.train",
        "report.title",
    }


def test_the_reference_has_every_backbone_detector_and_head() -> None:
    text = (PROJECT / "docs/reference.md").read_text()
    readme = (PROJECT / "README.md").read_text()
    for name in [*backbones.names(), *detectors.names(), *head_names()]:
        assert f"`{name}`" in text and f"`{name}`" in readme, name
    for name in backbones.names():
        row = re.search(rf"^\| `{name}` .*$", text, re.M)
        assert row and all(f"`{part}`" in row[0] for part in backbones.load(name).FEATURES), name


def test_each_section_of_the_report_is_explained() -> None:
    titles = [module.TITLE for module in SECTIONS]
    page = (PROJECT / "docs/reading-the-results.md").read_text()
    table = page.partition("| section |")[2].partition("\n\n")[0]
    explained = re.findall(r"^\| ([A-Z][\w ]+) \|", table, re.M)
    assert [title for title in explained if title in titles] == titles


# ------------------------------------------------------------------------ the troubleshooting


def texts(node: ast.AST) -> Iterator[str]:
    """Yield the strings of a syntax tree but docstrings; what an f-string fills in is ``…``."""
    docs = {id(part.value) for part in ast.walk(node) if isinstance(part, ast.Expr)}
    for part in ast.walk(node):
        if id(part) in docs:
            continue
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        elif isinstance(part, ast.JoinedStr):
            pieces = (p.value if isinstance(p, ast.Constant) else "…" for p in part.values)
            yield "".join(map(str, pieces))


def test_every_message_of_the_troubleshooting_is_one_of_the_code() -> None:
    packages = ("affectline", "features", "heads", "stages")
    sources = [path for name in packages for path in (PROJECT / name).rglob("*.py")]
    said = [
        " ".join(text.split())
        for path in (*sources, Path(dvc.exceptions.__file__))
        for text in texts(ast.parse(path.read_text()))
    ]
    said += [(PROJECT / name).read_text() for name in ("Makefile", "stages/engine/run.sh")]
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|.*\|.*\|$", page, re.M)
    assert len(messages) > 40
    for message in messages:
        pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
        assert any(re.search(pattern, text) for text in said), message


# ------------------------------------------------------------------------- the worked examples


RUN = """
import sys
import torch
from torchvision.models import mobilenet_v3_small
from features.backbones import mobilenet
from stages import decode, extract, index, tables, train, weights
if __name__ == "__main__":
    torch.manual_seed(0)
    published = mobilenet_v3_small().state_dict()
    assert list(mobilenet.convert(published)) == list(mobilenet.build().state_dict())
    torch.save(published, "trained.pth")
    index.main()
    decode.main()
    weights.main("mobilenet")
    extract.main("mobilenet")
    tables.main()
    for experiment in sys.argv[1:]:
        train.main(experiment)
"""
"""The stages that the examples need, one after the other as DVC runs them, in one process.

In place of the download stands a file with torchvision's names and random numbers.
"""

EXAMPLES = ("mobilenet_average", "query")
"""The examples' experiments."""


def merged(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with others put into their sections."""
    for name, value in more.items():
        inner = base.get(name)
        base[name] = merged(inner, value) if isinstance(inner, dict) else value
    return base


def follow(clone: Clone, page: Path) -> dict[str, Any]:
    """Do in a clone what a page says: write its file, add its blocks to params.yaml."""
    named = re.search(r"Write\s`([\w/]+\.py)`", page.read_text())
    (source,) = blocks(page, "python")
    assert named is not None
    (clone.root / named[1]).write_text(source)
    block: dict[str, Any] = yaml.safe_load("".join(blocks(page, "yaml")))
    path = clone.root / "params.yaml"
    params = merged(yaml.safe_load(path.read_text()), block)
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return block


@pytest.mark.parametrize("name", ["add-a-backbone", "add-a-head"])
def test_a_worked_example_is_short_and_in_the_projects_style(name: str, tmp_path: Path) -> None:
    page = PROJECT / f"docs/{name}.md"
    assert len(page.read_text().splitlines()) < 60
    (source,) = blocks(page, "python")
    file = tmp_path / "example.py"
    file.write_text(source)
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--no-cache", "--config", str(PROJECT / "pyproject.toml"), str(file)]
    subprocess.run([*ruff, "check", "--ignore", "D", *settings], check=True)
    subprocess.run([*ruff, "format", "--check", *settings], check=True)


@pytest.mark.slow
def test_the_worked_examples_give_features_and_train_on_them(tmp_path: Path) -> None:
    clone = make_light_clone(tmp_path / "clone")
    clone.params(engine__workers=1, engine__runtime="torch", decode__views__segments__count=2)
    follow(clone, PROJECT / "docs/add-a-backbone.md")
    block = follow(clone, PROJECT / "docs/add-a-head.md")
    block["experiments"]["query"]["roles"] = {"frame": "mobilenet/pooled"}  # of a light clone
    clone.params(experiments__query=block["experiments"]["query"])
    clone.params(backbones__mobilenet__file="trained.pth")
    params = yaml.safe_load((clone.root / "params.yaml").read_text())
    for section, kept in (("backbones", ["mobilenet"]), ("experiments", EXAMPLES)):
        clone.params(**{section: {name: params[section][name] for name in kept}})
    (clone.root / "run.py").write_text(RUN)
    clone.run("python", "-m", "run", *EXAMPLES)
    arrays, about = read(clone.root / "data/features/mobilenet/joy/joy0.h5")
    assert arrays["pooled"].shape == (2, 576) and np.ptp(arrays["pooled"].astype(float)) > 0
    assert about["pretrained"] is True
    attention = pq.read_table(clone.root / "results/query/attention.parquet").to_pylist()
    assert {(row["name"], row["role"]) for row in attention} == {("frames", "frame")}
    assert {round(row["value"], 4) for row in attention} != {0.5}, "two frames, not weighed alike"
    assert (clone.root / "results/mobilenet_average/predictions.parquet").is_file()


# ------------------------------------------------------------------------- citation, packaging

NEEDED = {"cff-version", "message", "title", "authors"}
KNOWN = NEEDED | {"type", "abstract", "version", "license", "references"}
NEEDED_OF_REFERENCE = {"type", "title", "authors"}
KNOWN_OF_REFERENCE = NEEDED_OF_REFERENCE | {
    *("journal", "collection-title", "year", "volume", "start", "end", "notes")
}
"""Keys of the Citation File Format 1.2.0: the needed ones, and those that are used here."""


def test_the_citation_is_valid_and_names_the_five_papers() -> None:
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert NEEDED <= set(cited) <= KNOWN
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert str(cited["version"]) == project["version"]
    assert cited["license"] == project["license"]
    assert cited["authors"] == [{"name": "affectline contributors"}] == project["authors"]
    assert len(cited["references"]) == 5
    for reference in cited["references"]:
        assert NEEDED_OF_REFERENCE <= set(reference) <= KNOWN_OF_REFERENCE
        assert reference["type"] in ("article", "conference-paper")
        assert isinstance(reference["year"], int)
        head = PROJECT / reference["notes"].split()[-1]  # whose docstring cites the same paper
        said = " ".join((ast.get_docstring(ast.parse(head.read_text())) or "").split())
        assert reference["title"] in said and str(reference["year"]) in said
        for author in reference["authors"]:
            assert set(author) == {"family-names", "given-names"}
            assert f"{author['given-names'][0]}. {author['family-names']}" in said


def test_the_package_is_not_for_an_index() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert "Private :: Do Not Upload" in settings["project"]["classifiers"]
    assert "urls" not in settings["project"]


def test_the_package_has_every_file_of_its_rooms() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = set(find_packages(str(PROJECT), **settings["packages"]["find"]))
    listed = subprocess.run(
        ["git", "ls-files", "affectline", "features", "heads", "sample", "stages"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "affectline/presets/ve8.yaml" in listed
    for path in map(Path, listed):
        room = next(above for above in path.parents if ".".join(above.parts) in rooms)
        data = settings["package-data"].get(".".join(room.parts), [])
        is_code = path.suffix == ".py" and path.parent == room
        assert is_code or any(path.relative_to(room).match(pattern) for pattern in data), path


def locked(name: str) -> dict[str, list[str]]:
    """Return package -> its pinned version and hashes, in the order of a lock file."""
    pins: dict[str, list[str]] = {}
    for line in (PROJECT / name).read_text().splitlines():
        if pin := re.match(r"([a-z0-9-]+)==\S+", line):
            pins[pin[1]] = [line]
        elif line.startswith("    --hash"):
            pins[next(reversed(pins))].append(line)
    return pins


def test_the_lock_files_agree_and_have_what_the_project_asks_for() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = settings["optional-dependencies"]
    lock, scenarios = locked("requirements.lock"), locked("requirements-scenarios.lock")
    assert {name: scenarios.get(name) for name in lock} == lock
    for pins, asked in (
        (lock, [*settings["dependencies"], *extras["dev"]]),
        (scenarios, [*extras["remotes"], *extras["scenarios"]]),
    ):
        for each in map(Requirement, asked):
            line, *hashes = pins[canonicalize_name(each.name)]
            assert each.specifier.contains(re.split("==| |$", line)[1]), line
            assert hashes, line


def test_ci_calls_what_a_person_calls_on_each_python() -> None:
    settings = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())
    job = settings["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    entries = {hook["entry"].split()[0] for repo in hooks for hook in repo["hooks"]}
    assert entries == {"ruff", "mypy"}
