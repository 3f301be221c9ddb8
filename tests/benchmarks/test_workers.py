import workers


def test_two_workers_make_each_item_once_between_them() -> None:
    both = workers.together(2, items=6, seconds=0.01)
    assert (both.workers, both.made) == (2, 6) and both.seconds > 0


def test_items_that_take_nothing_are_measured() -> None:
    row = workers.many("local", 50)
    assert (row.executor, row.keys) == ("local", 50)
    assert row.ms > 0 and row.cpu_ms > 0 and row.peak_mib > 10
