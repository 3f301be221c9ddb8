import ctypes.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

import heads
from features import backbones, detectors
from stages.engine import checks
from stages.engine.checks import (
    SystemLibraryError,
    check_modules,
    check_system,
)
from stages.engine.device import DeviceError, device_of
from stages.engine.params import Params, ParamsError
from tests.modules import put
from tests.papers import papers_params

PROJECT = Path(__file__).parents[3]


def params(**changes: Any) -> Params:
    raw: dict[str, Any] = yaml.safe_load(papers_params())
    for where, value in changes.items():
        *sections, key = where.split("__")
        place = raw
        for section in sections:
            place = place[section]
        place[key] = value
    return Params.model_validate(raw)


def test_the_projects_own_files_are_right() -> None:
    check_modules(params())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbones__vgg16__module": "vgg99"}, r"backbones\.vgg16: .*vgg99.*vggface"),
        ({"backbones__vgg16__view": "uniform"}, r"backbones\.vgg16\.view: found 'uniform'.*segm"),
        ({"backbones__vgg16__file": "w.pth"}, r"vgg16\.file: found 'w\.pth', which source: seed"),
        ({"backbones__blazepose__source": "seeded"}, r"blazepose can only be pretrained"),
        ({"backbones__vggish__options": {"pcaa": True}}, "options of vggish: unknown pcaa"),
        ({"backbones__vgg16__dtypes": {"fc9": "float32"}}, r"vgg16: dtypes of vgg16: unknown fc9"),
        (
            {"faces__detector__module": "haar"},
            r"detector 'haar': expected one of blazeface, retinaface",
        ),
        ({"faces__detector__options": {"size": 3}}, r"faces\.detector: .*unknown size"),
        ({"faces__detector__source": "seeded"}, r"blazeface can only be pretrained"),
        (
            {"experiments__caan__head": "kaan"},
            r"experiments\.caan\.head: head 'kaan': expected one of .*did you mean 'caan'",
        ),
        (
            {"experiments__caan__with": {"fusion": "x"}},
            r"experiments\.caan\.with: head 'caan': fusion",
        ),
        ({"experiments__caan__roles": {"face": "vggface/fc9"}}, r"vggface gives \['fc6', 'pool5'"),
        ({"experiments__caan__roles": {"nose": "vggface/fc6"}}, r"roles\.nose: caan knows"),
        ({"train__epochs": 0}, r"train: "),
        ({"train__epoch": 3}, r"train: training: unknown epoch, did you mean 'epochs'\?"),
        ({"experiments__caan__train": {"epochs": 0}}, r"caan\.train: training: epochs must be"),
        ({"experiments__caan__with": {"fusoin": 1}}, r"fusoin, did you mean 'fusion'\?"),
        ({"backbones__vggish__options": {"quantize": True}}, r"did you mean 'quantise'\?"),
    ],
)
def test_what_only_the_modules_know_is_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=words) as told:
        check_modules(params(**changes))
    assert len(str(told.value).splitlines()) == 1


def test_a_broken_head_is_named_where_an_experiment_uses_it_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, tmp_path / "room", heads, "rdam", "def build(:\n")
    check_modules(params())
    with pytest.raises(ParamsError) as told:
        check_modules(params(experiments__caan__head="rdam"))
    (line,) = str(told.value).splitlines()
    assert "experiments.caan.head: head 'rdam': heads/rdam.py cannot be imported: Syntax" in line


@pytest.mark.parametrize(
    ("room", "where", "name"),
    [(backbones, "backbones__vgg16__module", "r3d18"), (detectors, "faces__detector__module", "b")],
)
def test_a_broken_backbone_or_detector_is_named_where_it_is_used_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: ModuleType, where: str, name: str
) -> None:
    put(monkeypatch, tmp_path / "room", room, name, "import no_such_library\n")
    check_modules(params())
    with pytest.raises(ParamsError, match=f"{name}.py cannot be imported: .*no_such_library") as e:
        check_modules(params(**{where: name}))
    assert len(str(e.value).splitlines()) == 1


