from pathlib import Path

from stages.results.searched import tried, unlike, unlike_ranks
from tests.stages.results.made_results import write_result


def test_who_was_searched_longer_is_not_compared_or_ranked_without_saying_so(
    tmp_path: Path,
) -> None:
    results = [write_result(tmp_path, n, tried=k) for n, k in {"a": 20, "b": 1, "c": 1}.items()]
    assert [tried(result) for result in results] == [20, 1, 1]
    assert unlike(results[0], results[1]) == (
        "not compared alike: of a 20 settings were tried, of b 1 setting was; the difference is of "
        "the search too"
    )
    assert unlike(results[1], results[2]) is None and unlike_ranks(results[1:]) is None
    many = [write_result(tmp_path, f"d{n}") for n in range(5)]
    assert str(unlike_ranks([*results, *many])).endswith("of b, c, d0, d1, d2, d3 and 1 more")
    assert unlike_ranks(results) == (
        "not ranked alike: 20 settings were tried of a; 1 setting was tried of b, c"
    )
