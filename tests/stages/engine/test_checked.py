from collections.abc import Callable
from pathlib import Path

import pytest

from features.cache import keys
from features.cache.store import store_root
from stages.engine import checked, checks, start
from stages.engine.params import Params, load_params

ROOT = Path(__file__).parents[3]


@pytest.fixture
def params(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of two modules, of which a stage imports one."""
    for name in ("params.yaml", "dvc.yaml"):
        (in_folder / name).write_bytes((ROOT / name).read_bytes())
    (in_folder / "heads").mkdir()
    for name in ("mine", "other"):
        (in_folder / "heads" / f"{name}.py").write_text("import torch\n")
    monkeypatch.setattr(keys, "PROJECT", in_folder)
    return load_params()


def changed_params(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("epochs: ", "epochs: 1"))


def changed_pipeline(project: Path) -> None:
    with (project / "dvc.yaml").open("a") as file:
        file.write("# more\n")


@pytest.mark.parametrize(
    ("change", "is_known"),
    [
        (lambda project: None, True),
        (lambda project: (project / "heads/other.py").write_text("import os\n"), True),
        (lambda project: (project / "heads/mine.py").write_text("import os\n"), False),
        (lambda project: (project / "heads/mine.py").unlink(), False),
        (lambda project: (project / "torch.py").touch(), False),
        (changed_params, False),
        (changed_pipeline, False),
    ],
)
def test_what_was_right_is_known_until_something_that_was_checked_is_another(
    in_folder: Path, params: Params, change: Callable[[Path], object], is_known: bool
) -> None:
    assert not checked.is_known(params)
    checked.remember(params, ["heads.mine"])
    change(in_folder)
    assert checked.is_known(load_params()) is is_known


def test_another_clone_with_the_same_store_checks_for_itself(
    in_folder: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked.remember(params, ["heads.mine"])
    (in_folder / "clone").mkdir()
    monkeypatch.setattr(keys, "PROJECT", in_folder / "clone")
    assert not checked.is_known(params)


def test_what_is_known_is_not_checked_again_and_what_is_wrong_is_not_remembered(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def wrong(_: object, names: list[str]) -> None:
        asked.append("watched")
        raise ValueError("wrong")

    monkeypatch.setattr(checks, "check_system", lambda: asked.append("system"))
    monkeypatch.setattr(checks, "check_modules", lambda _: asked.append("modules"))
    monkeypatch.setattr(checks, "stage_modules", lambda _: {"heads.mine"})
    monkeypatch.setattr(checks, "check_watched", wrong)
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            checks.check_all(params)
    assert asked == 2 * ["system", "modules", "watched"]
    monkeypatch.setattr(checks, "check_watched", lambda *_: asked.append("watched"))
    monkeypatch.setattr(start, "check_watched", lambda *_: asked.append("stage"))
    start.start("index")
    checks.check_all(params)
    del asked[:]
    checks.check_all(params)
    start.start("index")
    assert asked == ["system"]


def test_a_store_that_is_only_read_costs_the_checks(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_root().parent.mkdir(parents=True, exist_ok=True)
    store_root().write_text("no folder")
    checked.remember(params, ["heads.mine"])
    assert not checked.is_known(params)
