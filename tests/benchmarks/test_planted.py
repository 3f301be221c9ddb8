import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
import typer
from numpy.random import default_rng
from planted import Outcome, attention_auc, judge, rank_auc
from seekers import Entry, Scenario, scenarios
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from heads import Roles, Rows

SCENARIOS = scenarios()


def tiny(name: str) -> Scenario:
    scenario = SCENARIOS[name]
    training = replace(scenario.training, epochs=1, batch_videos=8)
    return replace(scenario, train=12, test=6, training=training)


def outcomes(**accuracies: Sequence[float]) -> list[dict[str, Outcome]]:
    seeds = range(len(accuracies["pooling"]))
    return [
        {name: Outcome(values[seed], None, 1.0) for name, values in accuracies.items()}
        for seed in seeds
    ]


def with_entries(*entries: Entry) -> Scenario:
    return replace(SCENARIOS["frames"], entries=entries)


BASELINE = Entry("pooling", "baseline", "pooling", {"face": "row"}, {})
MECHANISM = Entry("caan", "mechanism", "caan", {"face": "row"}, {}, "pooling")
LOW, HIGH = [0.30, 0.33, 0.31, 0.29], [0.80, 0.85, 0.79, 0.83]


def test_rank_auc_is_the_area_under_the_roc_curve() -> None:
    draw = default_rng(0)
    for _ in range(20):
        weights = draw.integers(0, 6, size=15).astype(np.float32)  # with ties
        where = np.isin(np.arange(15), draw.permutation(15)[:4])
        assert rank_auc(weights, where) == pytest.approx(roc_auc_score(where, weights))


def test_rank_auc_of_one_kind_alone_is_no_number() -> None:
    assert math.isnan(rank_auc(np.ones(3), np.ones(3, bool)))
    assert math.isnan(rank_auc(np.ones(3), np.zeros(3, bool)))


@pytest.mark.parametrize(
    ("scenario", "role"),
    [("frames", "row"), ("regions", "map"), ("channels", "map"), ("relation", "map")],
)
def test_weights_that_are_the_truth_rank_perfectly(scenario: str, role: str) -> None:
    found = SCENARIOS[scenario].plant(default_rng(0), 8)
    for sample, truth in zip(found.samples, found.truth, strict=True):
        weights = truth[role].astype(np.float32)
        if scenario == "channels":  # all the weight on one channel of the group
            weights = np.stack([weights, 0 * weights], axis=2).reshape(len(weights), -1)
        weights[~sample.mask[role]] = 1 - weights[~sample.mask[role]]  # nobody looks there
        assert attention_auc(weights, Rows("face"), {"face": role}, sample, truth) == 1
        assert attention_auc(-weights, Rows("face"), {"face": role}, sample, truth) == 0


