from pathlib import Path

import numpy as np
import pytest

from stages.results.extracted import Feature, extracted, mean_rows, measured_means, standardised
from tests.stages.results.made_data import row_of, source, write_features, write_indices


@pytest.fixture
def project(in_folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(4):
        data = {
            "map": rng.random((5, 2, 3, 4)).astype(np.float16),
            "vector": rng.random((5, 7)).astype(np.float32),
            "valid": np.array([True, True, False, number != 3, number != 3]),
        }
        if number == 3:
            data["valid"][:] = False
        write_features("network", f"joy/{number}", data)
    write_indices([row_of(f"joy/{number}") for number in range(5)], "network")
    return in_folder


def test_what_is_here_is_told_and_what_is_not_is_left_out(project: Path) -> None:
    found = source()
    assert list(found.files) == [f"joy/{number}" for number in range(4)]  # of the last is no file
    sizes = [path.stat().st_size for path in Path("data/features").rglob("*.h5")]
    assert found.size_bytes == sum(sizes)
    assert found.features == (
        Feature("map", "C H W", (2, 3, 4), "float16"),
        Feature("vector", "D", (7,), "float32"),
    )
    assert (found.view, found.rows_of_first) == ("segments", 4)
    assert extracted("another") is None


def test_the_mean_is_over_the_valid_rows(project: Path) -> None:
    found, unread = source(), []
    means = dict(mean_rows(found.files, found.features[1], unread))
    assert list(means) == ["joy/0", "joy/1", "joy/2"] and not unread  # no row of 3 is valid
    rng = np.random.default_rng(0)
    rng.random((5, 2, 3, 4))
    rows = rng.random((5, 7)).astype(np.float32)
    assert means["joy/0"] == pytest.approx(rows[[0, 1, 3, 4]].mean(axis=0), abs=1e-6)
    videos, values = measured_means(found.files, found.features[0], [])
    assert videos == list(means) and values.shape == (3, 2)


def test_files_that_cannot_be_read_are_told_and_the_others_are_not_lost(project: Path) -> None:
    found, unread = source(), []
    found.files["joy/1"].write_bytes(b"no HDF5")
    other = {"vector": np.zeros((2, 9), np.float32), "valid": np.ones(2, bool)}
    write_features("network", "joy/2", other)
    means = dict(mean_rows(found.files, found.features[1], unread))
    assert list(means) == ["joy/0"]
    assert "joy/1.h5: expected a whole array file" in unread[0]
    assert "joy/2.h5: expected rows of (7,), found (9,)" in unread[1]


def test_a_damaged_first_file_is_passed_over_for_what_the_features_are(project: Path) -> None:
    Path("data/features/network/joy/0.h5").write_bytes(b"no HDF5")
    assert [feature.name for feature in source().features] == ["map", "vector"]
    for path in Path("data/features").rglob("*.h5"):
        path.write_bytes(b"no HDF5")
    assert source().features == () and source().view == ""


def test_standardised_numbers_have_mean_0_and_deviation_1_and_constant_ones_are_out() -> None:
    values = np.random.default_rng(0).normal(50, 3, (40, 5)).astype(np.float32)
    values[:, 2] = 0.1
    found = standardised(values)
    assert found.shape == (40, 4)
    assert found.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-5)
    assert found.std(axis=0) == pytest.approx(np.ones(4), abs=1e-5)
    assert standardised(values[:0]).shape == (0, 5) and standardised(values[:1]).shape == (1, 0)
