import math
from typing import Any

import numpy as np
import pytest
import torch

import heads
from heads.layers.network import Network
from heads.training.standardise import Standardised, build_network, input_statistics
from heads.training.targets import of_classes
from tests.heads.conftest import EMOTIONS, Folder, frames
from tests.heads.training.test_loop import selected, trained


def test_input_statistics_are_those_of_the_valid_training_rows(folder: Folder) -> None:
    selection, data = selected(folder)
    train = selection.splits["split_00"].train
    rows = np.concatenate([data[at].features["face"][data[at].mask["face"]] for at in train])
    rows = rows.astype(np.float64)
    mean, std = input_statistics(data, train, "dimension")["face"]
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, rows.std(0), rtol=1e-4)
    mean, std = input_statistics(data, train, "scale")["face"]
    assert not mean.any()
    np.testing.assert_allclose(std, math.sqrt((rows**2).mean()), rtol=1e-5)
    mean, std = input_statistics(data, train, "none")["face"]
    assert not mean.any() and (std == 1).all()


def test_a_dimension_that_does_not_vary_is_not_blown_up(folder: Folder) -> None:
    for row in folder.rows["vgg16"]:
        video_id = str(row["video_id"])
        found = np.random.default_rng(0).normal(0, 2, (6, 10))
        found[:, 3] = 7
        folder.write("vgg16", video_id, frames(found, np.ones(6, bool)))
    selection, data = selected(folder)
    _, std = input_statistics(data, selection.splits["split_00"].train, "dimension")["context"]
    assert std[3] == pytest.approx(0.1 * np.float64(found.std(0).mean()), rel=0.01)


def test_features_that_are_all_zero_are_left_so(folder: Folder) -> None:
    for row in folder.rows["vgg16"]:
        folder.write("vgg16", str(row["video_id"]), frames(np.zeros((6, 10)), np.ones(6, bool)))
    selection, data = selected(folder)
    for mode in ("dimension", "scale"):
        found = input_statistics(data, selection.splits["split_00"].train, mode)  # type: ignore[arg-type]
        assert (found["context"][1] == 1).all()


def test_a_map_has_one_number_a_channel(folder: Folder) -> None:
    draw = np.random.default_rng(0)
    wanted = []
    for row in folder.rows["vgg16"]:
        found = frames(draw.normal(2, 3, (6, 4, 5, 5)), np.ones(6, bool))
        found["pool5"] = found.pop("fc6")
        folder.write("vgg16", str(row["video_id"]), found)
        wanted.append(found["pool5"])
    selection, data = selected(folder, {"context_map": "vgg16/pool5"})
    mean, std = input_statistics(data, range(len(data)), "dimension")["context_map"]
    assert mean.shape == std.shape == (4, 1, 1)
    every = np.concatenate(wanted).astype(np.float64)
    np.testing.assert_allclose(mean[:, 0, 0], every.mean((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "axes", "over"),
    [
        ((33, 3), "K D", (0,)),  # landmarks: each coordinate of each
        ((16, 4), "L D", (0, 1)),  # MFCC: each coefficient, over the frames of a row
        ((4, 2, 3, 3), "C L H W", (0, 2, 3, 4)),  # a map of a snippet
    ],
)
def test_statistics_are_taken_by_the_axes_that_the_file_names(
    folder: Folder, shape: tuple[int, ...], axes: str, over: tuple[int, ...]
) -> None:
    draw = np.random.default_rng(0)
    scale = 1 + np.arange(math.prod(shape)).reshape(shape) / 50
    wanted = []
    for row in folder.rows["vgg16"]:
        found = frames(draw.normal(2, 1, (6, *shape)) * scale, np.ones(6, bool))
        found["planted"] = found.pop("fc6")
        folder.write("vgg16", str(row["video_id"]), found, planted=f"T {axes}")
        wanted.append(found["planted"])
    _, data = selected(folder, {"context": "vgg16/planted"})
    every = np.concatenate(wanted).astype(np.float64)
    mean, std = input_statistics(data, range(len(data)), "dimension")["context"]
    np.testing.assert_allclose(mean, every.mean(over, keepdims=True)[0], rtol=1e-4)
    floor = 0.1 * every.std(over).mean()
    np.testing.assert_allclose(std, np.maximum(every.std(over, keepdims=True)[0], floor), rtol=1e-4)


def test_landmarks_are_standardised_as_the_same_numbers_in_one_axis(folder: Folder) -> None:
    draw = np.random.default_rng(0)
    for row in folder.rows["vgg16"]:
        points = draw.normal([0.8, 0.5, -1.4], 0.2, (6, 33, 3))
        found = frames(points.reshape(6, 99), np.ones(6, bool))
        found["landmarks"] = points.astype(np.float16)
        folder.write("vgg16", str(row["video_id"]), found, landmarks="T K D")
    _, data = selected(folder, {"skeleton": "vgg16/landmarks", "flat": "vgg16/fc6"})
    statistics = input_statistics(data, range(len(data)), "dimension")
    for found, wanted in zip(statistics["skeleton"], statistics["flat"], strict=True):
        torch.testing.assert_close(found.flatten(), wanted)


def test_standardising_subtracts_and_divides_before_the_head() -> None:
    class Echo(Network):
        def forward(self, features: Any, mask: Any) -> Any:
            return features

    network = Standardised(Echo(), {"face": (2,)}, {"face": "D"})
    network.mean["face"].copy_(torch.tensor([1.0, 2.0]))
    network.std["face"].copy_(torch.tensor([2.0, 4.0]))
    found = network({"face": torch.tensor([[[3.0, 10.0]]])}, {})
    assert found["face"].tolist() == [[[1.0, 2.0]]]


def test_a_role_without_a_single_row_in_training_is_an_error(folder: Folder) -> None:
    for row in folder.rows["vggface"]:
        folder.write("vggface", str(row["video_id"]), frames(np.zeros((6, 12)), np.zeros(6, bool)))
    message = r"role 'face' \(vggface/fc6\): none of the 12 training videos has a valid row"
    with pytest.raises(ValueError, match=message):
        trained(folder)


def test_a_role_that_the_head_does_not_know_is_an_error() -> None:
    head = heads.load("caan")
    with pytest.raises(ValueError, match=r"caan has no role sound: its roles are \['context'"):
        shapes = {"face": (3,), "sound": (4,)}
        axes = dict.fromkeys(shapes, "D")
        build_network(head, head.Params(), shapes, axes, of_classes(EMOTIONS), seed=0)
