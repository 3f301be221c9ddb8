from collections import Counter

import pytest

from heads.training.groups import draw_groups, guess_groups, ignored_groups

CLASSES = ("anger", "fear", "joy")


def labels_of(*names: str, classes: tuple[str, ...] = CLASSES) -> dict[str, str]:
    """Return videos of these names in every class."""
    return {f"{label}/{name}": label for label in classes for name in names}


def test_groups_that_are_drawn_come_nearest_to_the_share_one_by_one() -> None:
    groups = [["a"] * 3, ["a", "b"], ["a"], ["b"], ["a"] * 2, ["b"]]
    # of 7 a and 3 b: the first is taken, brings too many a with the second, and is put back
    assert draw_groups(groups, 0.3) == [1, 2]
    assert draw_groups([["a"], ["a"], ["b"], ["b"]], 0.01) == [0], "one at least, the nearest"
    assert draw_groups([["a", "a"], ["b", "b"]], 0.5) == [], "each has all of a class"
    assert draw_groups([["a", "a"], ["a", "b"], ["b"]], 0.9) == [0, 2], "some of each class stay"


SPEAKERS = [f"{who}{number:02d}" for who in ("actor",) for number in range(4)]

SUGGEST = {
    "speakers": labels_of(*(f"{who}_{take}" for who in SPEAKERS for take in range(2))),
    "films": labels_of(*(f"{f} {n}" for f in ("Up", "Jaws", "Alien") for n in range(3))),
    "CREMA-D": labels_of(*(f"{n}_DFA_{t}" for n in range(1001, 1005) for t in range(2))),
    "MELD": labels_of(*(f"dia{n}_utt{t}" for n in range(5) for t in range(3))),
    "RAVDESS": {
        f"{label}/02-01-{emotion:02d}-01-01-0{take}-{actor:02d}": label
        for emotion, label in enumerate(CLASSES)
        for take in (1, 2)
        for actor in range(1, 5)
    },
}

SUGGEST_NONE = {
    "classes as prefixes": {f"{each}/{each}_{n:02d}": each for each in CLASSES for n in range(9)},
    "no sign that parts": labels_of(*(f"{n:04d}" for n in range(9))),
    "one prefix": labels_of(*(f"clip_{n}" for n in range(9))),
    "two prefixes": labels_of(*(f"{each}_{n}" for each in ("img", "vid") for n in range(9))),
    "a numbering of each class": labels_of(*(f"{n:03d}_x" for n in range(9))),
    "addresses of videos": {
        f"{label}/{'aZ09xQ'[n % 6]}{n * 7919 + k}-{n}_b": label
        for k, label in enumerate(CLASSES)
        for n in range(9)
    },
    "few of them alike": labels_of(*(f"s{n}_1" for n in range(3)), *(f"x{n}" for n in range(9))),
    "pairs": {f"{CLASSES[n % 3]}/s{n // 2}_{n % 2}": CLASSES[n % 3] for n in range(18)},
}


@pytest.mark.parametrize("name", SUGGEST)
def test_names_of_speakers_and_films_suggest_groups(name: str) -> None:
    groups = guess_groups(SUGGEST[name])
    assert groups.keys() == SUGGEST[name].keys()
    sizes = {*Counter(groups.values()).values()}
    assert sizes == {len(groups) / len({*groups.values()})}
    if name == "RAVDESS":
        assert {*groups.values()} == {"01", "02", "03", "04"}


@pytest.mark.parametrize("name", SUGGEST_NONE)
def test_other_names_suggest_none(name: str) -> None:
    assert guess_groups(SUGGEST_NONE[name]) == {}


def test_a_line_says_which_groups_the_runs_ignore() -> None:
    rows: list[dict[str, object]] = []
    row: dict[str, object]
    for place, (video_id, label) in enumerate(SUGGEST["speakers"].items()):
        side = "test" if "actor00" in video_id else "train"
        row = {"video_id": video_id, "label": label, "status": "ok", "split_00": side}
        rows.append(row | {"split_01": "test" if place % 2 else "train"})
    rows.append({"video_id": "joy/x", "label": "joy", "status": "failed"})
    assert ignored_groups(rows, ["split_00"]) is None, "they are kept apart"
    line = ignored_groups(rows, ["split_01"]) or ""
    assert line.startswith("names suggest 4 groups (actor00, actor01, actor02, …) that the splits")
    assert "anger/actor00_0 trains and anger/actor00_1 tests in split_01. If" in line
    assert ignored_groups(rows, []) is None


def test_groups_are_suggested_where_targets_take_the_place_of_labels() -> None:
    names = [f"{who}_{take}" for who in SPEAKERS for take in range(4)]
    rows: list[dict[str, object]] = [
        {"video_id": f"all/{name}", "label": "all", "status": "ok", "target_valence": n / 7,
         "split_00": ("train", "test")[n % 2]}
        for n, name in enumerate(names)
    ]  # fmt: skip
    assert "names suggest 4 groups (actor00" in (ignored_groups(rows, ["split_00"]) or "")
    of_classes = [row | {"target_valence": str(row["video_id"]).split("_")[0]} for row in rows]
    assert ignored_groups(of_classes, ["split_00"]) is None, "the beginnings are classes"
