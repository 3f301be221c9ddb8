"""Runs against a plain loop with torch's own optimisers and schedules, number by number."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.layers.network import Network
from heads.training.data import Features, collate, draw_batches
from heads.training.loop import train_run
from heads.training.run import Run
from heads.training.selection import select_videos
from heads.training.settings import Training
from heads.training.standardise import build_network, input_statistics
from heads.training.targets import of_classes
from tests.heads.conftest import EMOTIONS, Folder

ROLES = {"context": "vgg16/fc6"}
SEED = 5
CPU = torch.device("cpu")
# 12 training videos: two batches of 5 and one of 2.
SHORT = Training(epochs=3, batch_videos=5, sampling="shuffled", learning_rate=0.05)


class Small(Network):
    """Two layers with dropout, trained in one phase or one after the other."""

    def __init__(self, size: int, classes: int, separate: bool) -> None:
        super().__init__()
        self.first = nn.Linear(size, 6)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(6, classes)
        self.separate = separate

    def forward(self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> Any:
        hidden = self.drop(torch.relu(self.first(features["context"].mean(dim=1))))
        return {"logits": self.last(hidden)}

    def phases(self) -> dict[str, Sequence[nn.Module]]:
        if not self.separate:
            return {"all": [self]}
        return {"first": [self.first, self.drop], "last": [self.last]}


def head_of(separate: bool) -> Any:
    def build(params: Any, features: Any, classes: Any) -> Network:
        return Small(features["context"][0], len(classes), separate)

    return SimpleNamespace(__name__="heads.small", ROLES=None, build=build)


def data_of(folder: Folder) -> tuple[Features, Sequence[int], Sequence[int]]:
    selection = select_videos(folder.index, folder.root, ROLES)
    split = selection.splits["split_00"]
    return Features(selection.videos, ROLES), split.train, split.test


def ours(folder: Folder, training: Training, separate: bool = False) -> Run:
    data, train, test = data_of(folder)
    return train_run(
        head_of(separate), None, training, data, train, test, of_classes(EMOTIONS), SEED
    )


def theirs(
    folder: Folder, training: Training, separate: bool = False
) -> tuple[dict[str, Tensor], list[float]]:
    """Return weights and the loss of each epoch, by a loop that knows nothing of ours.

    It shares with ours what is drawn: the first weights, the batches, the seed of the dropout.
    """
    data, train, _ = data_of(folder)
    network = build_network(
        head_of(separate), None, data.shapes, data.axes, of_classes(EMOTIONS), SEED
    )
    mean, std = input_statistics(data, train, training.standardise)["context"]
    generator = torch.Generator().manual_seed(SEED)
    small = network.network
    assert isinstance(small, Small)
    labels = [data.videos[at].label for at in train]
    told = []
    parts = [[small.first], [small.last]] if separate else [[small.first, small.last]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for modules in parts:
            small.drop.train(small.first in modules)
            weights = [weight for module in modules for weight in module.parameters()]
            optimiser: torch.optim.Optimizer
            rate, decay = training.learning_rate, training.weight_decay
            if training.optimiser == "adam":
                optimiser = torch.optim.Adam(weights, lr=rate, weight_decay=decay)
            else:
                optimiser = torch.optim.SGD(weights, lr=rate, momentum=0.9, weight_decay=decay)
            schedule = torch.optim.lr_scheduler.StepLR(
                optimiser, training.decay_every or 10**9, gamma=0.1
            )
            for _ in range(training.epochs):
                losses: list[float] = []
                for batch in draw_batches(labels, training.batch_videos, None, generator):
                    videos = collate([data[train[at]] for at in batch]).to(CPU)
                    rows = (videos.features["context"] - mean) / std
                    logits = small({"context": rows}, videos.mask)["logits"]
                    loss = functional.cross_entropy(logits, videos.labels)
                    network.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    schedule.step()
                    each = functional.cross_entropy(logits, videos.labels, reduction="none")
                    losses += each.tolist()
                told.append(sum(losses) / len(losses))
    return {name: weight.detach() for name, weight in small.named_parameters()}, told


@pytest.mark.parametrize("separate", [False, True], ids=["one phase", "two phases"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("decay_every", [None, 2])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_run_is_what_torchs_optimiser_and_schedule_make_of_the_same_batches(
    folder: Folder, optimiser: Any, decay_every: int | None, weight_decay: float, separate: bool
) -> None:
    training = replace(
        SHORT, optimiser=optimiser, decay_every=decay_every, weight_decay=weight_decay
    )
    run = ours(folder, training, separate)
    weights, losses = theirs(folder, training, separate)
    for name, wanted in weights.items():
        torch.testing.assert_close(run.state[f"network.{name}"], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([epoch.loss for epoch in run.curve], losses, rtol=1e-4)


def test_the_seed_of_a_run_draws_its_dropout(folder: Folder) -> None:
    runs = []
    for elsewhere in (1, 2):
        torch.manual_seed(elsewhere)
        runs.append(ours(folder, SHORT))
    assert all(torch.equal(value, runs[1].state[name]) for name, value in runs[0].state.items())
