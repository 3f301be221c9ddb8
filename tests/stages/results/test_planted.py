"""What the sample planted, row by row, and how well weights rank it."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sample.clips import FPS, plan_clip
from stages.results.pictures import Rows
from stages.results.planted import (
    Clip,
    planted_rows,
    planted_stretches,
    ranking,
    read_truth,
    video_auc,
)
from stages.sample import write_truth


def rows(index: np.ndarray) -> Rows:
    """Return rows of these frames."""
    return Rows(index, index / 25, np.ones(len(index), bool))


CLIP = Clip(("scene",), ((10, 20), (40, 50)), ((0.4, 0.8), (1.6, 2.0)))


def test_the_truth_is_read_as_the_sample_writes_it(in_folder: Path) -> None:
    assert read_truth() == {}
    plans = [plan_clip(0, "joy", number, 4.0) for number in (1, 2)]
    Path("data").mkdir()
    clips = {plan.video_id: plan.describe() for plan in plans}
    write_truth({"clips": clips}, Path("data/sample_truth.json"))
    for plan in plans:
        clip = read_truth()[plan.video_id]
        assert clip.modalities == plan.modalities
        assert clip.frames == tuple((part.start, part.stop) for part in plan.intervals)
        assert clip.seconds[0][0] == plan.intervals[0].start / FPS


@pytest.mark.parametrize("text", ["{", '{"clips": {"a/b": {}}}', "[]"])
def test_a_truth_that_is_none_is_told(in_folder: Path, text: str) -> None:
    Path("data").mkdir()
    Path("data/sample_truth.json").write_text(text)
    with pytest.raises(ValueError, match="data/sample_truth.json: expected the truth"):
        read_truth()


def test_frames_are_planted_where_their_modality_shows_the_class() -> None:
    index = np.array([9, 10, 19, 20, 45, -1])
    planted = [False, True, True, False, True, False]
    assert planted_rows(CLIP, "segments", rows(index)).tolist() == planted
    assert not planted_rows(CLIP, "faces", rows(index)).any()
    face = Clip(("face", "sound"), CLIP.frames, CLIP.seconds)
    assert planted_rows(face, "faces", rows(index)).tolist() == planted
    assert planted_rows(face, "uniform", rows(index)).tolist() == planted


def test_a_snippet_is_planted_where_half_of_its_frames_are() -> None:
    index = np.array([[5, 6, 9, 10], [8, 9, 10, 11], [12, 13, 14, 15]])
    assert planted_rows(CLIP, "snippets", rows(index)).tolist() == [False, True, True]


def test_a_stretch_of_sound_is_planted_where_half_of_it_is() -> None:
    heard = Clip(("sound",), CLIP.frames, CLIP.seconds)
    starts = np.array([0.0, 0.2, 0.4, 0.75, 1.5])
    planted = planted_stretches(heard, starts, 0.4)
    assert planted.tolist() == [False, True, True, False, True]
    assert not planted_stretches(CLIP, starts, 0.4).any()


def test_the_auc_of_a_video_is_none_where_nothing_is_to_rank() -> None:
    planted = np.array([True, False, True, False])
    weights = np.array([0.4, 0.1, 0.3, 0.2])
    assert video_auc(weights, planted) == 1
    assert video_auc(-weights, planted) == 0
    assert video_auc(np.ones(4), planted) == 0.5
    assert video_auc(weights, ~np.zeros(4, bool)) is None
    assert video_auc(weights[:0], planted[:0]) is None
    draw = np.random.default_rng(0).random(4)
    assert video_auc(draw, planted) == roc_auc_score(planted, draw)


def test_a_video_counts_once_with_the_mean_of_its_runs() -> None:
    found = ranking({"a": [1.0, 0.5], "b": [0.25, None], "c": [None]})
    assert found and (found.auc, found.videos) == (0.5, 2)
    assert ranking({"a": [None], "b": []}) is None
    one = ranking({"a": [0.5]})
    assert one and one.low is None


def test_the_interval_holds_the_mean_of_normal_draws_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        found = ranking({str(n): [value] for n, value in enumerate(draw.normal(0.7, 0.1, 40))})
        assert found and found.low is not None and found.high is not None
        held += found.low <= 0.7 <= found.high
    assert 51 <= held <= 60


def test_the_same_aucs_have_the_same_interval() -> None:
    aucs = {str(n): [n / 10] for n in range(10)}
    assert ranking(aucs) == ranking(dict(reversed(aucs.items())))
    assert json.dumps(ranking(aucs).__dict__)
