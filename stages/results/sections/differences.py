"""Differences: every experiment less the first, and any two that a reader chooses."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from stages.results import figures
from stages.results.compare import MCNEMAR, Comparison, answers_of, check_same, compare
from stages.results.page import Inputs, Section
from stages.results.pairs import MOST_LISTED, Group, embedded, groups_of, pairs_table
from stages.results.searched import tried
from stages.results.table import Column, Strip, Table

TITLE = "Differences"

MOST_ROWS = 40
"""Experiments of the figure."""

MOST_REASONS = 8
"""Groups of experiments of which the page says why they cannot be compared with the first."""


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where there is one experiment alone."""
    results = inputs.results
    if len(results) == 1:
        return None
    groups = groups_of(results)
    comparisons = [compare(result, results[0]) for result in groups[0].results[1:]]
    is_listed = len(results) <= MOST_LISTED and any(len(group.results) > 1 for group in groups)
    content = {
        "first": results[0].name,
        "compared": len(comparisons),
        "unlike": any(each.unlike for each in comparisons),
        "single_run": bool(comparisons) and comparisons[0].test == MCNEMAR,
        "reasons": _reasons(groups)[:MOST_REASONS],
        "more_reasons": max(0, len(groups) - 1 - MOST_REASONS),
        "pairs": embedded(results, groups),
        "is_listed": is_listed,
    }
    tables, drawings = {}, {}
    if comparisons:
        tries = {result.name: tried(result) for result in groups[0].results}
        tables["differences"] = _table(comparisons, results[0].name, tries)
        drawings["differences"] = _figure(comparisons, results[0].name)
    if is_listed:
        tables["pairs"] = pairs_table(groups)
    return Section(TITLE, "differences.html", content, tables, drawings)


def _reasons(groups: Sequence[Group]) -> list[str]:
    """Return why experiments cannot be compared with the first, a line a group of them."""
    ours = groups[0].results[0]
    reasons = []
    for group in groups[1:]:
        name, *others = [result.name for result in group.results]
        more = f" (and {len(others)} more)" if others else ""
        try:
            check_same(f"{name}{more}", ours.name, answers_of(group.results[0]), answers_of(ours))
        except ValueError as error:
            reasons.append(str(error))
    return reasons


def _table(comparisons: Sequence[Comparison], first: str, tries: Mapping[str, int]) -> Table:
    reach = _reach(comparisons)
    end = f"{100 * reach:.0f}"
    some_unlike = any(each.unlike for each in comparisons)
    interval = "95 % interval" if comparisons[0].test == MCNEMAR else "corrected 95 % interval"
    columns = (
        Column("experiment"),
        Column("difference, points", "points"),
        Column(f"runs, −{end} to +{end} points", "strip"),
        Column(interval, "difference"),
        Column("p", "p"),
        *([Column("settings tried")] if some_unlike else []),
    )
    rows = [
        (
            each.first,
            _mean(each),
            Strip(_mean(each), *_ends(each), tuple(_gaps(each)), 0, (-reach, reach)),
            _ends(each),
            each.difference["p"],
            *([f"{tries[each.first]}, of {first} {tries[first]}"] if some_unlike else []),
        )
        for each in comparisons
    ]
    return Table(columns, rows, f"Accuracy of each experiment less that of {first}")


def _figure(comparisons: Sequence[Comparison], first: str) -> Figure:
    """Return the differences below each other, the largest on top."""
    drawn = sorted(comparisons, key=lambda each: -_mean(each))[:MOST_ROWS]
    alt = (
        f"Accuracy of {len(drawn)} experiments less that of {first}, in points, the largest "
        "difference on top: dots are runs, bars 95 % intervals, dashed is none."
    )
    figure = figures.new(alt, height_in=0.55 + 0.2 * len(drawn))
    axes = figure.subplots()
    names = [each.first for each in drawn]
    runs = [_gaps(each) for each in drawn]
    figures.draw_intervals(axes, names, runs, [_mean(e) for e in drawn], [_ends(e) for e in drawn])
    axes.axvline(0, color=figures.INK, linestyle="--", linewidth=0.8)
    axes.set_xlabel(f"accuracy less that of {figures.label(first)}, points")
    return figure


def _reach(comparisons: Sequence[Comparison]) -> float:
    """Return the end of the axis: the largest number on it, to full tenths."""
    sizes = [abs(gap) for each in comparisons for gap in _gaps(each)]
    sizes += [abs(end or 0) for each in comparisons for end in _ends(each)]
    return min(1.0, max(0.1, -(-max(sizes) // 0.1) / 10))


def _mean(comparison: Comparison) -> float:
    return float(comparison.difference["mean"] or 0)


def _ends(comparison: Comparison) -> tuple[float | None, float | None]:
    """Return the interval of a difference, of the test that the comparison names."""
    return comparison.difference["ci95_low"], comparison.difference["ci95_high"]


def _gaps(comparison: Comparison) -> list[float]:
    return [a - b for a, b in comparison.runs.values()]
