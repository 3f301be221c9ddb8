"""What goes wrong with items, as other processes are told of it."""

from stages.engine.trouble import sendable


def test_an_error_that_cannot_be_sent_is_told_in_its_words() -> None:
    class Odd(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(f"{one} {two}")

    plain = ValueError("too dark")
    assert sendable(plain) is plain and sendable(None) is None
    assert str(sendable(Odd("too", "dark"))) == "Odd: too dark"
