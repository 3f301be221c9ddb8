"""What every module in features/backbones keeps to."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features import backbones
from features.options import axes_of, views_of
from features.video.views import Sampling
from features.weights.record import Weights
from tests.conftest import waveform

Network = Callable[[str], nn.Module]
Answers = tuple[Tensor, dict[str, Tensor]]

VIEWS = {*get_args(Sampling), "sound", "faces"}
SEEDED = [name for name in backbones.names() if backbones.load(name).WEIGHTS.can_seed]
FRAMES = [name for name in backbones.names() if backbones.load(name).VIEW != "sound"]

every = pytest.mark.parametrize("name", backbones.names())
every_seeded = pytest.mark.parametrize("name", SEEDED, scope="module")  # each is built once


def frames_shape(module: ModuleType, rows: int, size: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of rows of frames, or of snippets of 16, of a size."""
    return (rows, *([16] if "snippets" in views_of(module) else []), *size, 3)


def pictures(module: ModuleType) -> NDArray[np.uint8]:
    """Return black, white and noise, (3, 48, 64, 3), or snippets of them."""
    shape = frames_shape(module, 1, (48, 64))[1:]
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise])


def rows(module: ModuleType) -> Tensor:
    """Return three rows of network input: nothing, full, noise."""
    if module.VIEW != "sound":
        inputs = module.preprocess(pictures(module))
    else:
        noise = np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)
        sound = np.concatenate([np.zeros_like(noise), np.ones_like(noise), noise])
        ((inputs, _),) = module.preprocess(waveform(sound, 16_000))
    assert isinstance(inputs, Tensor)
    return inputs[:3]


@pytest.fixture(scope="module")
def answers(name: str, network: Network) -> Answers:
    """Return three rows of a backbone's input, and what its network makes of them."""
    inputs = rows(backbones.load(name))
    with torch.inference_mode():
        return inputs, network(name)(inputs)


@every
def test_a_backbone_has_the_agreed_names(name: str) -> None:
    module = backbones.load(name)
    assert set(views_of(module)) <= VIEWS
    assert all(isinstance(size, int) for shape in module.FEATURES.values() for size in shape)
    assert set(getattr(module, "DTYPES", {})) <= set(module.FEATURES)
    assert isinstance(module.WEIGHTS, Weights)
    assert module.WEIGHTS.licence
    assert is_dataclass(module.Options)
    assert module.Options.__dataclass_params__.frozen
    assert module.Options() == module.Options()
    assert module.__doc__


@every
def test_a_backbone_names_the_axes_of_its_rows(name: str) -> None:
    module = backbones.load(name)
    axes = axes_of(module, module.Options())
    assert {feature: len(row.split()) for feature, row in axes.items()} == {
        feature: len(shape) for feature, shape in module.FEATURES.items()
    }


@every
def test_a_network_is_built_in_eval_mode_in_float32(name: str) -> None:
    with torch.device("meta"):
        network = backbones.load(name).build()
    assert not network.training
    assert {p.dtype for p in network.parameters()} <= {torch.float32}


@every_seeded
def test_features_have_the_promised_names_and_shapes_and_are_numbers(
    name: str, answers: Answers
) -> None:
    module, (_, found) = backbones.load(name), answers
    assert set(found) - {"valid"} == set(module.FEATURES)
    for feature, shape in module.FEATURES.items():
        assert found[feature].shape == (3, *shape)
        assert found[feature].dtype == torch.float32
        assert torch.isfinite(found[feature]).all()
        assert found[feature].abs().max() < 10_000  # far from the end of float16
        assert not torch.allclose(found[feature][0], found[feature][2])


@every_seeded
def test_a_row_does_not_depend_on_its_batch(name: str, network: Network, answers: Answers) -> None:
    inputs, together = answers
    with torch.inference_mode():
        alone = [network(name)(inputs[row : row + 1]) for row in range(len(inputs))]
    for feature, values in together.items():
        apart = torch.cat([row[feature] for row in alone])
        largest = values.float().abs().max().item()
        torch.testing.assert_close(values, apart, rtol=1e-5, atol=1e-5 * largest)


@every_seeded
def test_not_a_bit_of_a_row_depends_on_its_place_or_on_what_lies_beside_it(
    name: str, network: Network, answers: Answers
) -> None:
    """In batches of one size, which is how rows of several videos share them."""
    inputs, usual = answers
    order = [2, 2, 0]  # so that one row has been in every place, and beside other rows
    with torch.inference_mode():
        found = network(name)(inputs[order])
    for feature, values in usual.items():
        assert torch.equal(found[feature], values[order])


@every_seeded
def test_no_rows_give_no_features(name: str, network: Network) -> None:
    module = backbones.load(name)
    with torch.inference_mode():
        found = network(name)(rows(module)[:0])
    for feature, shape in module.FEATURES.items():
        assert found[feature].shape == (0, *shape)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (224, 224), (480, 64)])
def test_frames_of_any_size_become_network_input(name: str, size: tuple[int, int]) -> None:
    module = backbones.load(name)
    usual = module.preprocess(pictures(module))
    found = module.preprocess(np.full(frames_shape(module, 2, size), 128, np.uint8))
    assert found.shape[0] == 2
    assert found.dtype == usual.dtype
    assert torch.isfinite(found).all()
    none = np.zeros(frames_shape(module, 0, size), np.uint8)
    assert module.preprocess(none).shape == (0, *found.shape[1:])


@pytest.mark.parametrize("name", FRAMES)
def test_frames_that_may_not_be_written_to_are_read(name: str) -> None:
    module = backbones.load(name)
    frames = pictures(module)
    frames.flags.writeable = False
    for view in (frames, frames[..., ::-1, :]):
        found, expected = module.preprocess(view), module.preprocess(view.copy())
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_an_unknown_backbone_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="expected one of .*vgg16.*vggish"):
        backbones.load("vgg17")


@every
def test_options_can_be_told_apart_by_name(name: str) -> None:
    options = backbones.load(name).Options
    assert len({field.name for field in fields(options)}) == len(fields(options))
