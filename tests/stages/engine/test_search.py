import pytest
from pydantic import ValidationError

from stages.engine.search import Draw, Search


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        ({}, "expected one of log_uniform, uniform, integer, choice, found nothing"),
        ({"choice": [1], "uniform": [0, 1]}, "expected one of .*, found uniform, choice"),
        ({"choice": []}, "choice: expected at least one value, found an empty list"),
        ({"uniform": [1.0, 1.0]}, r"uniform: expected a range that is not empty, .* \[1.0, 1.0\]"),
        ({"log_uniform": [1e-2, 1e-5]}, "log_uniform: expected a range that is not empty"),
        ({"log_uniform": [0.0, 1.0]}, "log_uniform: expected ends above 0"),
        ({"integer": [3, 2]}, "integer: expected a range that is not empty, its lower end first"),
        ({"uniform": [1.0]}, "uniform: expected the two ends of a range, found"),
        ({"uniform": [0.0, float("inf")]}, "uniform: expected the two ends of a range"),
        ({"uniform": None}, "expected one of .*, found nothing"),
    ],
)
def test_a_range_that_holds_nothing_is_an_error(draw: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Draw.model_validate(draw)


def test_a_space_knows_how_many_points_it_has() -> None:
    space = {"epochs": {"integer": [2, 4]}, "hidden": {"choice": [8, 16, 8]}}
    found = Search.model_validate({"trials": 20, "space": space})
    assert (found.points, found.tries, found.held_out, found.seed) == (6, 6, 0.25, 0)
    assert found.drawn_from == {"epochs": ("integer", [2, 4]), "hidden": ("choice", [8, 16, 8])}
    open_end = {**space, "learning_rate": {"log_uniform": [1e-5, 1e-2]}}
    endless = Search.model_validate({"trials": 20, "space": open_end})
    assert (endless.points, endless.tries) == (None, 20)
    assert Search.model_validate({"trials": 2, "space": space}).tries == 2


@pytest.mark.parametrize(
    "given", [{"trials": 0}, {"held_out": 0.0}, {"held_out": 1.0}, {"space": {}}]
)
def test_a_search_of_nothing_is_an_error(given: dict[str, object]) -> None:
    whole = {"trials": 1, "space": {"epochs": {"integer": [2, 4]}}}
    with pytest.raises(ValidationError):
        Search.model_validate(whole | given)
