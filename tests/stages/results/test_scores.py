from pathlib import Path

from stages.results.scores import best_first, chosen
from tests.stages.results.made_results import write_result


def test_the_first_stays_among_the_best_that_are_chosen(tmp_path: Path) -> None:
    shares = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 1.0}
    results = [write_result(tmp_path, n, accuracy=s, videos=60) for n, s in shares.items()]
    assert [result.name for result in best_first(results)] == ["d", "b", "c", "a"]
    assert [result.name for result in chosen(results, 3)] == ["a", "b", "d"]
    assert chosen(results) == results
