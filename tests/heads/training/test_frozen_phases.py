"""What a phase does not train is computed once a phase, and the numbers are those of each epoch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import heads
from heads import hamf, lstm
from heads.layers.network import Network
from heads.training.data import Features
from heads.training.loop import train_run
from heads.training.run import Run
from heads.training.selection import select_videos
from heads.training.settings import Training
from heads.training.targets import of_classes
from tests.heads.conftest import EMOTIONS, Folder

ROLES = {"face": "vggface/fc6", "image": "vgg16/fc6"}
TRAINING = Training(epochs=4, batch_videos=6, learning_rate=3e-3, validation_share=0.3)
HAMF = {"local_hidden": 8, "frame_hidden": 8, "global_hidden": [8, 4], "hidden": 8}

CASES = [
    pytest.param("hamf", HAMF, hamf.HAMF, id="hamf"),
    pytest.param("hamf", HAMF | {"local_attention": "none"}, hamf.HAMF, id="hamf of means"),
    pytest.param("lstm", {"units": 6}, lstm.TemporalFusion, id="lstm"),
]


def run_of(folder: Folder, name: str, params: dict[str, object], **training: Any) -> Run:
    head = heads.load(name)
    selection = select_videos(folder.index, folder.root, ROLES)
    split = selection.splits["split_00"]
    data = Features(selection.videos, ROLES)
    settings = replace(TRAINING, **training)
    made = heads.validate(head, params)
    return train_run(head, made, settings, data, split.train, split.test, of_classes(EMOTIONS), 5)


@pytest.mark.parametrize(("name", "params", "network"), CASES)
def test_a_frozen_part_gives_the_same_run_as_if_it_were_computed_each_epoch(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    params: dict[str, object],
    network: type[Network],
) -> None:
    once = run_of(folder, name, params)
    monkeypatch.setattr(network, "frozen", Network.frozen)
    anew = run_of(folder, name, params)
    assert once.kept == anew.kept
    for got, wanted in zip(once.curve, anew.curve, strict=True):
        assert (got.phase, got.measured) == (wanted.phase, wanted.measured)
        assert got.validation == wanted.validation
        assert got.loss == pytest.approx(wanted.loss, rel=1e-5)
    np.testing.assert_allclose(once.values, anew.values, rtol=1e-4)
    for key, value in anew.state.items():
        torch.testing.assert_close(once.state[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("epochs", [1, 4])
def test_the_local_networks_of_hamf_see_each_video_once_in_the_global_phase(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    rows: list[int] = []
    build = hamf._local_score

    def counted(*args: Any) -> nn.Sequential:
        score = build(*args)
        score.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
        return score

    monkeypatch.setattr(hamf, "_local_score", counted)
    run_of(folder, "hamf", HAMF, epochs=epochs, validation_share=0.0, sampling="shuffled")
    data = Features(*selected(folder))
    real = [sum(int(mask.sum()) for mask in data[at].mask.values()) for at in range(len(data))]
    split = select_videos(folder.index, folder.root, ROLES).splits["split_00"]
    train, test = (sum(real[at] for at in part) for part in (split.train, split.test))
    # every epoch of `local`, once in `global`, and the answers
    assert sum(rows) == (epochs + 1) * train + test


def selected(folder: Folder) -> tuple[Any, dict[str, str]]:
    return select_videos(folder.index, folder.root, ROLES).videos, ROLES
