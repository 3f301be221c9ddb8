import random
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.cache import tables
from features.video.listing import DataSetError
from heads.training.protocols import (
    add_cross_corpus,
    add_folds,
    add_groups_out,
    add_holdout,
    check_apart,
    left_out,
)

CLASSES = ("anger", "fear", "joy")

Add = Callable[[list[tables.Row]], list[str]]

KINDS: dict[str, Add] = {
    "holdout": lambda rows: add_holdout(rows, runs=3, test_share=0.3, seed=5),
    "kfold": lambda rows: add_folds(rows, folds=3, seed=5),
    "leave_one_group_out": add_groups_out,
}


def row_of(video_id: str, **more: object) -> tables.Row:
    label = video_id.partition("/")[0]
    return {"video_id": video_id, "label": label, "status": "ok", "sha256": video_id} | more


@st.composite
def data_sets(draw: st.DrawFn) -> list[tables.Row]:
    """Rows of some speakers, each with some videos of each class, a few of them copies."""
    speakers = draw(st.integers(4, 7))
    rows = [
        row_of(f"{label}/{speaker}_{number}", group=f"speaker {speaker}")
        for speaker in range(speakers)
        for label in CLASSES
        for number in range(draw(st.integers(1, 4)))
    ]
    for row in rows:
        if draw(st.integers(0, 9)) == 0:  # of the first video of its speaker and class
            row["sha256"] = f"{str(row['video_id'])[:-1]}0"
    return rows


def divided(rows: list[tables.Row], names: list[str]) -> list[tuple[object, ...]]:
    return sorted((str(row["video_id"]), *(row[name] for name in names)) for row in rows)


@settings(max_examples=15, deadline=None)
@given(rows=data_sets(), kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 99))
def test_no_group_is_on_both_sides_whatever_the_order_of_the_rows(
    rows: list[tables.Row], kind: str, seed: int
) -> None:
    shuffled = random.Random(seed).sample([dict(row) for row in rows], len(rows))
    names = KINDS[kind](rows)
    assert KINDS[kind](shuffled) == names
    assert divided(rows, names) == divided(shuffled, names), "same seed, same runs"
    tests: Counter[object] = Counter()
    for name in names:
        sides: dict[object, set[object]] = defaultdict(set)
        for row in rows:
            sides[row["group"]].add(row[name])
            tests[row["video_id"]] += row[name] == "test"
        assert all(len(side) == 1 for side in sides.values())
        assert {row["label"] for row in rows if row[name] == "train"} == {*CLASSES}
        assert any(row[name] == "test" for row in rows)
    if kind != "holdout":
        assert {*tests.values()} == {1} and len(tests) == len(rows), "each is tested once"


def test_folds_without_groups_test_each_video_once_and_keep_copies_together() -> None:
    rows = [row_of(f"{label}/{number}") for label in CLASSES for number in range(8)]
    plain = [dict(row) for row in rows]
    for row in rows:
        if str(row["video_id"]).endswith(("/0", "/1", "/2")):
            row["sha256"] = row["label"]
    names = add_folds(rows, folds=4, seed=0)
    assert names == ["split_00", "split_01", "split_02", "split_03"]
    for label in CLASSES:
        sides = [[row[name] for name in names] for row in rows if row["sha256"] == label]
        assert len(sides) == 3 and sides[0] == sides[1] == sides[2]
        assert sides[0].count("test") == 1
    add_folds(plain, folds=4, seed=0)
    for name in names:
        tested = Counter(row["label"] for row in plain if row[name] == "test")
        assert tested == dict.fromkeys(CLASSES, 2), "two of eight, of each class"
    other = [dict(row) for row in plain]
    add_folds(other, folds=4, seed=1)
    assert divided(plain, names) != divided(other, names)


