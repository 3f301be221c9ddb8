from dataclasses import dataclass

import pytest

from heads.layers.checks import check_at_least, check_row, check_share, check_weights


@dataclass(frozen=True)
class Params:
    size: int = 4
    sizes: tuple[int, int] = (4, 2)
    hidden: int | None = None
    dropout: float = 0.5
    first: float = 1.0
    second: float = 0.0


def test_what_is_in_its_range_passes() -> None:
    params = Params()
    check_at_least(params, 2, "size", "sizes", "hidden")
    check_share(params, "dropout")
    check_weights(params, "first", "second")
    check_row("caan", "face", (4096,), axes=1)
    check_row("caan", "face_map", (512, 7, 7), axes=3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (Params(size=1), "^size must be at least 2, found 1$"),
        (Params(sizes=(2, 1)), r"^sizes must be at least 2, found \(2, 1\)$"),
        (Params(hidden=0), "^hidden must be at least 2 or null, found 0$"),
    ],
)
def test_a_number_below_its_least_is_named(params: Params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_at_least(params, 2, "size", "sizes", "hidden")


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_outside_its_range_is_named(share: float) -> None:
    with pytest.raises(ValueError, match=f"dropout must be at least 0 and below 1, found {share}"):
        check_share(Params(dropout=share), "dropout")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (Params(second=-1.0), "second must be at least 0, found -1.0"),
        (Params(first=0.0), "one of first, second must be above 0, found 0 for all"),
    ],
)
def test_weights_of_losses_that_train_nothing_are_named(params: Params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_weights(params, "first", "second")


@pytest.mark.parametrize(
    ("shape", "axes", "expected"), [((3, 4), 1, "rows of one axis"), ((3,), 3, r"rows \(C, H, W\)")]
)
def test_a_row_of_a_wrong_shape_is_named(shape: tuple[int, ...], axes: int, expected: str) -> None:
    with pytest.raises(ValueError, match=f"'face' of caan takes {expected}, found .*: name"):
        check_row("caan", "face", shape, axes)  # type: ignore[arg-type]
