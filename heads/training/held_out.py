"""What of a run's training videos is held out: to choose an epoch, or settings, never to test."""

from collections.abc import Mapping, Sequence

import torch

from heads.training.groups import draw_groups
from heads.training.selection import Video
from heads.training.targets import Target, strata


def held_out(
    target: Target, videos: Sequence[Video], train: Sequence[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return the positions to train on and those held out: `share` of each class, rounded.

    Where videos have groups, whole ones are held out, which come near the share. A class, or a
    stratum of another target (`heads.training.targets.strata`), always keeps a video to train on.

    Args:
        target: what is told of the videos.
        videos: of the experiment.
        train: positions of a run's training videos.
        share: in [0, 1).
        seed: of the draw.

    Raises:
        ValueError: no group can be held out.
    """
    generator = torch.Generator().manual_seed(seed)
    even = dict(zip(train, strata(target, [videos[n].label for n in train]), strict=True))
    if share > 0 and any(videos[position].group is not None for position in train):
        return _groups_held_out(videos, even, share, generator)
    drawn: set[int] = set()
    for stratum in sorted(set(even.values())):
        members = [position for position in train if even[position] == stratum]
        order = torch.randperm(len(members), generator=generator).tolist()
        count = min(round(share * len(members)), len(members) - 1)
        drawn.update(members[position] for position in order[:count])
    return [position for position in train if position not in drawn], sorted(drawn)


def _groups_held_out(
    videos: Sequence[Video], train: Mapping[int, int], share: float, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """Return the positions to train on and those held out, of which no group is in both.

    `train` is position -> stratum.
    """
    members: dict[str, list[int]] = {}
    for position in train:
        members.setdefault(str(videos[position].group), []).append(position)
    names = sorted(members)
    groups = [members[names[n]] for n in torch.randperm(len(names), generator=generator).tolist()]
    labels = [[train[position] for position in group] for group in groups]
    drawn = {position for n in draw_groups(labels, share) for position in groups[n]}
    if not drawn:
        raise ValueError(
            f"train.validation_share {share} holds out whole groups, and the training videos have "
            f"{len(groups)}, each with all that is left of a class: set it to 0, or train on more"
        )
    return [position for position in train if position not in drawn], sorted(drawn)
