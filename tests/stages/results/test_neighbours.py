import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from stages.results import neighbours
from stages.results.neighbours import NEIGHBOURS, Places, near_pairs, places, unit
from tests.stages.results.made_data import row_of, source, write_features, write_indices


def crowd(count: int, size: int = 12, seed: int = 0) -> neighbours.Values:
    return unit(np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32))


def names(count: int) -> list[str]:
    return [f"a/{number:04d}" for number in range(count)]


def test_near_pairs_are_mutual_neighbours_as_scikit_learn_finds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_VIDEOS", 17)
    values = crowd(60)
    found = near_pairs([Places(names(60), values, None)])
    near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(values)
    distances, nearest = near.kneighbors(values)
    expected = {}
    for one in range(60):
        for other, distance in zip(nearest[one, 1:], distances[one, 1:], strict=True):
            if one in nearest[other, 1:]:
                reach = min(distances[one, -1], distances[other, -1])
                expected[tuple(sorted((f"a/{one:04d}", f"a/{other:04d}")))] = distance / reach
    assert set(found) == set(expected)
    shares = [expected[pair] for pair in found]
    assert shares == pytest.approx(sorted(shares), abs=1e-3)


def test_a_pair_that_stands_out_comes_first_and_a_mirrored_one_too() -> None:
    values, mirrored = crowd(50, seed=1), crowd(50, seed=2)
    values[7] = unit(values[[3]] + 0.02)[0]
    values[20] = unit(mirrored[[30]] + 0.01)[0]
    mirrored[20] = unit(values[[30]] + 0.01)[0]
    found = near_pairs([Places(names(50), values, mirrored)])
    assert set(found[:2]) == {("a/0003", "a/0007"), ("a/0020", "a/0030")}
    assert ("a/0020", "a/0030") not in near_pairs([Places(names(50), values, None)])[:2]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_videos_have_the_pairs_that_there_are(count: int) -> None:
    found = near_pairs([Places(names(count), crowd(count), None)])
    assert len(found) <= count * (count - 1) // 2 and (count != 2 or len(found) == 1)


def test_videos_that_are_all_the_same_are_no_error() -> None:
    same = np.repeat(crowd(1), 40, axis=0)
    assert near_pairs([Places(names(40), same, same)])
    nothing = np.zeros((40, 0), np.float32)
    assert isinstance(near_pairs([Places(names(40), unit(nothing), None)]), list)


def test_ten_thousand_videos_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    matmul = np.argpartition

    def watched(values: neighbours.Values, *args: int, **more: int) -> object:
        nonlocal largest
        largest = max(largest, values.nbytes)
        return matmul(values, *args, **more)

    monkeypatch.setattr(np, "argpartition", watched)
    values = crowd(10_000, 8)
    values[9_000] = values[17]
    assert near_pairs([Places(names(10_000), values, None)])[0] == ("a/0017", "a/9000")
    assert largest <= 4 * neighbours.BLOCK_VIDEOS * 10_000


def test_a_map_is_what_it_shows_and_where_and_a_mirrored_one_is_told(in_folder: object) -> None:
    rng = np.random.default_rng(0)
    maps = {f"a/{n}": rng.random((3, 6, 4, 5)).astype(np.float16) for n in range(8)}
    maps["a/8"] = maps["a/2"][..., ::-1]
    axes = {"map": "T C H W", "valid": "T"}
    for video, data in maps.items():
        write_features("network", video, {"map": data, "valid": np.ones(3, bool)}, axes)
    write_indices([row_of(video) for video in maps], "network")
    found = source()
    what, where = places(found.files, found.features[0], [])
    assert what.values.shape == (9, 6) and what.mirrored is None
    assert where.values.shape == (9, 2 * 4 * 5) and where.mirrored is not None
    assert where.values[2] @ where.mirrored[8] == pytest.approx(1, abs=1e-5)
    assert where.values[2] @ where.values[8] < 0.5
    assert np.linalg.norm(where.values, axis=1) == pytest.approx(np.ones(9), abs=1e-5)


def test_axes_may_stand_in_any_order(in_folder: object) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        rows = rng.random((3, 4, 2, 5, 6)).astype(np.float32)
        valid = np.array([True, False, True])
        for name, axes, data in (
            ("one", "T H L W C", rows),
            ("two", "T L C H W", rows.transpose(0, 2, 4, 1, 3)),
        ):
            about = {"map": axes, "valid": "T"}
            write_features(name, f"a/{number}", {"map": data, "valid": valid}, about)
    write_indices([row_of(f"a/{number}") for number in range(3)], "one", "two")
    (one, where), (two, also) = (
        places(found.files, found.features[0], []) for found in map(source, ("one", "two"))
    )
    assert np.array_equal(np.sort(one.values), np.sort(two.values))
    assert where.values == pytest.approx(also.values, abs=1e-5)
    assert where.mirrored == pytest.approx(also.mirrored, abs=1e-5)
