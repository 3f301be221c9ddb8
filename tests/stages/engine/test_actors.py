"""Actors as they are without Ray: their calls are made in this process."""

from dataclasses import replace
from pathlib import Path

import pytest

from features.cache import arrays
from stages.engine.actors import Actor, Carried, Orders
from stages.engine.kit import kit
from stages.engine.trouble import MachineError
from stages.engine.workers import Item, Part, Work, Workers
from tests.stages.engine import toys
from tests.stages.engine.toys import Copied


@pytest.fixture
def orders(in_folder: Path) -> Orders:
    """What actors of a stage with one file of weights are told."""
    (in_folder / "weights").write_text("these")
    weights = (in_folder / "weights",)
    work = Work((), toys.copy, Workers(0), weights=weights)
    tokens = (Path("unfinished/t"), in_folder / "logs/t")
    for token in (in_folder / ".store" / tokens[0], tokens[1]):
        token.mkdir(parents=True)
    return Orders(in_folder, in_folder / ".store", tokens, work, "toy", kit(weights))


def test_an_actor_knows_whether_it_sees_the_store_and_the_project(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Actor(orders).ready() is True
    orders.tokens[1].rmdir()  # a project at the same path, but another
    assert Actor(orders).ready() is False
    orders.tokens[1].mkdir()
    monkeypatch.setenv("AFFECTLINE_STORE", "another")
    assert Actor(orders).ready() is False


def test_an_actor_with_another_torch_or_other_weights_is_refused(orders: Orders) -> None:
    refusal = Actor(replace(orders, kit={**orders.kit, "torch": "2.13.0"})).ready()
    assert isinstance(refusal, MachineError) and "the stage has 2.13.0" in str(refusal)
    Path("weights").write_text("others")
    refusal = Actor(orders).ready()
    assert isinstance(refusal, MachineError) and "weights" in str(refusal)
    orders.tokens[1].rmdir()
    assert Actor(orders).ready() is False  # it will be sent the stage's


def part(*files: Path) -> Part:
    weights = Path("weights").absolute()
    items = [Item(f.name, {f"{f.name:0>64}": f"{f.name}.bin"}, Copied(f, weights)) for f in files]
    return {tuple(item.files): item for item in items}


def test_what_is_needed_no_more_is_removed_and_what_stays_is_sent_once(orders: Orders) -> None:
    actor = Actor(orders)
    a, b, weights = (Path(name).absolute() for name in ("a", "b", "weights"))
    for path in (a, b):
        path.write_text(path.name)
    carried = {path: Carried.of(path) for path in (a, b, weights)}
    for path in carried:
        path.unlink()  # as on another machine
    _, (made,) = actor.work_apart(part(a), {a, weights}, carried[a], carried[weights])
    assert made.content == b"athese" and made.path.name == f"{'a':0>64}.bin"
    done, (made,) = actor.work_apart(part(b), {b, weights}, carried[b])
    assert made.content == b"bthese" and len(done.reports) == 1
    assert len(list(Path(actor._folder.name, "inputs").iterdir())) == 2
    assert not list(Path(actor._folder.name).rglob("*.bin"))
    actor.end()
    assert not Path(actor._folder.name).exists()


def test_what_does_not_arrive_as_it_was_sent_is_refused(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.h5", {}, {"key": "a"})
    carried = Carried.of(tmp_path / "a.h5")
    damaged = replace(carried, content=carried.content[:-1] + b"?")
    with pytest.raises(MachineError, match=r"a\.h5: damaged on its way"):
        damaged.write(tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()
    carried.write(tmp_path / "b.h5")
    assert arrays.check(tmp_path / "b.h5")["key"] == "a"
