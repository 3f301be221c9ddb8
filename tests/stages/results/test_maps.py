"""Maps of regions and their relations: beside the head's own matrix, and pixel by pixel."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from heads.rdam import relation_matrix
from stages.results.maps import (
    MOST_RELATIONS,
    TILE_PX,
    even_shares,
    heat,
    planes,
    relations,
)


def test_the_strongest_relations_are_those_of_the_heads_matrix() -> None:
    draw = np.random.default_rng(0)
    query, key = draw.normal(size=(2, 3, 5)) * 3
    matrix = relation_matrix(torch.from_numpy(query), torch.from_numpy(key)).numpy() * 15
    np.fill_diagonal(matrix, -1)
    found = relations(query, key)
    assert len(found) == MOST_RELATIONS
    weights = np.sort(matrix.ravel())[::-1][:MOST_RELATIONS]
    np.testing.assert_allclose([relation.weight for relation in found], weights)
    target, source = np.unravel_index(np.argmax(matrix), matrix.shape)
    assert found[0].target == pytest.approx(((target % 5 + 0.5) / 5, (target // 5 + 0.5) / 3))
    assert found[0].source == pytest.approx(((source % 5 + 0.5) / 5, (source // 5 + 0.5) / 3))


def test_large_scores_do_not_overflow_and_one_region_has_no_relation() -> None:
    assert np.isfinite(relations(np.full((2, 2), 1e4), np.ones((2, 2)))[0].weight)
    assert relations(np.ones((1, 1)), np.ones((1, 1))) == []


def test_a_map_is_told_in_times_an_even_share() -> None:
    maps = np.stack([np.full((2, 2), 0.25), np.array([[0.5, 0.5], [0, 0]]), np.zeros((2, 2))])
    shares = even_shares(maps)
    np.testing.assert_allclose(shares, [[[1, 1], [1, 1]], [[2, 2], [0, 0]], [[0, 0], [0, 0]]])
    np.testing.assert_allclose(planes(np.stack([maps, 3 * maps], axis=1)), 2 * maps)
    assert planes(maps) is maps


def tiles(data: bytes) -> np.ndarray:
    """Return the opacity of a picture of maps, 0..1, (count, TILE_PX, TILE_PX)."""
    alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3] / 255
    return np.stack(np.split(alpha, alpha.shape[1] // TILE_PX, axis=1))


def test_the_more_weight_the_more_colour_and_none_up_to_an_even_share() -> None:
    shares = np.zeros((2, 2, 2))
    shares[0, 0, 1] = 4.0
    shares[1] = 1.0
    first, second = tiles(heat(shares))
    half = TILE_PX // 2
    assert first[:4, -4:].min() > 0.6 and first[:4, :4].max() == 0 and first[half:, :4].max() == 0
    assert second.max() == 0
    assert heat(shares) == heat(shares.copy())


def test_a_flat_map_does_not_look_steep() -> None:
    shares = np.full((1, 4, 4), 1.0)
    shares[0, 0, 0] = 1.05
    assert tiles(heat(shares)).max() < 0.15
