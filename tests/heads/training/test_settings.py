from dataclasses import fields

import numpy as np
import pytest

import heads
from heads.training.settings import Training, draw, settings_of, training_of

SPACE = {
    "learning_rate": ("log_uniform", [1e-5, 1e-2]),
    "weight_decay": ("uniform", [0.0, 0.5]),
    "epochs": ("integer", [2, 4]),
    "hidden": ("choice", [8, 16]),
}


def test_each_setting_is_drawn_from_where_it_says() -> None:
    drawn = draw(SPACE, 400, 0)
    assert len(drawn) == 400 and draw(SPACE, 400, 0) == drawn != draw(SPACE, 400, 1)
    rates = np.log10([each["learning_rate"] for each in drawn])
    assert rates.min() >= -5 and rates.max() <= -2
    for low in (-5, -4, -3):  # a third of the trials in each decade
        assert np.mean((rates >= low) & (rates < low + 1)) == pytest.approx(1 / 3, abs=0.08)
    decays = [each["weight_decay"] for each in drawn]
    assert np.mean(decays) == pytest.approx(0.25, abs=0.03) and max(decays) <= 0.5
    assert {each["epochs"] for each in drawn} == {2, 3, 4}
    assert {each["hidden"] for each in drawn} == {8, 16}
    for each in drawn:  # as they would be written in params.yaml
        assert float(f"{each['learning_rate']:.4g}") == each["learning_rate"]
        assert [type(value) for value in each.values()] == [float, float, int, int]


def test_a_space_of_few_points_is_tried_whole_and_no_point_twice() -> None:
    space = {"epochs": ("integer", [2, 4]), "score_hidden": ("choice", [[8, 4], [4, 2], [8, 4]])}
    drawn = draw(space, 6, 3)
    points = [(each["epochs"], tuple(each["score_hidden"])) for each in drawn]
    assert sorted(points) == [(n, hidden) for n in (2, 3, 4) for hidden in ((4, 2), (8, 4))]


def test_drawn_settings_stand_in_place_of_those_of_head_and_training() -> None:
    head = heads.load("pooling")
    drawn = {"hidden": 16, "learning_rate": 0.003}
    found = settings_of(head, {"hidden": 8, "pool": "max"}, {"epochs": 3}, drawn)
    assert found.params == heads.validate(head, {"hidden": 16, "pool": "max"})
    assert found.training == training_of({"epochs": 3, "learning_rate": 0.003})


def test_weights_that_are_none_stand_in_no_key() -> None:
    known = {field.name for field in fields(Training)} - {"class_weights"}
    assert set(Training().stated()) == known
    weighed = Training(sampling="shuffled", class_weights="balanced")
    assert weighed.stated() == {
        **Training(sampling="shuffled").stated(),
        "class_weights": "balanced",
    }
    assert (
        training_of(weighed.stated()) == weighed and training_of(Training().stated()) == Training()
    )
    with pytest.raises(ValueError, match="count rare classes twice, .* set sampling: shuffled"):
        training_of({"class_weights": "balanced"})


@pytest.mark.parametrize(
    ("drawn", "told"),
    [
        (
            {"hiden": 8},
            r"hiden: unknown setting, did you mean 'hidden'\?; pooling has embedding, h",
        ),
        ({"seed": 1}, "seed: not to be searched; set it under train"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"learning_rate": "fast"}, "learning_rate: Input should be a valid number"),
    ],
)
def test_what_is_no_setting_and_what_does_not_fit_is_an_error(
    drawn: dict[str, object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        settings_of(heads.load("pooling"), {}, {}, drawn)
