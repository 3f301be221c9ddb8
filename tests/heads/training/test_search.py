import math
from dataclasses import replace

import numpy as np
import pytest

from heads.training.search import Score, best, choose, inner_split, record, score
from heads.training.selection import Selection, Split, Video
from heads.training.settings import Settings, Training
from heads.training.targets import Target, of_classes


def answers(*of_truth: float) -> dict[str, np.ndarray]:
    """Return answers of two classes, all of the first, that are so and so sure of it."""
    chances = np.array([(each, 1 - each) for each in of_truth], np.float32)
    return {"label": np.zeros(len(of_truth)), "probabilities": chances}


TWO = of_classes(("a", "b"))
FAILED = {"failed": np.array([b"the loss is inf"])}


def test_a_trial_is_scored_by_right_answers_and_their_cross_entropy() -> None:
    found = score(TWO, answers(0.9, 0.6, 0.2))
    assert found.measure == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(-math.log(0.9 * 0.6 * 0.2) / 3)
    assert math.isfinite(score(TWO, answers(0.0)).loss)
    assert score(TWO, FAILED).failed == "the loss is inf"


def test_the_most_accurate_is_chosen_then_the_surest_then_the_first() -> None:
    assert best([Score(0.5, 0.1), Score(0.7, 0.9), Score(0.6, 0.0)]) == 1
    assert best([Score(0.7, 0.9), Score(0.7, 0.3), Score(0.7, 0.3)]) == 1
    assert best([Score(math.nan, math.nan, "inf"), Score(0.1, 2.0)]) == 1
    with pytest.raises(ValueError, match="none of 2 trials could be trained: inf"):
        best([Score(math.nan, math.nan, "inf")] * 2)


def test_each_run_chooses_for_itself_and_all_trials_are_kept() -> None:
    drawn = [{"learning_rate": 1e-5}, {"learning_rate": 3.162e-05}]
    settings = [Settings(None, Training(**each)) for each in drawn]
    good, bad = answers(0.9, 0.8), answers(0.9, 0.4)
    found = choose(TWO, settings, drawn, {"split_00": [bad, good], "split_01": [good, FAILED]})
    assert {run: each.chosen for run, each in found.items()} == {"split_00": 1, "split_01": 0}
    assert found["split_00"].settings is settings[1] and found["split_00"].held_out == 2
    said = record(TWO, found, drawn)
    assert (said["tried"], said["settings"]) == (2, drawn)
    runs = said["runs"]
    assert isinstance(runs, dict)
    assert runs["split_00"]["settings"] == {"learning_rate": 3.162e-05}, "not rounded"
    assert runs["split_01"]["trials"][1] == {"failed": "the loss is inf"}
    with pytest.raises(ValueError, match="split_00: search: none of 1 trials"):
        choose(TWO, settings[:1], drawn[:1], {"split_00": [FAILED]})


def selection(train: str, test: str, groups: str = "", classes: str = "ab") -> Selection:
    groups = groups.ljust(len(train + test))
    videos = tuple(
        Video(f"{label}/{at}", classes.index(label), {}, {}, {}, group=group.strip() or None)
        for at, (label, group) in enumerate(zip(train + test, groups, strict=True))
    )
    split = Split(tuple(range(len(train))), tuple(range(len(train), len(videos))))
    return Selection(of_classes(tuple(classes)), videos, {}, {"split_00": split}, True)


def test_only_training_videos_choose() -> None:
    found = inner_split(selection("aaaabbbb", "aabb"), "split_00", 0.25, 3)
    assert sorted([*found.train, *found.test]) == list(range(8))
    assert [at < 4 for at in found.test] == [True, False], "one of each class"


def test_groups_stay_on_one_side_of_what_chooses() -> None:
    found = inner_split(selection("abababab", "ab", "112233448"), "split_00", 0.25, 0)
    groups = [{"112233448"[at] for at in part} for part in (found.train, found.test)]
    assert len(found.test) == 2 and not groups[0] & groups[1]


@pytest.mark.parametrize(
    ("of", "share", "told"),
    [
        (selection("aaa", "a", classes="a"), 0.5, "at least two classes .* found 'a' alone"),
        (
            selection("aaaab", "ab"),
            0.25,
            "split_00 has 1 training videos of class 'b', of which held_out 0.25 leaves 1 to train "
            "on and 0 to choose by, expected one of each at least: add videos, or change",
        ),
        (selection("aabb", "ab", "1122"), 0.5, "search: split_00: .* whole groups"),
    ],
)
def test_too_few_classes_or_videos_to_choose_by_are_an_error(
    of: Selection, share: float, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        inner_split(replace(of), "split_00", share, 0)


def test_other_targets_choose_by_their_own_measure() -> None:
    labels = Target("labels", ("a", "b"), None, "tags")
    truth = np.array([[1, 0], [0, 1], [1, 0]])
    right, wrong = truth.astype(np.float32), 1 - truth.astype(np.float32)
    found = [score(labels, {"label": truth, "probabilities": told}) for told in (wrong, right)]
    assert found[1] == Score(1.0, 0.0) and found[0].measure < 1 and best(found) == 1
    dimensions = Target("dimensions", ("valence",), (-1.0, 1.0), "feeling")
    true = np.array([[-0.5], [0.0], [0.7]])
    found = [score(dimensions, {"label": true, "estimates": sign * true}) for sign in (-1, 1)]
    assert found[1].measure == pytest.approx(1) and found[0].measure < 0 and best(found) == 1
    with pytest.raises(ValueError, match="nothing to choose by"):
        best([Score(math.nan, 0.0)])
