from heads.training.held_out import held_out
from heads.training.selection import Video


def videos(labels: str) -> list[Video]:
    return [Video(f"{label}/{at}", int(label), {}, {}, {}) for at, label in enumerate(labels)]


def test_a_share_of_each_class_is_held_out_and_the_rest_trains() -> None:
    labels = "0011110100" * 2
    train, held = held_out(videos(labels), range(15), 0.4, 5)
    assert sorted([*train, *held]) == list(range(15))
    for label in "01":
        members = labels[:15].count(label)
        assert [labels[at] for at in held].count(label) == round(0.4 * members)
    assert held_out(videos(labels), range(15), 0.4, 5) == (train, held)
    assert held_out(videos(labels), range(15), 0.4, 6) != (train, held)


def test_a_class_keeps_a_video_to_train_on() -> None:
    assert held_out(videos("0011"), range(3), 0.9, 0)[0][-1] == 2
