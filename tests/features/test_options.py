from dataclasses import dataclass
from types import ModuleType

import pytest

from features.options import axes_of, options_of


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


def test_the_axes_of_a_row_are_named_by_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "FEATURES", {"map": (4, 7, 7), "row": (9,)}, raising=False)
    monkeypatch.setattr(MODULE, "AXES", {"map": "C H W"}, raising=False)
    assert axes_of(MODULE, Options()) == {"map": "C H W", "row": "D"}
    for wrong in ({}, {"map": "C H"}, {"map": "C H Z"}):
        monkeypatch.setattr(MODULE, "AXES", wrong)
        with pytest.raises(ValueError, match="toy: AXES of 'map': expected a letter for each axis"):
            axes_of(MODULE, Options())


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
