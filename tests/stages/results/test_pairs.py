import json
import random
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from stages.results.compare import compare
from stages.results.files import Result
from stages.results.pairs import Group, embedded, groups_of, pairs_table
from stages.results.scores import run_accuracies
from tests.stages.results.made_results import write_result


def compared(groups: list[Group], first: Result, second: Result) -> dict[str, float]:
    """Return what a group says of two of its experiments."""
    (group,) = [each for each in groups if first in each.results]
    places = group.results.index(first), group.results.index(second)
    return {name: float(values[places]) for name, values in group.statistics.items()}


@pytest.mark.parametrize("runs", [1, 4])
def test_every_pair_is_what_compare_says(tmp_path: Path, runs: int) -> None:
    results = [
        write_result(tmp_path, f"e{n}", runs=runs, videos=24, accuracy=0.3 + n / 9, seed=n)
        for n in range(4)
    ]
    results.append(write_result(tmp_path, "twin", runs=runs, videos=24, accuracy=0.3, seed=0))
    results[2].about["splits"] = {run: {"train": 30, "test": 24} for run in results[2].runs}
    groups = groups_of(results)
    assert len(groups) == 1
    for first, second in permutations(results, 2):
        said = compare(first, second).difference
        for name, value in compared(groups, first, second).items():
            assert value == pytest.approx(said[name], abs=1e-12), (first.name, second.name, name)


def test_what_does_not_spread_has_no_interval_and_no_p(tmp_path: Path) -> None:
    right = write_result(tmp_path, "right", accuracy=1.0)
    wrong = write_result(tmp_path, "wrong", accuracy=0.0)
    said = compared(groups_of([right, wrong]), right, wrong)
    assert said["mean"] == 1 and all(np.isnan(said[n]) for n in ("ci95_low", "ci95_high", "p"))
    pairs = embedded([right, wrong], groups_of([right, wrong]))
    assert [pairs[name] for name in ("mean", "low", "high", "p")] == [
        [[1000]],
        [[None]],
        [[None]],
        [[None]],
    ]


def test_experiments_of_other_runs_are_a_group_apart_that_says_why(tmp_path: Path) -> None:
    results = [
        write_result(tmp_path, "a", seed=1),
        write_result(tmp_path, "odd", skip=["joy/v0001"]),
        write_result(tmp_path, "b", seed=2),
        write_result(tmp_path, "short", runs=2),
    ]
    pairs = embedded(results, groups_of(results))
    assert pairs["group"] == [0, 1, 0, 2] and pairs["place"] == [0, 0, 1, 0]
    reasons = pairs["reasons"]
    assert isinstance(reasons, dict) and sorted(reasons) == ["0,1", "0,2", "1,2"]
    assert "only {first} answers split_00: joy/v0001" in reasons["0,1"]
    assert "{first} and {second} have other runs" in reasons["0,2"]
    rows = pairs_table(groups_of(results)).rows
    assert [row[:2] for row in rows] == [("a", "b")]


def test_numbers_are_rounded_as_the_tables_have_them(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", videos=21, seed=n, runs=7) for n in range(3)]
    groups = groups_of(results)
    pairs = embedded(results, groups)
    table = pairs_table(groups)
    for name, column in (("mean", 2), ("p", 4)):
        shown = [table.columns[column].show(row[column]) for row in table.rows]
        values = pairs[name]
        assert isinstance(values, list)
        if name == "mean":
            assert [f"{v / 10:+.1f}".replace("-", "−") for v in values[0]] == shown
        else:
            assert [f"{v / 1000:.3f}" if v else "< 0.001" for v in values[0]] == shown


def test_runs_are_counts_of_videos(tmp_path: Path) -> None:
    one, odd = write_result(tmp_path, "one"), write_result(tmp_path, "odd", skip=["joy/v0001"])
    pairs = embedded([one, odd], groups_of([one, odd]))
    assert pairs["videos"] == [[12, 12, 12], [11, 12, 12]]
    shares = [[right / 12 for right in counts] for counts in pairs["right"][:1]]  # type: ignore
    assert shares == [list(run_accuracies(one).values())]


def test_two_hundred_experiments_stay_small(tmp_path: Path) -> None:
    draw = random.Random(0)
    one = write_result(tmp_path, "one", runs=10, videos=30)
    results = []
    for number in range(200):
        predictions = [
            {**row, "predicted": row["label"] if draw.random() < 0.6 else "other"}
            for row in one.predictions
        ]
        results.append(Result(**{**vars(one), "name": f"e{number}", "predictions": predictions}))
    groups = groups_of(results)
    text = json.dumps(embedded(results, groups), separators=(",", ":"))
    assert len(text) < 500_000
    assert len(json.loads(text)["mean"][0]) == 19_900
