import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from features.cache import tables
from features.cache.keys import PROJECT
from heads import Rows
from stages import report
from stages.results.attention import MapWeights, RoleWeights, RowWeights, read_attention
from tests.stages.results.made_page import ATTENTION, FACE, VIDEOS, Text, inputs_of, page_of
from tests.stages.results.made_results import CLASSES, write_result


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}"[^>]*>(.*?)</section>', page, re.S)
    assert found, name
    return found[1]


def test_videos_that_could_not_be_used_are_listed(tmp_path: Path) -> None:
    bad = {"video_id": "joy/bad", "label": "joy", "status": "failed", "reason": "empty <file>"}
    page = page_of(inputs_of(write_result(tmp_path, "caan"), videos=[*VIDEOS, bad]))
    assert "joy/bad empty <file>" in Text(section(page, "videos-not-usable"))


# ------------------------------------------------------------------------------ attention


def test_attention_is_summed_up_by_what_it_weighs(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=6, runs=2, rows=4, attention=ATTENTION)
    found = {weights.name: weights for weights in read_attention(result)}
    assert set(found) == set(ATTENTION)
    table = tables.read(result.folder / "attention.parquet")
    sheet = found["frame_scores"]
    assert isinstance(sheet, RowWeights) and (sheet.role, sheet.run) == ("face", "split_00")
    assert sorted(sheet.videos) == sorted(CLASSES)
    assert sorted(sheet.videos["joy"]) == ["joy/v0001", "joy/v0004"]
    wanted = [
        row["value"]
        for row in table
        if (row["name"], row["video_id"]) == ("frame_scores", "joy/v0004")
    ]
    assert sheet.videos["joy"]["joy/v0004"].tolist() == wanted and len(wanted) == 4
    maps = found["regions"]
    assert isinstance(maps, MapWeights)
    mine: list[Any] = [
        row["map"]
        for row in table
        if row["name"] == "regions" and str(row["video_id"]).startswith("joy/") and row["row"] != 3
    ]
    assert len(mine) == 2 * 2 * 3  # the last row of a video has no weight
    np.testing.assert_allclose(maps.means["joy"], np.mean(mine, axis=0).reshape(2, 3), rtol=1e-6)
    roles = found["modality_scores"]
    assert isinstance(roles, RoleWeights) and roles.roles == ("face", "context")
    assert roles.means["anger"].sum() == pytest.approx(1)


def test_each_kind_of_attention_is_drawn(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", attention=ATTENTION)
    page = section(page_of(inputs_of(first, write_result(tmp_path, "face", seed=1))), "attention")
    text = Text(page)
    for name in ATTENTION:
        assert name in text
    assert "mean weight of each role" in text and "No attention: face." in text
    assert page.count("<img") == 3 * len(CLASSES)


def test_a_head_that_weighs_one_row_alone_is_worth_one_row(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", rows=2, attention={"scores": (Rows("face"), ())})
    page = section(page_of(inputs_of(result)), "attention")
    assert "worth 1.0 of its 1.0 rows" in page


# ---------------------------------------------------------------------------------- stage


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A folder with params.yaml of two experiments, their results and an index."""
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    raw["experiments"] = {
        "caan": {"head": "caan", "roles": {"face": "vggface/fc6", "context": "vgg16/fc6"}},
        "face": {"head": "pooling", "roles": FACE},
    }
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    write_result(Path("results"), "caan", attention=ATTENTION)
    write_result(Path("results"), "face", head="pooling", roles=FACE, seed=1)
    schema = pa.schema([(name, pa.string()) for name in VIDEOS[0]])
    tables.write(Path("data/index.parquet"), VIDEOS, schema)
    return in_folder


def run() -> None:
    report.main()


def test_the_stage_writes_the_same_page_each_time_and_says_where(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    assert "\npage:   report/index.html\n" in capsys.readouterr().err
    page = Path("report/index.html").read_bytes()
    run()
    assert Path("report/index.html").read_bytes() == page
    assert sorted(path.name for path in Path("report").iterdir()) == [
        "figures",
        "index.html",
        "tables",
    ]


def test_an_experiment_without_results_ends_the_stage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("results/face")
    with pytest.raises(SystemExit):
        run()
    assert "results/face: expected the results of train@face" in capsys.readouterr().err
