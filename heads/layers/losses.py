"""Losses that heads share: cross-entropy, over frames or with polarity, and triplets of a batch."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Mining = Literal["all", "hard"]


def frame_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy of every real frame against the label of its video, averaged.

    Args:
        logits: (B, T, classes) float.
        labels: (B,) int64.
        mask: (B, T) bool. With no real frame at all the loss is 0.

    Returns:
        A scalar, the mean over frames: a video with more frames weighs more.
    """
    frame_labels = labels.unsqueeze(1).expand(mask.shape)[mask]
    if frame_labels.numel() == 0:
        return logits.sum() * 0.0
    return functional.cross_entropy(logits[mask], frame_labels)


def polarity_cross_entropy(
    logits: Tensor, labels: Tensor, *, positive: Tensor, penalty: float
) -> Tensor:
    """Return the cross-entropy that counts more where the answer has the wrong polarity.

    Zhao et al. 2020 (VAANet), eqs. 13 and 14: the cross-entropy of a video is multiplied by
    1 + penalty where the polarity of the most probable class, the first of those that are tied, is
    not that of the label. The factor has no gradient.

    Args:
        logits: (B, classes) float.
        labels: (B,) int64.
        positive: (classes,) bool, polarity of each class.
        penalty: lambda, at least 0; 0 is cross-entropy.

    Returns:
        A scalar, the mean over videos (not divided by the sum of the factors).
    """
    values = functional.cross_entropy(logits, labels, reduction="none")
    wrong = positive[logits.argmax(dim=1)] != positive[labels]
    return (values * (1 + penalty * wrong)).mean()


def triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float,
    mining: Mining = "all",
    hinge: bool = True,
    normalise: bool = True,
) -> Tensor:
    """Return the triplet loss over the triplets of a batch (Schroff et al. 2015, FaceNet, eq. 3).

    A triplet is an anchor a, another video p of its class and a video n of another class; its
    value is |a - p|^2 - |a - n|^2 + margin, and with `hinge` not less than 0.

    Args:
        embeddings: (B, D) float.
        labels: (B,) int64.
        margin: in units of squared distance.
        mining: `all` takes every triplet, averaged over those above 0 when there is a hinge (the
            solved ones would only dilute the rest); `hard` takes for each anchor the farthest p
            and the nearest n, averaged over anchors.
        hinge: false for the sum as papers print it, without the bound: it has no minimum unless
            the embeddings are normalised.
        normalise: divide each embedding by its length first, as FaceNet does.

    Returns:
        A scalar; 0 when the batch has no triplet.
    """
    if normalise:
        embeddings = functional.normalize(embeddings, dim=1)
    differences = embeddings.unsqueeze(0) - embeddings.unsqueeze(1)
    distances = differences.square().sum(dim=2)  # (B, B), squared
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if mining == "hard":
        anchors = positive.any(dim=1) & ~same.all(dim=1)
        if not anchors.any():
            return embeddings.sum() * 0.0
        farthest = distances.masked_fill(~positive, -torch.inf).amax(dim=1)[anchors]
        nearest = distances.masked_fill(same, torch.inf).amin(dim=1)[anchors]
        values = farthest - nearest + margin
        return (values.clamp(min=0.0) if hinge else values).mean()
    triplets = positive.unsqueeze(2) & ~same.unsqueeze(1)  # (anchor, positive, negative)
    values = (distances.unsqueeze(2) - distances.unsqueeze(1) + margin)[triplets]
    if hinge:
        values = values[values > 0]
    return values.mean() if values.numel() else embeddings.sum() * 0.0
