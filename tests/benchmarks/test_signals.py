from itertools import chain

import numpy as np
import pytest
import signals
from numpy.random import default_rng
from signals import EMOTIONS, PAIRS, InMemory, Planted

PLANTS = {
    "frames": signals.plant_frames,
    "frames and maps": lambda draw, videos: signals.plant_frames(
        draw, videos, marked_map=(4, 3, 3)
    ),
    "modalities": signals.plant_modalities,
    "few frames of a modality": lambda draw, videos: signals.plant_modalities(
        draw, videos, frames=12, planted=2
    ),
    "regions": signals.plant_regions,
    "relation": signals.plant_relation,
    "segments": signals.plant_segments,
    "channels": signals.plant_channels,
}


@pytest.fixture(params=PLANTS)
def planted(request: pytest.FixtureRequest) -> Planted:
    return PLANTS[request.param](default_rng(3), 60)


def test_absent_rows_hold_nan_and_the_others_numbers(planted: Planted) -> None:
    for sample in planted.samples:
        for role, rows in sample.features.items():
            flat = rows.reshape(len(rows), -1)
            assert np.array_equal(np.isfinite(flat).all(1), sample.mask[role])
            assert np.array_equal(np.isnan(flat).all(1), ~sample.mask[role])


def test_a_share_of_the_rows_is_absent(planted: Planted) -> None:
    real = np.concatenate(list(chain(*(sample.mask.values() for sample in planted.samples))))
    assert 0.1 < 1 - real.mean() < 0.35


def test_planted_rows_are_always_there(planted: Planted) -> None:
    for sample, truth in zip(planted.samples, planted.truth, strict=True):
        for role, where in truth.items():
            if where.ndim == 1:
                assert where.any()
                assert sample.mask[role][where].all()
            elif where.any():
                assert sample.mask[role].any()


def test_something_is_planted_in_every_video_and_not_everything(planted: Planted) -> None:
    for truth in planted.truth:
        where = np.concatenate([np.ravel(part) for part in truth.values()])
        assert where.any() and not where.all()


def test_the_same_seed_plants_the_same(planted: Planted, request: pytest.FixtureRequest) -> None:
    plant = PLANTS[request.node.callspec.params["planted"]]
    again, other = plant(default_rng(3), 60), plant(default_rng(4), 60)
    for role, rows in planted.samples[0].features.items():
        assert np.array_equal(rows, again.samples[0].features[role], equal_nan=True)
        assert not np.array_equal(rows, other.samples[0].features[role], equal_nan=True)


def test_each_thing_is_seen_as_often_in_each_class() -> None:
    for pairs in PAIRS:
        assert sorted(chain(*pairs)) == [0, 1, 2, 3]
    assert len({pair for pairs in PAIRS for pair in pairs}) == 6


def test_whole_modalities_are_absent_but_never_the_planted_one() -> None:
    planted = signals.plant_modalities(default_rng(0), 200)
    gone = 0
    for sample, truth in zip(planted.samples, planted.truth, strict=True):
        absent = {role for role, real in sample.mask.items() if not real.any()}
        assert not any(truth[role] for role in absent)
        gone += len(absent)
    assert 0.1 < gone / 400 < 0.2


def test_the_mean_of_a_map_does_not_show_the_mark_of_a_channel_group() -> None:
    levels = {}
    for mark in (0.0, 50.0):
        planted = signals.plant_channels(default_rng(1), 8, mark=mark)
        levels[mark] = [sample.features["map"].mean(axis=(2, 3)) for sample in planted.samples]
    for with_mark, without in zip(levels[50.0], levels[0.0], strict=True):
        np.testing.assert_allclose(with_mark, without, atol=1e-4)


def test_what_misleads_says_nothing_of_the_label() -> None:
    planted = signals.plant_frames(
        default_rng(0), 4000, frames=4, planted=1, misleading=2, signal=0.0, weak=30.0, size=8
    )
    # With a signal this strong the class that misleads can be read off the mean of the rows.
    means = np.stack([np.nanmean(sample.features["row"], axis=0) for sample in planted.samples])
    labels = np.array([sample.label for sample in planted.samples])
    by_label = [means[labels == label].mean(axis=0) for label in range(len(EMOTIONS))]
    assert np.ptp(by_label, axis=0).max() < 1.5


def test_a_head_sees_the_roles_that_it_asks_for() -> None:
    planted = signals.plant_frames(default_rng(0), 5)
    data = InMemory(planted.samples, {"face": "row", "frame": "row_cell"})
    assert len(data) == 5
    assert data.shapes == {"face": (32,), "frame": (32, 1, 1)}
    assert data.sources == {"face": ("planted", "row"), "frame": ("planted", "row_cell")}
    assert [video.label for video in data.videos] == [0, 1, 2, 3, 0]
    assert np.array_equal(data[2].mask["face"], planted.samples[2].mask["row"])
