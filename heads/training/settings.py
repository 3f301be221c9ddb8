"""Settings of training, as params.yaml has them under `train`, and those that a search draws.

Plain random search (J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter Optimization",
Journal of Machine Learning Research 13, 2012), drawn by scikit-learn's `ParameterSampler`. Needs no
torch.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

import heads
from features.options import construct, near

Standardise = Literal["none", "scale", "dimension"]

DIGITS = 4
"""Significant ones of a number that is drawn: a person can write it down."""

FIXED = ("seed", "threads", "validation_share")
"""Settings of training that are not searched: luck, the machine's, and another way to choose."""

Space = Mapping[str, tuple[str, Sequence[Any]]]
"""Setting -> what it is drawn from: `log_uniform`, `uniform` or `integer` with the two ends of a
range, or `choice` with the values."""

Drawn = Mapping[str, Any]
"""Setting -> value."""


@dataclass(frozen=True)
class Training:
    """How a head is trained; the papers give little of it.

    Attributes:
        epochs: passes over the training videos, in each phase of a head that has several.
        batch_videos: videos of a batch; a last one that would be alone joins the batch before.
        sampling: `balanced` draws as many videos of each class in a batch, so that a triplet loss
            finds its pairs and a rare class is drawn more often; of labels and dimensions it goes
            by `heads.training.targets.strata`, so that in a small batch the truth varies, as a
            concordance needs. `shuffled` takes a permutation.
        videos_per_class: videos of one class in a balanced batch, at least 2.
        optimiser: `adam`, or `sgd` with momentum 0.9.
        learning_rate: at the start of a phase.
        decay_every: batches after which the rate becomes a tenth, again and again; null keeps it.
        weight_decay: factor of the weights that is added to their gradient.
        standardise: what is done to the input with statistics of the training rows: `dimension`
            subtracts the mean and divides by the deviation, dimension by dimension: each channel
            of a map, each coordinate of each landmark, each coefficient of MFCC, as the axes that
            the feature file names have it; `scale` divides by the root mean square of the
            feature; `none` leaves the raw activations, as the paper seems to.
        validation_share: share of each class's training videos that is not trained on but tells
            which epoch of the last phase is kept: the first with the best accuracy (or mAP, or CCC)
            on them. With 0 it is the last epoch.
        class_weights: of the loss: `balanced` has every class count alike, however many training
            videos it has, see `heads.training.targets.balanced`; for `shuffled` sampling, as
            balanced batches draw classes alike already.
        seed: of the weights, the batches and everything else that is drawn.
        threads: CPU threads of a run. It is a part of the result: a sum that is split over
            threads is rounded in another order. Runs are trained side by side, a core each; more
            threads are for experiments of fewer runs than there are cores.
    """

    epochs: int = 10
    batch_videos: int = 12
    sampling: Literal["balanced", "shuffled"] = "balanced"
    videos_per_class: int = 2
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 2e-4
    decay_every: int | None = None
    weight_decay: float = 0.0
    standardise: Standardise = "dimension"
    validation_share: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    seed: int = 0
    threads: int = 1

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
        if self.sampling == "balanced" and self.class_weights == "balanced":
            raise ValueError(
                "class_weights: balanced with sampling: balanced would count rare classes twice, "
                "as their videos are drawn more often already: set sampling: shuffled"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, found {self.learning_rate}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, found {self.weight_decay}")
        if self.decay_every is not None and self.decay_every < 1:
            raise ValueError(f"decay_every must be at least 1 or null, found {self.decay_every}")
        if not 0 <= self.validation_share < 1:
            raise ValueError(
                f"validation_share must be at least 0 and below 1, found {self.validation_share}"
            )

    def stated(self) -> dict[str, object]:
        """Return what keys and files say of it: nothing of class weights where there are none."""
        settings = asdict(self)
        if self.class_weights == "none":
            del settings["class_weights"]
        return settings

    def selected_by(self, measure: str) -> str:
        """Say which network answers, where `measure` says how well one does."""
        if self.validation_share == 0:
            return "last epoch"
        share = f"{self.validation_share:.0%} of the training videos"
        return f"epoch with the best {measure} on {share}, which are not trained on"


def training_of(settings: Mapping[str, object] | Iterable[tuple[str, object]]) -> Training:
    """Return `Training` made from a section of settings: a mapping, or its (name, value) pairs.

    Raises:
        ValueError: an unknown setting, or a value that does not fit.
    """
    return construct(Training, dict(settings), "training")


@dataclass(frozen=True)
class Settings:
    """What a run is trained with.

    Attributes:
        params: the head's hyper-parameters.
        training: how.
    """

    params: Any
    training: Training


def draw(space: Space, trials: int, seed: int) -> list[Drawn]:
    """Return the settings to try, no point twice.

    Args:
        space: where they are drawn from.
        trials: how many; no more than the space has points.
        seed: below 2^32.
    """
    from sklearn.model_selection import ParameterSampler  # slow to import

    sampler = ParameterSampler(
        {name: _distribution(*of) for name, of in space.items()}, trials, random_state=seed
    )
    drawn: dict[str, Drawn] = {}
    for each in sampler:
        plain = {name: _plain(each[name]) for name in space}
        drawn.setdefault(json.dumps(plain, sort_keys=True), plain)
    return list(drawn.values())


def _distribution(kind: str, values: Sequence[Any]) -> Any:
    """Return what scikit-learn draws from."""
    from scipy import stats

    if kind == "choice":
        return list({json.dumps(value, sort_keys=True): value for value in values}.values())
    low, high = values
    if kind == "integer":
        return range(low, high + 1)
    return stats.loguniform(low, high) if kind == "log_uniform" else stats.uniform(low, high - low)


def _plain(value: Any) -> Any:
    """Return a drawn value as YAML has it."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, np.floating) else value


def settings_of(
    head: heads.Head, overrides: Mapping[str, object], training: Mapping[str, object], drawn: Drawn
) -> Settings:
    """Return the settings of an experiment with drawn ones in place of its own.

    Args:
        head: its head.
        overrides: of the head's hyper-parameters.
        training: settings of training.
        drawn: of either.

    Raises:
        ValueError: a setting that neither has, or that may not be searched; a value that does not
            fit.
    """
    own, common = ({field.name for field in fields(kind)} for kind in (head.Params, Training))
    name = head.__name__.rpartition(".")[2]
    searchable = common.difference(FIXED)
    for setting in drawn:
        if setting in FIXED and setting not in own:
            raise ValueError(f"{setting}: not to be searched; set it under train")
        if setting in own & searchable:
            raise ValueError(
                f"{setting}: a setting of {name} and of training, which cannot be told"
            )
        if setting not in own | searchable:
            raise ValueError(
                f"{setting}: unknown setting{near(setting, own | searchable)}; {name} has "
                f"{', '.join(sorted(own)) or 'none'}; training has {', '.join(sorted(searchable))}"
            )
    of_head = {setting: value for setting, value in drawn.items() if setting in own}
    of_training = {setting: value for setting, value in drawn.items() if setting not in own}
    return Settings(
        heads.validate(head, {**overrides, **of_head}), training_of({**training, **of_training})
    )
