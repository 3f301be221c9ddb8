"""What of a run's training videos is held out: to choose an epoch, or settings, never to test."""

from collections.abc import Sequence

import torch

from heads.training.selection import Video


def held_out(
    videos: Sequence[Video], train: Sequence[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return the positions to train on and those held out: `share` of each class, rounded.

    A class always keeps a video to train on.

    Args:
        videos: of the experiment.
        train: positions of a run's training videos.
        share: in [0, 1).
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: set[int] = set()
    for label in sorted({videos[position].label for position in train}):
        members = [position for position in train if videos[position].label == label]
        order = torch.randperm(len(members), generator=generator).tolist()
        count = min(round(share * len(members)), len(members) - 1)
        drawn.update(members[position] for position in order[:count])
    return [position for position in train if position not in drawn], sorted(drawn)
