import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heads.aggregation import attention_weights, hide, masked_mean, unpack, weighted_sum

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


@settings(deadline=None)
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


def test_no_row_at_all_gives_no_weight() -> None:
    mask = torch.zeros(2, 0, dtype=torch.bool)
    assert attention_weights(torch.zeros(2, 0), mask, "sigmoid").shape == (2, 0)
    assert masked_mean(torch.zeros(2, 0, 3), mask).tolist() == [[0.0] * 3] * 2


def test_a_masked_mean_takes_the_real_rows_alone() -> None:
    rows = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [math.nan, math.inf]], [[math.nan] * 2] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(rows, mask).tolist() == [[2.0, 3.0], [0.0, 0.0]]


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
