"""NeXtVLAD (Lin et al. 2018): what two heads aggregate rows with."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.layers.aggregation import normalise, unpack


def check_groups(name: str, size: int, expansion: int, groups: int) -> None:
    """Raise ValueError unless `expansion` times `size` divides into `groups` equal parts."""
    if size < 1 or expansion * size % groups:
        raise ValueError(
            f"{name} times expansion ({expansion}) must be a multiple of groups ({groups}), "
            f"found {name} {size}"
        )


class NeXtVLAD(nn.Module):
    """Rows of videos to one descriptor a video, of `size` numbers."""

    def __init__(self, row_size: int, *, expansion: int, groups: int, clusters: int):
        """Draw fresh weights, with variance scaling as the authors' code does.

        Args:
            row_size: D.
            expansion: lambda.
            groups: G, a divisor of lambda D.
            clusters: K.
        """
        super().__init__()
        wide = expansion * row_size
        self.groups, self.clusters, self.depth = groups, clusters, wide // groups
        self.size = clusters * self.depth
        self.expand = nn.Linear(row_size, wide)
        self.attend = nn.Linear(wide, groups)
        self.assign = nn.Linear(wide, groups * clusters, bias=False)
        self.assign_norm = nn.BatchNorm1d(groups * clusters)
        # One centre for each cluster, shared by the groups; fan-in is the depth.
        self.centres = nn.Parameter((2 / self.depth) ** 0.5 * torch.randn(self.depth, clusters))
        self.norm = nn.BatchNorm1d(self.size)
        for layer in (self.expand, self.attend, self.assign):
            scale_variance(layer)

    def forward(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Aggregate the rows of each video.

        Args:
            rows: float (N, D), the real rows of all videos, as indexing with `mask` gives them.
            mask: bool (B, T) with N trues.

        Returns:
            Descriptors (B, K d), zeros for a video without a row; and (B, T), how much each row
            counts: its attention averaged over groups, in (0, 1), 0 where it is masked.
        """
        grouped = (len(rows), self.groups)
        wide = self.expand(rows)
        attention = torch.sigmoid(self.attend(wide))  # (N, G)
        assigned = normalise(self.assign_norm, self.assign(wide))
        assigned = torch.softmax(assigned.reshape(*grouped, self.clusters), dim=2)
        assigned = unpack(assigned * attention.unsqueeze(2), mask).flatten(1, 2)  # (B, T G, K)
        parts = unpack(wide.reshape(*grouped, self.depth), mask).flatten(1, 2)  # (B, T G, d)
        residuals = torch.bmm(parts.transpose(1, 2), assigned)  # (B, d, K)
        residuals = residuals - assigned.sum(dim=1, keepdim=True) * self.centres
        present = mask.any(dim=1)
        # Feature-major: all clusters of the first feature, then of the second.
        flat = functional.normalize(residuals[present], dim=1).flatten(1)
        descriptors = unpack(normalise(self.norm, flat), present)
        return descriptors, unpack(attention.mean(dim=1), mask)


def scale_variance(layer: nn.Linear) -> None:
    """Draw a layer's weights with variance 2 / fan-in, and set its bias to zero."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
