from dataclasses import replace

import pytest

from heads.training.held_out import held_out
from heads.training.selection import Video
from heads.training.targets import of_classes

TARGET = of_classes("ab")


def videos(labels: str) -> list[Video]:
    return [Video(f"{label}/{at}", int(label), {}, {}, {}) for at, label in enumerate(labels)]


def test_a_share_of_each_class_is_held_out_and_the_rest_trains() -> None:
    labels = "0011110100" * 2
    train, held = held_out(TARGET, videos(labels), range(15), 0.4, 5)
    assert sorted([*train, *held]) == list(range(15))
    for label in "01":
        members = labels[:15].count(label)
        assert [labels[at] for at in held].count(label) == round(0.4 * members)
    assert held_out(TARGET, videos(labels), range(15), 0.4, 5) == (train, held)
    assert held_out(TARGET, videos(labels), range(15), 0.4, 6) != (train, held)


def test_a_class_keeps_a_video_to_train_on() -> None:
    assert held_out(TARGET, videos("0011"), range(3), 0.9, 0)[0][-1] == 2


def test_who_is_validated_on_is_not_trained_on_as_another_video_either() -> None:
    grouped = [
        replace(video, group=f"speaker {at // 3 % 4}")  # each has some of every class
        for at, video in enumerate(videos("012" * 8))
    ]
    train, held = held_out(TARGET, grouped, range(24), 0.25, 5)
    assert sorted([*train, *held]) == list(range(24))
    sides = [{grouped[at].group for at in side} for side in (train, held)]
    assert len(sides[1]) == 1 and not sides[0] & sides[1]
    assert (
        len({tuple(held_out(TARGET, grouped, range(24), 0.25, seed)[1]) for seed in range(9)}) > 1
    )
    assert held_out(TARGET, grouped, range(24), 0.0, 5)[1] == []
    alone = [at for at in range(24) if grouped[at].group == "speaker 1"]
    with pytest.raises(ValueError, match="holds out whole groups, and the training videos have 1,"):
        held_out(TARGET, grouped, alone, 0.3, 5)
