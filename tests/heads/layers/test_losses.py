from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from heads.layers.losses import frame_loss, polarity_cross_entropy, triplet, video_loss
from heads.training.targets import of_classes

LABELS = [0, 1, 0, 2, 1, 0]


def embeddings() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(6, 4))


def triplets(x: np.ndarray, margin: float) -> dict[tuple[int, int, int], float]:
    """Every |a - p|^2 - |a - n|^2 + margin, by the definition."""
    found = {}
    for a, p, n in product(range(len(x)), repeat=3):
        if a != p and LABELS[a] == LABELS[p] != LABELS[n]:
            found[a, p, n] = np.sum((x[a] - x[p]) ** 2) - np.sum((x[a] - x[n]) ** 2) + margin
    return found


def found(x: np.ndarray, **options: object) -> float:
    return triplet(torch.from_numpy(x), torch.tensor(LABELS), **options).item()  # type: ignore[arg-type]


def test_the_triplet_loss_is_the_mean_of_the_triplets_above_zero() -> None:
    x = embeddings()
    above = [value for value in triplets(x, 0.2).values() if value > 0]
    assert 0 < len(above) < len(triplets(x, 0.2))
    assert found(x, margin=0.2, normalise=False) == pytest.approx(np.mean(above))


def test_without_the_hinge_every_triplet_counts() -> None:
    x = embeddings()
    wanted = np.mean(list(triplets(x, 0.2).values()))
    assert found(x, margin=0.2, hinge=False, normalise=False) == pytest.approx(wanted)


def test_hard_mining_takes_the_farthest_positive_and_the_nearest_negative() -> None:
    x = embeddings()
    hardest = []
    for anchor in (0, 1, 2, 4, 5):  # the one video of class 2 has no positive
        values = [value for key, value in triplets(x, 0.2).items() if key[0] == anchor]
        hardest.append(max(0.0, max(values)))
    wanted = np.mean(hardest)
    assert found(x, margin=0.2, mining="hard", normalise=False) == pytest.approx(wanted)


def test_normalised_embeddings_have_length_one() -> None:
    x = embeddings()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert found(x, margin=0.2) == pytest.approx(found(unit, margin=0.2, normalise=False))


@pytest.mark.parametrize("mining", ["all", "hard"])
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_a_batch_without_a_triplet_has_loss_zero_and_a_gradient(
    mining: str, labels: list[int]
) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = triplet(x, torch.tensor(labels), margin=0.2, mining=mining)  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None and not x.grad.any()


def test_frame_loss_is_minus_the_log_probability_of_real_frames() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 4))
    mask = np.array([[True, False, True], [True, True, False]])
    labels = [3, 1]
    logits[~mask] = np.nan
    values = [
        -np.log(np.exp(logits[b, i, labels[b]]) / np.exp(logits[b, i]).sum())
        for b, i in product(range(2), range(3))
        if mask[b, i]
    ]
    loss = frame_loss(
        of_classes("abc"), torch.from_numpy(logits), torch.tensor(labels), torch.from_numpy(mask)
    )
    assert loss.item() == pytest.approx(np.mean(values))


def test_a_class_counts_by_its_weight_in_a_mean_that_is_weighed() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, 3, generator=draw), [0, 1, 1, 2, 1]
    each = -torch.log_softmax(logits, 1)[range(5), labels].numpy()
    weights = np.array([3.0, 0.5, 2.0])[labels]
    target = replace(of_classes("abc"), weights=(3.0, 0.5, 2.0))
    found = video_loss(target, logits, torch.tensor(labels)).item()
    assert found == pytest.approx(np.average(each, weights=weights))
    frames = logits.repeat_interleave(2, 0).reshape(5, 2, 3)
    mask = torch.tensor([[True, True]] * 2 + [[True, False]] * 3)
    found = frame_loss(target, frames, torch.tensor(labels), mask).item()
    assert found == pytest.approx(np.average(each, weights=weights * [2, 2, 1, 1, 1]))
    wrong = polarity_cross_entropy(
        logits,
        torch.tensor(labels),
        positive=torch.tensor([True, False, True]),
        penalty=0.5,
        weights=torch.tensor([3.0, 0.5, 2.0]),
    ).item()
    polarity = np.array([True, False, True])
    factor = 1 + 0.5 * (polarity[logits.argmax(1).numpy()] != polarity[labels])
    assert wrong == pytest.approx(np.average(each * factor, weights=weights))


def test_frame_loss_without_a_real_frame_is_zero() -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    assert (
        frame_loss(of_classes("abcd"), torch.ones(2, 3, 4), torch.tensor([0, 1]), mask).item() == 0
    )


def polarity_loss(logits: torch.Tensor, labels: list[int], penalty: float) -> torch.Tensor:
    positive = torch.tensor([False, True, False, True])
    return polarity_cross_entropy(logits, torch.tensor(labels), positive=positive, penalty=penalty)


def test_an_answer_of_the_wrong_polarity_costs_more() -> None:
    # log p is 0 - log(3 + e) for a wrong answer and 1 - log(3 + e) for the right one.
    logits = torch.eye(4)[[0, 1, 2, 3]]
    right, wrong = np.log(3 + np.e) - 1, np.log(3 + np.e)
    # Right; 1 for 0, opposite; 2 for 0, the same; 3 for 2, opposite.
    found = polarity_loss(logits, [0, 0, 0, 2], 0.5).item()
    assert found == pytest.approx((right + 1.5 * wrong + wrong + 1.5 * wrong) / 4)


def test_of_tied_logits_the_first_class_is_the_answer() -> None:
    # 1 and 2 are tied, of opposite polarity: 1 answers, wrong for 0 and for 2, right for 3.
    tied = torch.tensor([[0.0, 2.0, 2.0, 0.0]])
    for label, factor in ((0, 1.5), (1, 1.0), (2, 1.5), (3, 1.0)):
        plain = polarity_loss(tied, [label], 0.0).item()
        assert polarity_loss(tied, [label], 0.5).item() == pytest.approx(factor * plain)


def test_without_a_penalty_polarity_does_not_matter() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2, 3, 0]
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    assert polarity_loss(logits, labels, 0.0).item() == pytest.approx(wanted.item())


def test_the_penalty_multiplies_the_gradient_and_has_none_of_its_own() -> None:
    logits = torch.tensor([[0.0, 2.0, 0.0, 0.0]], requires_grad=True)
    (plain,) = torch.autograd.grad(polarity_loss(logits, [0], 0.0), logits)
    (penalised,) = torch.autograd.grad(polarity_loss(logits, [0], 0.5), logits)
    torch.testing.assert_close(penalised, 1.5 * plain)
