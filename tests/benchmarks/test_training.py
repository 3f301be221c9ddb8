import json
from pathlib import Path

import pytest
import training
from training import PAPERS, Paper, app, bare, make_case, own, train_all
from typer.testing import CliRunner

import heads

SMALL = {
    "hamf": Paper(
        {"face": (3, 16), "face_map": (3, 4, 3, 3), "image": (3, 16), "image_map": (3, 4, 3, 3)},
        PAPERS["hamf"].train,
        {"local_channels": 4, "frame_hidden": 8, "hidden": 8, "global_hidden": (8, 8)},
    ),
    "mmf": Paper({"visual": (3, 8)}, PAPERS["mmf"].train, {"width": 8, "feedforward": 8}),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PAPERS", SMALL)


def test_the_five_papers_are_measured_at_the_shape_that_they_have() -> None:
    assert set(PAPERS) == {"hamf", "caan", "rdam", "mmf", "vaanet"}
    for name, paper in PAPERS.items():
        head = heads.load(name)
        assert head.ROLES is None or set(paper.roles) <= head.ROLES
        heads.validate(head, dict(paper.params))


@pytest.mark.parametrize(("name", "phases", "batches"), [("hamf", 2, 3), ("mmf", 1, 2)])
def test_both_competitors_take_the_same_steps(
    tmp_path: Path, name: str, phases: int, batches: int
) -> None:
    case = make_case(name, tmp_path, 32, 0, 8 if name == "hamf" else 0, 2)
    assert (len(case.train), len(case.test)) == (24, 8)
    assert own(case)[2] == bare(case)[2] == phases * batches * 2


def test_ratios_are_told_in_json() -> None:
    done = CliRunner().invoke(app, ["--only=mmf", "--videos=16", "--repeat=1", "--json"])
    assert done.exit_code == 0, done.output
    (rate,) = json.loads(done.stdout)["rates"]
    assert (rate["head"], rate["batch_videos"], rate["at_once"]) == ("mmf", 16, None)
    assert rate["wall"] > 0 and rate["cpu"] > 0 and rate["videos_per_s"] > 0


def test_runs_are_trained_as_the_stage_trains_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLINE_STORE", str(tmp_path / "store"))
    answers = train_all(make_case("mmf", tmp_path, 16, 0, 0, 1), runs=2, processes=0)
    assert len(set(answers)) == 2 and {len(each) for each in answers} == {8 * 8 * 4}
