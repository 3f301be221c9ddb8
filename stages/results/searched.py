"""How many settings were tried for a number, and what that takes from a comparison.

Of many settings that were tried the best is better than one that was not chosen at all: two
experiments of which one was searched longer than the other are not compared alike.
"""

from collections.abc import Sequence

from stages.results.files import Result

_NAMED = 6
"""Experiments that a line names."""


def tried(result: Result) -> int:
    """Return how many settings were tried for each of an experiment's runs; 1 without a search."""
    search = result.about.get("search")
    return int(search["tried"]) if search else 1


def unlike(first: Result, second: Result) -> str | None:
    """Return what is to be said beside a comparison; None where as many settings were tried."""
    ours, theirs = tried(first), tried(second)
    if ours == theirs:
        return None
    return (
        f"not compared alike: of {first.name} {_settings(ours)} tried, of {second.name} "
        f"{_settings(theirs)}; the difference is of the search too"
    )


def unlike_ranks(results: Sequence[Result]) -> str | None:
    """Return what is to be said beside a rank of experiments; None where all are alike."""
    by_count: dict[int, list[str]] = {}
    for result in results:
        by_count.setdefault(tried(result), []).append(result.name)
    if len(by_count) == 1:
        return None
    parts = [
        f"{_settings(count)} tried of {', '.join(names[:_NAMED])}"
        + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        for count, names in sorted(by_count.items(), reverse=True)
    ]
    return f"not ranked alike: {'; '.join(parts)}"


def _settings(count: int) -> str:
    return "1 setting was" if count == 1 else f"{count} settings were"
