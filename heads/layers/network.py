"""What every head's `build` returns: a network that names its attention and trains in phases."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from heads import Attention
from heads.layers import losses
from heads.training.targets import KINDS, Kind, Target, of_classes


class Network(nn.Module):
    """What `build` returns: a network that names its attention and trains in phases.

    Attributes:
        attention: name of an output of `forward` -> what it weighs; set it in `__init__`.
        starts: role -> part that may start from weights, see `STARTS`; set it in `__init__`.
        kinds: of targets that `loss` is made for, all of them by default. A head with a `loss` of
            its own that says no `kinds` takes classes alone.
        target: what its logits tell; one of several classes until `aim` says otherwise.
    """

    attention: Mapping[str, Attention]
    starts: Mapping[str, nn.Module]
    kinds: tuple[Kind, ...] = KINDS
    target: Target

    def __init_subclass__(cls) -> None:
        """Let a loss that was written for classes be of classes."""
        super().__init_subclass__()
        if "loss" in vars(cls) and "kinds" not in vars(cls):
            cls.kinds = ("class",)

    def __init__(self) -> None:
        """Start without attention, and with nothing that starts from weights."""
        super().__init__()
        self.attention = {}
        self.starts = {}
        self.target = of_classes(())

    def aim(self, target: Target) -> None:
        """Take what the network is to tell, whose width its last layer has.

        Raises:
            ValueError: `loss` is not made for this kind of target, and the message says why.
        """
        if target.kind not in self.kinds:
            raise ValueError(
                f"its loss is its own, made for {' and '.join(self.kinds)}, found the target "
                f"{target.name!r} of kind {target.kind}: choose a target of one of the classes, or "
                "another head (docs/labels.md says how a loss takes the others)"
            )
        if target.weights and set(self.kinds) != set(KINDS):
            raise ValueError(
                "its loss is its own, which train.class_weights does not reach: set them to none, "
                "or take the target's loss (docs/labels.md)"
            )
        self.target = target

    def forward(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Classify a batch of videos.

        Args:
            features: role -> float32 (B, T, ...), T may differ between roles and may be 0.
            mask: role -> bool (B, T), false where there is no such row: what stands there, NaN
                as well, has no influence.

        Returns:
            `logits` (B, classes), every name of `attention`, and what `loss` needs.
        """
        raise NotImplementedError

    def phases(self) -> dict[str, Sequence[nn.Module]]:
        """Return name -> modules that train in that phase, in order; the rest is frozen then.

        Each phase takes `Training.epochs` epochs. One phase of everything, unless a head says
        otherwise.
        """
        return {"all": [self]}

    def frozen(
        self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor], phase: str
    ) -> dict[str, Tensor]:
        """Return what the part that a phase does not train gives of a batch, for `resume`.

        It is asked for once a phase of each video, in eval mode, and kept in memory. Nothing, as
        by default, where there is no such part: then every epoch calls `forward`.

        Args:
            features: as of `forward`.
            mask: likewise.
            phase: one of `phases`.

        Returns:
            Name -> (B, ...): a row a video, of the same shape in every batch.
        """
        return {}

    def resume(self, frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `logits` and what `loss` needs in that phase, from what `frozen` gave."""
        raise NotImplementedError

    def loss(self, output: Mapping[str, Tensor], labels: Tensor, phase: str) -> Tensor:
        """Return the training loss of one batch in a phase, a scalar; the target's by default.

        Args:
            output: what `forward` returned.
            labels: as of `heads.layers.losses.video_loss`.
            phase: one of `phases`.
        """
        return losses.video_loss(self.target, output["logits"], labels)
