import threading
from collections.abc import Generator

import pytest

from stages.engine.ahead import ahead

DEPTH = 2


def test_items_come_in_order_and_are_made_ahead_within_bounds() -> None:
    made: list[int] = []
    taken: list[int] = []

    def items() -> Generator[int, None, None]:
        for number in range(20):
            assert len(made) - len(taken) <= DEPTH + 1
            made.append(number)
            yield number

    for number in ahead(items(), DEPTH):
        taken.append(number)
    assert taken == list(range(20))


def test_an_item_is_made_while_the_one_before_it_is_worked_on() -> None:
    is_next = threading.Event()

    def items() -> Generator[int, None, None]:
        yield 0
        is_next.set()
        yield 1

    numbers = ahead(items(), DEPTH)
    assert next(numbers) == 0
    assert is_next.wait(10)
    assert list(numbers) == [1]


def test_what_fails_where_items_are_made_is_raised_in_its_place() -> None:
    def items() -> Generator[int, None, None]:
        yield 0
        raise OSError("the disk")

    numbers = ahead(items(), DEPTH)
    assert next(numbers) == 0
    with pytest.raises(OSError, match="the disk"):
        next(numbers)


def test_who_stops_early_leaves_no_thread_and_nothing_open() -> None:
    before = threading.active_count()
    closed: list[bool] = []

    def items() -> Generator[int, None, None]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    numbers = ahead(items(), DEPTH)
    assert next(numbers) == 0
    numbers.close()
    assert closed == [True]
    assert threading.active_count() == before
