"""What every head's `build` returns: a network that names its attention and trains in phases."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from heads import Attention


class Network(nn.Module):
    """What `build` returns: a network that names its attention and trains in phases.

    Attributes:
        attention: name of an output of `forward` -> what it weighs; set it in `__init__`.
        starts: role -> part that may start from weights, see `STARTS`; set it in `__init__`.
    """

    attention: Mapping[str, Attention]
    starts: Mapping[str, nn.Module]

    def __init__(self) -> None:
        """Start without attention, and with nothing that starts from weights."""
        super().__init__()
        self.attention = {}
        self.starts = {}

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
        """Return the training loss of one batch in a phase, a scalar; cross-entropy by default.

        Args:
            output: what `forward` returned.
            labels: (B,) int64.
            phase: one of `phases`.
        """
        return functional.cross_entropy(output["logits"], labels)