def test_weights_of_modalities_are_ranked_over_those_that_are_there() -> None:
    found = SCENARIOS["modalities"].plant(default_rng(0), 30)
    roles = {"visual": "face", "audio": "scene", "skeleton": "sound"}
    of = Roles(tuple(roles))
    for sample, truth in zip(found.samples, found.truth, strict=True):
        there = np.array([sample.mask[role].any() for role in roles.values()])
        weights = np.array([truth[role] for role in roles.values()], dtype=np.float32)
        weights[~there] = 9.0
        auc = attention_auc(weights, of, roles, sample, truth)
        assert auc == 1 or (math.isnan(auc) and there.sum() == 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_head_of_every_scenario_runs(name: str) -> None:
    scenario = tiny(name)
    names = [entry.name for entry in scenario.entries]
    assert len(set(names)) == len(names)
    assert names[0] == "pooling" and scenario.entries[0].kind == "baseline"
    found = scenario.plant(default_rng(0), scenario.train + scenario.test)
    for entry in scenario.entries:
        assert entry.beats is None or entry.beats in names
        assert entry.kind != "mechanism" or entry.beats is not None
        outcome, run = planted.run_entry(scenario, entry, found, 0)
        assert 0 <= outcome.accuracy <= 1
        assert (outcome.auc is None) == (entry.attention is None)
        assert len(run.labels) == scenario.test


def test_attention_finds_planted_frames_where_the_mean_does_not() -> None:
    scenario = SCENARIOS["frames"]
    entries = [entry for entry in scenario.entries if entry.name in ("pooling", "caan")]
    found = scenario.plant(default_rng(0), scenario.train + scenario.test)
    mean, caan = (planted.run_entry(scenario, entry, found, 0)[0] for entry in entries)
    assert caan.accuracy > mean.accuracy + 0.3
    assert caan.auc is not None and caan.auc > 0.95


def test_a_mechanism_that_beats_its_ablation_holds() -> None:
    baseline, mechanism = judge(with_entries(BASELINE, MECHANISM), outcomes(pooling=LOW, caan=HIGH))
    assert (baseline.verdict, baseline.failed, baseline.gain_pooling) == ("", False, None)
    assert (mechanism.verdict, mechanism.failed) == ("holds", False)
    assert mechanism.gain == pytest.approx(0.51) == mechanism.gain_pooling
    assert mechanism.p is not None and mechanism.p < 0.01


def test_a_mechanism_without_a_sure_gain_fails() -> None:
    wild = [0.95, 0.30, 0.99, 0.31]
    for values in (LOW, wild):
        runs = outcomes(pooling=LOW, caan=values)
        found = judge(with_entries(BASELINE, MECHANISM), runs)[1]
        assert (found.verdict, found.failed) == ("misses gain", True)


def test_attention_that_ranks_nothing_fails_where_it_must_rank() -> None:
    runs = [
        {"pooling": Outcome(low, None, 1.0), "caan": Outcome(high, 0.6, 1.0)}
        for low, high in zip(LOW, HIGH, strict=True)
    ]
    for ranks, verdict in ((True, "misses AUC"), (False, "holds")):
        entry = replace(MECHANISM, ranks=ranks, attention="frame_scores")
        assert judge(with_entries(BASELINE, entry), runs)[1].verdict == verdict


def test_a_literal_equation_that_does_not_work_is_no_failure() -> None:
    entry = replace(MECHANISM, kind="literal")
    found = judge(with_entries(BASELINE, entry), outcomes(pooling=LOW, caan=LOW))[1]
    assert (found.verdict, found.failed) == ("misses gain", False)


def test_nobody_may_be_worse_than_chance() -> None:
    entry = replace(MECHANISM, kind="rival")
    runs = outcomes(pooling=LOW, caan=[0.11, 0.12, 0.10, 0.13])
    found = judge(with_entries(BASELINE, entry), runs)[1]
    assert (found.verdict, found.failed) == ("below chance", True)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(planted, "scenarios", lambda: {name: tiny(name) for name in SCENARIOS})
    app = typer.Typer()
    app.command()(planted.main)
    found = CliRunner().invoke(app, [*arguments, "--workers", "1"])
    return found.exit_code, found.output


def test_the_table_goes_to_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "out.json"), "--markdown", str(tmp_path / "out.md")]
    code, output = run_main(monkeypatch, "--quick", "--only", "channels", *files)
    assert code == 0, output
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert lines[0].count("|") == len(planted.COLUMNS) + 1 == lines[2].count("|")
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [e.name for e in SCENARIOS["channels"].entries]
    assert all(len(row["accuracies"]) == planted.QUICK_SEEDS for row in rows)
    assert not any(row["verdict"] for row in rows)


def test_a_failed_mechanism_is_told_by_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run_main(monkeypatch, "--seeds", "2", "--only", "channels")
    assert code == 1
    assert "failed: channels: vaanet channel" in output


def test_an_unknown_scenario_lists_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run_main(monkeypatch, "--only", "smells")
    assert code == 2
    assert "smells" in output and "frames" in output
