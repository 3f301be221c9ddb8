import json
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from features.cache import digests
from features.cache.store import ItemStore
from features.networks import runtimes
from features.networks.extraction import Forward
from stages.engine import runtime
from stages.engine.runtime import GRAPH, WEIGHTS, RuntimeFails, fastest

pytestmark = pytest.mark.slow  # to make a graph of a network takes seconds

NETWORK = "a" * 64


class Toy(nn.Module):
    """A convolution and a product, a map and a vector; one thread computes it at once."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.map = nn.Conv2d(3, 4, 3)
        self.vector = nn.Linear(4, 5)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        values = self.map(frames).relu()
        return {"vector": self.vector(values.mean((2, 3))), "map": values}


class Moody(Toy):
    """What no graph can be made of: what is computed depends on the numbers."""

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        if frames.sum() > 0:
            return super().forward(frames)
        return {"vector": frames.new_zeros(len(frames), 5), "map": self.map(frames)}


ROWS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def take(tmp_path: Path, notes: list[str]) -> Callable[..., tuple[str, Forward]]:
    """Return a function that takes the fastest runtime of a network, in one store."""

    def fastest_of(network: nn.Module, wanted: str = "auto") -> tuple[str, Forward]:
        return fastest(tmp_path, NETWORK, network.eval, ROWS, wanted=wanted, note=notes.append)  # type: ignore[arg-type]

    return fastest_of


def seconds(monkeypatch: pytest.MonkeyPatch, torch_s: float, openvino_s: float) -> None:
    """Let the clock say how long the runtimes take for a batch, turn by turn."""
    now = [0.0]
    steps = iter([0.0, torch_s, 0.0, openvino_s] * 100)

    def clock() -> float:
        now[0] += next(steps)
        return now[0]

    monkeypatch.setattr(runtime.time, "perf_counter", clock)


def graphs(root: Path) -> list[Path]:
    return sorted(root.glob(f"runtimes/*/{GRAPH}"))


@pytest.mark.parametrize(
    ("openvino_s", "expected"), [(0.5, "openvino"), (0.84, "openvino"), (0.9, "torch")]
)
def test_the_faster_is_taken_and_a_tie_stays_with_torch(
    take: Callable[..., tuple[str, Forward]],
    tmp_path: Path,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    openvino_s: float,
    expected: str,
) -> None:
    seconds(monkeypatch, 1.0, openvino_s)
    found, forward = take(Toy())
    assert found == expected
    assert len(notes) == 1 and "once on this machine" in notes[0]
    with torch.inference_mode():
        reference = Toy().eval()(ROWS)
    for name, values in forward(ROWS).items():
        torch.testing.assert_close(values, reference[name], rtol=1e-5, atol=1e-6)
    assert bool(graphs(tmp_path)) == (expected == "openvino")  # a copy of the weights is large


@pytest.mark.parametrize(("for_two_s", "expected"), [(1.6, "openvino"), (1.8, "torch")])
def test_batches_side_by_side_are_timed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_two_s: float, expected: str
) -> None:
    seconds(monkeypatch, 1.0, for_two_s)
    found, forward = fastest(
        tmp_path, NETWORK, Toy().eval, ROWS, wanted="auto", note=print, at_once=2
    )
    assert found == expected and set(forward(ROWS)) == {"vector", "map"}


def test_what_was_found_is_remembered(
    take: Callable[..., tuple[str, Forward]],
    tmp_path: Path,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds(monkeypatch, 1.0, 0.5)
    first = take(Toy())[1](ROWS)
    for path in graphs(tmp_path)[0].parent.iterdir():
        os.utime(path, (0, 0))
    seconds(monkeypatch, 0.5, 1.0)  # it would be found otherwise now
    found, forward = take(Toy(seed=3))  # nor is the network looked at again
    assert found == "openvino" and len(notes) == 1
    assert all(torch.equal(values, first[name]) for name, values in forward(ROWS).items())
    (trial,) = ItemStore(tmp_path).trials()
    assert trial.used_s > 0  # `affectline store gc` keeps what is used


def test_a_network_that_nobody_has_touched_is_not_read_again(
    take: Callable[..., tuple[str, Forward]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED_NS", -(10**18))  # what is new is remembered at once
    seconds(monkeypatch, 1.0, 0.5)
    for _ in range(2):
        take(Toy())
    read: list[Path] = []
    for module in (digests, runtime):
        monkeypatch.setattr(module, "file_sha256", lambda path: read.append(path) or "changed")
    assert take(Toy())[0] == "openvino" and not read


def test_another_network_is_tried_for_itself(
    take: Callable[..., tuple[str, Forward]],
    tmp_path: Path,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds(monkeypatch, 1.0, 0.5)
    take(Toy())
    fastest(tmp_path, "b" * 64, Toy(3).eval, ROWS, wanted="auto", note=notes.append)
    fastest(tmp_path, NETWORK, Toy().eval, ROWS[:2], wanted="auto", note=notes.append)
    assert len(notes) == 3


def test_rows_of_another_length_along_a_free_axis_need_no_trial_of_their_own(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds(monkeypatch, 1.0, 0.5)
    shapes = [(1, 3, 8, 8), (1, 3, 12, 9), (1, 3, 9, 31)]
    for shape in shapes:
        rows = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        found, forward = fastest(
            tmp_path, NETWORK, Toy().eval, rows, wanted="auto", note=notes.append, free=(2, 3)
        )
        assert found == "openvino"
        with torch.inference_mode():
            reference = Toy().eval()(rows)
        assert runtimes.difference(reference, forward(rows)) < 1e-5
    assert len(notes) == 1 and len(graphs(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["trial", GRAPH, WEIGHTS, "gone"])
def test_what_is_damaged_is_made_anew(
    take: Callable[..., tuple[str, Forward]],
    tmp_path: Path,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    seconds(monkeypatch, 1.0, 0.5)
    expected = take(Toy())[1](ROWS)
    ((folder),) = (path.parent for path in graphs(tmp_path))
    path = folder / damage
    if damage == "trial":
        (path,) = folder.glob("*.json")
    whole = (folder / WEIGHTS).read_bytes()
    if damage == "gone":
        (folder / WEIGHTS).unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:-4] if damage == "trial" else content)
    found, forward = take(Toy())
    assert found == "openvino" and len(notes) == 2
    assert all(torch.equal(values, expected[name]) for name, values in forward(ROWS).items())
    assert (folder / WEIGHTS).read_bytes() == whole
    take(Toy())
    assert len(notes) == 2


@pytest.mark.parametrize("wrong", [1.001, float("nan")])
def test_other_numbers_are_never_taken(
    take: Callable[..., tuple[str, Forward]],
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    wrong: float,
) -> None:
    forward_of = runtimes.forward_of

    def wrongly(*arguments: object) -> Forward:
        forward = forward_of(*arguments)  # type: ignore[arg-type]
        return lambda rows: {name: values * wrong for name, values in forward(rows).items()}

    monkeypatch.setattr(runtimes, "forward_of", wrongly)
    seconds(monkeypatch, 1.0, 0.5)
    assert take(Toy())[0] == "torch"
    assert "numbers differ by" in notes[-1]
    with pytest.raises(RuntimeFails, match="engine.runtime: openvino: OpenVINO's numbers differ"):
        take(Toy(), "openvino")


def test_a_network_that_no_graph_can_be_made_of_stays_with_torch(
    take: Callable[..., tuple[str, Forward]], notes: list[str]
) -> None:
    assert take(Moody())[0] == "torch"
    assert "OpenVINO cannot take the network" in notes[-1]
    assert take(Moody())[0] == "torch" and len(notes) == 2
    with pytest.raises(RuntimeFails, match="cannot take the network.*expected auto or torch"):
        take(Moody(), "openvino")


def test_who_asks_for_openvino_gets_it_though_it_is_slower(
    take: Callable[..., tuple[str, Forward]], notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds(monkeypatch, 0.5, 1.0)
    assert take(Toy())[0] == "torch"
    assert take(Toy(), "openvino")[0] == "openvino"
    assert take(Toy(), "openvino")[0] == "openvino" and len(notes) == 2
    assert take(Toy())[0] == "torch" and len(notes) == 2


def test_a_trial_is_a_small_file_of_json(
    take: Callable[..., tuple[str, Forward]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds(monkeypatch, 1.0, 0.5)
    take(Toy())
    (path,) = tmp_path.glob("runtimes/*/*.json")
    trial = json.loads(path.read_text())
    assert (trial["torch_s"], trial["openvino_s"], trial["runtime"]) == (1.0, 0.5, "openvino")
    assert set(trial["files"]) == {GRAPH, WEIGHTS}
    assert {each.name for each in path.parent.iterdir()} == {path.name, GRAPH, WEIGHTS}


def test_openvino_gives_back_its_memory_before_torchs_turn_and_is_run_from_its_file(
    take: Callable[..., tuple[str, Forward]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that torch and OpenVINO hold at once, and room for a batch in each, are memory."""
    steps: list[object] = []
    compiled: list[weakref.ref[object]] = []
    in_torch, in_openvino = runtime.forward_of, runtimes.forward_of

    def of_torch(network: nn.Module) -> Forward:
        forward = in_torch(network)

        def compute(rows: Tensor) -> Mapping[str, Tensor]:
            assert not any(each() for each in compiled)
            steps.append("torch")
            return forward(rows)

        return compute

    def of_openvino(model: object, names: list[str], at_once: int) -> Forward:
        steps.append(model if isinstance(model, Path) else "openvino")
        forward = in_openvino(model, names, at_once)
        compiled.append(weakref.ref(forward))
        return forward

    monkeypatch.setattr(runtime, "forward_of", of_torch)
    monkeypatch.setattr(runtimes, "forward_of", of_openvino)
    take(Toy(), "openvino")
    (graph,) = graphs(tmp_path)
    assert steps == ["torch", *["torch", "openvino"] * runtime.TURNS, graph]
