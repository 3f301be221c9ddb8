"""How published files get the names of our networks, beside networks of others."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from features import backbones, detectors
from features.backbones import places365_vgg16, resnet50, swin, vgg16, vggface, vggish
from features.sources.readers import READERS
from features.weights.record import Source, WeightsError, definition, weights_of
from tests.features.sources.made_files import (
    DAG_ORDER,
    KERAS_WIDTHS,
    canonical,
    keras_layers,
    numbered,
    write_keras,
)

DAG, KERAS = vggface.WEIGHTS.sources
(VGG16,) = vgg16.WEIGHTS.sources
(PLACES365,) = places365_vgg16.WEIGHTS.sources
(RESNET50,) = resnet50.WEIGHTS.sources
(SWIN,) = swin.WEIGHTS.sources
((PCA,),) = (part.sources for part in vggish.WEIGHTS.companions)


def test_vgg_face_dag_is_torchvisions_vgg16_layer_by_layer(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg16(weights=None)
    layers = [
        name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    expected = numbered(layers)
    torch.save(numbered(DAG_ORDER), tmp_path / "vgg_face_dag.pth")
    found = canonical(DAG, tmp_path / "vgg_face_dag.pth")
    assert {key: value.item() for key, value in found.items()} == {
        key: value.item()
        for key, value in expected.items()
        if not key.startswith(("classifier.3", "classifier.6"))
    }


def test_of_torchvisions_vgg16_only_the_later_layers_are_dropped(tmp_path: Path) -> None:
    stems = ["features.0", "classifier.0", "classifier.3", "classifier.6", "unheard_of"]
    torch.save(numbered(stems), tmp_path / "a.pth")
    kept = {key.rpartition(".")[0] for key in canonical(VGG16, tmp_path / "a.pth")}
    assert kept == {"features.0", "classifier.0", "unheard_of"}


def test_places365_of_network_dissection_is_torchvisions_vgg16_layer_by_layer(
    tmp_path: Path,
) -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg16(weights=None)
    layers = [
        name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    named = [f"features.{name}" for name in DAG_ORDER[:13]]
    named += [f"classifier.{name}" for name in ("fc6", "fc7", "fc8a")]
    torch.save(numbered(named), tmp_path / "a.pth")
    found = canonical(PLACES365, tmp_path / "a.pth")
    assert {key: value.item() for key, value in found.items()} == {
        key: value.item()
        for key, value in numbered(layers).items()
        if not key.startswith(("classifier.3", "classifier.6"))
    }


def test_of_a_resnet_the_classifier_is_dropped_and_batch_counters_are_added(tmp_path: Path) -> None:
    torch.save({**numbered(["conv1", "fc"]), "bn1.running_mean": torch.ones(2)}, tmp_path / "a.pth")
    found = canonical(RESNET50, tmp_path / "a.pth")
    assert found.pop("bn1.num_batches_tracked") == 0
    assert set(found) == {"conv1.weight", "conv1.bias", "bn1.running_mean"}


def test_of_a_swin_transformer_the_classifier_is_dropped(tmp_path: Path) -> None:
    torch.save(numbered(["features.0.0", "head", "norm"]), tmp_path / "a.pth")
    kept = {key.rpartition(".")[0] for key in canonical(SWIN, tmp_path / "a.pth")}
    assert kept == {"features.0.0", "norm"}


def test_audiosets_pca_becomes_buffers(tmp_path: Path) -> None:
    vectors, means = np.arange(16.0).reshape(4, 4), np.arange(4.0)[:, None]
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=vectors, pca_means=means)
    found = canonical(PCA, tmp_path / "pca.npz")
    assert found["pca.eigen_vectors"].dtype == torch.float32
    np.testing.assert_array_equal(found["pca.eigen_vectors"].numpy(), vectors)
    np.testing.assert_array_equal(found["pca.means"].numpy(), [0, 1, 2, 3])


def test_a_numpy_archive_of_other_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mean=np.ones(1))
    with pytest.raises(WeightsError, match="found \\['mean'\\]"):
        canonical(PCA, tmp_path / "a.npz")


# ------------------------------------------------------------------------------------ Keras


def keras_convolution(  # type: ignore[no-untyped-def]
    image_HWC, kernel, bias, padding: int
):
    """Convolve as Keras does, with channels last: an oracle without PyTorch."""
    padded = np.pad(image_HWC, ((padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(0, 1))
    return np.einsum("hwcij,ijco->hwo", windows, kernel) + bias


@pytest.mark.parametrize("under", ["/", "model_weights"])
def test_deepfaces_vgg_face_computes_what_keras_would(tmp_path: Path, under: str) -> None:
    layers = keras_layers()
    found = canonical(KERAS, write_keras(tmp_path / "a.h5", layers, under))
    image_HWC = np.random.default_rng(1).normal(size=(7, 7, 3))
    expected = keras_convolution(image_HWC, *layers[0][1:], padding=1)
    image = torch.from_numpy(image_HWC).float().permute(2, 0, 1)[None]
    ours = nn.functional.conv2d(
        image, found["features.0.weight"], found["features.0.bias"], padding=1
    )
    np.testing.assert_allclose(ours[0].permute(1, 2, 0), expected, rtol=1e-4, atol=1e-5)
    pool5_HWC = np.random.default_rng(2).normal(size=(7, 7, KERAS_WIDTHS[-1]))
    (((expected_fc6),),) = keras_convolution(pool5_HWC, *layers[13][1:], padding=0)
    flat = torch.from_numpy(pool5_HWC).float().permute(2, 0, 1).flatten()
    ours_fc6 = found["classifier.0.weight"] @ flat + found["classifier.0.bias"]
    np.testing.assert_allclose(ours_fc6, expected_fc6, rtol=1e-4, atol=1e-4)


def test_deepfaces_layers_go_where_those_of_the_original_go(tmp_path: Path) -> None:
    layers = keras_layers()
    found = canonical(KERAS, write_keras(tmp_path / "a.h5", layers))
    torch.save(numbered(DAG_ORDER), tmp_path / "a.pth")
    assert set(found) == set(canonical(DAG, tmp_path / "a.pth"))
    with torch.device("meta"):
        model = torchvision.models.vgg16(weights=None)
    stems = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    for stem, (_, kernel, bias) in zip(stems, layers, strict=False):
        assert found[f"{stem}.weight"].shape == (*kernel.shape[:1:-1], 3, 3)
        np.testing.assert_array_equal(found[f"{stem}.bias"], bias.astype(np.float32))


def test_a_keras_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "a.h5", keras_layers()[:-1])
    with pytest.raises(WeightsError, match=r"expected 16 convolutions .*\(3, 3, 3, 2\)"):
        canonical(KERAS, path)


ALL = [("backbones", n) for n in backbones.names()] + [("detectors", n) for n in detectors.names()]


@pytest.mark.parametrize(("room", "name"), ALL)
def test_every_source_names_a_reader_and_a_conversion_of_its_own_module_or_shared(
    room: str, name: str
) -> None:
    module = {"backbones": backbones, "detectors": detectors}[room].load(name)
    weights = weights_of(module, module.Options())
    companions = [source for part in weights.companions for source in part.sources]
    for source in [*weights.sources, *companions]:
        assert source.reader in READERS
        where = definition(source.convert).rpartition(".")[0]
        assert where in (module.__name__, "features.weights.naming")


def test_a_conversion_that_no_key_could_name_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a function at the top of a module, found .*lam"):
        Source("https://a/b.pth", None, None, convert=lambda tensors: dict(tensors))
