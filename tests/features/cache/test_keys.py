import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.cache import keys
from features.cache.keys import canonical, code_fingerprint, item_key

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(lambda x: abs(x) != float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_a_key_does_not_depend_on_the_order_of_the_ingredients(made_of: dict[str, object]) -> None:
    turned = dict(reversed(made_of.items()))
    assert item_key(made_of) == item_key(turned)


names = st.text().filter(lambda name: name != "code")


@given(st.dictionaries(names, values, max_size=4), names, values, values)
def test_a_changed_ingredient_changes_the_key(
    made_of: dict[str, object], name: str, one: object, other: object
) -> None:
    same = canonical(one) == canonical(other)
    assert (item_key({**made_of, name: one}) == item_key({**made_of, name: other})) == same


def test_a_key_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError):
        item_key({"share": float("nan")})


def test_of_code_the_hashes_count_and_not_the_names() -> None:
    def key(**code: str) -> str:
        return item_key({"code": code})

    assert key(here="1", there="2") == key(moved="2", stayed="1")
    assert key(here="1", there="2") != key(here="1", there="3")


# ------------------------------------------------------------------------------ fingerprint

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module of a project of its own: dotted name, source."""
    monkeypatch.setattr(keys, "PROJECT", tmp_path)

    def module(name: str, source: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        keys._source.cache_clear()
        keys._definition.cache_clear()
        keys._fingerprint.cache_clear()

    module("features.__init__", "")
    module("features.a", "import os\nfrom features.b import f\n\ndef g(x):\n    return f(x) + 1\n")
    module("features.b", "STEP = 2\n\ndef f(n):\n    return n * STEP\n")
    yield module
    keys._source.cache_clear()
    keys._definition.cache_clear()
    keys._fingerprint.cache_clear()


def test_the_code_of_a_thousand_items_is_looked_up_once(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = code_fingerprint("features.a.g")
    assert keys.defined("features.a", ("g", "f", "h")) == ["features.a.g", "features.a.f"]
    assert keys.defined("features.none", ("g",)) == []
    monkeypatch.setattr(keys, "_is_module", lambda name: pytest.fail(f"looked for {name} again"))
    fingerprint["features.a.g"] = "changed by who asked"
    again = code_fingerprint("features.a.g")
    assert set(again) == set(fingerprint) and again != fingerprint
    assert keys.defined("features.a", ("g", "f", "h")) == ["features.a.g", "features.a.f"]


def reached(entry: str = "features.a.g") -> set[str]:
    return set(code_fingerprint(entry))


def key(entry: str = "features.a.g") -> str:
    return item_key({"code": code_fingerprint(entry)})


def test_what_a_function_reaches_is_in_its_fingerprint(write: Write) -> None:
    assert reached() == {"features.a.g", "features.b.f", "features.b.STEP"}


@pytest.mark.parametrize(
    "source",
    [
        "STEP = 2\n\n# remark\ndef f(n):  # twice\n    '''Double.'''\n\n    return (n * STEP)\n",
        "STEP = 2\n'''Of what.'''\n\ndef f(n: int) -> int:\n    return n * STEP\n",
        "import math\nfrom features.c import h\nSTEP = 2\n\ndef f(n):\n    return n * STEP\n",
        "LICENCE = 'MIT'\nSTEP = 2\n\ndef f(n):\n    return n * STEP\n\ndef unused():\n    pass\n",
        "STEP = 2\n\ndef f(n):\n    return n * STEP\n\nif __name__ == '__main__':\n    f(1)\n",
    ],
    ids=["comments and layout", "annotations", "imports", "what nobody calls", "the script"],
)
def test_what_makes_no_number_costs_nothing(write: Write, source: str) -> None:
    before = key()
    write("features.c", "def h():\n    pass\n")
    write("features.b", source)
    assert key() == before


def test_the_wording_of_an_error_costs_nothing_and_its_condition_does(write: Write) -> None:
    text = (
        "STEP = 2\n\ndef f(n):\n    if n > {}:\n        raise ValueError({})\n    return n * STEP\n"
    )
    write("features.b", text.format(3, "f'{n} is too much'"))
    before = key()
    write("features.b", text.format(3, "f'expected less than {STEP}, found {n}'"))
    assert key() == before
    write("features.b", text.format(4, "f'{n} is too much'"))
    assert key() != before


@pytest.mark.parametrize(
    "source",
    [
        "STEP = 3\n\ndef f(n):\n    return n * STEP\n",
        "STEP = 2\n\ndef f(n):\n    return n / STEP\n",
        "STEP = 2\n\ndef f(n, by=STEP):\n    return n * by\n",
        "import os\nSTEP = 2\nos.environ['X'] = '1'\n\ndef f(n):\n    return n * STEP\n",
        "STEP = 2\nSTEP += 1\n\ndef f(n):\n    return n * STEP\n",
        "if True:\n    STEP = 2\nelse:\n    STEP = 3\n\ndef f(n):\n    return n * STEP\n",
    ],
    ids=["constant", "formula", "default", "effect of the import", "two statements", "condition"],
)
def test_what_makes_a_number_changes_the_key(write: Write, source: str) -> None:
    before = key()
    write("features.b", source)
    assert key() != before


@pytest.mark.parametrize(
    "source",
    [
        "from .b import f\n\ndef g(x):\n    return f(x) + 1\n",
        "from . import b\n\ndef g(x):\n    return b.f(x) + 1\n",
        "from features import b as other\n\ndef g(x):\n    return other.f(x) + 1\n",
        "import features.b\n\ndef g(x):\n    return features.b.f(x) + 1\n",
        "def g(x):\n    from features.b import f\n    return f(x) + 1\n",
        "from features.b import f\nTABLE = {'f': f}\n\ndef g(x):\n    return TABLE['f'](x)\n",
        "from features.b import f\n\nclass B:\n    h = f\n\ndef g(x, y=B):\n    return y.h(x)\n",
        "from features.b import f\n\n@f\ndef g(x):\n    return x\n",
        "from features.b import f\n\ndef g(xs):\n    return [y for y in map(lambda z: f(z), xs)]\n",
        "import importlib\n\ndef g(x):\n    return importlib.import_module('features.b').f(x)\n",
        "from features import b\n\ndef g(x):\n    return vars(b)['f'](x)\n",
        "from features.handed_on import f\n\ndef g(x):\n    return f(x)\n",
    ],
)
def test_a_constant_is_followed_however_it_is_reached(write: Write, source: str) -> None:
    write("features.handed_on", "from features.b import f\n")
    write("features.a", source)
    before = key()
    assert "features.b.STEP" in reached()
    write("features.b", "STEP = 3\n\ndef f(n):\n    return n * STEP\n")
    assert key() != before


def test_a_local_variable_is_not_the_definition_of_its_name(write: Write) -> None:
    write(
        "features.a",
        """
        from features.b import f

        def STEP():
            return 7

        def g(x):
            STEP = [f for f in x]
            return STEP
        """,
    )
    assert reached() == {"features.a.g"}


def test_moving_a_definition_to_another_file_costs_nothing(write: Write) -> None:
    before = key()
    write("features.room.__init__", "")
    write("features.room.steps", "STEP = 2\n")
    write("features.b", "from features.room.steps import STEP\n\ndef f(n):\n    return n * STEP\n")
    assert key() == before


def test_bookkeeping_is_no_part_of_a_fingerprint(write: Write) -> None:
    write("features.cache.__init__", "")
    write("features.cache.store", "def put(x):\n    return x\n")
    write("features.a", "from features.cache import store\n\ndef g(x):\n    return store.put(x)\n")
    assert reached() == {"features.a.g"}


def test_an_entry_that_is_not_there_is_named(write: Write) -> None:
    for entry in ("features.a.nothing", "features.nothing", "numpy.mean"):
        with pytest.raises(ModuleNotFoundError, match=f"{entry}: expected a definition of the pro"):
            code_fingerprint("features.a.g", entry)


def test_importing_everything_of_a_module_is_refused(write: Write) -> None:
    write("features.a", "from features.b import *\n\ndef g(x):\n    return f(x)\n")
    with pytest.raises(ValueError, match=r"a\.py:1: expected imports by name, found \*"):
        reached()


SYNTAX = '''
import os
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
NUMBERS = (1, -2.5, 1e-300, 3j, True, None, ..., b"\\x00bytes", "text \\u00e9", 0x1F, 1_000_000)


@dataclass(frozen=True)
class Options(Generic[T]):
    """What may be chosen."""

    size: int = 3
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def doubled(self) -> int:
        return self.size << 1


async def wait(*parts: int, last: int = 0, **more: object) -> list[int]:
    async with lock() as held, other():
        return [part async for part in held if part % 2 if part > last]


def everything(a, /, b, *, c=lambda x, *y: (x, *y)):
    global NUMBERS
    first, *rest = a[1:-1:2, ..., None], *b
    try:
        for i, (j, k) in enumerate(zip(a, b)):
            if not (i < j <= k) or j is not None and k in rest:
                continue
            elif (size := len(a)) > 3:
                break
        else:
            del rest[0]
    except (ValueError, KeyError) as error:
        raise RuntimeError(f"{error}") from None
    finally:
        NUMBERS += tuple({n: n**2 for n in {*rest}})
    while a @ b // 2 ^ 1:
        a |= ~b & +c
    match a:
        case {"kind": str() as kind, **others} if kind:
            yield kind
        case [1, 2, *_] | Options(size=3):
            yield from others
        case _:
            assert a, f"wording {a}"
    text = f"{a!r:>{b}}{{}} and {c=} {'x' f'{a:%Y}'}" "beside" f"{os.sep}"
    return text if a else await_(b)[c](*a, **b)
'''
"""Every kind of syntax that Python 3.11 has."""


def test_all_versions_of_python_give_the_same_hashes(write: Write) -> None:
    write("features.syntax", SYNTAX)
    assert code_fingerprint("features.syntax") == {
        "features.syntax.NUMBERS": "8d490ba4051dde96",
        "features.syntax.Options": "ff2a446e7aebd0cf",
        "features.syntax.T": "114f80424018b88e",
        "features.syntax.everything": "ffa27a6e00c5874a",
        "features.syntax.wait": "758b19565bf59f6d",
    }


def test_all_versions_of_python_follow_the_same_names(write: Write) -> None:
    write(
        "features.a",
        """
        from features.b import f
        step = 2
        other = 3
        TABLE = [step for step in range(3)] + [f(n) for n in ()]

        class Holder:
            parts = [other for other in range(3)]

        def g(x):
            return [step for step in x], TABLE, Holder
        """,
    )
    assert reached() == {
        f"features.{name}" for name in ("a.Holder", "a.TABLE", "a.g", "a.step", "b.STEP", "b.f")
    }