def test_a_common_mistake_does_not_hide_one_of_an_experiment() -> None:
    wrong = params(train__epoch=3, experiments__caan__train={"sede": 1})
    with pytest.raises(ParamsError) as told:
        check_modules(wrong)
    common, own = str(told.value).splitlines()
    assert "train: training: unknown epoch" in common
    assert "experiments.caan.train: training: unknown sede, did you mean 'seed'?" in own


def test_class_weights_are_of_classes_alone() -> None:
    targets = {
        "emotion": {"kind": "class", "columns": ["label"]},
        "affect": {"kind": "dimensions", "columns": ["valence"], "range": [1, 9]},
    }
    weighed = {"sampling": "shuffled", "class_weights": "balanced"}
    check_modules(params(index__targets=targets, train=weighed))
    own = {"index__targets": targets, "train": weighed, "experiments__caan__target": "affect"}
    with pytest.raises(
        ParamsError, match=r"caan\.train: class_weights: balanced is of classes, an"
    ):
        check_modules(params(**own))
    check_modules(params(**own, experiments__caan__train={"class_weights": "none"}))


SOUND = {"module": "resnet18_mfcc", "view": "sound", "source": "seeded"}
STARTED = {
    "head": "vaanet",
    "roles": {"audio": "mfcc18/mfcc"},
    "weights": {"audio": "mfcc18"},
}


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        (STARTED | {"weights": {"audio": "vggish"}}, "found the network 'vggish', expected 'resne"),
        (
            {"head": "mmf", "roles": {"audio": "mfcc18/mfcc"}, "weights": {"audio": "mfcc18"}},
            r"experiments\.x\.weights\.audio: mmf starts \[\] from weights",
        ),
    ],
)
def test_weights_are_those_that_the_head_can_start_from(
    experiment: dict[str, Any], words: str
) -> None:
    check_modules(params(backbones__mfcc18=SOUND, experiments__x=STARTED))
    with pytest.raises(ParamsError, match=words):
        check_modules(params(backbones__mfcc18=SOUND, experiments__x=experiment))


def test_a_missing_system_library_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks.sys, "platform", "linux")
    found = {"glib-2.0": "libglib-2.0.so.0"}
    monkeypatch.setattr(ctypes.util, "find_library", found.get)
    with pytest.raises(SystemLibraryError, match="apt-get install libgl1 libegl1 libgles2$"):
        check_system()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_named_before_any_work(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    wrong = params(engine__device=device)
    with pytest.raises(DeviceError, match=f"engine.device: found '{device}', .* only cpu; expect"):
        checks.check_all(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of(wrong.engine) == device


def test_a_store_that_cannot_be_written_is_told_in_a_line(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks.check_store()
    assert not list(Path(".store/unfinished").iterdir())
    Path("file").touch()
    monkeypatch.setenv("AFFECTLINE_STORE", str(in_folder / "file" / "store"))
    with pytest.raises(ParamsError, match="file/store cannot be written: .*: Not a dir.*STORE$"):
        checks.check_store()


def test_a_root_must_be_there_or_be_made_or_be_known_from_elsewhere(in_folder: Path) -> None:
    shutil.copy(PROJECT / "dvc.yaml", in_folder)
    assert checks.check_root(params(index__root="data/sample")) is None  # a stage makes it
    mine = params(index__root="data/mine.csv")
    with pytest.raises(ParamsError, match=r"index\.root: found nothing at data/mine\.csv"):
        checks.check_root(mine)
    Path("dvc.lock").write_text("stages: {index: {deps: [{path: data/mine.csv}]}}")
    assert "the videos of data/mine.csv are not here" in str(checks.check_root(mine))
    Path("data").mkdir()
    Path("data/mine.csv.dvc").touch()
    with pytest.raises(ParamsError, match="`dvc pull data/mine.csv` brings them"):
        checks.check_root(mine)
    Path("data/mine.csv").touch()
    assert checks.check_root(mine) is None
