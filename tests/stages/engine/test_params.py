from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.engine.params import ParamsError, load_params
from tests.papers import papers_params


@pytest.fixture
def raw() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(papers_params())
    return loaded


def load(tmp_path: Path, raw: object) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    load_params(tmp_path / "params.yaml")


def test_the_projects_own_file_is_right(tmp_path: Path, raw: dict[str, Any]) -> None:
    load(tmp_path, raw)


VALENCE = {"kind": "dimensions", "columns": ["valence", "arousal"], "range": [1, 9]}

WRONG = [
    ("max_failed", 1.5, r"max_failed: found 1.5; .*less than or equal to 1"),
    ("max_failed", "many", r"max_failed: found 'many'; .*number"),
    ("index.splits.runs", 0, r"index\.splits\.runs: found 0; .*greater than or equal to 1"),
    ("engine.executor", "sge", r"engine\.executor: found 'sge'; .*'slurm'"),
    ("engine.slurm", {"jobs": 0}, r"engine\.slurm\.jobs: found 0; .*greater than or equal to 1"),
    ("engine.slurm", {"gpus": 2}, r"engine\.slurm\.gpus: found 2; .*less than or equal to 1"),
    ("engine.slurm", {"time": 60}, r"engine\.slurm\.time: unknown key, did you mean 'time_min'\?"),
    ("index.splits.run", 3, r"index\.splits\.run: unknown key, did you mean 'runs'\?; allowed: "),
    ("index.splits.kind", "loo", r"index\.splits\.kind: found 'loo'; .*'leave_one_group_out'"),
    (
        "index.splits",
        {"kind": "kfold", "runs": 3, "seed": 0},
        r"splits: folds: missing; runs: not of this kind; kfold takes folds, seed, \[groups\]",
    ),
    (
        "index.splits",
        {"runs": 3, "seed": 0},
        r"splits: test_share: missing; without a kind it takes ",
    ),
    ("index.splits", {"kind": "cross_corpus", "corpus": "c", "groups": "c"}, "which is the corpus"),
    ("index.splits.map", {"a": {"b": "c"}}, r"splits: map: not of this kind; without"),
    ("backbones.vgg16.sed", 3, r"backbones\.vgg16\.sed: unknown key, did you mean 'seed'\?"),
    ("backbones.vgg16.source", "best", r"backbones\.vgg16\.source: found 'best'; .*'pretrained'"),
    ("backbones.vgg16.view", "frames", r"backbones\.vgg16\.view: found 'frames'; .*'segments'"),
    ("decode.views.uniform.count", "100", r"uniform\.count: found '100'; .*integer"),
    ("experiments.caan.roles.face", "vgg19/fc6", r"roles\.face: found the backbone 'vgg19'"),
    ("experiments.caan.roles.face", "vggface", r"roles\.face: found 'vggface', expected <backb"),
    ("experiments.caan.weights", {"face": "vgg19"}, r"weights\.face: found the backbone 'vgg19'"),
    ("experiments.caan.weights", {"nose": "vggface"}, r"weights\.nose: found the role 'nose'"),
    ("experiments.caan.with", 3, r"experiments\.caan\.with: found 3; .*dictionary"),
    ("decode.views.segments.length", 4, r"decode\.views\.segments: .*length"),
    ("report", ["a" * 200], r"report: found \['a{78} …; it should be"),
    ("backbones.vgg16.module", "VGG", r"vgg16\.module: found 'VGG', expected a name of small"),
    ("backbones.vgg16.module", "imported", r"vgg16: found source seeded and module imported"),
    ("backbones.vgg16.source", "imported", r"vgg16: found source imported and module vgg16"),
    (
        "backbones.vgg16",
        {"module": "imported", "source": "imported", "view": "none"},
        r"vgg16: file: missing; `affectline import` writes it",
    ),
    (
        "experiments",
        {"My X": {"head": "caan", "roles": {"face": "vggface/fc6"}}},
        r"My X: found 'M",
    ),
    ("index.targets", {"va": {**VALENCE, "range": [1, 1]}}, r"targets\.va: range: .*\[1"),
    ("index.targets", {"va": {**VALENCE, "range": None}}, r"targets\.va: range: expected"),
    ("index.targets", {"va": {**VALENCE, "names": ["a"]}}, r"targets\.va: names: expected"),
    (
        "index.targets",
        {"va": {**VALENCE, "kind": "labels"}},
        r"columns: expected one of kind labels",
    ),
    ("index.targets", {"va": {**VALENCE, "columns": ["label"]}}, r"va: columns: expected some of"),
    ("index.targets", {"va": VALENCE, "b": VALENCE}, r"index: targets: .*'valence' in several"),
    (
        "index.targets",
        {"f": {"kind": "labels", "columns": ["feelings"], "names": ["a|b"]}},
        r"targets\.f: names: .*without \|",
    ),
    ("experiments.caan.target", "va", r"experiments\.caan\.target: found 'va', expected one of"),
    ("colour", 3, r"colour: unknown key; .*allowed: max_failed, engine, "),
]


@pytest.mark.parametrize(("where", "value", "words"), WRONG)
def test_what_is_wrong_is_said_with_its_place_and_what_is_allowed(
    tmp_path: Path, raw: dict[str, Any], where: str, value: object, words: str
) -> None:
    *sections, key = where.split(".")
    place = raw
    for section in sections:
        place = place[section]
    place[key] = value
    with pytest.raises(ParamsError, match=words):
        load(tmp_path, raw)


def test_a_missing_section_is_named(tmp_path: Path, raw: dict[str, Any]) -> None:
    del raw["faces"]["margin"]
    with pytest.raises(ParamsError, match=r"faces\.margin: missing"):
        load(tmp_path, raw)


def test_everything_wrong_is_told_at_once(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["max_failed"], raw["sample"]["seed"] = 2, -1
    with pytest.raises(ParamsError, match="max_failed(.|\n)*sample.seed"):
        load(tmp_path, raw)


def test_a_key_that_stands_twice_is_named_with_both_lines(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    path = tmp_path / "params.yaml"
    text = papers_params()
    first = text.splitlines().index("  caan:") + 1
    again = "  caan: {head: pooling, roles: {face: vggface/fc6}, with: {a: 1, 'a': 2}}\n"
    path.write_text(text.replace("report:\n", again + "\nreport:\n"))
    last = path.read_text().splitlines().index(again.strip("\n")) + 1
    with pytest.raises(ParamsError) as told:
        load_params(path)
    lines = str(told.value).splitlines()
    assert f"experiments.caan: found twice, in line {first} and in line {last}, " in lines[0]
    assert f"experiments.caan.with.a: found twice, in line {last} and in line {last}" in lines[1]
    path.write_text(text + "\n0: &a {true: 1}\n1: {<<: *a, x: [{1: 2, 0x1: 3}]}\n")
    with pytest.raises(ParamsError, match=r"params.yaml: 1\.x\.0\.0x1: found twice, in line"):
        load_params(path)
    path.write_text(text + "\nu: &a {b: 1}\nv: {<<: *a, b: *a}\n")  # said otherwise, not twice
    with pytest.raises(ParamsError, match="u: unknown key"):
        load_params(path)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "a: !!python/object/apply:os.system [ls]"])
def test_what_is_no_params_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match="params.yaml"):
        load_params(tmp_path / "params.yaml")