def test_whole_groups_come_near_the_share_of_each_class() -> None:
    rows = [
        row_of(f"{label}/{speaker}_{number}", group=f"{speaker:02d}")
        for speaker in range(20)
        for label, count in (("joy", 3), ("fear", 1 + speaker % 3))
        for number in range(count)
    ]
    names = add_holdout(rows, runs=6, test_share=0.3, seed=0)
    drawn = set()
    for name in names:
        for label in ("joy", "fear"):
            of_class = [row for row in rows if row["label"] == label]
            share = sum(row[name] == "test" for row in of_class) / len(of_class)
            assert abs(share - 0.3) < 0.06
        drawn.add(tuple(sorted({str(row["group"]) for row in rows if row[name] == "test"})))
    assert len(drawn) > 4, "runs differ"


def test_a_run_is_named_after_the_group_that_it_tests() -> None:
    groups = ("ANA", "Ana", "ana", "Zoë / take 2", "…")
    rows = [
        row_of(f"{label}/{place}", group=group)
        for place, group in enumerate(groups)
        for label in CLASSES
    ]
    rows.append(row_of("joy/broken", group="Ana") | {"status": "failed"})
    names = add_groups_out(rows)
    tested = {
        name: {str(row["group"]) for row in rows if row.get(name) == "test"} for name in names
    }
    assert tested == {
        "split_ANA": {"ANA"},
        "split_Ana-2": {"Ana"},
        "split_Zo-take-2": {"Zoë / take 2"},
        "split_ana-3": {"ana"},
        "split_group": {"…"},
    }


def test_copies_in_two_groups_join_them_or_are_an_error_where_each_is_left_out() -> None:
    rows = [row_of(f"{label}/{g}", group=g) for g in "abcd" for label in CLASSES]
    for row in rows:
        if row["video_id"] in ("joy/a", "joy/b"):
            row["sha256"] = "same"
    for name in add_folds(rows, folds=3, seed=0):
        sides = {row["group"]: row[name] for row in rows}
        assert sides["a"] == sides["b"]
    with pytest.raises(DataSetError, match="joy/b trains and joy/a tests in split_a"):
        add_groups_out(rows)


