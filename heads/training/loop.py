"""One run: a head trained on the training videos of a split, and its answers on the test videos.

Nothing is chosen on the test set: the network after the last epoch answers, or, with a part of the
training videos kept for validation, that of the epoch that did best on them. The same inputs,
settings, device and number of threads give the same numbers, bit for bit.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.weights.file import load as load_weights
from heads import Head, Rows
from heads.layers.network import Network
from heads.training.answer import answer, told
from heads.training.data import Batch, Features, as_labels, collate, draw_batches
from heads.training.held_out import held_out
from heads.training.run import Epoch, Run
from heads.training.scores import measure
from heads.training.settings import Training
from heads.training.standardise import Standardised, build_network, input_statistics
from heads.training.targets import Target, balanced, strata

_SGD_MOMENTUM = 0.9
_DECAY = 0.1


class LossError(ValueError):
    """The training loss is no number: these settings do not train this head."""


def run_seed(seed: int, run: str) -> int:
    """Return the seed of one run, so that runs differ in more than their videos."""
    digest = hashlib.sha256(f"{seed}/{run}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _optimiser(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "adam":
        # The fused form is several times as fast on a CPU.
        return torch.optim.Adam(weights, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(weights, lr=rate, momentum=_SGD_MOMENTUM, weight_decay=decay)


@dataclass(frozen=True)
class _Trainer:
    """What a run's epochs share."""

    standardised: Standardised
    training: Training
    dataset: Features
    device: torch.device

    @property
    def network(self) -> Network:
        """The head."""
        return self.standardised.network

    def batches(self, positions: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Yield the batches on the device, their rows standardised.

        The next one is made while this one is used.
        """
        with ThreadPoolExecutor(max_workers=1) as reader:
            waiting = None
            for wanted in positions:
                following = reader.submit(self._read, wanted)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

    def _read(self, positions: Sequence[int]) -> Batch:
        batch = collate([self.dataset[position] for position in positions]).to(self.device)
        return replace(batch, features=self.standardised.standardise(batch.features))

    def in_order(self, positions: Sequence[int]) -> Iterator[Batch]:
        """Yield all of `positions`, batch by batch."""
        return self.batches(self.cut(positions))

    def cut(self, positions: Sequence[int]) -> list[Sequence[int]]:
        """Return `positions` in batches, as they come."""
        size = self.training.batch_videos
        return [positions[start : start + size] for start in range(0, len(positions), size)]


def train_run(
    head: Head,
    params: Any,
    training: Training,
    dataset: Features,
    train: Sequence[int],
    test: Sequence[int],
    target: Target,
    seed: int,
    device: str = "cpu",
    starts: Mapping[str, Path] | None = None,
) -> Run:
    """Train a head on some videos of a data set and let it answer on others.

    Args:
        head: a head module.
        params: its hyper-parameters.
        training: settings; its `seed` and `threads` are the caller's to apply.
        dataset: all videos of the experiment.
        train: positions of the training videos.
        test: positions of the test videos.
        target: what is told.
        seed: of this run, see `run_seed`.
        device: where the network trains.
        starts: role -> weights file that the network of the role starts from, see `heads.starts`;
            the others start as `build_network` draws them.

    Raises:
        ValueError: roles or a target that the head does not take, a bad feature file, weights that
            are not its network's, a loss that is no number.
    """
    generator = torch.Generator().manual_seed(seed)
    share = training.validation_share
    train, validation = held_out(target, dataset.videos, train, share, seed)
    if share > 0 and not validation:
        raise ValueError(
            f"train.validation_share {share} of {len(train)} training videos leaves no video to "
            "validate on: raise it, or set it to 0"
        )
    aimed = target
    if training.class_weights == "balanced":
        aimed = balanced(target, [dataset.videos[position].label for position in train])
    standardised = build_network(head, params, dataset.shapes, dataset.axes, aimed, seed)
    _start(standardised.network, starts or {}, dataset.shapes)
    for role, (mean, std) in input_statistics(dataset, train, training.standardise).items():
        standardised.mean[role].copy_(mean)
        standardised.std[role].copy_(std)
    trainer = _Trainer(standardised.to(device), training, dataset, torch.device(device))
    even = strata(target, [dataset.videos[position].label for position in train])
    each = training.videos_per_class if training.sampling == "balanced" else None
    curve: list[Epoch] = []
    with _seeded(seed, device):  # dropout and the like
        phases = trainer.network.phases()
        for phase, modules in phases.items():
            source = _Outputs(trainer, _frozen(trainer, phase, [*train, *validation]))
            step = _stepper(source, phase, modules)
            best, kept = -np.inf, None
            for _ in range(training.epochs):
                drawn = draw_batches(even, training.batch_videos, each, generator)
                loss, measured = step([[train[position] for position in batch] for batch in drawn])
                validated = _measured(source, validation) if validation else np.nan
                curve.append(Epoch(phase, loss, measured, validated))
                if not np.isfinite(loss):
                    raise LossError(
                        f"the training loss must be a number, found {loss} in epoch "
                        f"{len(curve)}: lower train.learning_rate ({training.learning_rate}) or "
                        f"set train.standardise (now '{training.standardise}')"
                    )
                if validated > best:
                    best, kept = validated, (len(curve), _state(standardised))
    epoch = len(curve)
    if kept is not None:
        epoch, state = kept
        standardised.load_state_dict(state)
    return _answer(trainer, test, curve, epoch)


def _start(
    network: Network, starts: Mapping[str, Path], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Fill the parts of fresh networks that start from weights files."""
    for role, path in starts.items():
        if role not in network.starts:
            raise ValueError(
                f"role '{role}' has rows of {shapes.get(role)}, for which this head has no network "
                f"to start from {path}: name another feature, or remove the role from `weights`"
            )
        load_weights(path, network.starts[role])


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch's global generators, and leave them as they were."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def _frozen(
    trainer: _Trainer, phase: str, positions: Sequence[int]
) -> dict[int, dict[str, Tensor]]:
    """Return position -> what the part that a phase does not train gives of that video.

    Empty where the head keeps nothing of it: one batch tells.
    """
    trainer.network.eval()
    kept: dict[int, dict[str, Tensor]] = {}
    for batch in trainer.in_order(positions):
        outputs = trainer.network.frozen(batch.features, batch.mask, phase)
        if not outputs:
            return {}
        for row in range(len(batch.labels)):
            position = positions[len(kept)]
            kept[position] = {name: values[row] for name, values in outputs.items()}
    return kept


