"""What a folder of a published head must be before anything of it is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from affectline.published import LARGEST_BYTES, MODEL, _with_settings, of_folder, read_model
from features.cache.keys import PROJECT, file_sha256, item_key
from stages.engine.ingredients import code_of_answer
from stages.engine.params import Params, load_params

STATED = {
    "head": "pooling",
    "params": {},
    "training": {},
    "roles": {"face": "toy/colour"},
    "classes": ["fear", "joy"],
    "shapes": {"face": [4]},
    "axes": {"face": "D"},
    "code": "",
    "run": "split_00",
    "pretrained": False,
}


@pytest.fixture
def params() -> Params:
    return load_params(PROJECT / "params.yaml")


@pytest.fixture
def folder(in_folder: Path, params: Params) -> Path:
    """A published head, small; its backbone is not in this project."""
    (in_folder / "model/runs").mkdir(parents=True)
    write(in_folder / "model", params)
    return in_folder / "model"


def write(folder: Path, params: Params, **stated: object) -> None:
    """Write a checkpoint that says so, and a model.json that names it."""
    file = folder / "runs/split_00.safetensors"
    code = item_key({"code": code_of_answer("pooling")})
    save_file(
        {"x": torch.zeros(4)}, file, {"affectline": json.dumps(STATED | {"code": code} | stated)}
    )
    toy: dict[str, object] = {"module": "toy", "view": "faces", "source": "pretrained"}
    toy |= {"file": "/etc/passwd", "trust_pickle": True}
    model = {
        "format": 1,
        "name": "average",
        "runs": {"split_00": file_sha256(file)},
        "settings": {
            "decode": params.decode.model_dump(mode="json"),
            "faces": params.faces.model_dump(mode="json"),
            "backbones": {"toy": toy},
        },
        "made_of": {},
        "weights": {},
        "commit": "c0ffee",
        "software": {},
    }
    (folder / MODEL).write_text(json.dumps(model))


def change(folder: Path, edit: Callable[[Any], object]) -> None:
    model = json.loads((folder / MODEL).read_text())
    edit(model)
    (folder / MODEL).write_text(json.dumps(model))


def error_of(folder: Path, params: Params, *runs: str) -> str:
    with pytest.raises(ValueError) as told, of_folder(params, folder, runs):
        pass
    return str(told.value)


def test_a_checkpoint_with_another_byte_is_not_opened(folder: Path, params: Params) -> None:
    file = folder / "runs/split_00.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "expected the file that was published (sha256 " in error_of(folder, params)
    file.unlink()
    assert "expected the checkpoint of a run" in error_of(folder, params)


def test_no_link_is_followed(folder: Path, params: Params) -> None:
    file = folder / "runs/split_00.safetensors"
    file.rename(folder / "elsewhere")
    file.symlink_to(folder / "elsewhere")
    assert "found a link" in error_of(folder, params)


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: model.update(format=2),
        lambda model: model.update(path="/etc"),
        lambda model: model.update(runs={"../../split_00": "0" * 64}),
        lambda model: model.update(runs={"split_a/b": "0" * 64}),
        lambda model: model.update(runs={"split_00": "0" * 12}),
        lambda model: model.update(runs={}),
        lambda model: model.update(name="../caan"),
        lambda model: model["settings"]["backbones"]["toy"].update(module="../x"),
        lambda model: model["settings"]["decode"].update(seed="0"),
        lambda model: model.update(commit="x" * LARGEST_BYTES),
    ],
)
def test_a_model_that_is_not_as_publish_writes_it_is_refused(
    folder: Path, edit: Callable[[Any], object]
) -> None:
    read_model(folder)
    change(folder, edit)
    with pytest.raises(ValueError, match=r"model\.json: expected what `affectline publish` writes"):
        read_model(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff" * 4, "[" * 100_000])
def test_what_is_no_json_is_refused(folder: Path, text: str) -> None:
    (folder / MODEL).write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match="expected what `affectline publish` writes"):
        read_model(folder)
    (folder / MODEL).unlink()
    with pytest.raises(ValueError, match="No such file"):
        read_model(folder)


def test_neither_a_path_of_theirs_nor_their_trust_in_a_pickle_is_taken_over(
    folder: Path, params: Params
) -> None:
    change(
        folder,
        lambda model: model["settings"]["faces"]["detector"].update(
            file="/etc/passwd", trust_pickle=True
        ),
    )
    taken = _with_settings(params, read_model(folder))
    for block in (taken.backbones["toy"], taken.faces.detector):
        assert block.file is None and block.trust_pickle is False
    assert taken.engine == params.engine, "this machine works as its own params.yaml says"


def test_a_checkpoint_says_which_run_and_by_which_code(folder: Path, params: Params) -> None:
    write(folder, params, run="split_01")
    assert "expected split_00, found split_01" in error_of(folder, params)
    write(folder, params, code="0" * 64)
    said = error_of(folder, params)
    assert "trained with another head pooling than is here: its code was 000000000000" in said
    write(folder, params, head="../x")
    assert "../x" in error_of(folder, params)
    assert "no run 'split_07', did you mean" in error_of(folder, params, "split_07")


def test_weights_that_are_needed_and_not_named_are_told(folder: Path, params: Params) -> None:
    said = error_of(folder, params)
    assert "model.json: expected the weights of detector, toy, found those of no network" in said


def test_a_module_that_is_not_in_this_project_is_named(folder: Path, params: Params) -> None:
    def to_sound(model: Any) -> None:
        model["settings"]["backbones"]["toy"].update(view="sound", source="seeded")
        model["weights"] = {"toy": {"tensors": "0" * 64, "facts": {}}}

    change(folder, to_sound)
    assert "trained with (sha256 000000000000, here" in error_of(folder, params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("affectline.published.tensors_sha256", lambda path: "0" * 64)
        assert "'toy'" in error_of(folder, params)


def test_a_run_may_have_the_name_of_a_group(folder: Path) -> None:
    (folder / "runs/split_00.safetensors").rename(folder / "runs/split_Zoe-2.safetensors")
    change(folder, lambda model: model.update(runs={"split_Zoe-2": model["runs"]["split_00"]}))
    assert list(read_model(folder).runs) == ["split_Zoe-2"]
