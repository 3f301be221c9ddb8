import pytest
import torch
import torchvision
from torch import nn

from features.weights.seeding import drawn, initialise


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


def test_activations_keep_their_size_through_many_residual_blocks() -> None:
    with torch.device("meta"):
        network = torchvision.models.resnet101(weights=None)
    network = network.to_empty(device="cpu").eval()
    network.fc = nn.Identity()
    initialise(network, 0)
    frames = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 100
    with torch.inference_mode():
        ratio = network(frames).pow(2).mean().sqrt() / 100
    assert 0.02 < ratio < 10  # 33 blocks: about 10,000 with branches as large as their shortcuts


def test_a_layer_drawn_alone_is_distributed_as_in_a_network() -> None:
    layer = nn.Conv2d(1, 4096, (7, 1), bias=False)
    initialise(layer, 3)
    shapes = {"a": layer.weight.shape, "b": torch.Size([5, 2])}
    found, again, other = (drawn(shapes, seed) for seed in (3, 3, 4))
    assert found["a"].std().item() == pytest.approx(layer.weight.std().item(), rel=0.05)
    torch.testing.assert_close(found, again, rtol=0, atol=0)
    assert not torch.equal(found["b"], other["b"])
