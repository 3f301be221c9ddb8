import torch
from torch import nn

from features.seeding import initialise


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)
        self.table = nn.Parameter(torch.full((50, 20), float("nan")))


def test_every_parameter_is_drawn_from_the_seed() -> None:
    one, other = Mixed(), Mixed()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(float("nan"))
        other.norm.running_mean.fill_(3.0)
    initialise(one, 3)
    initialise(other, 3)
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    assert all(torch.isfinite(value).all() for value in one.state_dict().values())


def test_draws_do_not_depend_on_the_memory_format() -> None:
    one, other = Mixed(), Mixed().to(memory_format=torch.channels_last)
    initialise(one, 3)
    initialise(other, 3)
    assert torch.equal(one.conv.weight, other.conv.weight)


def test_activations_keep_their_size_through_many_layers() -> None:
    layers = [layer for _ in range(20) for layer in (nn.Linear(512, 512), nn.ReLU())]
    network = nn.Sequential(*layers)
    initialise(network, 0)
    values = torch.randn(8, 512, generator=torch.Generator().manual_seed(0)) * 100
    with torch.inference_mode():
        ratio = network(values).pow(2).mean().sqrt() / 100
    assert 0.2 < ratio < 5
