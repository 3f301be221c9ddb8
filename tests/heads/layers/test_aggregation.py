import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heads.layers.aggregation import (
    absent,
    attention_weights,
    hide,
    masked_max,
    masked_mean,
    normalise,
    pool_rows,
    unpack,
    vector_size,
    vectors,
    weighted_sum,
)

ACTIVATIONS = {
    "sigmoid": lambda s: 1 / (1 + math.exp(-s)),
    "softplus": lambda s: math.log1p(math.exp(s)),
    "softmax": math.exp,
    "literal": lambda s: s,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_weights_are_equation_4_worked_out_frame_by_frame(activation: str) -> None:
    scores = [[0.3, -1.2, 2.0, 0.7], [1.5, 0.1, -0.4, 9.0]]
    mask = [[True, True, False, True], [True, True, True, True]]
    found = attention_weights(torch.tensor(scores), torch.tensor(mask), activation)  # type: ignore[arg-type]
    for b in range(2):
        total = sum(ACTIVATIONS[activation](scores[b][i]) for i in range(4) if mask[b][i])
        for i in range(4):
            wanted = ACTIVATIONS[activation](scores[b][i]) / total if mask[b][i] else 0.0
            assert found[b, i].item() == pytest.approx(wanted, rel=1e-5)


def test_softplus_is_exact_on_both_sides_of_where_it_becomes_the_exponential() -> None:
    scores = [-30.0, -25.0, -21.0, -20.1, -19.9, -18.0, -14.0, -9.0, -4.0]
    softplus = np.array([math.log1p(math.exp(score)) for score in scores])
    for at in range(1, len(scores)):  # two at a time: none drowns beside the greatest
        pair = torch.tensor([scores[at - 1 : at + 1]], dtype=torch.float64)
        found = attention_weights(pair, torch.ones(1, 2, dtype=torch.bool), "softplus")[0]
        wanted = softplus[at - 1 : at + 1] / softplus[at - 1 : at + 1].sum()
        np.testing.assert_allclose(found, wanted, rtol=3e-9)


def test_softplus_weighs_scores_whose_softplus_is_no_number_of_float32() -> None:
    scores = torch.tensor([[-200.0, -201.0, -203.0]])
    found = attention_weights(scores, torch.ones(1, 3, dtype=torch.bool), "softplus")
    torch.testing.assert_close(found, torch.softmax(scores, dim=1))


@given(
    scores=hnp.arrays(np.float32, (3, 5), elements=st.floats(-1e4, 1e4, width=32)),
    mask=hnp.arrays(np.bool_, (3, 5)),
    activation=st.sampled_from(["sigmoid", "softplus", "softmax"]),
)
def test_weights_are_a_distribution_over_the_real_rows_however_large_the_scores(
    scores: np.ndarray, mask: np.ndarray, activation: str
) -> None:
    scores[~mask] = np.nan
    weights = attention_weights(torch.from_numpy(scores), torch.from_numpy(mask), activation)  # type: ignore[arg-type]
    assert (weights >= 0).all()
    assert not weights[~torch.from_numpy(mask)].any()
    np.testing.assert_allclose(weights.sum(1).numpy(), mask.any(1), rtol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_of_weights_is_a_number_where_scores_are_extreme(activation: str) -> None:
    scores = torch.tensor([[-300.0, 5.0, 300.0], [-300.0, -200.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    attention_weights(scores, mask, activation).square().sum().backward()  # type: ignore[arg-type]
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[1, 2] == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_several_attentions_are_weighed_each_on_its_own(activation: str) -> None:
    scores = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False, True, True], [True, False, False, False, False]])
    found = attention_weights(scores, mask, activation)  # type: ignore[arg-type]
    for at in range(3):
        alone = attention_weights(scores[:, :, at], mask, activation)  # type: ignore[arg-type]
        torch.testing.assert_close(found[:, :, at], alone)


def test_no_row_at_all_gives_no_weight() -> None:
    mask = torch.zeros(2, 0, dtype=torch.bool)
    assert attention_weights(torch.zeros(2, 0), mask, "sigmoid").shape == (2, 0)
    assert masked_mean(torch.zeros(2, 0, 3), mask).tolist() == [[0.0] * 3] * 2


def test_a_masked_mean_takes_the_real_rows_alone() -> None:
    rows = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [math.nan, math.inf]], [[math.nan] * 2] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(rows, mask).tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_a_masked_maximum_takes_the_real_rows_alone() -> None:
    rows = torch.tensor([[[-1.0, 2.0], [-3.0, 4.0], [math.nan, math.inf]], [[math.nan] * 2] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    rows.requires_grad_()
    found = masked_max(rows, mask)
    assert found.tolist() == [[-1.0, 4.0], [0.0, 0.0]]
    (gradient,) = torch.autograd.grad(found.sum(), rows)
    assert gradient.nonzero().tolist() == [[0, 0, 0], [0, 1, 1]]
    assert masked_max(torch.zeros(2, 0, 3), torch.zeros(2, 0).bool()).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(("pool", "wanted"), [("mean", 2.0), ("max", 3.0)])
def test_a_video_without_a_real_row_is_pooled_to_what_stands_for_it(
    pool: str, wanted: float
) -> None:
    rows = torch.tensor([[[1.0, 1.0], [3.0, 3.0]], [[math.nan] * 2] * 2])
    mask = torch.tensor([[True, True], [False, False]])
    found = pool_rows(rows, mask, torch.tensor([7.0, 8.0]), pool)  # type: ignore[arg-type]
    assert found.tolist() == [[wanted, wanted], [7.0, 8.0]]


def test_rows_of_any_shape_become_vectors() -> None:
    rows = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    assert vectors(rows).tolist() == [[[5.5, 17.5]]]
    for shape in ((), (5,), (3, 4), (2, 3, 4), (2, 3, 4, 5)):
        for count in (0, 2):
            found = vectors(torch.zeros(1, count, *shape))
            assert found.shape == (1, count, vector_size(shape))


def test_what_stands_for_an_absent_row_is_learned_small_and_not_zero() -> None:
    torch.manual_seed(0)
    found = absent(1000, 1)
    assert found.requires_grad and found.shape == (1000, 1)
    assert found.std().item() == pytest.approx(0.02, rel=0.1)


def test_hidden_rows_are_zero_in_any_number_of_axes() -> None:
    rows = torch.full((1, 2, 2, 2), math.nan)
    rows[0, 0] = 1.0
    assert hide(rows, torch.tensor([[True, False]])).sum() == 4


def test_a_weighted_sum_is_the_sum_of_weighted_rows() -> None:
    rows = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]])
    assert weighted_sum(rows, torch.tensor([[0.5, 0.0, 2.0]])).tolist() == [[6.5, 65.0]]


def test_unpacking_undoes_packing() -> None:
    rows = torch.arange(1.0, 13.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    assert torch.equal(unpack(rows[mask], mask), hide(rows, mask))


def norm_layer() -> torch.nn.BatchNorm1d:
    """Return a layer in training that has seen rows."""
    layer = torch.nn.BatchNorm1d(3)
    layer(5 + 2 * torch.randn(8, 3))
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (0, 3, 4), (1, 3, 4)])
def test_rows_without_statistics_are_normalised_with_the_running_ones(
    shape: tuple[int, ...],
) -> None:
    layer, x = norm_layer(), torch.randn(shape)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    found = normalise(layer, x)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(found, layer.eval()(x))


@pytest.mark.parametrize("training", [True, False])
def test_rows_with_statistics_are_normalised_as_torch_does(training: bool) -> None:
    ours, theirs = norm_layer(), torch.nn.BatchNorm1d(3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3)
    assert torch.equal(normalise(ours.train(training), x), theirs.train(training)(x))
    assert torch.equal(ours.running_mean, theirs.running_mean)  # type: ignore[arg-type]