ALONE = [row_of(f"joy/{group}", group=group) for group in "abc"] + [row_of("fear/x", group="b")]


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        ([row_of("joy/1", group="a"), row_of("joy/2", group="b")], "kfold",
         "at least as many groups as folds, 3, found 2: a, b; lower index.splits.folds"),
        ([row_of("joy/1"), row_of("joy/2")], "kfold", "as many videos as folds, 3, found 2: joy/1"),
        ([row_of(f"{label}/{n}") for label in CLASSES for n in (0, 1)], "kfold",
         "a class of at least as many videos as folds, 3, found 2 in the largest"),
        (ALONE, "kfold", "each class in at least two groups, .*found all of fear in b; add videos"),
        (ALONE, "holdout", "found all of fear in b"),
        (ALONE, "leave_one_group_out", "found all of fear in b"),
        ([row_of(f"joy/{n}", group=f"{n}") for n in range(1001)], "leave_one_group_out",
         "at most 1000 groups, as each is a run, found 1001; kind kfold"),
        ([row_of("joy/1", group="a")], "leave_one_group_out", "two groups to leave one out, .* a"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_is_said(rows: list[tables.Row], kind: str, words: str) -> None:
    with pytest.raises(DataSetError, match=words):
        KINDS[kind]([dict(row) for row in rows])


def test_strata_of_numbers_may_lie_in_one_group() -> None:
    rows = [row_of(f"{n // 3}/{n}", group=f"g{n // 3}") for n in range(12)]  # a quarter a group
    for names in (add_groups_out(rows, classes=False), add_folds(rows, folds=2, seed=0,
                                                                 classes=False)):  # fmt: skip
        for name in names:
            sides = {(row["group"], row[name]) for row in rows}
            assert len(sides) == 4 and {side for _, side in sides} == {"train", "test"}


def test_a_fold_that_would_train_without_a_class_is_said() -> None:
    has = {"g0": "a", "g1": "aabb", "g2": "bbbbbbbb"}  # two of the three are tested together
    rows = [
        row_of(f"{c}/{g}{n}", group=g) for g, labels in has.items() for n, c in enumerate(labels)
    ]
    with pytest.raises(
        DataSetError, match="on every class, found that split_0. tests all of b; an"
    ):
        add_folds(rows, folds=2, seed=0)


def test_a_group_that_a_csv_puts_on_both_sides_is_named() -> None:
    rows = [row_of(f"joy/{n}", group=f"g{n}") for n in range(4)]
    rows += [row_of("fear/a", group="g0"), row_of("fear/b", group="g1")]
    rows += [row_of("fear/c", group="g0") | {"sha256": "x"}]
    for row in rows:
        row["split_00"] = "test" if row["label"] == "fear" else "train"
    with pytest.raises(DataSetError, match=r"both: g0 \(1 train and 2 test in split_00\), g1"):
        check_apart(rows, ["split_00"])
    check_apart([row for row in rows if row["label"] == "joy"], ["split_00"])


# -------------------------------------------------------------------------------- corpora

MAP: dict[str, dict[str, str | None]] = {"crema": {"HAP": "joy", "ANG": "anger", "SAD": None}}


def corpora() -> list[tables.Row]:
    labels = {"crema": ("HAP", "ANG", "DIS", "SAD"), "ravdess": ("joy", "anger", "calm"),
              "savee": ("joy", "anger", "calm")}  # fmt: skip
    rows = [
        row_of(f"{label}/{corpus}{number}", corpus=corpus)
        for corpus, names in labels.items()
        for label in names
        for number in range(2)
    ]
    return [*rows, row_of("joy/broken", corpus="savee") | {"status": "failed"}]


def test_corpora_test_what_others_or_each_of_them_train() -> None:
    rows = corpora()
    names = add_cross_corpus(rows, train="others", names=MAP)
    assert names == ["split_crema", "split_ravdess", "split_savee"]
    classes = {str(row["video_id"])[:-1]: row["class"] for row in rows if row["status"] == "ok"}
    assert {video for video, name in classes.items() if name is None} == {
        "DIS/crema", "SAD/crema", "calm/ravdess", "calm/savee",
    }  # fmt: skip
    assert (classes["HAP/crema"], classes["joy/savee"]) == ("joy", "joy")
    assert left_out(rows) == {
        ("crema", "DIS"): 2,
        ("crema", "SAD"): 2,
        ("ravdess", "calm"): 2,
        ("savee", "calm"): 2,
    }
    sides = {(row["corpus"], row["split_savee"]) for row in usable(rows)}
    assert sides == {("crema", "train"), ("ravdess", "train"), ("savee", "test")}
    names = add_cross_corpus(rows, train="each", names=MAP)
    assert names == ["split_from_crema", "split_from_ravdess", "split_from_savee"]
    sides = {(row["corpus"], row["split_from_savee"]) for row in usable(rows)}
    assert sides == {("crema", "test"), ("ravdess", "test"), ("savee", "train")}
    assert {row[name] for row in rows if row["class"] is None for name in names} == {None}


def usable(rows: list[tables.Row]) -> list[tables.Row]:
    """Return the rows that have a class and can be read."""
    return [row for row in rows if row["status"] == "ok" and row["class"] is not None]


@pytest.mark.parametrize(
    ("names", "kept", "words"),
    [
        ({}, {"crema"}, "at least two corpora, found crema"),
        ({"cremad": {}}, None, "one of the corpora crema, ravdess, savee, found 'cremad'"),
        ({"crema": {"happy": "joy"}}, None, "map.crema: .* ANG, DIS, HAP, SAD, found 'happy'"),
        ({}, None, "two classes that all corpora have, found 0 .crema: ANG, DIS, HAP, SAD; ravd"),
    ],
)
def test_corpora_that_cannot_be_crossed_are_said(
    names: dict[str, dict[str, str | None]], kept: set[str] | None, words: str
) -> None:
    rows = [row for row in corpora() if kept is None or row["corpus"] in kept]
    with pytest.raises(DataSetError, match=words):
        add_cross_corpus(rows, train="others", names=names)


def test_the_same_file_in_two_corpora_is_an_error() -> None:
    rows = corpora()
    for row in rows:
        if row["video_id"] in ("joy/savee0", "HAP/crema0"):
            row["sha256"] = "same"
    with pytest.raises(DataSetError, match="found the same content in both: joy/savee0 trains"):
        add_cross_corpus(rows, train="others", names=MAP)
