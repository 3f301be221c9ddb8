"""Networks with seeded weights, each built once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from features import backbones
from features.weights.file import load, write_seeded

Network = Callable[[str], nn.Module]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one core: other tests may run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Return a function that gives a backbone's network with seeded weights, by name."""
    folder: Path = tmp_path_factory.mktemp("weights")
    built: dict[str, nn.Module] = {}

    def get(name: str) -> nn.Module:
        if name not in built:
            built.clear()  # half a gigabyte each
            write_seeded(folder / name, name, 0)
            built[name] = load(folder / name, backbones.load(name).build())
        return built[name]

    return get
