from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.cache import tables
from stages.engine.paths import VIEWS, index_of
from stages.results.page import Section
from stages.results.sections import data
from tests.stages.results.made_data import NETWORK, row_of, write_features, write_indices
from tests.stages.results.made_page import Text, inputs_of, page_of
from tests.stages.results.made_results import write_result


def made(rows: list[tables.Row], folder: Path, **backbones: object) -> Section:
    inputs = inputs_of(write_result(folder / "made", "caan"), videos=rows)
    return data.section(replace(inputs, backbones=dict.fromkeys(backbones, NETWORK)))


def cells(section: Section, name: str) -> dict[str, list[object]]:
    """Return the rows of a table by their first cell."""
    return {str(first): rest for first, *rest in section.tables[name].rows}


def test_classes_are_counted_and_how_the_runs_divide_them(in_folder: Path) -> None:
    rows = [
        row_of("joy/1", duration_s=2.0, split_00="train", split_01="test"),
        row_of("joy/2", duration_s=4.0, split_00="test", split_01="test"),
        row_of("joy/3", duration_s=9.0, split_00="train", split_01="train"),
        row_of("fear/1", split_00=None, split_01=None) | {"status": "failed", "duration_s": None},
    ]
    write_indices(rows)
    found = cells(made(rows, in_folder), "data-classes")
    assert found["joy"] == [3, 0, 1.5, 1.5, 4.0, 0.25]
    assert found["fear"] == [1, 1, 0.0, 0.0, None, None]
    assert found["all"] == [4, 1, 1.5, 1.5, 4.0, 0.25]


def test_of_features_alone_nothing_is_said_of_files(in_folder: Path) -> None:
    nothing = {"file": None, "width": None, "height": None, "duration_s": None}
    rows = [
        row_of("joy/1", split_00="train") | nothing,
        row_of("fear/1", split_00="test") | nothing,
    ]
    write_indices(rows)
    section = made(rows, in_folder)
    assert set(section.tables) == {"data-classes"}
    inputs = inputs_of(write_result(in_folder / "more", "caan"), videos=rows)
    page = page_of(inputs, data)
    assert "The data set has features alone" in page and "None" not in page


def test_what_videos_lack_is_counted_by_class(in_folder: Path) -> None:
    rows = [
        row_of("joy/1"),
        row_of("joy/2", audio_codec=None),
        row_of("fear/1", audio_codec=None),
        row_of("fear/2") | {"status": "failed"},
    ]
    shown = {"joy/1": 4, "joy/2": 1, "fear/1": 0}
    faces = [
        {"video_id": video, "status": "ok", "rows": 4, "rows_with_face": count}
        for video, count in shown.items()
    ]
    for video in shown:
        pose = {"landmarks": np.zeros((2, 33, 3), np.float32), "valid": np.ones(2, bool)}
        write_features("blazepose", video, pose, {"landmarks": "T K D", "valid": "T"}, "uniform")
    write_indices(rows, "blazepose")
    poses = index_of(Path("data/features/blazepose"))
    found = tables.read(poses)
    for row in found:
        row["rows_valid"] = shown.get(str(row["video_id"]), 0)
        row["status"] = "ok" if row["video_id"] in shown else "failed"
    tables.write(poses, found, pa.Table.from_pylist(found).schema)
    view = index_of(VIEWS / "faces")
    tables.write(view, faces, pa.Table.from_pylist(faces).schema)
    section = made(rows, in_folder, blazepose=True)
    names = [column.name for column in section.tables["data-missing"].columns]
    assert names == [
        "class", "usable", "no sound", "no face", "rows with a face, %", "no pose (blazepose)"
    ]  # fmt: skip
    lacking = cells(section, "data-missing")
    assert lacking["fear"] == [1, 1, 1, 0.0, 1]
    assert lacking["joy"] == [2, 1, 0, 0.625, 0]
    assert lacking["all"] == [3, 2, 1, pytest.approx(1.25 / 3), 1]
    assert "all of them in 1 of 3" in str(section.figures["faces-found"].get_label())


def test_without_the_faces_table_the_page_says_what_brings_it(in_folder: Path) -> None:
    rows = [row_of("joy/1"), row_of("fear/1")]
    write_indices(rows)
    section = made(rows, in_folder)
    assert section.content["lacking"] == [
        "data/views/faces.parquet is not here, so faces are not counted: dvc pull faces"
    ]
    assert "faces-found" not in section.figures
    assert "durations" not in section.figures  # all last 3 s, as the table says


def test_the_commonest_values_have_lines_and_the_others_are_summed(in_folder: Path) -> None:
    rows = [row_of(f"joy/{n}", width=100 + min(n, 20), fps=29.97) for n in range(40)]
    write_indices(rows)
    lines = made(rows, in_folder).tables["data-files"].rows
    sizes = [line[1:] for line in lines if line[0] == "resolution"]
    assert sizes[0] == ("120 × 96", 20) and sizes[-1] == ("16 other values", 16)
    assert sum(count for _, count in sizes) == 40 and len(sizes) == data.MOST_VALUES + 1
    assert ("frames a second", "29.97", 40) in lines


def test_failures_are_grouped_by_stage_and_reason(in_folder: Path) -> None:
    rows = [row_of(f"joy/{n}", duration_s=float(n + 1)) for n in range(6)]
    for number in (1, 2, 3):
        reason = f"truncated: pictures of {number}.mp4 end at {number}.5 s <b>"
        rows[number] |= {"status": "failed", "reason": reason}
    write_indices(rows)
    view = tables.read(index_of(VIEWS / "segments"))
    view[5] |= {"status": "failed", "reason": "no frame could be decoded"}
    tables.write(index_of(VIEWS / "segments"), view, pa.Table.from_pylist(view).schema)
    section = made(rows, in_folder)
    groups = [(failure.first_failed_in, n) for failure, n in section.content["failures"]]
    assert groups == [("index", 3), ("segments", 1)]
    assert len(section.tables["failures"].rows) == 4
    inputs = inputs_of(write_result(in_folder / "again", "caan"), videos=rows)
    text = Text(page_of(inputs, data))
    assert "3 in index: truncated: pictures of 1.mp4 end at 1.5 s <b>" in text
    assert "(e.g. joy/1)" in text and "Video by video" in text


def test_hostile_names_stay_text_and_many_classes_are_no_poster(in_folder: Path) -> None:
    name = "<script>alert(1)</script> $x_1$ " + "long " * 20
    rows = [
        row_of(f"{name}{n}/1", duration_s=float(1 + n)) | {"label": f"{name}{n}"} for n in range(60)
    ]
    tables.write(Path("data/index.parquet"), rows, pa.Table.from_pylist(rows).schema)
    inputs = inputs_of(write_result(in_folder / "made", "caan"), videos=rows)
    section = data.section(inputs)
    assert section.figures["durations"].get_size_inches()[1] < 10
    page = page_of(inputs, data)
    assert "<script>alert" not in page and Text(page).open == []
