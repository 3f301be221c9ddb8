import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from features.sources import archives
from features.sources.layouts import (
    LAYOUTS,
    NOTICES,
    SUFFIXES,
    convert,
    convert_own,
    keys_in,
    layout_of,
)
from features.weights.record import WeightsError

TFLITE = b"\x1c\x00\x00\x00TFL3 and more"
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
    found = convert("vgg16_places365", [tmp_path / "a.pth"])
    assert {key: value.item() for key, value in found.items()} == {
        key: value.item()
        for key, value in numbered(layers).items()
        if not key.startswith(("classifier.3", "classifier.6"))
    }


def test_of_a_resnet_the_classifier_is_dropped_and_batch_counters_are_added(tmp_path: Path) -> None:
    torch.save({**numbered(["conv1", "fc"]), "bn1.running_mean": torch.ones(2)}, tmp_path / "a.pth")
    found = convert("resnet50", [tmp_path / "a.pth"])
    assert found.pop("bn1.num_batches_tracked") == 0
    assert set(found) == {"conv1.weight", "conv1.bias", "bn1.running_mean"}


def test_of_a_swin_transformer_the_classifier_is_dropped(tmp_path: Path) -> None:
    torch.save(numbered(["features.0.0", "head", "norm"]), tmp_path / "a.pth")
    kept = {key.rpartition(".")[0] for key in convert("swin", [tmp_path / "a.pth"])}
    assert kept == {"features.0.0", "norm"}


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2).half(), "n": torch.tensor(3)}, tmp_path / "a.pth")
    found = convert("torchvggish", [tmp_path / "a.pth"])
    assert found["a"].dtype == torch.float32
    assert found["n"].dtype == torch.int64


CONV1 = {"conv1.weight": torch.ones(2)}
"""A network of one layer."""


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
        archive.writestr("pose_detector.tflite", TFLITE)
    with pytest.raises(
        WeightsError, match="expected the file pose_landmarks_detector.tflite in it"
    ):
        convert("pose_task", [tmp_path / "a.task"])
    (tmp_path / "b.task").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="b.task: expected a pose bundle"):
        convert("pose_task", [tmp_path / "b.task"])


def make_task(path: Path, **more: bytes) -> Path:
    files = {"pose_detector.tflite": TFLITE, "pose_landmarks_detector.tflite": TFLITE, **more}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_pose_bundle_is_kept_byte_by_byte(tmp_path: Path) -> None:
    path = make_task(tmp_path / "a.task")
    assert convert("pose_task", [path])["model"].numpy().tobytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pose_detector.tflite": b"<html>"}, "pose_detector.tflite: expected a TFLite model"),
        ({"../../evil.sh": b"x"}, "outside"),
        ({"filler": bytes(2_000_000)}, "would unpack to"),
    ],
)
def test_a_pose_bundle_with_bad_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, bytes], message: str
) -> None:
    monkeypatch.setattr(archives, "LARGEST_BYTES", 1_000_000)
    with pytest.raises(WeightsError, match=message):
        convert("pose_task", [make_task(tmp_path / "a.task", **more)])


def test_archives_that_unpack_without_end_are_refused_by_every_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_BYTES", 1_000_000)
    np.savez_compressed(tmp_path / "a.npz", pca_means=np.zeros(10**6), pca_eigen_vectors=np.ones(1))
    torch.save({"weight": torch.zeros(10**6)}, tmp_path / "a.pth")
    for layout, name in (("vggish_pca", "a.npz"), ("vgg16", "a.pth")):
        with pytest.raises(WeightsError, match=f"{name}: .*it would unpack to"):
            convert(layout, [tmp_path / name])


# ------------------------------------------------------------------------ pickles with a word


