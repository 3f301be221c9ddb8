"""What the way through a GPU needs of a GPU is its queues: here threads stand for them."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from threading import Event

import pytest
import torch
from torch import Tensor, nn

from features.networks import streams
from features.networks.extraction import Passage, Piece, forward_of, outputs_of, through
from features.networks.streams import IN_FLIGHT, channels_last, faster, forward_on, on_gpu

CPU = torch.device("cpu")
HANGING_S = 9.0


class Done:
    """The end of work in a thread."""

    def __init__(self, future: "Future[None]") -> None:
        self._future = future

    def synchronize(self) -> None:
        self._future.result(HANGING_S)


class Thread:
    """A queue that does not begin before the next one waits for it, or has gone wrong without."""

    def __init__(self, pool: ThreadPoolExecutor, next_one: "Thread | None") -> None:
        self._pool, self._next = pool, next_one
        self.waits = Event()

    def put(self, work: Callable[[], None], *after: streams.Mark) -> Done:
        return Done(self._pool.submit(self._do, work, after))

    def _do(self, work: Callable[[], None], after: tuple[streams.Mark, ...]) -> None:
        if after:
            self.waits.set()
        for mark in after:
            mark.synchronize()
        if self._next is not None:
            assert self._next.waits.wait(HANGING_S)
        work()
        self.waits.set()


@pytest.fixture
def queues() -> Iterator[tuple[Thread, Thread, Thread]]:
    """Give a queue there, one of the network and one back."""
    with ExitStack() as stack:
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(3)]
        back = Thread(pools[2], None)
        network = Thread(pools[1], back)
        yield Thread(pools[0], network), network, back


def double(rows: Tensor) -> dict[str, Tensor]:
    return {"double": rows * 2, "sum": rows.sum(dim=1, keepdim=True)}


def test_a_batch_is_there_before_it_is_computed_and_computed_before_it_comes_back(
    queues: tuple[Thread, Thread, Thread],
) -> None:
    rows = torch.arange(6.0).reshape(2, 3)
    found = forward_on(double, CPU, queues)(rows)
    assert {name: values.tolist() for name, values in found.items()} == {
        "double": (rows * 2).tolist(),
        "sum": [[3.0], [12.0]],
    }


def test_batches_in_flight_are_each_videos_own(queues: tuple[Thread, Thread, Thread]) -> None:
    module = type("toy", (), {"__name__": "toy"})
    passages = [Passage(module, None) for _ in range(9)]  # type: ignore[arg-type]
    taken: list[Mapping[str, Tensor]] = []
    for passage in passages:
        passage.take = taken.append  # type: ignore[method-assign]

    def pieces() -> Iterator[Piece]:
        for number, passage in enumerate(passages):
            yield passage, torch.full((4, 3), float(number))
            yield passage, None

    forward = forward_on(double, CPU, queues)
    assert list(through(pieces(), forward, 4, lambda: IN_FLIGHT)) == passages
    assert [part["double"].unique().tolist() for part in taken] == [[2.0 * n] for n in range(9)]


def test_what_the_network_says_of_rows_is_raised_where_they_were_given(
    queues: tuple[Thread, Thread, Thread],
) -> None:
    def broken(rows: Tensor) -> dict[str, Tensor]:
        if rows.max() > 1:
            raise ValueError("too bright")
        return double(rows)

    forward = forward_on(broken, CPU, queues)
    with pytest.raises(ValueError, match="too bright"):
        forward(torch.full((1, 2), 2.0))
    assert forward(torch.ones(1, 2))["sum"].item() == 2  # the next one goes through


@pytest.mark.parametrize(
    ("other", "seconds", "expected"),
    [
        (lambda rows: double(rows), 0.9, True),
        (lambda rows: double(rows), 0.97, False),
        (lambda rows: {**double(rows), "sum": rows.sum(1, keepdim=True) * 1.0000002}, 0.1, False),
        (lambda rows: {"double": rows * 2}, 0.1, False),
    ],
)
def test_another_form_is_taken_where_it_is_faster_and_the_same_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
    other: Callable[[Tensor], dict[str, Tensor]],
    seconds: float,
    expected: bool,
) -> None:
    now = [0.0]
    steps = iter([0.0, 1.0, 0.0, seconds] * streams.TURNS)

    def clock() -> float:
        now[0] += next(steps)
        return now[0]

    monkeypatch.setattr(streams.time, "perf_counter", clock)
    waited: list[None] = []
    rows = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    assert faster(double, other, rows, lambda: waited.append(None)) is expected
    assert len(waited) in (0, 4 * streams.TURNS)  # before and after each


def test_convolutions_of_pictures_and_of_clips_have_their_weights_channels_last() -> None:
    pictures, clips, product = nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(4, 2)
    before = [each.weight.clone() for each in (pictures, clips, product)]
    channels_last(nn.ModuleList([pictures, clips, product]))
    assert pictures.weight.is_contiguous(memory_format=torch.channels_last)
    assert clips.weight.is_contiguous(memory_format=torch.channels_last_3d)
    for each, weight in zip((pictures, clips, product), before, strict=True):
        assert torch.equal(each.weight, weight)


def test_nothing_comes_back_in_bfloat16() -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    network.forward = lambda rows: {"y": network[0](rows), "x": rows}  # type: ignore[method-assign]
    rows = torch.rand(2, 3)
    whole, half = (outputs_of(network, rows, each) for each in ("float32", "bfloat16"))
    assert {values.dtype for values in half.values()} == {torch.float32}
    assert torch.equal(half["x"], whole["x"]) and not torch.equal(half["y"], whole["y"])
    torch.testing.assert_close(half["y"], whole["y"], rtol=2**-6, atol=2**-6)


@pytest.mark.gpu
@pytest.mark.parametrize("may_record", [True, False])
def test_on_a_gpu_the_numbers_are_the_cpus_however_many_batches_are_in_flight(
    may_record: bool,
) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))

        def forward(self, frames: Tensor) -> dict[str, Tensor]:
            values = self.layers(frames)
            return {"map": values, "mean": values.mean((2, 3))}

    batches = [torch.rand(4, 3, 32, 32) for _ in range(12)]
    expected = [forward_of(Small().eval())(rows) for rows in batches]
    notes: list[str] = []
    network = Small().eval().cuda()
    _, forward = on_gpu(network, "float32", batches[0], may_record=may_record, note=notes.append)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        asked = [pool.submit(forward, rows) for rows in batches]
        wait(asked)
    assert not notes
    for future, values in zip(asked, expected, strict=True):
        for name, each in future.result().items():
            torch.testing.assert_close(each, values[name], rtol=1e-4, atol=1e-5)
