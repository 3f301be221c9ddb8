"""compare: what two experiments' accuracies say of each other, and of the papers' tables.

Two experiments are compared run by run, on the same test videos. `affectline compare` prints it;
the report shows every experiment beside the first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heads import Reported
from heads.training.metrics import mcnemar, paired_difference
from heads.training.targets import MEASURES
from stages.results.files import Result
from stages.results.searched import unlike
from stages.results.told import run_scores

CORRECTED = "corrected resampled t-test"
MCNEMAR = "McNemar's exact test"

_SHOWN = 3
"""So many videos are named in a message."""

Difference = Mapping[str, float | int | None]


@dataclass(frozen=True)
class Comparison:
    """Two experiments on the same runs; a difference is first - second.

    Attributes:
        first: name of the one.
        second: name of the other.
        measure: of their target, accuracy, mAP or CCC.
        runs: run -> that of the first and of the second.
        test: `CORRECTED`, or `MCNEMAR` where there is a single run.
        difference: what `heads.training.metrics` says by that test.
        plain: what the paired t-test says, which takes the runs as independent; None with one.
        unlike: what has to be said beside it, where one was searched and the other not, or less.
    """

    first: str
    second: str
    measure: str
    runs: dict[str, tuple[float, float]]
    test: str
    difference: Difference
    plain: Difference | None
    unlike: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper, as far as the heads know it, with the experiments that are its rows.

    Attributes:
        paper: short name.
        table: `Table 4`.
        data: the data set.
        rows: what the paper says, and the results that have the same head, roles and params.
    """

    paper: str
    table: str
    data: str
    rows: list[tuple[Reported, list[Result]]]


def compare(first: Result, second: Result) -> Comparison:
    """Compare two experiments that tell the same target, by its measure.

    Raises:
        ValueError: they tell other targets, or have other runs or other test videos; the message
            lists which.
    """
    if first.target != second.target:
        raise ValueError(
            f"{first.name} is measured by {_measured(first)}, {second.name} by "
            f"{_measured(second)}: no difference between the two means anything, compare "
            "experiments of one target"
        )
    measure = first.target.measure
    ours, theirs = answers_of(first), answers_of(second)
    check_same(first.name, second.name, ours, theirs)
    right = {
        run: (np.array(list(ours[run].values())), np.array([theirs[run][key] for key in ours[run]]))
        for run in ours
    }
    said = unlike(first, second)
    runs = {run: (float(a.mean()), float(b.mean())) for run, (a, b) in right.items()}
    if first.target.kind != "class":
        scores_of = [run_scores(result) for result in (first, second)]
        runs = {run: (scores_of[0][run], scores_of[1][run]) for run in runs}
        if len(runs) == 1:
            raise ValueError(
                f"{first.name} and {second.name} have a single run, whose difference in "
                f"{measure} has no test here: give index.splits several runs"
            )
    if len(runs) == 1:
        ((a, b),) = right.values()
        return Comparison(
            first.name, second.name, measure, runs, MCNEMAR, mcnemar(a, b), None, said
        )
    scores = [a for a, _ in runs.values()], [b for _, b in runs.values()]
    ratio = (test_per_train(first) + test_per_train(second)) / 2
    corrected = paired_difference(*scores, ratio)
    plain = paired_difference(*scores, 0)
    return Comparison(first.name, second.name, measure, runs, CORRECTED, corrected, plain, said)


def _measured(result: Result) -> str:
    target = result.target
    return f"{target.measure} of {target.name or 'the classes'} ({', '.join(target.names)})"


def test_per_train(result: Result) -> float:
    """Return test videos over training videos, the mean over the runs."""
    splits = result.about["splits"].values()
    return float(np.mean([split["test"] / split["train"] for split in splits]))


def answers_of(result: Result) -> dict[str, dict[tuple[str, str], bool]]:
    """Return run -> (video, what is true of it) -> whether the answer is right, by the run's name.

    An answer of dimensions is neither: it is not right.
    """
    answers: dict[str, dict[tuple[str, str], bool]] = {}
    names = result.target.names if result.target.kind == "dimensions" else ()
    for row in result.predictions:
        true = row["label"] if not names else [row[f"true_{name}"] for name in names]
        key = (str(row["video_id"]), str(true))
        is_right = not names and row["label"] == row["predicted"]
        answers.setdefault(str(row["run"]), {})[key] = is_right
    return dict(sorted(answers.items()))


