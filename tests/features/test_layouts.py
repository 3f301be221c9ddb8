import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from features.layouts import LAYOUTS, convert, layout_of
from features.weights import WeightsError

DAG_ORDER = (
    "conv1_1 conv1_2 conv2_1 conv2_2 conv3_1 conv3_2 conv3_3 conv4_1 conv4_2 conv4_3 "
    "conv5_1 conv5_2 conv5_3 fc6 fc7 fc8"
).split()  # the order in which the module names stand in vgg_face_dag.py


def numbered(stems: list[str]) -> OrderedDict[str, torch.Tensor]:
    """Return a small tensor for each weight and bias, each with a number of its own."""
    keys = [f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")]
    return OrderedDict((key, torch.tensor([float(n)])) for n, key in enumerate(keys))


def test_vgg_face_dag_is_torchvisions_vgg16_layer_by_layer(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg16(weights=None)
    layers = [
        name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    expected = numbered(layers)
    torch.save(numbered(DAG_ORDER), tmp_path / "vgg_face_dag.pth")
    found = convert("vgg_face_dag", [tmp_path / "vgg_face_dag.pth"])
    assert {key: value.item() for key, value in found.items()} == {
        key: value.item()
        for key, value in expected.items()
        if not key.startswith(("classifier.3", "classifier.6"))
    }


def test_of_torchvisions_vgg16_only_the_later_layers_are_dropped(tmp_path: Path) -> None:
    stems = ["features.0", "classifier.0", "classifier.3", "classifier.6", "unheard_of"]
    torch.save(numbered(stems), tmp_path / "a.pth")
    kept = {key.rpartition(".")[0] for key in convert("vgg16", [tmp_path / "a.pth"])}
    assert kept == {"features.0", "classifier.0", "unheard_of"}


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2).half(), "n": torch.tensor(3)}, tmp_path / "a.pth")
    found = convert("torchvggish", [tmp_path / "a.pth"])
    assert found["a"].dtype == torch.float32
    assert found["n"].dtype == torch.int64


class Bomb:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_unopened(tmp_path: Path, zipped: bool) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pth"
    torch.save(
        {"weight": torch.ones(1), "bomb": Bomb(mark)}, path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(WeightsError, match="mkdir") as caught:
        convert("vgg16", [path])
    assert "tensors only" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="a.pth: expected a PyTorch checkpoint"):
        convert("vgg16", [path])


@pytest.mark.parametrize("content", [[torch.ones(1)], {"epoch": 3}, {"state_dict": {}}])
def test_a_checkpoint_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="expected a mapping of names to tensors"):
        convert("vgg16", [tmp_path / "a.pth"])


def test_audiosets_pca_becomes_buffers(tmp_path: Path) -> None:
    vectors, means = np.arange(16.0).reshape(4, 4), np.arange(4.0)[:, None]
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=vectors, pca_means=means)
    found = convert("vggish_pca", [tmp_path / "pca.npz"])
    assert found["pca.eigen_vectors"].dtype == torch.float32
    np.testing.assert_array_equal(found["pca.eigen_vectors"].numpy(), vectors)
    np.testing.assert_array_equal(found["pca.means"].numpy(), [0, 1, 2, 3])


def test_a_numpy_archive_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pca_means=np.array([{}], object), pca_eigen_vectors=np.ones(1))
    with pytest.raises(WeightsError, match="a.npz: expected a NumPy archive"):
        convert("vggish_pca", [tmp_path / "a.npz"])


def test_a_numpy_archive_of_other_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mean=np.ones(1))
    with pytest.raises(WeightsError, match="found \\['mean'\\]"):
        convert("vggish_pca", [tmp_path / "a.npz"])


def test_a_tflite_model_is_kept_byte_by_byte(tmp_path: Path) -> None:
    content = b"\x1c\x00\x00\x00TFL3" + bytes(range(20))
    (tmp_path / "a.tflite").write_bytes(content)
    assert convert("tflite", [tmp_path / "a.tflite"])["model"].numpy().tobytes() == content


def test_what_is_no_tflite_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"<html><body>")
    with pytest.raises(WeightsError, match="expected a TFLite model"):
        convert("tflite", [tmp_path / "a.tflite"])


def test_a_pose_bundle_needs_both_models(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.task", "w") as archive:
        archive.writestr("pose_detector.tflite", b"")
    with pytest.raises(WeightsError, match="pose_landmarks_detector.tflite, found"):
        convert("pose_task", [tmp_path / "a.task"])
    (tmp_path / "b.task").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="b.task: expected a pose bundle"):
        convert("pose_task", [tmp_path / "b.task"])


def test_a_safetensors_file_is_taken_with_the_keys_it_has(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    assert set(convert("canonical", [tmp_path / "a.safetensors"])) == {"features.0.weight"}
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        convert("canonical", [tmp_path / "b.safetensors"])


def test_a_users_file_is_recognised_by_its_suffix() -> None:
    accepted = ["vgg_face_dag", "canonical"]
    assert layout_of(Path("my.PTH"), accepted) == "vgg_face_dag"
    assert layout_of(Path("my.safetensors"), accepted) == "canonical"
    with pytest.raises(WeightsError, match=r"\.pt or \.pth or \.safetensors"):
        layout_of(Path("my.h5"), accepted)


def test_every_layout_that_a_backbone_names_exists() -> None:
    from features import backbones

    for name in backbones.names():
        weights = backbones.load(name).WEIGHTS
        companions = [source for part in weights.companions for source in part.sources]
        assert {source.layout for source in [*weights.sources, *companions]} <= set(LAYOUTS)
