from pathlib import Path

import pytest

from stages.engine import kit as kits
from stages.engine.kit import check_kit, kit
from stages.engine.trouble import MachineError


def test_what_a_worker_lacks_is_told_and_what_is_alike_is_not(tmp_path: Path) -> None:
    weights = tmp_path / "vgg16.safetensors"
    weights.write_bytes(b"these")
    stages = kit([weights])
    check_kit(stages, [weights])
    weights.write_bytes(b"others")
    other = {**stages, "torch": "1.0", "av": "none"}
    with pytest.raises(MachineError) as refused:
        check_kit(other, [weights])
    text = str(refused.value)
    assert text.count("where the stage has") == 3
    assert f"torch {stages['torch']} where the stage has 1.0" in text and str(weights) in text
    weights.unlink()
    with pytest.raises(MachineError, match=r"vgg16\.safetensors none where the stage has"):
        check_kit(stages, [weights])


def test_an_edit_of_our_code_is_another_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kits, "PROJECT", tmp_path)
    (tmp_path / "stages").mkdir()
    file = tmp_path / "stages" / "decode.py"
    file.write_text("a = 1\n")
    stages = kit(())
    file.write_text("a = 2\n")
    with pytest.raises(MachineError, match="a worker has the code"):
        check_kit(stages, ())
