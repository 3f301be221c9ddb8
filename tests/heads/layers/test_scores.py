from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from heads.layers.scores import map_score, row_score


def weights(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.double().state_dict().items()}


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


@pytest.mark.parametrize("last_relu", [True, False])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_the_score_of_a_row_is_layers_and_a_cell(hidden: Sequence[int], last_relu: bool) -> None:
    torch.manual_seed(0)
    network = row_score(6, hidden, last_relu=last_relu)
    w, rows = weights(network), torch.randn(3, 6).double()
    for x, found in zip(rows.numpy(), network(rows).detach(), strict=True):
        for at in range(len(hidden)):
            x = w[f"{2 * at}.weight"] @ x + w[f"{2 * at}.bias"]
            x = relu(x) if last_relu or at < len(hidden) - 1 else x
        cell = f"{2 * len(hidden)}"
        np.testing.assert_allclose(found, w[f"{cell}.weight"] @ x + w[f"{cell}.bias"])


@pytest.mark.parametrize("last_relu", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_score_of_a_map_is_convolutions_and_a_cell(kernel: int, last_relu: bool) -> None:
    torch.manual_seed(0)
    network = map_score((2, 4, 3), (3, 5), kernel=kernel, last_relu=last_relu)
    w, maps = weights(network), torch.randn(2, 2, 4, 3).double()
    pad = kernel // 2
    for m, found in zip(maps.numpy(), network(maps).detach(), strict=True):
        for layer in ("0", "2"):
            around = np.pad(m, ((0, 0), (pad, pad), (pad, pad)))
            m = np.zeros((len(w[f"{layer}.bias"]), 4, 3))
            for channel, y, x in np.ndindex(*m.shape):
                patch = around[:, y : y + kernel, x : x + kernel]
                m[channel, y, x] = (w[f"{layer}.weight"][channel] * patch).sum()
                m[channel, y, x] += w[f"{layer}.bias"][channel]
            m = relu(m) if last_relu or layer == "0" else m
        np.testing.assert_allclose(found, w["5.weight"] @ m.ravel() + w["5.bias"])


def test_a_cell_may_have_no_bias() -> None:
    assert row_score(6, (), bias=False)[-1].bias is None
    assert map_score((2, 3, 3), (4,), bias=False)[-1].bias is None


def test_no_row_has_no_score() -> None:
    assert row_score(6, (4,))(torch.zeros(0, 6)).shape == (0, 1)
    assert map_score((2, 3, 3), (4,))(torch.zeros(0, 2, 3, 3)).shape == (0, 1)
