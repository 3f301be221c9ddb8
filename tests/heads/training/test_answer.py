from dataclasses import replace

import numpy as np
import pytest
import torch

import heads
from heads.training.answer import answer
from heads.training.data import collate
from heads.training.loop import train_run
from heads.training.run import Run
from heads.training.standardise import build_network
from heads.training.targets import of_classes
from tests.heads.conftest import EMOTIONS, Folder, frames
from tests.heads.training.test_loop import QUICK, SMALL, selected

CAAN = heads.load("caan")


def run_of(folder: Folder, only: slice = slice(None)) -> Run:
    """Return a run that tests some of its test videos; its training is the same."""
    selection, data = selected(folder)
    split = selection.splits["split_00"]
    params = heads.validate(CAAN, SMALL)
    return train_run(
        CAAN, params, QUICK, data, split.train, split.test[only], of_classes(EMOTIONS), 5
    )


@pytest.fixture
def uneven(folder: Folder) -> Folder:
    """Return videos of which every third is longer and shows a face in some frames alone."""
    draw = np.random.default_rng(3)
    for row in folder.videos[::3]:
        seen = np.arange(9) % 2 == 0
        video_id = str(row["video_id"])
        folder.write("vgg16", video_id, frames(draw.normal(size=(9, 10)), np.ones(9, bool)))
        folder.write("vggface", video_id, frames(draw.normal(size=(9, 12)), seen))
    return folder


def test_no_bit_of_an_answer_depends_on_which_other_videos_are_tested(uneven: Folder) -> None:
    together = run_of(uneven)
    assert len(together.video_ids) == 6
    for number in range(6):
        alone = run_of(uneven, slice(number, number + 1))
        assert np.array_equal(alone.values[0], together.values[number])
        for name, weights in alone.attention.items():
            assert np.array_equal(weights[0], together.attention[name][number])


def test_a_restored_network_answers_bit_for_bit_as_the_run_did(uneven: Folder) -> None:
    run = run_of(uneven)
    _, data = selected(uneven)
    params = heads.validate(CAAN, SMALL)
    network = build_network(CAAN, params, data.shapes, data.axes, of_classes(EMOTIONS), seed=99)
    network.load_state_dict(run.state)
    by_id = {video.video_id: position for position, video in enumerate(data.videos)}
    for number, video_id in enumerate(run.video_ids):
        sample = replace(data[by_id[video_id]], label=-1)  # a new video has none
        given = answer(network.eval(), collate([sample]).to(torch.device("cpu")))
        assert np.array_equal(given.values, run.values[number])
        for name, weights in run.attention.items():
            assert np.array_equal(given.attention[name], weights[number])
