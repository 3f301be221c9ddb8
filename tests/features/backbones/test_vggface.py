from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from features.backbones import vggface
from features.weights.file import check_keys
from tests.features.sources.made_files import canonical


def test_a_crop_keeps_its_colours_in_rgb_order_minus_the_mean() -> None:
    crop = np.zeros((1, 224, 224, 3), np.uint8)
    crop[..., 0] = 200  # red
    found = vggface.preprocess(crop)
    assert found.shape == (1, 3, 224, 224)
    expected = torch.tensor([200 - 129.186279296875, -104.76238250732422, -93.59396362304688])
    torch.testing.assert_close(found[0, :, 5, 7], expected)


def test_a_crop_of_the_right_size_is_not_resampled() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    found = vggface.preprocess(crop) + torch.tensor(vggface.MEAN).view(1, 3, 1, 1)
    torch.testing.assert_close(found, torch.from_numpy(crop).permute(0, 3, 1, 2).float())


@pytest.mark.weights
def test_the_dag_file_fits(real_file: Callable[[str], Path]) -> None:
    path = real_file("vgg_face_dag.pth")
    with torch.device("meta"):
        expected = vggface.build().state_dict()
    check_keys(canonical(vggface.WEIGHTS.sources[0], path), expected, str(path))
