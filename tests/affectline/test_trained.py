"""What must be as it was when a head was trained, and what is said where it is not.

tests/affectline/test_predict.py asks the same of a project in which the pipeline has run.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import heads
from affectline.trained import (
    _check_block,
    check_head,
    check_same,
    chosen_runs,
    made_of,
    of_experiment,
    read_checkpoint,
    with_backbones,
    without_video,
)
from features.cache.keys import PROJECT
from features.weights.file import write_seeded
from stages.engine.ingredients import of_view
from stages.engine.params import Backbone, Params, load_params
from stages.engine.search import Search

RUNS = ["split_00", "split_01"]


@pytest.fixture
def params() -> Params:
    return load_params(PROJECT / "params.yaml")


def test_runs_are_all_or_those_that_are_asked_for() -> None:
    assert chosen_runs([], RUNS, "caan") == RUNS
    assert chosen_runs(["split_01", "split_01"], RUNS, "caan") == ["split_01"]
    with pytest.raises(ValueError, match=r"caan: no run 'split_02', .* there are split_00, spli"):
        chosen_runs(["split_02"], RUNS, "caan")


def test_only_the_backbones_of_the_roles_are_kept(params: Params) -> None:
    roles = {"face": "resnet_faces/pooled", "sound": "vggish/embedding"}
    assert list(with_backbones(params, "x", roles).backbones) == ["resnet_faces", "vggish"]
    with pytest.raises(ValueError, match="trained on the backbone 'swin', which is not there"):
        with_backbones(params, "x", {"frame": "swin/pooled"})


def test_no_video_can_be_made_into_arrays_from_elsewhere(params: Params) -> None:
    block = Backbone(module="imported", source="imported", view="none", file="x.npz")
    known = params.model_copy(update={"backbones": {"theirs": block}})
    with pytest.raises(
        ValueError, match="experiment x: its role any reads theirs, arrays that .* of a video"
    ):
        with_backbones(known, "x", {"any": "theirs/features"})


def test_a_clone_that_has_pulled_nothing_is_told_all_that_it_needs(
    params: Params, in_folder: Path
) -> None:
    with pytest.raises(ValueError, match=r"^results/caan/about\.json: not here") as told:
        of_experiment(params, "caan")
    assert (
        "`dvc pull train@caan weights@resnet_faces weights@resnet_frames detector` brings"
        in str(told.value)
    )
    with pytest.raises(ValueError, match="no experiment 'cann', did you mean 'caan'"):
        of_experiment(params, "cann")


def test_what_changed_is_named_and_a_hash_is_short() -> None:
    was = {"code": "0" * 64, "options": {"keep": ["fc6"]}, "seed": 1}
    now = {"code": "1" * 64, "options": {"keep": ["fc7"]}, "seed": 1}
    check_same("caan", "extract@vgg16", was, {**was, "options": {"keep": ("fc6",)}}, "")
    with pytest.raises(ValueError) as told:
        check_same("caan", "extract@vgg16", was, now, "Train again")
    assert str(told.value) == (
        "caan: trained on another extract@vgg16 than is here: code was 000000000000, is "
        '111111111111; options.keep was ["fc6"], is ["fc7"]. Train again'
    )


def test_a_video_leaves_no_trace_in_what_a_stage_makes() -> None:
    one, other = (without_video(of_view(digit * 64, "sound", None, 0)) for digit in "ab")
    assert one == other != without_video(of_view("a" * 64, "sound", None, 1))


def test_what_stages_make_is_known_without_a_video(params: Params, in_folder: Path) -> None:
    roles = {"sound": "vggish/embedding", "scene": "resnet_frames/pooled"}
    reduced = with_backbones(params, "x", roles)
    for name in reduced.backbones:
        write_seeded(in_folder / f"{name}.safetensors", name, 1)
    stages = made_of(reduced, in_folder)
    assert set(stages) == {
        *("decode segments", "decode sound"),
        *("extract@resnet_frames", "extract@vggish"),
    }
    write_seeded(in_folder / "vggish.safetensors", "vggish", 2)
    again = made_of(reduced, in_folder)
    assert [name for name in stages if stages[name] != again[name]] == ["extract@vggish"]


def test_what_is_no_checkpoint_of_this_version_is_refused(in_folder: Path) -> None:
    path = in_folder / "split_00.safetensors"
    with pytest.raises(ValueError, match=r"split_00\.safetensors: expected a checkpoint, found"):
        read_checkpoint(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="expected a checkpoint, found"):
        read_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path, {"affectline": json.dumps({"head": "caan"})})
    with pytest.raises(ValueError, match="says its params, training, .*earlier version, train aga"):
        read_checkpoint(path)


def test_another_head_than_it_was_trained_with_is_named() -> None:
    with pytest.raises(ValueError, match="experiment x: trained with another head caan than is he"):
        check_head("experiment x", {"head": "caan", "code": "0" * 64})
    with pytest.raises(ValueError, match="'cann'"):
        check_head("experiment x", {"head": "cann", "code": ""})


def test_what_a_search_has_chosen_is_not_held_against_params_yaml(params: Params) -> None:
    block = params.experiments["face_average"]
    space = {"hidden": {"choice": [8, 16]}}
    searched = block.model_copy(
        update={"search": Search.model_validate({"trials": 2, "space": space})}
    )
    head = heads.load(block.head)
    settings = asdict(heads.resolve(heads.validate(head, block.overrides), block.roles))
    stated = {"head": block.head, "roles": block.roles, "classes": ["fear", "joy"]}
    stated |= {"params": {**settings, "hidden": 8}}
    for experiment in (searched, block):
        now = params.model_copy(update={"experiments": {"x": experiment}})
        if experiment is searched:
            _check_block(now, "x", stated)
            with pytest.raises(ValueError, match="params.pool was max, is mean"):
                _check_block(now, "x", stated | {"params": {**settings, "pool": "max"}})
        else:
            with pytest.raises(ValueError, match="params.hidden was 8, is 128"):
                _check_block(now, "x", stated)
