"""One run: a head trained on the training videos of a split, and its answers on the test videos.

Nothing is chosen on the test set: the network after the last epoch is the one that answers.
The same inputs, settings and number of threads give the same numbers, bit for bit.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.arrays import Array
from heads import Head, construct
from heads.data import Features, Sample, collate, draw_batches

Standardise = Literal["none", "scale", "dimension"]

# A dimension that hardly varies over the training rows is not blown up to unit deviation: no
# deviation counts as less than this share of the feature's mean deviation.
_STD_FLOOR = 0.1

_SGD_MOMENTUM = 0.9


@dataclass(frozen=True)
class Training:
    """How a head is trained; CAAN gives none of it.

    Attributes:
        epochs: passes over the training videos; the last one's network is kept.
        batch_videos: videos of a batch.
        sampling: `balanced` draws as many videos of each class in a batch, so that a triplet loss
            finds its pairs and a rare class is drawn more often; `shuffled` takes a permutation.
        videos_per_class: videos of one class in a balanced batch, at least 2.
        optimiser: `adam`, or `sgd` with momentum 0.9.
        learning_rate: constant over the run.
        weight_decay: factor of the weights that is added to their gradient.
        standardise: what is done to the input with statistics of the training rows: `dimension`
            subtracts the mean and divides by the deviation, dimension by dimension (channel by
            channel in a map); `scale` divides by the root mean square of the feature; `none`
            leaves the raw activations, as the paper seems to.
        seed: of the weights, the batches and everything else that is drawn.
        threads: CPU threads of a run. It is a part of the result: a sum that is split over
            threads is rounded in another order.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "allow_inf_nan": False}

    epochs: int = 10
    batch_videos: int = 12
    sampling: Literal["balanced", "shuffled"] = "balanced"
    videos_per_class: int = 2
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    standardise: Standardise = "dimension"
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its range."""
        least = {"epochs": 1, "batch_videos": 2, "videos_per_class": 2, "seed": 0, "threads": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} must be at least {minimum}, found {getattr(self, name)}")
        if self.sampling == "balanced" and self.batch_videos < 2 * self.videos_per_class:
            raise ValueError(
                f"batch_videos must be at least twice videos_per_class ({self.videos_per_class}), "
                f"so that a balanced batch has two classes, found {self.batch_videos}"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, found {self.learning_rate}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, found {self.weight_decay}")


def training_of(settings: Mapping[str, object] | Iterable[tuple[str, object]]) -> Training:
    """Return `Training` made from a section of settings: a mapping, or its (name, value) pairs.

    Raises:
        ValueError: an unknown setting, or a value that does not fit.
    """
    return construct(Training, dict(settings), "training")


@dataclass(frozen=True)
class Epoch:
    """Training loss and accuracy of one epoch, means over the videos drawn, as they were drawn."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Run:
    """What one run gives; rows are the test videos in the order they were asked for.

    Attributes:
        video_ids: of the test videos.
        labels: int64 (N,), positions among the classes.
        probabilities: float32 (N, classes), softmax of the logits.
        predicted: int64 (N,), the most probable class.
        attention: name -> one float32 (T,) a video, T its own number of rows.
        pts_s: name -> one float64 (T,) a video, presentation times of those rows in seconds.
        curve: one `Epoch` an epoch.
        state: weights and input statistics; loads into `build_network`.
    """

    video_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    predicted: NDArray[np.int64]
    attention: dict[str, list[NDArray[np.float32]]]
    pts_s: dict[str, list[NDArray[np.float64]]]
    curve: list[Epoch]
    state: dict[str, Tensor]


def run_arrays(run: Run) -> tuple[dict[str, Array], dict[str, str]]:
    """Return a run as named arrays for an array file, and the names of their axes.

    Of each attention `<name>` there are three: `<name>`, the weights of all videos one after the
    other; `<name>_rows` (videos,), how many of them belong to each; `<name>_pts_s`, their times.
    """
    found: dict[str, Array] = {
        "video_id": np.array([name.encode() for name in run.video_ids]),
        "label": run.labels,
        "predicted": run.predicted,
        "probabilities": run.probabilities,
        "epoch_loss": np.array([epoch.loss for epoch in run.curve]),
        "epoch_accuracy": np.array([epoch.accuracy for epoch in run.curve]),
    }
    axes = {name: "video" for name in ("video_id", "label", "predicted")}
    axes |= {"probabilities": "video class", "epoch_loss": "epoch", "epoch_accuracy": "epoch"}
    for name, weights in run.attention.items():
        found[name] = np.concatenate(weights)
        found[f"{name}_rows"] = np.array([len(part) for part in weights], dtype=np.int64)
        found[f"{name}_pts_s"] = np.concatenate(run.pts_s[name])
        axes |= {name: "row", f"{name}_rows": "video", f"{name}_pts_s": "row"}
    return found, axes


