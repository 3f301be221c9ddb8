"""What of a run's training videos is held out: to choose an epoch, or settings, never to test."""

from collections.abc import Sequence

import torch

from heads.training.groups import draw_groups
from heads.training.selection import Video


def held_out(
    videos: Sequence[Video], train: Sequence[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return the positions to train on and those held out: `share` of each class, rounded.

    Where videos have groups, whole ones are held out, which come near the share. A class always
    keeps a video to train on.

    Args:
        videos: of the experiment.
        train: positions of a run's training videos.
        share: in [0, 1).
        seed: of the draw.

    Raises:
        ValueError: no group can be held out.
    """
    generator = torch.Generator().manual_seed(seed)
    if share > 0 and any(videos[position].group is not None for position in train):
        return _groups_held_out(videos, train, share, generator)
    drawn: set[int] = set()
    for label in sorted({videos[position].label for position in train}):
        members = [position for position in train if videos[position].label == label]
        order = torch.randperm(len(members), generator=generator).tolist()
        count = min(round(share * len(members)), len(members) - 1)
        drawn.update(members[position] for position in order[:count])
    return [position for position in train if position not in drawn], sorted(drawn)


def _groups_held_out(
    videos: Sequence[Video], train: Sequence[int], share: float, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """Return the positions to train on and those held out, of which no group is in both."""
    members: dict[str, list[int]] = {}
    for position in train:
        members.setdefault(str(videos[position].group), []).append(position)
    names = sorted(members)
    groups = [members[names[n]] for n in torch.randperm(len(names), generator=generator).tolist()]
    labels = [[videos[position].label for position in group] for group in groups]
    drawn = {position for n in draw_groups(labels, share) for position in groups[n]}
    if not drawn:
        raise ValueError(
            f"train.validation_share {share} holds out whole groups, and the training videos have "
            f"{len(groups)}, each with all that is left of a class: set it to 0, or train on more"
        )
    return [position for position in train if position not in drawn], sorted(drawn)
