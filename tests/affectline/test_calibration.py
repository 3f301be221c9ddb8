from pathlib import Path

import pytest

from affectline import calibration

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
