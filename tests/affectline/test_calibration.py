from pathlib import Path
from typing import Any

import pytest
import yaml

from affectline import calibration
from features import backbones
from stages.engine.params import Params

PROJECT = Path(__file__).parents[2]

PIPELINE = """
stages:
  index:
    cmd: sh stages/start.sh index "a file"
  extract:
    foreach: ${backbones}
    do:
      cmd: python -m stages.extract
"""


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("index", ["sh", "{project}/stages/start.sh", "index", "a file"]),
        ("extract@vgg16", ["python", "-m", "stages.extract"]),
    ],
)
def test_a_stage_is_tried_by_its_command_of_dvc_yaml(
    stage: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/start.sh").touch()
    assert calibration._command(stage, tmp_path) == [
        word.format(project=tmp_path) for word in words
    ]


def sample_params(**changes: Any) -> Params:
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    raw["engine"]["workers"] = 1
    for where, value in changes.items():
        section, _, key = where.partition("__")
        if key:
            raw[section][key] = value
        else:
            raw[section] |= value
    return Params.model_validate(raw)


def test_the_sample_is_judged_by_its_rows_its_seconds_its_epochs_and_the_cores() -> None:
    def cost(stage: str, **changes: Any) -> float:
        seconds = calibration.sample_cost(sample_params(**changes), stage, 60)
        assert seconds is not None
        return seconds - calibration.START_S / 60

    views = yaml.safe_load((PROJECT / "params.yaml").read_text())["decode"]["views"]
    block = {"vgg": {"module": "vgg16", "view": "faces", "source": "seeded", "seed": 1}}
    many = {**views, "segments": {**views["segments"], "count": 2 * views["segments"]["count"]}}
    extract = cost("extract@vgg", backbones=block)
    assert cost("extract@vgg", backbones=block, experiments={}, decode__views=many) == (
        pytest.approx(2 * extract)
    )
    assert cost("faces", engine__workers=4) == pytest.approx(cost("faces") / 4)
    longer = cost("sample", sample__seconds=12.0)
    assert longer == pytest.approx(2 * cost("sample", sample__seconds=6.0))
    name = next(iter(sample_params().experiments))
    assert cost(f"train@{name}", train__epochs=40) == pytest.approx(
        4 * cost(f"train@{name}", train__epochs=10)
    )


def test_every_backbone_of_ours_is_judged_and_one_of_ones_own_is_not() -> None:
    assert {*calibration.ROW_S, *calibration.CLIP_S} >= set(backbones.names())
    own = {"own": {"module": "mobilenet", "view": "uniform", "source": "seeded"}}
    params = sample_params(backbones=own)
    assert calibration.sample_cost(params, "extract@own", 60) is None
