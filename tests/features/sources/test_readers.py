import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from features.sources import archives
from features.sources.readers import READERS, SUFFIXES, converted, keys_in, read
from features.weights.naming import Tensors
from features.weights.record import WeightsError
from tests.features.sources.made_files import Bomb, keras_layers, write_keras

TFLITE = b"\x1c\x00\x00\x00TFL3 and more"


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2).half(), "n": torch.tensor(3)}, tmp_path / "a.pth")
    found = read("checkpoint", [tmp_path / "a.pth"])
    assert found["a"].dtype == torch.float32
    assert found["n"].dtype == torch.int64


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_unopened(tmp_path: Path, zipped: bool) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pth"
    torch.save(
        {"weight": torch.ones(1), "bomb": Bomb(mark)}, path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(WeightsError, match="mkdir") as caught:
        read("checkpoint", [path])
    assert "tensors only" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="a.pth: expected a PyTorch checkpoint"):
        read("checkpoint", [path])


@pytest.mark.parametrize("content", [[torch.ones(1)], {"epoch": 3}, {"state_dict": {}}])
def test_a_checkpoint_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="expected a mapping of names to tensors"):
        read("checkpoint", [tmp_path / "a.pth"])


def test_a_numpy_archive_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pca_means=np.array([{}], object), pca_eigen_vectors=np.ones(1))
    with pytest.raises(WeightsError, match="a.npz: expected a NumPy archive"):
        read("numpy", [tmp_path / "a.npz"])


def test_a_tflite_model_is_kept_byte_by_byte(tmp_path: Path) -> None:
    content = b"\x1c\x00\x00\x00TFL3" + bytes(range(20))
    (tmp_path / "a.tflite").write_bytes(content)
    assert read("tflite", [tmp_path / "a.tflite"])["model"].numpy().tobytes() == content


def test_what_is_no_tflite_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"<html><body>")
    with pytest.raises(WeightsError, match="expected a TFLite model"):
        read("tflite", [tmp_path / "a.tflite"])


def test_a_pose_bundle_needs_both_models(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.task", "w") as archive:
        archive.writestr("pose_detector.tflite", TFLITE)
    with pytest.raises(
        WeightsError, match="expected the file pose_landmarks_detector.tflite in it"
    ):
        read("pose_task", [tmp_path / "a.task"])
    (tmp_path / "b.task").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="b.task: expected a pose bundle"):
        read("pose_task", [tmp_path / "b.task"])


def make_task(path: Path, **more: bytes) -> Path:
    files = {"pose_detector.tflite": TFLITE, "pose_landmarks_detector.tflite": TFLITE, **more}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_pose_bundle_is_kept_byte_by_byte(tmp_path: Path) -> None:
    path = make_task(tmp_path / "a.task")
    assert read("pose_task", [path])["model"].numpy().tobytes() == path.read_bytes()


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
        read("pose_task", [make_task(tmp_path / "a.task", **more)])


def test_archives_that_unpack_without_end_are_refused_by_every_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_BYTES", 1_000_000)
    np.savez_compressed(tmp_path / "a.npz", pca_means=np.zeros(10**6), pca_eigen_vectors=np.ones(1))
    torch.save({"weight": torch.zeros(10**6)}, tmp_path / "a.pth")
    for reader, name in (("numpy", "a.npz"), ("checkpoint", "a.pth")):
        with pytest.raises(WeightsError, match=f"{name}: .*it would unpack to"):
            read(reader, [tmp_path / name])


# ------------------------------------------------------------------------ pickles with a word


def test_a_trusted_checkpoint_runs_its_code_in_another_process_only(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pth"
    torch.save({"features.0.weight": torch.ones(2).half(), "bomb": Bomb(mark)}, path)
    with pytest.raises(WeightsError, match="trust_pickle: true"):
        read("checkpoint", [path])
    assert not mark.exists()
    found = read("checkpoint", [path], trust_pickle=True)
    assert mark.is_dir()
    assert list(found) == ["features.0.weight"]
    assert found["features.0.weight"].dtype == torch.float32


def test_a_trusted_file_that_is_data_only_needs_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.sources.pickles.open_apart", None)
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    assert set(read("checkpoint", [tmp_path / "a.pth"], trust_pickle=True)) == {"a"}


def test_a_trusted_file_that_cannot_be_opened_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="a.pth: it cannot be opened"):
        read("checkpoint", [tmp_path / "a.pth"], trust_pickle=True)


# ------------------------------------------------------------------------------------ arrays


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
        read("keras", [path])


def test_a_safetensors_file_is_taken_with_the_keys_it_has(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    assert set(read("safetensors", [tmp_path / "a.safetensors"])) == {"features.0.weight"}
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        read("safetensors", [tmp_path / "b.safetensors"])


def test_the_keys_of_a_safetensors_file_are_known_before_it_is_read(tmp_path: Path) -> None:
    save_file({"pca.means": torch.ones(2)}, tmp_path / "a.safetensors")
    torch.save({"pca.means": torch.ones(2)}, tmp_path / "a.pth")
    assert keys_in(tmp_path / "a.safetensors") == {"pca.means"}
    assert keys_in(tmp_path / "a.pth") == frozenset()
    assert keys_in(tmp_path / "none") == frozenset()


def test_a_zip_of_one_checkpoint_is_read_as_it(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.pth", "folder/a.pth")
    assert set(read("checkpoint", [tmp_path / "a.zip"])) == {"weight"}


@pytest.mark.parametrize("kind", ["packed", "a link", "twice"])
def test_a_keras_file_that_is_more_than_its_arrays_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_keras(tmp_path / "a.h5", keras_layers())
    with h5py.File(path, "a") as file:
        name = "conv2d_1/conv2d_1/bias:0"
        values = file[name][()]
        if kind == "packed":
            del file[name]
            file.create_dataset(name, data=values, compression="gzip")
        elif kind == "a link":
            del file[name]
            file[name] = h5py.SoftLink("/conv2d_2/conv2d_2/bias:0")
        else:
            file.attrs["layer_names"] = [b"conv2d_1", b"conv2d_1"]
    words = {"packed": "is packed", "a link": "is a link to", "twice": "stands there twice"}
    with pytest.raises(WeightsError, match=words[kind]):
        read("keras", [path])


def test_every_reader_but_that_of_packages_has_names_of_files() -> None:
    assert set(SUFFIXES) == set(READERS) - {"pose_pair"}


def refuse(tensors: Tensors) -> dict[str, torch.Tensor]:
    raise WeightsError(f"expected fc6, found {sorted(tensors)}")


def look_up(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {"classifier.0.weight": tensors["fc6.weight"]}


@pytest.mark.parametrize(
    ("convert", "words"),
    [
        (refuse, r"^a\.pth: expected fc6, found \['fc7'\]"),
        (look_up, r"^a\.pth: tests\..*\.look_up expects other tensors .*KeyError: 'fc6\.weight'"),
    ],
)
def test_a_conversion_that_does_not_know_a_file_names_it(convert, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WeightsError, match=words):
        converted(convert, {"fc7": torch.ones(1)}, Path("a.pth"))
