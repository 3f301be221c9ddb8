"""A network that a head trains itself starts from a backbone's weights file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import heads
from features import backbones
from features.backbones import resnet18_mfcc
from features.networks import resnet18
from features.weights.file import load, write_pretrained, write_seeded
from heads import vaanet
from heads.layers.network import Network
from heads.training.data import Features
from heads.training.loop import _start, train_run
from heads.training.memory import Sample
from heads.training.selection import Video
from heads.training.settings import Training
from heads.training.targets import of_classes

CLASSES = ("anger", "joy", "sadness")
MFCC: dict[str, tuple[int, ...]] = {"audio": (8, 32)}


class InMemory(Features):
    """Samples as a data set."""

    def __init__(
        self, samples: Sequence[Sample], roles: Mapping[str, str], axes: dict[str, str]
    ) -> None:
        videos = [Video(sample.video_id, sample.label, {}, {}, {}) for sample in samples]
        super().__init__(videos, {role: f"made/{name}" for role, name in roles.items()})
        self._samples = samples
        self._axes = axes
        self._shapes = {role: samples[0].features[role].shape[1:] for role in roles}

    def __getitem__(self, at: int) -> Sample:
        return self._samples[at]


def network(shapes: dict[str, tuple[int, ...]]) -> Network:
    return vaanet.build(vaanet.Params(), shapes, CLASSES)


def weights_file(path: Path, *, seeded: bool) -> dict[str, Tensor]:
    """Write weights as the weights stage does, and return the tensors that they stand for."""
    if seeded:
        write_seeded(path, "resnet18_mfcc", 3)
        return dict(load(path, resnet18_mfcc.build()).state_dict())
    torch.manual_seed(11)
    tensors = resnet18.ResNet18().state_dict()
    write_pretrained(path, "resnet18_mfcc", resnet18_mfcc.WEIGHTS, tensors, "here", "0" * 64)
    return dict(tensors)


@pytest.mark.parametrize("seeded", [True, False])
def test_the_resnet_of_the_sound_starts_from_a_weights_file_and_is_trained(
    tmp_path: Path, seeded: bool
) -> None:
    wanted = weights_file(tmp_path / "w.safetensors", seeded=seeded)
    draw = np.random.default_rng(0)
    rows = [draw.normal(size=(3, 8, 32)).astype(np.float16) for _ in range(6)]
    samples = [
        Sample(str(at), at % 3, {"audio": x}, {"audio": np.ones(3, bool)}, {"audio": np.zeros(3)})
        for at, x in enumerate(rows)
    ]
    data = InMemory(samples, {"audio": "audio"}, {"audio": "L D"})
    training = Training(epochs=1, sampling="shuffled", optimiser="sgd", learning_rate=1e-6)
    head, params = heads.load("vaanet"), vaanet.Params(audio_segments=3)
    everything = range(6)
    state = {}
    for starts in ({}, {"audio": tmp_path / "w.safetensors"}):
        run = train_run(
            head,
            params,
            training,
            data,
            everything,
            everything,
            of_classes(CLASSES),
            0,
            starts=starts,
        )
        state[len(starts)] = run.state
    layers = [name for name in wanted if name.endswith("weight")]
    assert "conv1.weight" in layers and "layer4.1.conv2.weight" in layers
    for name in layers:
        found = state[1][f"network.audio.resnet.{name}"]
        torch.testing.assert_close(found, wanted[name], rtol=1e-3, atol=1e-4)
        assert found.dim() < 4 or not torch.equal(found, wanted[name])  # it trains with the head
    conv = "layer1.0.conv1.weight"
    assert not torch.allclose(state[0][f"network.audio.resnet.{conv}"], wanted[conv], atol=1e-2)
    other = [name for name in state[0] if "resnet" not in name and "running" not in name]
    assert other  # the other layers start as they do without the file
    for name in other:
        torch.testing.assert_close(state[0][name], state[1][name], rtol=1e-3, atol=1e-3)


def test_weights_for_rows_that_no_network_of_the_head_reads_are_refused(tmp_path: Path) -> None:
    weights_file(tmp_path / "w.safetensors", seeded=True)
    built = network({"audio": (5,)})
    message = r"role 'audio' has rows of \(5,\), for which this head has no network to start from"
    with pytest.raises(ValueError, match=message):
        _start(built, {"audio": tmp_path / "w.safetensors"}, {"audio": (5,)})


def test_what_a_head_may_start_is_the_network_of_the_backbone_that_it_names() -> None:
    built = network(MFCC)
    assert set(built.starts) == set(heads.starts(heads.load("vaanet"))) == {"audio"}
    ours, theirs = built.starts["audio"].state_dict(), resnet18_mfcc.build().state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}
    for name in heads.names():
        assert set(heads.starts(heads.load(name)).values()) <= set(backbones.names())
