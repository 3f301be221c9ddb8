"""Networks trained elsewhere with torchvision: their state dicts load, and compute the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from features import backbones
from features.backbones import resnet50
from features.sources.own import convert_own
from features.weights.file import check_keys, fresh_tensors
from features.weights.record import WeightsError

pytestmark = pytest.mark.slow

MANY = 1 << 22
"""Numbers above which a matrix's rows are those before, moved by one: stored once, it is small."""


def trained(name: str, classes: int) -> nn.Module:
    """Return torchvision's network with seeded weights and so many classes, in eval mode."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, num_classes=classes)
    generator = torch.Generator().manual_seed(classes)
    state = {key: numbers(key, value, generator) for key, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


def numbers(key: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return random numbers of a tensor's shape, such that a network keeps its scale."""
    if not like.is_floating_point():
        if like.device.type != "meta":
            return like  # places in a window, which Swin computes
        return torch.zeros(like.shape, dtype=like.dtype)
    if key.endswith(("running_var", "norm.weight", "bn1.weight")):
        return torch.rand(like.shape, generator=generator) + 0.5
    if like.ndim == 2 and like.numel() > MANY:
        row = torch.randn(sum(like.shape), generator=generator) / like.shape[1] ** 0.5
        return row.as_strided(like.shape, (1, 1))
    return torch.randn(like.shape, generator=generator) * (2 / max(1, like[0].numel())) ** 0.5


def vgg16_features(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    assert isinstance(network, torchvision.models.VGG)
    pool5 = network.avgpool(network.features(inputs))
    return {"pool5": pool5, "fc6": network.classifier[:2](pool5.flatten(1))}


def before_classifier(classifier: str) -> Callable[[nn.Module, Tensor], dict[str, Tensor]]:
    def features(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        setattr(network, classifier, nn.Identity())
        return {"pooled": network(inputs)}

    return features


CASES = {
    "vgg16": ("vgg16", vgg16_features, (1, 3, 224, 224)),
    "places365_vgg16": ("vgg16", vgg16_features, (1, 3, 224, 224)),
    "vggface": ("vgg16", vgg16_features, (1, 3, 224, 224)),
    "resnet50": ("resnet50", before_classifier("fc"), (2, 3, 96, 64)),
    "swin": ("swin_t", before_classifier("head"), (2, 3, 64, 64)),
    "r3d18": ("r3d_18", before_classifier("fc"), (1, 3, 8, 48, 48)),
}
"""Backbone -> torchvision's name of it, its features there, the shape of some input."""


@pytest.mark.parametrize("name", CASES)
def test_a_network_of_torchvisions_trained_elsewhere_gives_its_own_features(
    name: str, tmp_path: Path
) -> None:
    theirs, features, shape = CASES[name]
    network = trained(theirs, classes=7)
    state = {f"module.backbone.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "lr": 0.1}, tmp_path / "mine.pth")
    module = backbones.load(name)
    with torch.device("meta"):
        ours = module.build()
    expected = ours.state_dict()
    tensors, dropped = convert_own(
        tmp_path / "mine.pth", "checkpoint", expected, module.WEIGHTS.sources[0].convert
    )
    check_keys(tensors, expected, "mine.pth")
    ours.load_state_dict(tensors, assign=True)
    assert dropped and all(
        key.startswith(("module.backbone.classifier.", "module.backbone.fc.", "module.backbone.h"))
        for key in dropped
    )
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, reference = ours(inputs), features(network, inputs)
    for feature, values in reference.items():
        assert values.std() > 0
        largest = values.abs().max().item()
        torch.testing.assert_close(
            found[feature].flatten(1), values.flatten(1), rtol=0, atol=1e-5 * largest
        )


def test_a_resnet18_of_ones_own_gives_all_but_its_first_layer(tmp_path: Path) -> None:
    torch.save(trained("resnet18", classes=3).state_dict(), tmp_path / "mine.pth")
    module = backbones.load("resnet18_mfcc")
    with torch.device("meta"):
        expected = module.build().state_dict()
    tensors, dropped = convert_own(tmp_path / "mine.pth", "checkpoint", expected, module.convert)
    assert dropped == ["conv1.weight", "fc.bias", "fc.weight"]
    fresh = fresh_tensors(module.WEIGHTS, tensors, expected, seed=1)
    check_keys(tensors | fresh, expected, "mine.pth")


def test_another_network_is_refused_by_the_names_of_its_layers(tmp_path: Path) -> None:
    with torch.device("meta"):
        expected = backbones.load("resnet50").build().state_dict()
    torch.save(trained("resnet18", classes=3).state_dict(), tmp_path / "mine.pth")
    tensors, _ = convert_own(tmp_path / "mine.pth", "checkpoint", expected, resnet50.convert)
    with pytest.raises(WeightsError) as caught:
        check_keys(tensors, expected, "mine.pth")
    said = str(caught.value)
    assert "mine.pth: these are not the weights of this network" in said
    assert "layer1.0.bn3.bias: expected shape (256,), found none of that name" in said
