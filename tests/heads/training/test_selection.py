from pathlib import Path

import pyarrow.parquet as pq
import pytest

from heads.training.selection import read_features, select_videos, split_role
from heads.training.targets import Declared, metadata_of, of_classes
from tests.heads.conftest import EMOTIONS, Folder

ROLES = {"face": "vggface/fc6", "context": "vgg16/fc6"}


def test_every_video_is_selected_with_its_label_and_its_part_of_each_run(folder: Folder) -> None:
    selection = select_videos(folder.index, folder.root, ROLES)
    assert selection.target == of_classes(EMOTIONS)
    assert [video.video_id for video in selection.videos] == sorted(
        str(row["video_id"]) for row in folder.videos
    )
    assert list(selection.splits) == ["split_00", "split_01"]
    by_id = {row["video_id"]: row for row in folder.videos}
    for name, split in selection.splits.items():
        for part in ("train", "test"):
            for at in getattr(split, part):
                video = selection.videos[at]
                assert by_id[video.video_id][name] == part
                assert by_id[video.video_id]["label"] == EMOTIONS[video.label]
        assert (len(split.train), len(split.test)) == (12, 6)


def test_a_video_that_failed_anywhere_is_left_out_with_the_reason(folder: Folder) -> None:
    folder.videos[3] |= {"status": "failed", "reason": "not a video"}
    folder.rows["vgg16"][5] |= {"status": "failed", "reason": "numbers are not finite"}
    del folder.rows["vggface"][7]
    folder.save()
    selection = select_videos(folder.index, folder.root, ROLES)
    assert selection.missing == {
        "anger/v 03%": "not a video",
        "sadness/v 05%": "vgg16: numbers are not finite",
        "joy/v 07%": "vggface: not in the index of its features",
    }
    assert len(selection.videos) == 15


def test_a_backbone_that_is_not_read_may_fail(folder: Folder) -> None:
    folder.rows["vggface"][5] |= {"status": "failed", "reason": "no face"}
    folder.save()
    roles = {"context": "vgg16/fc6"}
    assert not select_videos(folder.index, folder.root, roles).missing


def test_a_video_that_is_in_neither_part_of_a_run_is_not_in_the_run(folder: Folder) -> None:
    folder.videos[3]["split_01"] = None
    folder.save()
    selection = select_videos(folder.index, folder.root, ROLES)
    split = selection.splits["split_01"]
    assert len(split.train) + len(split.test) == 17


def test_one_seeded_feature_makes_the_selection_not_pretrained(folder: Folder) -> None:
    assert select_videos(folder.index, folder.root, ROLES).pretrained
    folder.rows["vgg16"][4]["pretrained"] = False
    folder.save()
    assert not select_videos(folder.index, folder.root, ROLES).pretrained


def test_a_class_with_too_few_training_videos_is_named_with_what_is_missing(
    folder: Folder,
) -> None:
    trained = {row["video_id"] for row in folder.videos if row["split_00"] == "train"}
    for row in folder.rows["vgg16"]:
        if row["label"] == "joy" and row["video_id"] in trained:
            row |= {"status": "failed", "reason": "cannot be decoded"}
    folder.save()
    message = (
        r"split_00 must train .*\{'joy': 0\}.*4 videos were left out.*vgg16: cannot be decoded"
    )
    with pytest.raises(ValueError, match=message):
        select_videos(folder.index, folder.root, ROLES)


def test_a_run_without_test_videos_is_an_error(folder: Folder) -> None:
    for row in folder.videos:
        row["split_01"] = "train"
    folder.save()
    with pytest.raises(ValueError, match="split_01 has no test video"):
        select_videos(folder.index, folder.root, ROLES)


def test_a_cell_of_a_split_that_is_no_part_is_an_error(folder: Folder) -> None:
    folder.videos[0]["split_00"] = "validation"
    folder.save()
    with pytest.raises(ValueError, match=r"split_00 must hold train, test or null.*validation"):
        select_videos(folder.index, folder.root, ROLES)


def test_an_index_without_splits_is_an_error(folder: Folder) -> None:
    for row in folder.videos:
        del row["split_00"], row["split_01"]
    folder.save()
    with pytest.raises(ValueError, match=r"index.parquet.*split_00"):
        select_videos(folder.index, folder.root, ROLES)


def test_an_unknown_backbone_lists_those_that_have_features(folder: Folder) -> None:
    with pytest.raises(ValueError, match=r"'resnet50', there are \['vgg16', 'vggface'\]"):
        read_features(folder.root, ["vgg16", "resnet50"])


@pytest.mark.parametrize("source", ["vggface", "vggface/", "/fc6", "vggface/fc6/x", ""])
def test_a_role_is_a_backbone_and_a_feature(source: str) -> None:
    with pytest.raises(ValueError, match=f"role 'face': expected .*found '{source}'"):
        split_role("face", source)


def test_a_path_of_the_index_is_below_its_backbones_folder(folder: Folder) -> None:
    row = read_features(folder.root, ["vgg16"])["vgg16"]["joy/v 01%"]
    assert row.path == Path(folder.features / "vgg16" / "joy" / "v 01%.h5")


def test_runs_have_any_name_and_videos_their_group(folder: Folder) -> None:
    for number, row in enumerate(folder.videos):
        row["split_Ana-2"], row["group"] = row.pop("split_01"), f"speaker {number % 4}"
    folder.save()
    selection = select_videos(folder.index, folder.root, ROLES)
    assert list(selection.splits) == ["split_00", "split_Ana-2"]
    groups = {row["video_id"]: row["group"] for row in folder.videos}
    assert {video.video_id: video.group for video in selection.videos} == groups


def test_the_class_of_several_corpora_is_told_and_who_has_none_is_in_no_run(folder: Folder) -> None:
    for row in folder.videos:
        row["class"] = {"joy": "happy", "anger": "angry"}.get(str(row["label"]))
        if row["class"] is None:
            row["split_00"] = row["split_01"] = None
    folder.save()
    selection = select_videos(folder.index, folder.root, ROLES)
    assert selection.target.names == ("angry", "happy") and not selection.missing
    told = {video.video_id: selection.target.names[video.label] for video in selection.videos}
    assert told == {row["video_id"]: row["class"] for row in folder.videos if row["class"]}


def test_the_common_class_is_that_of_the_first_target(folder: Folder) -> None:
    for row in folder.videos:
        row["target_mood"], row["label"] = f"my {row['label']}", "all"
        row["class"] = None if "sad" in str(row["target_mood"]) else "common " + "ab"[
            "joy" in str(row["target_mood"])]  # fmt: skip
        if row["class"] is None:
            row["split_00"] = row["split_01"] = None
    folder.save()
    declared = metadata_of([Declared("mood", "class", ("mood",))])
    pq.write_table(pq.read_table(folder.index).replace_schema_metadata(declared), folder.index)
    selection = select_videos(folder.index, folder.root, ROLES)
    assert selection.target.names == ("common a", "common b") and len(selection.videos) == 12
