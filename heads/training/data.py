"""Features as training data: the selected videos, read lazily, collated with masks, in batches."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from features.cache import arrays
from features.options import check_axes
from features.video.views import FRAME_ARRAYS
from heads.training.memory import Memory, Sample, Samples
from heads.training.selection import Video, split_role
from heads.training.targets import Label


@dataclass(frozen=True)
class Batch:
    """Videos side by side; the dicts go from role to tensor.

    Attributes:
        features: (B, T, ...) in the dtype in which they are stored; T the longest of the role,
            zeros where padded.
        mask: bool (B, T), false where padded too.
        labels: int64 (B,) of one of several classes, else float32 (B, width), see `as_labels`.
    """

    features: dict[str, Tensor]
    mask: dict[str, Tensor]
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; half as much travels there as float32 would be."""
        return Batch(
            {role: _sent(rows, device) for role, rows in self.features.items()},
            {role: _sent(real, device) for role, real in self.mask.items()},
            _sent(self.labels, device),
        )


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; to a GPU it travels while this process goes on."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Features(Dataset[Sample]):
    """The selected videos with their arrays, read on first use and kept in memory.

    A file is checked when it is read: its key against the index, shapes against those of the
    other videos, every valid row for NaN and infinity, and that roles in `aligned` have the same
    frames.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        roles: Mapping[str, str],
        aligned: frozenset[str] = frozenset(),
        cache_bytes: float = math.inf,
        memory: Memory | None = None,
    ):
        """Name the videos; nothing is read yet.

        Args:
            videos: at least one.
            roles: role -> `<backbone>/<feature>`.
            aligned: roles whose rows must be the same frames; those of a role and its map always
                must.
            cache_bytes: how much of the arrays to keep in memory, as they are stored (float16);
                the rest is read again each time.
            memory: where they are kept with other processes, which have the same videos and roles;
                None for this process alone.
        """
        self.videos = tuple(videos)
        self.sources = {role: split_role(role, source) for role, source in roles.items()}
        groups = [sorted(aligned.intersection(roles))]
        groups += [[role, f"{role}_map"] for role in sorted(roles) if f"{role}_map" in roles]
        self._aligned = [group for group in groups if len(group) > 1]
        self._cache: dict[int, Sample] = {}
        self._room = cache_bytes
        self._memory = memory
        self._shared: Samples | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._axes: dict[str, str] = {}
        self._made_of: dict[str, tuple[Path, object]] = {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Role -> shape of a row, without the time axis, as the first video that was read has."""
        if not self._shapes:
            self[0]
        return dict(self._shapes)

    @property
    def axes(self) -> dict[str, str]:
        """Role -> axes of a row, `C H W`, as its feature file names them."""
        if not self._axes:
            self[0]
        return dict(self._axes)

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.videos)

    def __getitem__(self, position: int) -> Sample:
        """Return the video at a position.

        Raises:
            ValueError: a feature file that is not what its index says, see the class.
        """
        if self._memory is not None:
            self._share(self._memory)
        if self._shared is not None and (shared := self._shared.get(position)) is not None:
            return shared
        if position in self._cache:
            return self._cache[position]
        sample = self._read(self.videos[position])
        if sample.feature_bytes <= self._room:
            self._room -= sample.feature_bytes
            self._cache[position] = sample
        return sample

    def _share(self, memory: Memory) -> None:
        """Take from now on what processes share, if this one is on their machine."""
        self._memory = None
        self._shared = memory.samples(self._readable(), self._room)
        if self._shared is not None:
            self._room = 0
            if not self._shapes:  # another process has filled it
                self._read(self.videos[0])

    def _readable(self) -> Iterator[tuple[int, Sample]]:
        """Yield the videos that can be read: who needs another is told why it cannot."""
        for position, video in enumerate(self.videos):
            with suppress(ValueError, OSError):
                yield position, self._read(video)

    def _read(self, video: Video) -> Sample:
        wanted: dict[str, list[str]] = {}
        for backbone, feature in self.sources.values():
            wanted.setdefault(backbone, []).append(feature)
        files, axes = {}, {}
        for backbone, features in wanted.items():
            path = video.files[backbone]
            files[backbone], attributes = _read_file(path, video.keys[backbone], features)
            axes[backbone] = attributes.get("axes", {})
            self._check_origin(backbone, path, attributes.get("ingredients"))
        sample = Sample(video.video_id, video.label, {}, {}, {})
        for role, (backbone, feature) in self.sources.items():
            array = files[backbone][feature]
            shape = self._shapes.setdefault(role, array.shape[1:])
            if array.shape[1:] != shape:
                raise ValueError(
                    f"{video.files[backbone]}: rows of '{feature}' must have shape {shape} as in "
                    f"the other videos, found {array.shape[1:]}: extract '{backbone}' again"
                )
            if role not in self._axes:
                self._axes[role] = _row_axes(video.files[backbone], feature, shape, axes[backbone])
            sample.features[role] = array
            sample.mask[role] = files[backbone]["valid"].astype(np.bool_)
            sample.pts_s[role] = files[backbone]["pts_s"].astype(np.float64)
        self._check_aligned(video, {name: file["index"] for name, file in files.items()})
        return sample

    def _check_origin(self, backbone: str, path: Path, ingredients: object) -> None:
        """Raise ValueError where two videos' features are not made by the same network and code."""
        made_of = ingredients
        if isinstance(ingredients, dict):
            made_of = {name: value for name, value in ingredients.items() if name != "input"}
            if isinstance(code := made_of.get("code"), dict):
                made_of["code"] = set(code.values())  # what a definition is called makes no number
        first, wanted = self._made_of.setdefault(backbone, (path, made_of))
        if made_of != wanted:
            raise ValueError(
                f"{path} and {first}: features of '{backbone}' must be made by one network, with "
                "the same weights, options and code, found two: extract it again (`affectline "
                "explain <video> <backbone>` tells what each was made of)"
            )

    def _check_aligned(self, video: Video, index: Mapping[str, arrays.Array]) -> None:
        """Raise ValueError unless the aligned roles have the same frames, by frame number."""
        backbones = [[self.sources[role][0] for role in group] for group in self._aligned]
        for reference, backbone in ((group[0], b) for group in backbones for b in group[1:]):
            first, other = index[reference], index[backbone]
            if not np.array_equal(first, other):
                raise ValueError(
                    f"{video.files[reference]} and {video.files[backbone]}: rows must be the "
                    f"same frames, found {len(first)} rows of the frames {first[:4].tolist()}... "
                    f"and {len(other)} of {other[:4].tolist()}...: choose backbones that read "
                    "the same frames"
                )


