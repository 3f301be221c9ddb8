from dataclasses import dataclass
from types import ModuleType

import pytest

from features.options import options_of


@dataclass(frozen=True)
class Options:
    gain: float = 1.0
    loud: bool = False
    keep: tuple[str, ...] = ()


MODULE = ModuleType("features.backbones.toy")
setattr(MODULE, "Options", Options)  # noqa: B010


def test_options_are_those_of_the_module() -> None:
    made = options_of(MODULE, {"gain": 2, "keep": ["a"]})
    assert made == Options(2.0, False, ("a",))
    assert isinstance(made.gain, float)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"pca": True}, r"options of toy: unknown pca \(fields are gain, loud, keep\)"),
        ({"loud": "no"}, r"options of toy: loud: .* boolean, found 'no'"),
        ({"loud": 1}, "loud: .* boolean"),
        ({"gain": "2"}, "gain: .* number"),
        ({"keep": "a"}, "keep: .* array"),
    ],
)
def test_what_does_not_fit_is_refused(chosen: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options_of(MODULE, chosen)
