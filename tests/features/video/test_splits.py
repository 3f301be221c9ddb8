from typing import Any

from features.cache import tables
from features.video.splits import add_drawn, few

SPLITS: dict[str, Any] = {"runs": 4, "test_share": 0.34, "seed": 0}


def rows_of(**counts: int) -> list[tables.Row]:
    return [
        {"video_id": f"{label}/{n}", "label": label, "status": "ok", "sha256": f"{label}{n}"}
        for label, count in counts.items()
        for n in range(count)
    ]


def test_each_run_tests_the_share_of_every_label() -> None:
    rows = rows_of(joy=6, fear=12, rare=2, single=1)
    names = add_drawn(rows, **SPLITS)
    assert names == ["split_00", "split_01", "split_02", "split_03"]
    for name in names:
        tested = [row["label"] for row in rows if row[name] == "test"]
        counts = [tested.count(label) for label in ("joy", "fear", "rare", "single")]
        assert counts == [2, 4, 1, 0]
    assert len({tuple(row[name] for row in rows) for name in names}) == 4
    assert few(rows) == ["single"]


def test_one_video_more_moves_at_most_one_other_in_its_class() -> None:
    before, after = rows_of(joy=30, fear=9), rows_of(joy=31, fear=9)
    add_drawn(before, **SPLITS)
    add_drawn(after, **SPLITS)
    now = {row["video_id"]: row for row in after}
    for name in ("split_00", "split_01"):
        moved = [row["video_id"] for row in before if row[name] != now[row["video_id"]][name]]
        assert len(moved) <= 1


def test_copies_are_on_one_side_of_every_drawn_run() -> None:
    rows = rows_of(joy=30, fear=2)
    for row in rows:
        number = int(str(row["video_id"]).partition("/")[2])
        row["sha256"] = f"{row['label']}{number // 3}" if number < 21 else row["video_id"]
    names = add_drawn(rows, runs=40, test_share=0.34, seed=0)
    for name in names:
        sides: dict[object, set[object]] = {}
        for row in rows[:30]:
            sides.setdefault(row["sha256"], set()).add(row[name])
        assert all(len(side) == 1 for side in sides.values())
        assert sum(row[name] == "test" for row in rows[:30]) in (8, 9, 10)
        assert {row[name] for row in rows[30:]} == {"train"}  # one content cannot be tested
    assert few(rows) == ["fear"]


def test_of_two_contents_one_is_tested_however_many_copies_it_has() -> None:
    rows = rows_of(joy=5)
    for row, content in zip(rows, "aaabb", strict=True):
        row["sha256"] = content
    (name,) = add_drawn(rows, runs=1, test_share=0.2, seed=0)
    assert [row[name] for row in rows] == ["train"] * 3 + ["test"] * 2
