import ctypes.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import checks
from stages.checks import SystemLibraryError, check_modules, check_pipeline, check_system
from stages.params import Params, ParamsError

PROJECT = Path(__file__).parents[2]


def params(**changes: Any) -> Params:
    raw: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for where, value in changes.items():
        *sections, key = where.split("__")
        place = raw
        for section in sections:
            place = place[section]
        place[key] = value
    return Params.model_validate(raw)


def test_the_projects_own_files_are_right() -> None:
    check_modules(params())
    check_pipeline(params(), PROJECT / "dvc.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbones__vgg16__module": "vgg99"}, r"backbones\.vgg16: .*vgg99.*vggface"),
        ({"backbones__vgg16__view": "uniform"}, r"backbones\.vgg16\.view: found 'uniform'.*segm"),
        ({"backbones__blazepose__source": "seeded"}, r"blazepose can only be pretrained"),
        ({"backbones__vggish__options": {"pcaa": True}}, "options of vggish: unknown pcaa"),
        ({"backbones__vgg16__dtypes": {"fc9": "float32"}}, r"vgg16: dtypes of vgg16: unknown fc9"),
        ({"faces__detector__module": "haar"}, r"found 'haar', expected blazeface or retinaface"),
        ({"faces__detector__options": {"size": 3}}, r"faces\.detector: .*unknown size"),
        ({"faces__detector__source": "seeded"}, r"blazeface can only be pretrained"),
        ({"experiments__caan__head": "kaan"}, r"experiments\.caan: unknown head 'kaan'"),
        ({"experiments__caan__with": {"fusion": "x"}}, r"experiments\.caan: .*caan"),
        ({"experiments__caan__roles": {"face": "vggface/fc9"}}, r"vggface gives \['fc6', 'pool5'"),
        ({"experiments__caan__roles": {"nose": "vggface/fc6"}}, r"roles\.nose: caan knows"),
        ({"train__epochs": 0}, r"train: "),
    ],
)
def test_what_only_the_modules_know_is_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        check_modules(params(**changes))


def test_dvc_yaml_has_to_wait_for_every_backbone(tmp_path: Path) -> None:
    more = params()
    blocks = {**more.backbones, "clip": more.backbones["vgg16"]}
    del blocks["vggish"]
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    with pytest.raises(
        ParamsError, match=r"add the line `- data/features/clip.parquet`; remove .*vggish.parquet`"
    ):
        check_pipeline(more.model_copy(update={"backbones": blocks}), tmp_path / "dvc.yaml")


def test_a_missing_system_library_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks.sys, "platform", "linux")
    found = {"glib-2.0": "libglib-2.0.so.0"}
    monkeypatch.setattr(ctypes.util, "find_library", found.get)
    with pytest.raises(SystemLibraryError, match="apt-get install libgl1 libegl1 libgles2$"):
        check_system()
