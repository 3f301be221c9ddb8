import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

import heads
from affectline.cli import app
from features.cache.keys import PROJECT
from stages.results.compare import CORRECTED, MCNEMAR, compare, paper_tables
from tests.stages.results.made_results import write_result

FACE = {"face": "vggface/fc6"}
REFERENCES, _ = heads.references()


@pytest.fixture
def project(in_folder: Path) -> Path:
    """Work in a folder that is a project, as the command asks."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    return in_folder


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, " ".join(done.output.split())


def test_runs_are_compared_in_pairs(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", accuracy=0.8, videos=30, runs=5, seed=1)
    second = write_result(tmp_path, "face", accuracy=0.5, videos=30, runs=5, seed=2)
    found = compare(first, second)
    a, b = np.array(list(found.runs.values())).T
    assert a.mean() == pytest.approx(first.metrics["accuracy"]["mean"], abs=1e-6)
    assert b.mean() == pytest.approx(second.metrics["accuracy"]["mean"], abs=1e-6)
    plain = stats.ttest_rel(a, b)
    assert found.plain is not None
    assert found.plain["p"] == pytest.approx(plain.pvalue)
    # 60 videos train and 30 test: 1/5 becomes 1/5 + 1/2
    t = plain.statistic * np.sqrt((1 / 5) / (1 / 5 + 1 / 2))
    assert found.test == CORRECTED
    assert found.difference["p"] == pytest.approx(2 * stats.t.sf(t, 4))


def test_a_single_split_is_compared_video_by_video(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", accuracy=0.8, videos=60, runs=1, seed=1)
    second = write_result(tmp_path, "face", accuracy=0.5, videos=60, runs=1, seed=2)
    found = compare(first, second)
    right = [
        {row["video_id"]: row["label"] == row["predicted"] for row in result.predictions}
        for result in (first, second)
    ]
    ours = sum(right[0][video] and not right[1][video] for video in right[0])
    theirs = sum(right[1][video] and not right[0][video] for video in right[0])
    assert (found.difference["only_first"], found.difference["only_second"]) == (ours, theirs)
    assert (found.test, found.plain) == (MCNEMAR, None)
    assert found.difference["p"] == pytest.approx(stats.binomtest(ours, ours + theirs).pvalue)


def test_other_test_videos_are_listed(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan")
    second = write_result(tmp_path, "face", skip=["joy/v1001"])
    with pytest.raises(ValueError, match=r"only caan answers split_01: joy/v1001: train both"):
        compare(first, second)
    lacking = [f"joy/v{run}{at:03d}" for run in range(3) for at in (1, 4)]
    third = write_result(tmp_path, "third", skip=lacking)
    with pytest.raises(ValueError, match="joy/v0001, split_00: joy/v0004, .* and 3 more"):
        compare(third, first)


def test_other_runs_are_listed(tmp_path: Path) -> None:
    first, second = write_result(tmp_path, "caan"), write_result(tmp_path, "face", runs=1)
    with pytest.raises(ValueError, match="caan has split_00, split_01, split_02; face has split_0"):
        compare(first, second)


def test_the_command_prints_the_runs_and_both_tests(project: Path) -> None:
    for seed, name in enumerate(("caan", "face")):
        write_result(Path("results"), name, videos=30, seed=seed)
    code, said = run("compare", "caan", "face")
    assert code == 0
    for text in (
        "split_02",
        "points, corrected 95 % interval",
        "corrected resampled t-test over 3 runs",
    ):
        assert text in said
    code, said = run("compare", "caan", "face", "--json")
    found = json.loads(said)
    assert code == 0 and list(found["runs"]) == ["split_00", "split_01", "split_02"]
    assert found["difference"]["mean"] == pytest.approx(
        np.mean([a - b for a, b in found["runs"].values()])
    )


def test_the_command_says_what_cannot_be_compared(project: Path) -> None:
    write_result(Path("results"), "caan")
    code, said = run("compare", "caan", "caan_average")
    assert code == 1 and "results/caan_average: expected the results of train@caan_average" in said
    code, said = run("compare", "caan", "caan")
    assert code == 1 and "caan: expected two experiments, found one twice" in said
    write_result(Path("results"), "face", runs=1)
    code, said = run("compare", "caan", "face")
    assert code == 1 and "have other runs" in said


def test_an_experiment_without_a_difference_to_judge_by_says_so(project: Path) -> None:
    write_result(Path("results"), "caan", accuracy=1.0)
    write_result(Path("results"), "face", accuracy=0.0)
    code, said = run("compare", "caan", "face")
    assert code == 0 and "the same in every run: no interval and no p" in said


def test_an_experiment_stands_in_every_row_that_has_its_head_roles_and_params(
    tmp_path: Path,
) -> None:
    caan = write_result(tmp_path, "caan", params={"score_layers": 1})
    face = write_result(tmp_path, "face", head="pooling", roles=FACE | {"face_map": "vggface/x"})
    tables = {(t.paper, t.table, t.data): t.rows for t in paper_tables([caan, face], REFERENCES)}
    layers = {said.name: [r.name for r in same] for said, same in tables["CAAN", "Table 2", "HEIV"]}
    assert layers["fusion, 1FC"] == ["caan"]
    assert layers["fusion, 2FC"] == layers["face, 1FC"] == []
    rows = {said.name: [r.name for r in same] for said, same in tables["CAAN", "Table 3", "HEIV"]}
    assert rows["fusion, attention"] == []  # which has the default, three layers
    assert rows["face, average"] == ["face"]
    assert rows["fusion, average"] == []


def test_a_null_is_the_row_that_says_what_it_stands_for_and_the_reverse(tmp_path: Path) -> None:
    own = write_result(tmp_path, "own")
    three = write_result(tmp_path, "three", params={"score_layers": 3})
    tables = {(t.paper, t.table, t.data): t.rows for t in paper_tables([own, three], REFERENCES)}
    for table, row in (("Table 2", "fusion, 3FC"), ("Table 3", "fusion, attention")):
        rows = {said.name: [r.name for r in same] for said, same in tables["CAAN", table, "HEIV"]}
        assert rows[row] == ["own", "three"]


def test_only_tables_with_a_row_that_was_run_are_shown_in_the_papers_order(tmp_path: Path) -> None:
    face = write_result(tmp_path, "face", head="pooling", roles=FACE)
    tables = paper_tables([face], REFERENCES)
    assert all(any(same for _, same in table.rows) for table in tables)
    caan = [table.table for table in tables if table.paper == "CAAN"]
    assert caan == ["Table 3"]
    sound = write_result(tmp_path, "sound", head="pooling", roles={"sound": "vggish/embedding"})
    assert paper_tables([sound], REFERENCES) == []


def test_every_row_of_every_head_can_be_found() -> None:
    for name in heads.names():
        head = heads.load(name)
        fields = vars(heads.validate(head, {}))
        for said in head.REFERENCE:
            assert set(said.params) <= set(fields), said


def test_a_searched_experiment_is_compared_with_an_unsearched_one_in_plain_words(
    project: Path,
) -> None:
    write_result(project / "results", "caan", tried=20)
    write_result(project / "results", "face", seed=1)
    code, said = run("compare", "caan", "face")
    assert code == 0 and "not compared alike: of caan 20 settings were tried" in said
    code, said = run("compare", "caan", "face", "--json")
    assert code == 0 and json.loads(said)["unlike"].startswith("not compared alike")