def _read_file(
    path: Path, key: str, features: Sequence[str]
) -> tuple[dict[str, arrays.Array], dict[str, object]]:
    """Return the named features and the frame arrays of a feature file, checked; its attributes."""
    data, attributes = arrays.read(path, (*FRAME_ARRAYS, *features))
    if attributes.get("key") != key:
        raise ValueError(
            f"{path}: its key must be the index's {key}, found {attributes.get('key')}: "
            "the file is not the one that was indexed, run its extraction again"
        )
    for name, array in data.items():
        if len(array) != len(data["valid"]):
            raise ValueError(
                f"{path}: '{name}' must have {len(data['valid'])} rows as 'valid' has, "
                f"found {len(array)}: run its extraction again"
            )
    valid = data["valid"].astype(np.bool_)
    for name in features:
        array = data[name]
        finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim))) | ~valid
        if not finite.all():
            raise ValueError(
                f"{path}: valid rows of '{name}' must be finite, found NaN or infinity in rows "
                f"{np.flatnonzero(~finite)[:5].tolist()}: run its extraction again"
            )
    return data, attributes


def _row_axes(path: Path, feature: str, shape: tuple[int, ...], axes: object) -> str:
    """Return the axes of a feature's row by what its file says, without the time axis."""
    whole = str(axes.get(feature, "")) if isinstance(axes, dict) else ""
    row = whole.removeprefix("T").strip()
    try:
        check_axes(f"{path}: axes of '{feature}' behind T", shape, row)
    except ValueError as error:
        raise ValueError(f"{error}: run its extraction again") from None
    return row


def collate(samples: Sequence[Sample]) -> Batch:
    """Return videos as one batch; each role is padded to its longest video."""
    features: dict[str, Tensor] = {}
    mask: dict[str, Tensor] = {}
    for role, first in samples[0].features.items():
        longest = max(len(sample.mask[role]) for sample in samples)
        rows = np.zeros((len(samples), longest, *first.shape[1:]), dtype=first.dtype)
        real = np.zeros((len(samples), longest), dtype=np.bool_)
        for n, sample in enumerate(samples):
            count = len(sample.mask[role])
            rows[n, :count] = sample.features[role]
            real[n, :count] = sample.mask[role]
        features[role] = torch.from_numpy(rows)
        mask[role] = torch.from_numpy(real)
    return Batch(features, mask, as_labels([sample.label for sample in samples]))


def as_labels(labels: Sequence[Label]) -> Tensor:
    """Return what is true of videos as losses take it: int64 (B,), or float32 (B, width)."""
    dtype = torch.int64 if isinstance(labels[0], int) else torch.float32
    return torch.tensor(labels, dtype=dtype)


def draw_batches(
    labels: Sequence[int],
    batch_videos: int,
    videos_per_class: int | None,
    generator: torch.Generator,
) -> Iterator[list[int]]:
    """Yield the batches of one epoch, positions in `labels`.

    There are len(labels) / batch_videos batches, rounded up.

    Args:
        labels: of the training videos.
        batch_videos: videos of a batch, at most.
        videos_per_class: None for a permutation of the videos, cut into batches; a video that
            would be left alone joins the batch before. A number for
            balanced batches: classes take turns, each with so many different videos or, where
            there is room in the batch for more of every class, more. In one epoch a video of a
            large class may then not come, and one of a small class may come in several batches.
        generator: what is drawn comes from it.
    """
    if videos_per_class is None:
        order = torch.randperm(len(labels), generator=generator).tolist()
        ends = list(range(batch_videos, len(order), batch_videos))
        if ends and len(order) - ends[-1] == 1:  # a batch of one has no statistics of a batch
            ends.pop()
        yield from (order[a:b] for a, b in zip([0, *ends], [*ends, len(order)], strict=True))
        return
    members: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for position, label in enumerate(labels):
        members[label].append(position)
    groups = max(1, min(len(members), batch_videos // videos_per_class))
    each = max(videos_per_class, batch_videos // groups)
    turn: list[int] = []
    left: dict[int, list[int]] = {label: [] for label in members}
    for _ in range(-(-len(labels) // batch_videos)):
        if len(turn) < groups:
            # What is left of this round comes first, and last in the next: no class comes twice
            # in a batch, and all come as often.
            following = _shuffled(list(members), generator)
            turn = [*turn, *(label for label in following if label not in turn), *turn]
        batch: list[int] = []
        for _ in range(groups):
            label = turn.pop()
            count = min(each, len(members[label]))
            if len(left[label]) < count:
                left[label] = _shuffled(members[label], generator)
            batch += [left[label].pop() for _ in range(count)]
        yield batch


def _shuffled(values: Sequence[int], generator: torch.Generator) -> list[int]:
    return [values[n] for n in torch.randperm(len(values), generator=generator).tolist()]
