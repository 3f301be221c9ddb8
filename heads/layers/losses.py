"""Losses that heads share: a target's, of videos or frames; with polarity; triplets of a batch."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from heads.training.targets import Target

Mining = Literal["all", "hard"]


# Keeps a division by the spread of a batch in which all answers are alike from being by 0.
_NO_SPREAD = 1e-8


def video_loss(target: Target, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of a target: cross-entropy, binary cross-entropy, or 1 - CCC.

    Args:
        target: what is told.
        logits: (B, width) float, what the last layer gives.
        labels: (B,) int64 of a class; else (B, width) float, see `heads.training.targets.Label`.

    Returns:
        A scalar; of classes the mean over videos, weighed where the target's classes are, of labels
        that over videos and labels, of dimensions that over dimensions.
    """
    if target.kind == "class":
        return functional.cross_entropy(logits, labels, weight=class_weights(target, logits))
    if target.kind == "labels":
        return functional.binary_cross_entropy_with_logits(logits, labels)
    low, high = target.range or (-1.0, 1.0)
    middle, half = (low + high) / 2, (high - low) / 2
    return concordance_loss(logits, (labels - middle) / half)


def class_weights(target: Target, logits: Tensor) -> Tensor | None:
    """Return the weights (classes,) of a target's classes; None where all count alike."""
    return logits.new_tensor(target.weights) if target.weights else None


def concordance_loss(estimates: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - CCC over the rows, the mean over dimensions.

    CCC is Lin's concordance correlation coefficient (L. I. Lin, "A Concordance Correlation
    Coefficient to Evaluate Reproducibility", Biometrics 45, 1989): 2 s_xy / (s_x^2 + s_y^2 +
    (m_x - m_y)^2), all moments those of the rows at hand, divided by their number. Where these all
    have the same truth, nothing concords: there the dimension counts by the mean squared distance,
    which pulls the answers to it.

    Args:
        estimates: (N, D) float.
        truth: (N, D) float, in the same unit: half widths of the range.
    """
    mean, mean_truth = estimates.mean(dim=0), truth.mean(dim=0)
    off, off_truth = estimates - mean, truth - mean_truth
    spread = off.square().mean(dim=0) + off_truth.square().mean(dim=0)
    apart = (mean - mean_truth).square() + _NO_SPREAD
    concordance = 2 * (off * off_truth).mean(dim=0) / (spread + apart)
    varies = truth.amax(dim=0) > truth.amin(dim=0)
    return torch.where(varies, 1 - concordance, (estimates - truth).square().mean(dim=0)).mean()


def frame_loss(target: Target, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the loss of every real frame against what is true of its video.

    Args:
        target: what is told.
        logits: (B, T, width) float.
        labels: as of `video_loss`.
        mask: (B, T) bool. With no real frame at all the loss is 0.

    Returns:
        A scalar, over all frames alike: a video with more frames weighs more.
    """
    of_frames = labels.unsqueeze(1).expand(*mask.shape, *labels.shape[1:])[mask]
    if of_frames.numel() == 0:
        return logits.sum() * 0.0
    return video_loss(target, logits[mask], of_frames)


def polarity_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    positive: Tensor,
    penalty: float,
    weights: Tensor | None = None,
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
        weights: (classes,) float, of the classes.

    Returns:
        A scalar, the mean over videos, weighed by their classes (not divided by the sum of the
        factors).
    """
    values = functional.cross_entropy(logits, labels, reduction="none")
    wrong = positive[logits.argmax(dim=1)] != positive[labels]
    if weights is None:
        return (values * (1 + penalty * wrong)).mean()
    of_videos = weights[labels]
    return (of_videos * values * (1 + penalty * wrong)).sum() / of_videos.sum()


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


def target_triplet(
    target: Target,
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float,
    mining: Mining = "all",
    hinge: bool = True,
    normalise: bool = True,
) -> Tensor:
    """Return `triplet` where one of several classes is told; else 0, as there is no same class."""
    if target.kind != "class":
        return embeddings.sum() * 0.0
    return triplet(
        embeddings, labels, margin=margin, mining=mining, hinge=hinge, normalise=normalise
    )
