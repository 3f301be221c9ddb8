"""The tests mirror the tree: a module's tests lie where it lies, under its name."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent

APART = ("hostile", "parity", "scenarios")
"""Folders that are about no one module: broken files, oracles, a team's days."""

SUBJECTS = {
    "affectline/test_startup.py": "what a command imports before it answers",
    "features/test_registry.py": "folders of backbones, detectors and heads as registries",
    "features/backbones/test_conversions.py": "published files get the names of our networks",
    "features/backbones/test_imagenet_classes.py": "what published networks see in a picture",
    "features/backbones/test_own_weights.py": "torchvision's networks, trained elsewhere",
    "features/video/test_bounds.py": "sizes and counts at which all of video says no",
    "heads/training/test_against_torch.py": "a run beside the same one written by hand",
    "heads/training/test_frozen_phases.py": "a phase that leaves a part of the network as it is",
    "stages/test_page_in_browser.py": "the report as a browser shows it, and as axe judges it",
    "stages/test_searched_runs.py": "a search from params.yaml to results",
    "heads/training/test_starts.py": "a head that starts from a backbone's weights",
}
"""Tests of what several modules of their room do together."""


def modules() -> list[str]:
    """Return the test modules that belong to a room, from tests/."""
    paths = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    return sorted(str(path) for path in paths if len(path.parts) > 1 and path.parts[0] not in APART)


@pytest.mark.parametrize("name", modules())
def test_a_test_module_lies_where_its_module_lies(name: str) -> None:
    path = TESTS.parent / name
    module = path.with_name(path.name.removeprefix("test_"))
    room = path.parent
    is_of_room = module.stem == room.name and (room / "__init__.py").is_file()
    assert (module.is_file() or is_of_room) != (name in SUBJECTS), f"there is no {module}"


def test_each_subject_has_its_tests() -> None:
    assert set(SUBJECTS) <= set(modules())
