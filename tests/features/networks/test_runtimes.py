import gc
import math
import signal
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from features.networks import runtimes
from features.networks.extraction import BATCH, Forward

pytestmark = pytest.mark.slow  # to make a graph of a network takes seconds


class Small(nn.Module):
    """What the backbones are made of: convolutions, a norm, a pool, a product, attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.vector = nn.Linear(32 * 8 * 8, 64)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        values = self.pool(self.map(frames))
        places = values.flatten(2).transpose(1, 2)
        seen, _ = self.attention(places, places, places, need_weights=False)
        return {"vector": self.vector(values.flatten(1)), "map": values, "seen": seen}


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return torch.randn(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return Small().eval()


@pytest.fixture(scope="module")
def saved(
    network: nn.Module, rows: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    path = tmp_path_factory.mktemp("graph") / "network.xml"
    model, names = runtimes.converted(network, rows)
    runtimes.save(model, path)
    return path, names


@pytest.fixture(scope="module")
def forward(saved: tuple[Path, list[str]]) -> Forward:
    return runtimes.forward_of(*saved)


def test_a_converted_network_gives_torchs_numbers_by_name(
    network: nn.Module, rows: Tensor, forward: Forward
) -> None:
    """In float32: left alone, OpenVINO computes in bfloat16 where the processor can."""
    with torch.inference_mode():
        reference = network(rows)
    found = forward(rows)
    assert set(found) == {"vector", "map", "seen"}
    for name, values in reference.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-5)
    assert runtimes.difference(reference, found) < 1e-5


def test_weights_are_kept_in_float32(saved: tuple[Path, list[str]], network: nn.Module) -> None:
    numbers = sum(p.numel() for p in network.parameters() if p.ndim > 1)
    assert saved[0].with_suffix(".bin").stat().st_size >= 4 * numbers


def test_not_a_bit_depends_on_the_place_or_on_what_lies_beside(
    rows: Tensor, forward: Forward
) -> None:
    usual, rolled = forward(rows), forward(rows.roll(5, 0))
    alone = torch.zeros_like(rows)
    alone[3] = rows[7]
    beside_nothing = forward(alone)
    for name, values in usual.items():
        assert torch.equal(rolled[name], values.roll(5, 0))
        assert torch.equal(beside_nothing[name][3], values[7])


def test_what_was_computed_stays_as_it_is(rows: Tensor, forward: Forward) -> None:
    """The next batch does not write over the last one's features."""
    first = forward(rows)
    kept = {name: values.clone() for name, values in first.items()}
    forward(torch.zeros_like(rows))
    assert all(torch.equal(values, kept[name]) for name, values in first.items())


def test_batches_side_by_side_are_each_computed_as_alone(
    saved: tuple[Path, list[str]], rows: Tensor, forward: Forward
) -> None:
    several = [rows.roll(number, 0) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:  # more than it computes at once: they wait
        found = list(pool.map(runtimes.forward_of(*saved, at_once=2), several))
    for each, batch in zip(found, several, strict=True):
        for name, values in forward(batch).items():
            torch.testing.assert_close(each[name], values, rtol=1e-5, atol=1e-6)


class Pyramid(nn.Module):
    """Maps of two sizes, the small one laid over the large one: as a detector has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.large, self.small = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        large = self.large(frames).relu()
        size = [large.size(2), large.size(3)]
        over = nn.functional.interpolate(self.small(large), size=size, mode="nearest")
        return {"each": (large + over).permute(0, 2, 3, 1).reshape(len(frames), -1, 8)}


def test_one_graph_serves_frames_of_all_sizes(request: pytest.FixtureRequest) -> None:
    network = Pyramid().eval()
    weight = weakref.ref(network.large.weight)
    draw = torch.Generator().manual_seed(1)
    gc.disable()
    request.addfinalizer(gc.enable)
    model, names = runtimes.converted(network, torch.rand(1, 3, 33, 48, generator=draw), (2, 3))
    forward = runtimes.forward_of(model, names)
    for size in ((33, 48), (20, 70), (91, 17), (33, 48)):
        rows = torch.rand(1, 3, *size, generator=draw)
        with torch.inference_mode():
            reference = network(rows)
        assert runtimes.difference(reference, forward(rows)) < 1e-5
    del network, model
    assert weight() is None  # nothing of the conversion still holds torch's weights


def test_what_posts_usage_figures_is_not_imported(forward: Forward) -> None:
    assert sys.modules["openvino_telemetry"] is None
    assert not any(name.startswith("openvino_telemetry.") for name in sys.modules)


def test_features_that_cannot_be_compared_are_infinitely_apart() -> None:
    one = {"a": torch.tensor([2.0, -4.0])}
    assert runtimes.difference(one, {"a": torch.tensor([2.0, -3.0])}) == 0.25
    assert runtimes.difference(one, {"b": one["a"]}) == math.inf
    assert runtimes.difference(one, {"a": one["a"][:1]}) == math.inf
    assert runtimes.difference(one, {"a": one["a"] * math.nan}) == math.inf
    assert runtimes.difference({"a": torch.zeros(2)}, {"a": torch.zeros(2)}) == 0


def test_a_signal_after_networks_that_came_and_went_is_handled(
    saved: tuple[Path, list[str]],
) -> None:
    """One crashed the process where the processor has AMX."""
    one = runtimes.forward_of(*saved)
    other = runtimes.forward_of(*saved)
    del one
    gc.collect()
    del other
    gc.collect()
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]
