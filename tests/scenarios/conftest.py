"""A light clone that has run once, and copies of it for each scenario."""

from pathlib import Path

import pytest

from tests.clones import Clone, copy_clone, make_light_clone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, so that `make test` and `pytest -m 'not slow'` leave it out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.scenario)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A light clone after its first `dvc repro`, committed: to be copied, not to be changed."""
    clone = make_light_clone(tmp_path_factory.mktemp("template") / "clone")
    clone.repro()
    clone.commit("ran")
    return clone


@pytest.fixture
def clone(template: Clone, tmp_path: Path) -> Clone:
    """A copy of the light clone that has run once."""
    return copy_clone(template, tmp_path / "clone")
