from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from features.backbones import r3d101
from features.backbones.r3d101 import Options, Release
from features.sources.download import DownloadError
from features.sources.obtain import obtain
from features.sources.own import convert_own
from features.weights.file import check_keys
from features.weights.record import ByHand, WeightsError

STATISTICS = {
    "2018": ([114.7748, 107.7354, 99.4750], [1.0, 1.0, 1.0], 1.0),
    "2020": ([0.4345, 0.4051, 0.3775], [0.2768, 0.2713, 0.2737], 255.0),
}


def snippets(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return smooth coloured pictures that move, (count, 16, height, width, 3)."""
    time, y, x = np.meshgrid(
        np.arange(count * 16), np.arange(height), np.arange(width), indexing="ij"
    )
    colours = [127 + 120 * np.sin(time / 3 + y / 9 + k * x / 11) for k in (0.5, 1, 2)]
    return np.stack(colours, -1).astype(np.uint8).reshape(count, 16, height, width, 3)


def by_pillow(frame: NDArray[np.uint8], release: str) -> NDArray[np.float64]:
    """Prepare a frame as the authors do: Scale(112), CenterCrop(112), ToTensor, Normalize."""
    image = Image.fromarray(frame)
    width, height = image.size
    if width < height:
        image = image.resize((112, int(112 * height / width)), Image.Resampling.BILINEAR)
    elif (width, height) != (112, 112):
        image = image.resize((int(112 * width / height), 112), Image.Resampling.BILINEAR)
    left, top = round((image.size[0] - 112) / 2), round((image.size[1] - 112) / 2)
    pixels = np.asarray(image.crop((left, top, left + 112, top + 112)), np.float64)
    mean, std, scale = STATISTICS[release]
    return np.moveaxis((pixels / scale - mean) / std, -1, 0)


@pytest.mark.parametrize("release", ["2018", "2020"])
@pytest.mark.parametrize("size", [(128, 171), (227, 128), (112, 112), (90, 61)])
def test_preprocessing_is_that_of_the_release(release: Release, size: tuple[int, int]) -> None:
    frames = snippets(2, *size)
    found = r3d101.preprocess(frames, Options(release=release)).numpy()
    assert found.shape == (2, 3, 16, 112, 112)
    grey_level = 1.0 if release == "2018" else 1 / 255 / 0.27
    for row, place in ((0, 0), (1, 15)):
        expected = by_pillow(frames[row, place], release)
        assert np.abs(found[row, :, place] - expected).max() <= 1.01 * grey_level
        assert np.abs(found[row, :, place] - expected).mean() <= 0.3 * grey_level


def test_pixels_of_the_first_release_are_not_scaled() -> None:
    white = np.full((1, 16, 112, 112, 3), 255, np.uint8)
    found = r3d101.preprocess(white)[0, :, 7, 50, 60]
    torch.testing.assert_close(found, 255 - torch.tensor([114.7748, 107.7354, 99.4750]))


@pytest.mark.parametrize("shape", [(2, 112, 112, 3), (2, 15, 112, 112, 3)])
def test_what_is_no_snippet_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected snippets \(T, 16, H, W, 3\), found"):
        r3d101.preprocess(np.zeros(shape, np.uint8))


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of 2018, 2020 .in quotes., found 2018"):
        Options(release=2018)  # type: ignore[arg-type]  # YAML without quotes


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Write the keys of the original out, from the paper's table."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7, 7)}
    norms = {"bn1": 64}
    entering = 64
    for layer, (blocks, width) in enumerate([(3, 64), (4, 128), (23, 256), (3, 512)], 1):
        for block in range(blocks):
            stem = f"layer{layer}.{block}"
            shapes[f"{stem}.conv1.weight"] = (width, entering, 1, 1, 1)
            shapes[f"{stem}.conv2.weight"] = (width, width, 3, 3, 3)
            shapes[f"{stem}.conv3.weight"] = (4 * width, width, 1, 1, 1)
            norms |= {f"{stem}.bn1": width, f"{stem}.bn2": width, f"{stem}.bn3": 4 * width}
            if block == 0:
                shapes[f"{stem}.downsample.0.weight"] = (4 * width, entering, 1, 1, 1)
                norms[f"{stem}.downsample.1"] = 4 * width
            entering = 4 * width
    for norm, size in norms.items():
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{kind}"] = (size,)
        shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes


def test_keys_and_shapes_are_the_originals() -> None:
    with torch.device("meta"):
        network = r3d101.build()
    found = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert found == expected_shapes()
    assert sum(p.numel() for p in network.parameters()) == 85_245_120


def checkpoint(prefix: str, *, counters: bool) -> dict[str, object]:
    """Return a checkpoint as the authors' training writes it, with one number for each tensor."""
    kept = [key for key in expected_shapes() if counters or "num_batches" not in key]
    tensors = OrderedDict((prefix + key, torch.tensor([1.0])) for key in kept)
    tensors[prefix + "fc.weight"] = tensors[prefix + "fc.bias"] = torch.tensor([2.0])
    momentum = {"momentum_buffer": torch.zeros(2)}
    optimizer = {"state": {0: momentum}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return {"arch": "resnet-101", "epoch": 200, "state_dict": tensors, "optimizer": optimizer}


def taken(path: Path) -> dict[str, torch.Tensor]:
    """Return what is taken of a file that a person has fetched."""
    with torch.device("meta"):
        expected = r3d101.build().state_dict()
    return convert_own(path, "checkpoint", expected, r3d101.convert)[0]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("prefix", "counters"), [("module.", False), ("", True)])
def test_of_either_releases_checkpoint_the_network_is_taken(
    tmp_path: Path, prefix: str, counters: bool, zipped: bool
) -> None:
    path = tmp_path / "a.pth"
    torch.save(checkpoint(prefix, counters=counters), path, _use_new_zipfile_serialization=zipped)
    found = taken(path)
    assert set(found) == set(expected_shapes())
    assert all(
        value.dtype == torch.int64 for key, value in found.items() if "num_batch" in key
    ) != (counters)


class Scheduler:
    """Stands for any object that a training run may have saved beside its network."""


def test_a_checkpoint_with_other_objects_in_it_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({**checkpoint("", counters=True), "scheduler": Scheduler()}, path)
    with pytest.raises(WeightsError, match=r"a.pth: expected .* tensors only.*Scheduler") as caught:
        taken(path)
    assert "a pickle can run any code" in str(caught.value).lower()


@pytest.mark.parametrize("content", [{"conv1.weight": 1}, [1], {"state_dict": [1]}])
def test_a_checkpoint_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="a.pth: expected a mapping of names to tensors"):
        taken(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("release", "file", "folder"),
    [
        ("2018", "resnet-101-kinetics.pth", "1zvl89AgFAApbH0At-gMuZSeQB_LpNP-M"),
        ("2020", "r3d101_K_200ep.pth", "1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4"),
    ],
)
def test_instead_of_a_download_file_and_folder_are_named(
    tmp_path: Path, release: Release, file: str, folder: str
) -> None:
    weights = r3d101.weights(Options(release=release))
    assert weights.licence == "MIT"
    (source,) = weights.sources
    assert isinstance(source, ByHand)
    assert source.address == f"https://drive.google.com/drive/folders/{folder} ({file})"
    with pytest.raises(DownloadError, match="no address"):
        obtain(weights.sources, tmp_path / "store", tmp_path / "pins")
    assert not list(tmp_path.iterdir())


@pytest.mark.weights
@pytest.mark.parametrize("name", ["resnet-101-kinetics.pth", "r3d101_K_200ep.pth"])
def test_the_authors_file_fits(real_file: Callable[[str], Path], name: str) -> None:
    path = real_file(name)
    with torch.device("meta"):
        expected = r3d101.build().state_dict()
    check_keys(taken(path), expected, str(path))
