import os
import runpy
from pathlib import Path

import peers
import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("by_pytest", [True, False])
def test_a_benchmark_that_borrows_the_tests_clones_has_all_cores(
    monkeypatch: pytest.MonkeyPatch, by_pytest: bool
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if not by_pytest:
        monkeypatch.delenv("PYTEST_VERSION")
    try:
        runpy.run_path(str(TESTS / "conftest.py"))
        assert ("OMP_NUM_THREADS" in os.environ) is by_pytest
    finally:
        os.environ.pop("OMP_NUM_THREADS", None)


def test_each_way_makes_the_same_features() -> None:
    """The index and the weights are stages in each; a worker makes what lies between."""
    stages, work = peers.WAYS["stages"], peers.WAYS["work"]
    assert {command[-1] for command in stages} == {"stages.index", "stages.decode", peers.BLOCK}
    assert work == (stages[0], stages[2], ("affectline", "work", "decode", "extract"))