def check_same(
    first: str,
    second: str,
    ours: Mapping[str, Mapping[tuple[str, str], bool]],
    theirs: Mapping[str, Mapping[tuple[str, str], bool]],
) -> None:
    """Check that two experiments answered the same videos in the same runs.

    Args:
        first: name of the one.
        second: name of the other.
        ours: what `answers_of` gives of the first.
        theirs: likewise, of the second.

    Raises:
        ValueError: they did not; the message lists what differs.
    """
    if set(ours) != set(theirs):
        raise ValueError(
            f"{first} and {second} have other runs: {first} has {', '.join(ours)}; "
            f"{second} has {', '.join(theirs)}: run both with the same index.splits"
        )
    only = {
        first: [f"{run}: {key[0]}" for run in ours for key in ours[run].keys() - theirs[run]],
        second: [f"{run}: {key[0]}" for run in theirs for key in theirs[run].keys() - ours[run]],
    }
    lines = [f"only {name} answers {_shorten(videos)}" for name, videos in only.items() if videos]
    if lines:
        raise ValueError(
            f"{first} and {second} have other test videos: {'; '.join(lines)}: train both on "
            "videos that have the features of both (`affectline failures` says what lacks)"
        )


def _shorten(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def tell(comparison: Comparison) -> list[str]:
    """Return what a comparison says, a line a test, and what is to be known of it."""
    return [*_tests(comparison), *([comparison.unlike] if comparison.unlike else [])]


def _tests(comparison: Comparison) -> list[str]:
    count = len(comparison.runs)
    if comparison.plain is None:
        difference = comparison.difference
        return [
            _line(comparison, comparison.difference, comparison.test),
            f"{difference['only_first']} videos are right in {comparison.first} alone, "
            f"{difference['only_second']} in {comparison.second} alone; the test speaks of new "
            "videos, not of new trainings",
        ]
    return [
        _line(
            comparison,
            comparison.difference,
            f"{comparison.test} over {count} runs, which share videos",
            "corrected 95 % interval",
        ),
        _line(
            comparison,
            comparison.plain,
            "plain paired t-test, as if the runs shared none: too sure",
        ),
    ]


def _line(
    comparison: Comparison, difference: Difference, test: str, interval: str = "95 % interval"
) -> str:
    low, high, p = difference["ci95_low"], difference["ci95_high"], difference["p"]
    is_share = comparison.measure != MEASURES["dimensions"]
    scale, form, unit = (100, "+.1f", "points") if is_share else (1, "+.3f", comparison.measure)
    mean = scale * (difference["mean"] or 0)
    start = f"{comparison.first} - {comparison.second}: {mean:{form}} {unit}"
    if low is None or high is None or p is None:
        return f"{start}, the same in every run: no interval and no p ({test})"
    ends = f"{scale * low:{form}} to {scale * high:{form}}"
    return f"{start}, {interval} {ends}, p = {p:.3g} ({test})"


def paper_tables(
    results: Sequence[Result], references: Mapping[str, Sequence[Reported]]
) -> list[PaperTable]:
    """Return the papers' tables of which at least one row was run, by paper and number.

    Args:
        results: which rows each of them is says its `about.json`.
        references: what the papers report of each head, :func:`heads.references`.
    """
    tables: dict[tuple[str, str, str], dict[str, tuple[Reported, list[Result]]]] = {}
    for head, reference in references.items():
        run = [(result, _places(result)) for result in results if result.about["head"] == head]
        for reported in reference:
            table = reported.paper, reported.table, reported.data
            same = [result for result, places in run if (*table, reported.name) in places]
            rows = tables.setdefault(table, {})
            rows.setdefault(reported.name, (reported, []))[1].extend(same)  # two heads, one row
    complete = [PaperTable(*table, list(rows.values())) for table, rows in tables.items()]
    shown = [table for table in complete if any(same for _, same in table.rows)]
    return sorted(shown, key=lambda table: (table.paper, _numbers(table.table)))


def _places(result: Result) -> set[tuple[str, ...]]:
    """Return where the papers have what an experiment is: paper, table, data and row."""
    return {
        tuple(row[name] for name in ("paper", "table", "data", "name"))
        for row in result.about["paper"]
    }


def _numbers(table: str) -> tuple[int, ...]:
    """Return what sorts `Table 9` before `Table 10`."""
    return tuple(int(digits) for digits in re.findall(r"\d+", table))
