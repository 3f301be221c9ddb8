"""Settings of training, as params.yaml has them under `train`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from features.options import construct

Standardise = Literal["none", "scale", "dimension"]


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
