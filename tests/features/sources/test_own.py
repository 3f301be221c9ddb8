import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from features.backbones import blazepose, r3d101, resnet18_mfcc, resnet50, vggface
from features.sources.own import convert_own, reader_of
from features.weights.naming import Tensors
from features.weights.record import WeightsError

CONV1 = {"conv1.weight": torch.ones(2)}
"""A network of one layer."""


def test_a_wrapped_checkpoint_with_facts_in_numpy_needs_the_word(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    weights = {"module.conv1.weight": torch.ones(2), "module.fc.weight": torch.ones(1)}
    torch.save({"best_prec1": np.float64(53.2), "epoch": 3, "state_dict": weights}, path)
    with pytest.raises(WeightsError, match="Python objects in it: numpy"):
        convert_own(path, "checkpoint", CONV1, r3d101.convert)
    assert set(convert_own(path, "checkpoint", CONV1, r3d101.convert, trust_pickle=True)[0]) == {
        "conv1.weight"
    }


def test_text_of_python_2_needs_the_word(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    content = {"author": "J0s", "state_dict": {"module.conv1.weight": torch.ones(2)}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    # Python 3 writes X, a length of four bytes and UTF-8; Python 2 wrote U, one byte and any text
    new, old = b"X\x03\x00\x00\x00J0s", b"U\x03J\xe9s"
    assert path.read_bytes().count(new) == 1
    path.write_bytes(path.read_bytes().replace(new, old))
    with pytest.raises(WeightsError, match="text of Python 2"):
        convert_own(path, "checkpoint", CONV1, r3d101.convert)
    assert set(convert_own(path, "checkpoint", CONV1, r3d101.convert, trust_pickle=True)[0]) == {
        "conv1.weight"
    }


SMALL = {"conv1.weight": torch.zeros(2), "bn1.running_mean": torch.zeros(3)}
"""A network of two layers, as it expects its tensors."""


def of_small(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": torch.full_like(value, 7) for key, value in SMALL.items()}


def own(path: Path, content: object) -> tuple[set[str], list[str]]:
    """Save a checkpoint; return the keys that are taken of it and those that are dropped."""
    torch.save(content, path / "own.pth")
    taken, dropped = convert_own(path / "own.pth", "checkpoint", SMALL, resnet50.convert)
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
        found, dropped = convert_own(tmp_path / "a.pth", "checkpoint", CONV1, resnet18_mfcc.convert)
        assert (set(found) == set(CONV1), dropped == []) == (kept, kept)


def test_a_safetensors_file_may_have_prefixes_too(tmp_path: Path) -> None:
    save_file({**of_small("module."), "module.fc.bias": torch.ones(1)}, tmp_path / "a.safetensors")
    found, dropped = convert_own(tmp_path / "a.safetensors", "safetensors", SMALL)
    assert (set(found), dropped) == (set(SMALL), ["module.fc.bias"])


def picky(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {"conv1.weight": tensors["conv1.weight"], "bn1.running_mean": tensors["mean"]}


def test_a_conversion_that_needs_a_tensor_finds_it_under_the_prefix(tmp_path: Path) -> None:
    names = {"model.conv1.weight": torch.ones(2), "model.mean": torch.ones(3)}
    torch.save(names, tmp_path / "a.pth")
    tensors, dropped = convert_own(tmp_path / "a.pth", "checkpoint", SMALL, picky)
    assert (set(tensors), dropped) == (set(SMALL), [])
    torch.save({"model.conv1.weight": torch.ones(2)}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"b\.pth: .*picky expects other tensors"):
        convert_own(tmp_path / "b.pth", "checkpoint", SMALL, picky)


def unprefixed(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def test_a_conversion_that_takes_a_prefix_off_itself_does_not_make_two_networks(
    tmp_path: Path,
) -> None:
    torch.save(of_small("module."), tmp_path / "a.pth")
    tensors, dropped = convert_own(tmp_path / "a.pth", "checkpoint", SMALL, unprefixed)
    assert (set(tensors), dropped) == (set(SMALL), [])


def test_a_file_is_read_like_the_published_one_of_its_name_or_suffix() -> None:
    published = vggface.WEIGHTS.sources
    dag, keras = published
    assert reader_of(Path("my.PTH"), published) == ("checkpoint", dag)
    assert reader_of(Path("vgg_face_weights.h5"), published) == ("keras", keras)
    assert reader_of(Path("other.hdf5"), published) == ("keras", keras)
    assert reader_of(Path("my.safetensors"), published) == ("safetensors", dag)
    assert reader_of(Path("my.safetensors"), blazepose.WEIGHTS.sources) == ("safetensors", None)
    for name, origins, known in (
        ("my.npz", published, ".h5 or .hdf5 or .pt or .pth or .safetensors or .zip"),
        ("my.pth", blazepose.WEIGHTS.sources, ".safetensors or .task"),
    ):
        with pytest.raises(
            WeightsError, match=re.escape(f"{name}: expected a file named {known},")
        ):
            reader_of(Path(name), origins)
