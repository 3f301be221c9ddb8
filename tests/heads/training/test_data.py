import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.cache import arrays
from heads.training.data import Features, collate, draw_batches
from heads.training.selection import select_videos
from tests.heads.conftest import Folder, frames

ROLES = {"face": "vggface/fc6", "context": "vgg16/fc6"}
ALIGNED = frozenset(ROLES)


def dataset(folder: Folder, **options: int) -> Features:
    selection = select_videos(folder.index, folder.root, ROLES)
    return Features(selection.videos, ROLES, ALIGNED, **options)


# -------------------------------------------------------------------------------- reading


def test_a_sample_is_what_the_files_hold(folder: Folder) -> None:
    data = dataset(folder)
    assert data.shapes == {"face": (12,), "context": (10,)}
    sample = data[0]
    assert sample.video_id == "anger/v 00%"
    assert sample.features["face"].dtype == np.float16
    assert not sample.mask["face"].any()
    assert sample.mask["context"].all()
    assert sample.pts_s["context"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_a_file_is_read_once_while_there_is_room(folder: Folder) -> None:
    kept, small = dataset(folder), dataset(folder, cache_bytes=0)
    assert kept[1] is kept[1]
    assert small[1] is not small[1]
    one = sum(array.nbytes for array in kept[1].features.values())
    assert {array.dtype for array in kept[1].features.values()} == {np.dtype(np.float16)}
    some = dataset(folder, cache_bytes=2 * one)
    assert [some[at] is some[at] for at in (1, 2, 3)] == [True, True, False]
    assert np.array_equal(small[1].features["face"], kept[1].features["face"])


def broken(folder: Folder, message: str) -> None:
    """Expect an error about the second video that names its file."""
    data = dataset(folder)
    data[0]
    with pytest.raises(ValueError, match=message) as caught:
        data[1]
    assert "v 03%.h5" in str(caught.value)


def test_a_file_of_another_item_is_not_read(folder: Folder) -> None:
    folder.write("vgg16", "anger/v 03%", frames(np.ones((6, 10)), np.ones(6, bool)), key="f" * 64)
    broken(folder, "its key must be the index's vgg1603.*found ffff")


def test_an_unknown_feature_lists_those_in_the_file(folder: Folder) -> None:
    selection = select_videos(folder.index, folder.root, {"face": "vggface/fc7"})
    with pytest.raises(ValueError, match=r"v 00%.h5: .*fc7.*found.*'fc6'"):
        Features(selection.videos, {"face": "vggface/fc7"})[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_valid_row_that_is_not_finite_is_an_error(folder: Folder, value: float) -> None:
    found = np.ones((6, 10))
    found[4, 2] = value
    folder.write("vgg16", "anger/v 03%", frames(found, np.ones(6, bool)))
    broken(folder, r"valid rows of 'fc6' must be finite.*rows \[4\]")


def test_a_masked_row_may_hold_anything(folder: Folder) -> None:
    found, valid = np.ones((6, 10)), np.ones(6, bool)
    found[4], valid[4] = np.nan, False
    folder.write("vgg16", "anger/v 03%", frames(found, valid))
    assert dataset(folder)[1].mask["context"].tolist() == valid.tolist()


def test_rows_of_another_size_are_an_error(folder: Folder) -> None:
    folder.write("vgg16", "anger/v 03%", frames(np.ones((6, 11)), np.ones(6, bool)))
    broken(folder, r"must have shape \(10,\).*found \(11,\)")


def test_arrays_of_different_lengths_are_an_error(folder: Folder) -> None:
    found = frames(np.ones((6, 10)), np.ones(6, bool))
    folder.write("vgg16", "anger/v 03%", found | {"fc6": found["fc6"][:5]})
    broken(folder, "'fc6' must have 6 rows as 'valid' has, found 5")


def test_aligned_roles_with_different_frames_are_an_error_that_names_both_files(
    folder: Folder,
) -> None:
    found = frames(np.ones((6, 10)), np.ones(6, bool))
    found["index"] = found["index"] + 1
    folder.write("vgg16", "anger/v 03%", found)
    broken(folder, r"vgg16/anger/v 03%.h5 and .*vggface/anger/v 03%.h5: rows must be the same")


def test_roles_that_need_not_be_aligned_may_have_different_frames(folder: Folder) -> None:
    folder.write("vgg16", "anger/v 03%", frames(np.ones((2, 10)), np.ones(2, bool)))
    selection = select_videos(folder.index, folder.root, ROLES)
    assert len(Features(selection.videos, ROLES)[1].mask["context"]) == 2


def test_a_missing_file_is_named(folder: Folder) -> None:
    (folder.features / "vgg16" / "anger" / "v 03%.h5").unlink()
    broken(folder, "v 03%.h5")


# ------------------------------------------------------------------------------- batching


def test_a_batch_is_padded_to_the_longest_video_of_each_role(folder: Folder) -> None:
    folder.write("vgg16", "anger/v 03%", frames(np.full((2, 10), 3), np.ones(2, bool)))
    folder.write("vgg16", "anger/v 06%", frames(np.ones((0, 10)), np.ones(0, bool)))
    selection = select_videos(folder.index, folder.root, ROLES)
    data = Features(selection.videos, ROLES)
    batch = collate([data[0], data[1], data[2]])
    assert batch.features["context"].shape == (3, 6, 10)
    assert batch.features["context"].dtype == torch.float16  # half the bytes up to the device
    assert batch.mask["context"].sum(1).tolist() == [6, 2, 0]
    assert (batch.features["context"][1, :2] == 3).all()
    assert not batch.features["context"][1, 2:].any()
    assert batch.labels.tolist() == [0, 0, 0]


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    batch_videos=st.integers(2, 20),
    seed=st.integers(0, 99),
)
def test_shuffled_batches_have_every_video_once(
    labels: list[int], batch_videos: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    batches = list(draw_batches(labels, batch_videos, None, generator))
    assert sorted(at for batch in batches for at in batch) == list(range(len(labels)))
    assert all(len(batch) == batch_videos for batch in batches[:-1])
    assert len(labels) == 1 or 2 <= len(batches[-1]) <= batch_videos + 1


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=40),
    batch_videos=st.integers(4, 20),
    each=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_a_balanced_batch_has_different_videos_as_many_of_each_class(
    labels: list[int], batch_videos: int, each: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    there = Counter(labels)
    for batch in draw_batches(labels, batch_videos, each, generator):
        assert len(set(batch)) == len(batch) <= max(batch_videos, each)
        for label, count in Counter(labels[at] for at in batch).items():
            assert count >= min(each, there[label])


@pytest.mark.parametrize(("batch_videos", "each"), [(4, 2), (12, 6), (13, 6)])
def test_a_balanced_batch_is_filled_with_more_of_every_class(batch_videos: int, each: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for batch in draw_batches([0, 1] * 20, batch_videos, 2, generator):
        assert Counter(at % 2 for at in batch) == {0: each, 1: each}


def test_over_many_balanced_epochs_classes_come_equally_often() -> None:
    labels = [0] * 30 + [1] * 5 + [2] * 9 + [3] * 2 + [4] * 4
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(
        labels[at]
        for _ in range(60)
        for batch in draw_batches(labels, 6, 2, generator)
        for at in batch
    )
    assert max(drawn.values()) <= 1.05 * min(drawn.values())


@pytest.mark.parametrize("axes", ["", "T", "T C H W", "T X"])
def test_a_file_that_does_not_name_the_axes_of_a_row_is_refused(folder: Folder, axes: str) -> None:
    for row in folder.rows["vgg16"]:
        made = frames(np.ones((6, 10)), np.ones(6, bool))
        folder.write("vgg16", str(row["video_id"]), made, fc6=axes)
    selection = select_videos(folder.index, folder.root, {"context": "vgg16/fc6"})
    data = Features(selection.videos, {"context": "vgg16/fc6"})
    with pytest.raises(ValueError, match=r"axes of 'fc6' behind T: expected a letter for each"):
        _ = data[0]


def test_features_that_two_networks_made_are_not_mixed(folder: Folder) -> None:
    selection = select_videos(folder.index, folder.root, {"context": "vgg16/fc6"})
    video = selection.videos[3]
    found, said = arrays.read(video.files["vgg16"])
    video.files["vgg16"].unlink()
    arrays.write(
        video.files["vgg16"], found, said | {"ingredients": {"view": "segments", "code": "n"}}
    )
    data = Features(selection.videos, {"context": "vgg16/fc6"})
    message = (
        f"{re.escape(str(video.files['vgg16']))} and .*: features of 'vgg16' must be made by one"
    )
    with pytest.raises(ValueError, match=message):
        [data[at] for at in range(len(data))]
