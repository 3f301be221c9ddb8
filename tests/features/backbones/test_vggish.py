from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.backbones import vggish
from features.backbones.vggish import Options, Pca, quantised
from features.networks.extraction import extract
from tests.conftest import waveform
from tests.features.sources.made_files import canonical

Network = Callable[[str], nn.Module]


def inputs() -> Tensor:
    return torch.randn(3, 1, 96, 64, generator=torch.Generator().manual_seed(0))


def by_hand(examples: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Write the network of the paper out once more, layer by layer."""
    values = examples
    for number in (0, 3, 6, 8, 11, 13):
        weight, bias = (weights[f"features.{number}.{kind}"] for kind in ("weight", "bias"))
        values = functional.relu(functional.conv2d(values, weight, bias, padding=1))
        if number not in (6, 11):
            values = functional.max_pool2d(values, 2)
    assert values.shape[1:] == (512, 6, 4)
    flat = torch.stack(
        [torch.cat([row[:, y, x] for y in range(6) for x in range(4)]) for row in values]
    )
    for number in (0, 2, 4):
        weight, bias = (weights[f"embeddings.{number}.{kind}"] for kind in ("weight", "bias"))
        flat = functional.linear(flat, weight, bias)
        if number != 4:
            flat = functional.relu(flat)
    return flat


def test_the_network_is_the_papers_layer_by_layer(network: Network) -> None:
    found = network("vggish")
    with torch.inference_mode():
        torch.testing.assert_close(
            found(inputs())["embedding"],
            by_hand(inputs(), found.state_dict()),
            rtol=1e-4,
            atol=1e-4,
        )


def test_the_keys_are_torchvggishs() -> None:
    with torch.device("meta"):
        keys = vggish.build().state_dict()
    stems = [f"features.{n}" for n in (0, 3, 6, 8, 11, 13)] + [f"embeddings.{n}" for n in (0, 2, 4)]
    assert set(keys) == {f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")}
    assert keys["embeddings.0.weight"].shape == (4096, 12288)
    assert keys["embeddings.4.weight"].shape == (128, 4096)


def test_pca_adds_two_keys_and_relu_none() -> None:
    with torch.device("meta"):
        plain = set(vggish.build().state_dict())
        assert set(vggish.build(Options(relu=True)).state_dict()) == plain
        with_pca = set(vggish.build(Options(pca=True)).state_dict())
    assert with_pca - plain == {"pca.eigen_vectors", "pca.means"}


def test_options_change_only_what_comes_after_the_last_layer(network: Network) -> None:
    plain = network("vggish")
    with torch.inference_mode():
        embedding = plain(inputs())["embedding"]
        for options, expected in (
            (Options(relu=True), embedding.clamp(min=0)),
            (Options(pca=True), embedding),
            (Options(pca=True, quantise=True), quantised(embedding)),
            (Options(relu=True, pca=True), embedding.clamp(min=0)),
        ):
            with torch.device("meta"):
                other = vggish.build(options)
            other.load_state_dict(plain.state_dict(), strict=False, assign=True)
            if options.pca:
                other.pca = Pca()
            torch.testing.assert_close(other(inputs())["embedding"], expected)
    assert (embedding < 0).any()


def test_pca_is_the_eigenvectors_times_the_centred_embedding() -> None:
    generator = torch.Generator().manual_seed(0)
    pca = Pca()
    pca.eigen_vectors = torch.randn(128, 128, generator=generator)
    pca.means = torch.randn(128, generator=generator)
    values = torch.randn(2, 128, generator=generator)
    expected = [pca.eigen_vectors.double() @ (row - pca.means).double() for row in values]
    torch.testing.assert_close(pca(values), torch.stack(expected).float(), rtol=1e-4, atol=1e-4)


def test_quantising_covers_minus_two_to_two_and_rounds_down() -> None:
    values = torch.tensor([-9.0, -2.0, -1.99, 0.0, 1.999, 2.0, 9.0])
    assert quantised(values).tolist() == [0, 0, 0, 127, 254, 255, 255]


def test_quantising_without_pca_is_refused() -> None:
    with pytest.raises(ValueError, match="expected pca: true"):
        Options(quantise=True)


def test_a_row_starts_every_0_96_seconds() -> None:
    ((examples, start_s),) = vggish.preprocess(waveform(np.zeros(44_100 * 3, np.float32), 44_100))
    assert examples.shape == (3, 1, 96, 64)
    np.testing.assert_allclose(start_s, [0, 0.96, 1.92])


def test_a_sound_shorter_than_an_example_has_no_rows(network: Network) -> None:
    sound = waveform(np.zeros(15_599, np.float32), 16_000)
    found = extract(vggish, network("vggish"), sound, Options())
    assert found["embedding"].shape == (0, 128) and found["pts_s"].shape == (0,)


@pytest.mark.weights
def test_audiosets_pca_whitens(real_file: Callable[[str], Path]) -> None:
    found = canonical(vggish.WEIGHTS.companions[0].sources[0], real_file("vggish_pca_params.npz"))
    assert found["pca.eigen_vectors"].shape == (128, 128)
    assert found["pca.means"].shape == (128,)
    gram = found["pca.eigen_vectors"] @ found["pca.eigen_vectors"].T
    apart = gram - torch.diag(gram.diagonal())
    assert apart.abs().max() < 1e-3 * gram.diagonal().max()


@pytest.mark.weights
def test_a_tone_has_the_embedding_of_audiosets_smoke_test(
    real_file: Callable[[str], Path],
) -> None:
    tensors = canonical(vggish.WEIGHTS.sources[0], real_file("vggish-10086976.pth"))
    network = vggish.build()
    network.load_state_dict(tensors)
    tone = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 16_000).astype(np.float32)
    with torch.inference_mode():
        embedding = network(next(vggish.preprocess(waveform(tone, 16_000)))[0])["embedding"]
    assert embedding.shape == (3, 128)
    assert embedding.mean().item() == pytest.approx(0.000657, abs=0.01)
    assert embedding.std().item() == pytest.approx(0.343, rel=0.1)