def test_a_trusted_checkpoint_runs_its_code_in_another_process_only(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pth"
    torch.save({"features.0.weight": torch.ones(2).half(), "bomb": Bomb(mark)}, path)
    with pytest.raises(WeightsError, match="trust_pickle: true"):
        convert("vgg16", [path])
    assert not mark.exists()
    found = convert("vgg16", [path], trust_pickle=True)
    assert mark.is_dir()
    assert list(found) == ["features.0.weight"]
    assert found["features.0.weight"].dtype == torch.float32


def test_a_trusted_file_that_is_data_only_needs_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.sources.pickles.open_apart", None)
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    assert set(convert("torchvggish", [tmp_path / "a.pth"], trust_pickle=True)) == {"a"}


def test_a_wrapped_checkpoint_with_facts_in_numpy_needs_the_word(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    weights = {"module.conv1.weight": torch.ones(2), "module.fc.weight": torch.ones(1)}
    torch.save({"best_prec1": np.float64(53.2), "epoch": 3, "state_dict": weights}, path)
    with pytest.raises(WeightsError, match="Python objects in it: numpy"):
        convert_own("hara", path, CONV1)
    assert set(convert_own("hara", path, CONV1, trust_pickle=True)[0]) == {"conv1.weight"}


def test_text_of_python_2_needs_the_word(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    content = {"author": "J0s", "state_dict": {"module.conv1.weight": torch.ones(2)}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    # Python 3 writes X, a length of four bytes and UTF-8; Python 2 wrote U, one byte and any text
    new, old = b"X\x03\x00\x00\x00J0s", b"U\x03J\xe9s"
    assert path.read_bytes().count(new) == 1
    path.write_bytes(path.read_bytes().replace(new, old))
    with pytest.raises(WeightsError, match="text of Python 2"):
        convert_own("hara", path, CONV1)
    assert set(convert_own("hara", path, CONV1, trust_pickle=True)[0]) == {"conv1.weight"}


def test_a_trusted_file_that_cannot_be_opened_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="a.pth: it cannot be opened"):
        convert("vgg16", [tmp_path / "a.pth"], trust_pickle=True)


# ------------------------------------------------------------------------------------ Keras

KERAS_WIDTHS = (2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5)
KERAS_FC = 6


def keras_layers() -> list[tuple[str, np.ndarray, np.ndarray]]:  # type: ignore[type-arg]
    """Return name, kernel (H, W, in, out) and bias of a narrow VGG-Face's layers, in order."""
    draw = np.random.default_rng(0)
    layers, width = [], 3
    for number, out in enumerate(KERAS_WIDTHS, start=1):
        layers.append((f"conv2d_{number}", (3, 3, width, out)))
        width = out
    layers += [("conv2d_14", (7, 7, width, KERAS_FC)), ("conv2d_15", (1, 1, KERAS_FC, KERAS_FC))]
    layers += [("conv2d_16", (1, 1, KERAS_FC, 9))]
    return [(name, draw.normal(size=s), draw.normal(size=s[-1])) for name, s in layers]


def write_keras(
    path: Path,
    layers: list[tuple[str, np.ndarray, np.ndarray]],
    under: str = "/",  # type: ignore[type-arg]
) -> Path:
    """Write layers as Keras 2's ``save_weights`` does; its groups stand in another order."""
    with h5py.File(path, "w") as file:
        group = file.require_group(under)
        names = ["zero_padding2d_1", *(name for name, _, _ in layers), "dropout_1"]
        group.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group.require_group(name).attrs["weight_names"] = np.array([], "S1")
        for name, kernel, bias in layers:
            weights = [f"{name}/kernel:0", f"{name}/bias:0"]
            group[name].attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in zip(weights, (kernel, bias), strict=True):
                group[name].create_dataset(weight, data=array.astype(np.float32))
    return path


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
    found = convert("vgg_face_keras", [write_keras(tmp_path / "a.h5", layers, under)])
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
    found = convert("vgg_face_keras", [write_keras(tmp_path / "a.h5", layers)])
    torch.save(numbered(DAG_ORDER), tmp_path / "a.pth")
    assert set(found) == set(convert("vgg_face_dag", [tmp_path / "a.pth"]))
    with torch.device("meta"):
        model = torchvision.models.vgg16(weights=None)
    stems = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    for stem, (_, kernel, bias) in zip(stems, layers, strict=False):
        assert found[f"{stem}.weight"].shape == (*kernel.shape[:1:-1], 3, 3)
        np.testing.assert_array_equal(found[f"{stem}.bias"], bias.astype(np.float32))


def test_a_keras_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "a.h5", keras_layers()[:-1])
    with pytest.raises(WeightsError, match=r"expected 16 convolutions .*\(3, 3, 3, 2\)"):
        convert("vgg_face_keras", [path])


@pytest.mark.parametrize("kind", ["no HDF5", "no layers", "objects", "too large"])
def test_what_is_no_keras_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = write_keras(tmp_path / "a.h5", keras_layers())
    if kind == "no HDF5":
        path.write_bytes(b"<html>")
    elif kind == "too large":
        monkeypatch.setattr(archives, "LARGEST_BYTES", 1000)
    else:
        with h5py.File(path, "a") as file:
            if kind == "no layers":
                del file.attrs["layer_names"]
            else:
                del file["conv2d_1/conv2d_1/bias:0"]
                file["conv2d_1/conv2d_1/bias:0"] = "text"
    with pytest.raises(WeightsError, match="a.h5: expected weights saved by Keras 1 or 2"):
        convert("vgg_face_keras", [path])


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
    assert layout_of(Path("vgg_face_weights.h5"), ["vgg_face_dag", "vgg_face_keras"]) == (
        "vgg_face_keras"
    )
    with pytest.raises(WeightsError, match=r"\.pt or \.pth or \.safetensors"):
        layout_of(Path("my.h5"), accepted)


def test_the_keys_of_a_safetensors_file_are_known_before_it_is_read(tmp_path: Path) -> None:
    save_file({"pca.means": torch.ones(2)}, tmp_path / "a.safetensors")
    torch.save({"pca.means": torch.ones(2)}, tmp_path / "a.pth")
    assert keys_in(tmp_path / "a.safetensors") == {"pca.means"}
    assert keys_in(tmp_path / "a.pth") == frozenset()
    assert keys_in(tmp_path / "none") == frozenset()


def test_every_layout_has_names_of_files_and_only_layouts_have_notices() -> None:
    assert set(SUFFIXES) == set(LAYOUTS) - {"pose_pair"}
    assert set(NOTICES) <= set(LAYOUTS)


def test_every_layout_that_a_backbone_names_exists() -> None:
    from features import backbones

    for name in backbones.names():
        weights = backbones.load(name).WEIGHTS
        companions = [source for part in weights.companions for source in part.sources]
        assert {source.layout for source in [*weights.sources, *companions]} <= set(LAYOUTS)


# ------------------------------------------------------------------------- files of one's own

SMALL = {"conv1.weight": torch.zeros(2), "bn1.running_mean": torch.zeros(3)}
"""A network of two layers, as it expects its tensors."""


def of_small(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": torch.full_like(value, 7) for key, value in SMALL.items()}


def own(path: Path, content: object) -> tuple[set[str], list[str]]:
    """Save a checkpoint; return the keys that are taken of it and those that are dropped."""
    torch.save(content, path / "own.pth")
    taken, dropped = convert_own("resnet50", path / "own.pth", SMALL)
    assert all((taken[key] == 7).all() for key in SMALL if key in taken)
    return set(taken) - {"bn1.num_batches_tracked"}, dropped


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "backbone.", "encoder.", "module.model.backbone."]
)
@pytest.mark.parametrize("wrap", [[], ["state_dict"], ["model"], ["model_state_dict", "model"]])
def test_prefixes_and_wrappers_of_training_code_go(
    tmp_path: Path, prefix: str, wrap: list[str]
) -> None:
    content: object = of_small(prefix)
    for key in wrap:
        content = {"epoch": 3, key: content}
    assert own(tmp_path, content) == (set(SMALL), [])


def test_beside_the_prefix_lies_another_part_and_under_it_a_classifier(tmp_path: Path) -> None:
    content = of_small("model.backbone.")
    for key in ("model.backbone.fc.2.bias", "model.head.weight", "model.projector.0.weight"):
        content[key] = torch.ones(4)
    kept, dropped = own(tmp_path, content)
    assert kept == set(SMALL)
    assert dropped == sorted(content.keys() - of_small("model.backbone.").keys())


def test_a_surplus_layer_that_is_no_classifier_is_not_dropped_in_silence(tmp_path: Path) -> None:
    kept, dropped = own(tmp_path, {**of_small(), "layer5.weight": torch.ones(1)})
    assert (kept, dropped) == ({*SMALL, "layer5.weight"}, [])


def test_of_two_networks_of_these_names_none_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"own\.pth: expected one network.*'encoder\.', 'model\.'"
    ):
        own(tmp_path, {**of_small("model."), **of_small("encoder.")})


def test_a_first_layer_of_ones_own_is_kept_where_it_fits(tmp_path: Path) -> None:
    for length, kept in ((2, True), (5, False)):
        torch.save({"conv1.weight": torch.ones(length)}, tmp_path / "a.pth")
        found, dropped = convert_own("resnet18_but_first", tmp_path / "a.pth", CONV1)
        assert (set(found) == set(CONV1), dropped == []) == (kept, kept)


def test_a_safetensors_file_may_have_prefixes_too(tmp_path: Path) -> None:
    save_file({**of_small("module."), "module.fc.bias": torch.ones(1)}, tmp_path / "a.safetensors")
    found, dropped = convert_own("canonical", tmp_path / "a.safetensors", SMALL)
    assert (set(found), dropped) == (set(SMALL), ["module.fc.bias"])
