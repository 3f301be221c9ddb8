"""Pairs: every two experiments compared, so that a page can show any two without computing.

The statistics are those of `compare`, for all pairs of a group at once: a group is the experiments
that answered the same videos in the same runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heads.training.metrics import mcnemars, paired_differences
from stages.results.compare import CORRECTED, MCNEMAR, answers_of, check_same, test_per_train
from stages.results.files import Result
from stages.results.scores import best_first, run_accuracies
from stages.results.searched import tried
from stages.results.table import Column, Table

MOST_REASONS = 300
"""Pairs of groups of which the page says what differs; of more it says where to ask."""

MOST_LISTED = 30
"""Experiments whose pairs are written to files too; 200 would have 19,900."""

_ASK = (
    "{first} and {second} have other runs or other test videos: "
    "`affectline compare {first} {second}` says which"
)
_STATISTICS = ("mean", "ci95_low", "ci95_high", "p")

Key = tuple[tuple[str, frozenset[tuple[str, str]]], ...]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Experiments that can be compared.

    Attributes:
        results: of them.
        test: `CORRECTED`, or `MCNEMAR` where there is a single run.
        statistics: `mean`, `ci95_low`, `ci95_high` and `p`, each (E, E): [i, j] says how much
            better the i-th is than the j-th; NaN where there is none.
    """

    results: list[Result]
    test: str
    statistics: Mapping[str, Numbers]


def groups_of(results: Sequence[Result]) -> list[Group]:
    """Return the groups, in the order of their first experiments."""
    by_key: dict[Key, list[Result]] = {}
    for result in results:
        answers = answers_of(result)
        key = tuple((run, frozenset(videos)) for run, videos in answers.items())
        by_key.setdefault(key, []).append(result)
    return [_group(members) for members in by_key.values()]


def _group(results: list[Result]) -> Group:
    answers = [answers_of(result) for result in results]
    if len(answers[0]) > 1:
        accuracies = np.array([list(run_accuracies(result).values()) for result in results])
        ratios = np.array([test_per_train(result) for result in results])
        said = paired_differences(
            accuracies[:, None] - accuracies[None], (ratios[:, None] + ratios[None]) / 2
        )
        return Group(results, CORRECTED, {name: said[name] for name in _STATISTICS})
    (videos,) = answers[0].values()
    right = np.array([[run[key] for key in videos] for each in answers for run in each.values()])
    alone = right.astype(np.int64) @ (~right).T.astype(np.int64)
    return Group(results, MCNEMAR, mcnemars(alone, alone.T, len(videos)))


def embedded(results: Sequence[Result], groups: Sequence[Group]) -> dict[str, object]:
    """Return what a page's script looks up, in as few letters as can be.

    `names`
        the experiments; below, an experiment is its place among them.
    `start`
        the two that are shown first, the most accurate.
    `group`, `place`
        of each, which group it is in and where.
    `runs`, `tests`
        of each group, the names of its runs and its test.
    `videos`, `right`
        of each group, test videos of each run; of each experiment, those that it answers rightly.
    `tried`
        of each experiment, how many settings were tried.
    `mean`, `low`, `high`, `p`
        of each group, of the pairs 0 and 1, 0 and 2, ..., 1 and 2, ...: tenths of a point, p in
        thousandths where 0 is less than one; null where there is none.
    `reasons`
        of two groups, `"0,1"`, why theirs cannot be compared, for `{first}` and `{second}`.
    """
    where = {r.name: (g, at) for g, each in enumerate(groups) for at, r in enumerate(each.results)}
    ranked = [results.index(result) for result in best_first(results)]
    return {
        "names": [result.name for result in results],
        "start": ranked[:2],
        "group": [where[result.name][0] for result in results],
        "place": [where[result.name][1] for result in results],
        "runs": [list(run_accuracies(group.results[0])) for group in groups],
        "tests": [group.test for group in groups],
        "videos": [[len(run) for run in _runs(group.results[0])] for group in groups],
        "tried": [tried(result) for result in results],
        "right": [[sum(run.values()) for run in _runs(result)] for result in results],
        **{
            name: [_tenths(_upper(group.statistics[key])) for group in groups]
            for name, key in (("mean", "mean"), ("low", "ci95_low"), ("high", "ci95_high"))
        },
        "p": [_thousandths(_upper(group.statistics["p"])) for group in groups],
        "reasons": _reasons(groups),
    }


def _runs(result: Result) -> list[dict[tuple[str, str], bool]]:
    """Return what `answers_of` has of each run."""
    return list(answers_of(result).values())


def _upper(values: Numbers) -> list[float]:
    """Return what stands right of the diagonal, row by row."""
    upper: list[float] = values[np.triu_indices(len(values), 1)].tolist()
    return upper


def _tenths(shares: Sequence[float]) -> list[int | None]:
    """Return shares in tenths of a per cent, rounded as the page's tables round them."""
    return [None if np.isnan(x) else int(f"{100 * x:.1f}".replace(".", "")) for x in shares]


def _thousandths(values: Sequence[float]) -> list[int | None]:
    """Return p values in thousandths; 0 is less than one."""
    return [
        None if np.isnan(p) else 0 if p < 0.001 else int(f"{p:.3f}".replace(".", ""))
        for p in values
    ]


def _reasons(groups: Sequence[Group]) -> dict[str, str]:
    """Return why experiments of two groups cannot be compared."""
    answers = [answers_of(group.results[0]) for group in groups]
    places = [(one, two) for two in range(len(groups)) for one in range(two)]
    if len(places) > MOST_REASONS:
        return {"": _ASK}
    reasons = {}
    for one, two in places:
        try:
            check_same("{first}", "{second}", answers[one], answers[two])
        except ValueError as error:
            reasons[f"{one},{two}"] = str(error)
    return reasons


def pairs_table(groups: Sequence[Group]) -> Table:
    """Return every pair that can be compared, a row each."""
    rows = []
    for group in groups:
        numbers = {name: _upper(values) for name, values in group.statistics.items()}
        firsts, seconds = np.triu_indices(len(group.results), 1)
        for at, (one, two) in enumerate(zip(firsts, seconds, strict=True)):
            mean, low, high, p = (
                None if np.isnan(numbers[name][at]) else numbers[name][at] for name in _STATISTICS
            )
            pair = group.results[one], group.results[two]
            names = [result.name for result in pair]
            rows.append((*names, mean, (low, high), p, group.test, *map(tried, pair)))
    columns = (
        Column("experiment"),
        Column("less"),
        Column("difference, points", "points"),
        Column("95 % interval", "difference"),
        Column("p", "p"),
        Column("test"),
        Column("settings tried", "count"),
        Column("of less", "count"),
    )
    return Table(columns, rows, "Accuracy of each experiment less that of another, run by run")