@dataclass(frozen=True)
class _Outputs:
    """A phase's outputs: of the whole network, or of what it trains behind what is `kept`."""

    trainer: _Trainer
    kept: Mapping[int, Mapping[str, Tensor]]

    def of(self, positions: Sequence[Sequence[int]]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Yield output and labels (B,) of each batch."""
        trainer = self.trainer
        if not self.kept:
            for batch in trainer.batches(positions):
                yield trainer.network(batch.features, batch.mask), batch.labels
            return
        for wanted in positions:
            rows = [self.kept[position] for position in wanted]
            frozen = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
            labels = as_labels([trainer.dataset.videos[position].label for position in wanted])
            yield trainer.network.resume(frozen), labels.to(trainer.device)


def _stepper(
    source: _Outputs, phase: str, modules: Sequence[nn.Module]
) -> Callable[[Sequence[Sequence[int]]], tuple[float, float]]:
    """Return what trains `modules` for an epoch of batches, and tells mean loss and the measure."""
    network, training = source.trainer.network, source.trainer.training
    network.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
    optimiser = _optimiser(network, training)
    every = training.decay_every
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, every, _DECAY) if every else None

    def epoch(positions: Sequence[Sequence[int]]) -> tuple[float, float]:
        network.eval()
        for module in modules:
            module.train()
        steps: list[tuple[Tensor, Tensor, Tensor]] = []
        for output, labels in source.of(positions):
            loss = network.loss(output, labels, phase)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if schedule is not None:
                schedule.step()
            steps.append((loss.detach(), output["logits"].detach(), labels))
        # only now: a GPU is not waited for while there are steps
        drawn = sum(len(labels) for _, _, labels in steps)
        loss_sum = sum(float(loss) * len(labels) for loss, _, labels in steps)
        return loss_sum / drawn, _measure(network.target, [step[1:] for step in steps])

    return epoch


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def _measured(source: _Outputs, positions: Sequence[int]) -> float:
    network = source.trainer.network.eval()
    outputs = source.of(source.trainer.cut(positions))
    return _measure(network.target, [(output["logits"], labels) for output, labels in outputs])


def _measure(target: Target, outputs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return how well logits tell a target: of both, batches of (B, width) and labels."""
    logits, labels = (torch.cat(parts).cpu() for parts in zip(*outputs, strict=True))
    given = logits if target.kind == "class" else told(target, logits)
    return measure(target, labels.double().numpy(), given.double().numpy())


def _answer(trainer: _Trainer, test: Sequence[int], curve: list[Epoch], kept: int) -> Run:
    """Return the run: answers, attention and the state of the trained network."""
    network, videos = trainer.network, [trainer.dataset.videos[position] for position in test]
    network.eval()
    weighed = dict(network.attention)
    timed = sorted({of.role for of in weighed.values() if isinstance(of, Rows)})
    attention: dict[str, list[NDArray[np.float32]]] = {name: [] for name in weighed}
    pts_s = {role: [trainer.dataset[position].pts_s[role] for position in test] for role in timed}
    values: list[NDArray[np.float32]] = []
    for position in test:
        video = collate([trainer.dataset[position]]).to(trainer.device)
        given = answer(trainer.standardised, video)
        values.append(given.values)
        for name, weights in given.attention.items():
            attention[name].append(weights)
    return Run(
        video_ids=tuple(video.video_id for video in videos),
        target=network.target,
        labels=np.array([video.label for video in videos]),
        values=np.stack(values),
        attention=attention,
        weighed=weighed,
        pts_s=pts_s,
        kept=kept,
        curve=curve,
        state=_state(trainer.standardised),
    )