class Standardised(nn.Module):
    """A head behind (x - mean) / std of each role; the statistics are part of its state."""

    def __init__(self, network: nn.Module, shapes: dict[str, tuple[int, ...]]):
        """Wrap `network`; `shapes` is role -> shape of a row. Statistics start as 0 and 1."""
        super().__init__()
        self.network = network
        self.mean = nn.ParameterDict()
        self.std = nn.ParameterDict()
        for role, shape in shapes.items():
            # A map (C, H, W) has one number a channel.
            wide = (shape[0], *(1 for _ in shape[1:]))
            self.mean[role] = nn.Parameter(torch.zeros(wide), requires_grad=False)
            self.std[role] = nn.Parameter(torch.ones(wide), requires_grad=False)

    def forward(self, features: dict[str, Tensor], mask: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the head's output on the standardised rows; arguments as the head's."""
        rows = {role: (x - self.mean[role]) / self.std[role] for role, x in features.items()}
        output: dict[str, Tensor] = self.network(rows, mask)
        return output


def build_network(
    head: Head, params: Any, shapes: dict[str, tuple[int, ...]], classes: int, seed: int
) -> Standardised:
    """Return the head with fresh weights, drawn from `seed` alone, statistics still 0 and 1.

    Args:
        head: a head module.
        params: its hyper-parameters.
        shapes: role -> shape of a row, without the time axis.
        classes: number of emotions.
        seed: any non-negative integer.

    Raises:
        ValueError: a role that the head does not know.
    """
    unknown = sorted(set(shapes) - head.ROLES) if head.ROLES is not None else []
    if unknown:
        raise ValueError(
            f"{head.__name__.rpartition('.')[2]} has no role {', '.join(unknown)}: "
            f"its roles are {sorted(head.ROLES or ())}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Standardised(head.build(params, shapes, classes), shapes)


def run_seed(seed: int, run: str) -> int:
    """Return the seed of one run, so that runs differ in more than their videos."""
    digest = hashlib.sha256(f"{seed}/{run}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def input_statistics(
    dataset: Features, train: Sequence[int], mode: Standardise
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return role -> (mean, std) over the valid rows of the training videos, float32.

    Args:
        dataset: all videos.
        train: positions of the training videos.
        mode: see `Training.standardise`; `none` gives 0 and 1.

    Raises:
        ValueError: a role without a valid row in any training video.
    """
    statistics = {}
    for role, shape in dataset.shapes.items():
        over = (0, *range(2, len(shape) + 1))  # all axes but C (or D), the second
        count, total, squares = 0, np.zeros(shape[0]), np.zeros(shape[0])
        for at in train:
            sample = dataset[at]
            rows = sample.features[role][sample.mask[role]].astype(np.float64)
            count += rows.size // shape[0]
            total += rows.sum(axis=over)
            squares += np.square(rows).sum(axis=over)
        if count == 0:
            backbone, feature = dataset.sources[role]
            raise ValueError(
                f"role '{role}' ({backbone}/{feature}): none of the {len(train)} training videos "
                "has a valid row: remove the role from the experiment, or see why its stage found "
                "nothing"
            )
        mean, square = total / count, squares / count
        if mode == "dimension":
            std = np.sqrt(np.maximum(square - np.square(mean), 0.0))
            std = np.maximum(std, _STD_FLOOR * std.mean())
        else:
            rms = np.sqrt(square.mean()) if mode == "scale" else 1.0
            mean, std = np.zeros_like(mean), np.full_like(mean, rms)
        std[std == 0] = 1.0
        wide = (shape[0], *(1 for _ in shape[1:]))
        statistics[role] = (
            torch.from_numpy(mean.astype(np.float32)).reshape(wide),
            torch.from_numpy(std.astype(np.float32)).reshape(wide),
        )
    return statistics


def _optimiser(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "adam":
        # The fused form is several times as fast on a CPU.
        return torch.optim.Adam(weights, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(weights, lr=rate, momentum=_SGD_MOMENTUM, weight_decay=decay)


def train_run(
    head: Head,
    params: Any,
    training: Training,
    dataset: Features,
    train: Sequence[int],
    test: Sequence[int],
    classes: int,
    seed: int,
) -> Run:
    """Train a head on some videos of a data set and let it answer on others.

    Args:
        head: a head module.
        params: its hyper-parameters.
        training: settings; its `seed` and `threads` are the caller's to apply.
        dataset: all videos of the experiment.
        train: positions of the training videos.
        test: positions of the test videos.
        classes: number of emotions.
        seed: of this run, see `run_seed`.

    Raises:
        ValueError: roles that the head does not take, a bad feature file, a loss that is no number.
    """
    network = build_network(head, params, dataset.shapes, classes, seed)
    for role, (mean, std) in input_statistics(dataset, train, training.standardise).items():
        network.mean[role].copy_(mean)
        network.std[role].copy_(std)
    optimiser = _optimiser(network, training)
    generator = torch.Generator().manual_seed(seed)
    labels = [dataset.videos[at].label for at in train]
    each = training.videos_per_class if training.sampling == "balanced" else None
    curve = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout and the like
        for epoch in range(training.epochs):
            drawn = draw_batches(labels, training.batch_videos, each, generator)
            batches = [[train[at] for at in batch] for batch in drawn]
            curve.append(_train_epoch(head, params, network, optimiser, dataset, batches))
            if not np.isfinite(curve[-1].loss):
                raise ValueError(
                    f"the training loss must be a number, found {curve[-1].loss} in epoch "
                    f"{epoch + 1}: lower train.learning_rate ({training.learning_rate}) or set "
                    f"train.standardise (now '{training.standardise}')"
                )
    return _answer(head, network, dataset, test, training.batch_videos, curve)


def _train_epoch(
    head: Head,
    params: Any,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    dataset: Features,
    batches: Sequence[Sequence[int]],
) -> Epoch:
    """Take one step a batch; returns the mean loss and accuracy over the videos drawn."""
    network.train()
    loss_sum, correct, drawn = 0.0, 0, 0
    for positions in batches:
        batch = collate([dataset[at] for at in positions])
        output = network(batch.features, batch.mask)
        loss = head.loss(output, batch.labels, params)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        loss_sum += float(loss.detach()) * len(positions)
        correct += int((output["logits"].argmax(dim=1) == batch.labels).sum())
        drawn += len(positions)
    return Epoch(loss_sum / drawn, correct / drawn)


@torch.no_grad()
def _answer(
    head: Head,
    network: nn.Module,
    dataset: Features,
    test: Sequence[int],
    batch_videos: int,
    curve: list[Epoch],
) -> Run:
    """Return the run: answers, attention and the state of the trained network."""
    network.eval()
    samples: list[Sample] = [dataset[at] for at in test]
    # Attention weighs the rows of the first role in its list that the experiment has.
    weighed = {
        name: next(role for role in roles if role in dataset.shapes)
        for name, roles in head.ATTENTION.items()
    }
    attention: dict[str, list[NDArray[np.float32]]] = {name: [] for name in weighed}
    logits = []
    for start in range(0, len(samples), batch_videos):
        part = samples[start : start + batch_videos]
        batch = collate(part)
        output = network(batch.features, batch.mask)
        logits.append(output["logits"])
        for name, role in weighed.items():
            for weights, sample in zip(output[name].numpy(), part, strict=True):
                attention[name].append(weights[: len(sample.mask[role])].copy())
    probabilities = torch.softmax(torch.cat(logits), dim=1)
    return Run(
        video_ids=tuple(sample.video_id for sample in samples),
        labels=np.array([sample.label for sample in samples], dtype=np.int64),
        probabilities=probabilities.numpy(),
        predicted=probabilities.argmax(dim=1).numpy(),
        attention=attention,
        pts_s={n: [sample.pts_s[role] for sample in samples] for n, role in weighed.items()},
        curve=curve,
        state={name: value.detach().clone() for name, value in network.state_dict().items()},
    )
