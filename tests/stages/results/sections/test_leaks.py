from dataclasses import replace
from pathlib import Path

import pytest

from stages.results.page import Budget
from stages.results.sections import leaks
from tests.stages.results.made_data import (
    NETWORK,
    Made,
    copies_of,
    draw_clip,
    encode,
    row_of,
    write_data,
    write_indices,
)
from tests.stages.results.made_page import Text, inputs_of, page_of
from tests.stages.results.made_results import write_result


def test_where_no_run_tests_there_is_no_section(in_folder: Path) -> None:
    rows = [row_of("joy/1", split_00="train"), row_of("joy/2", split_00=None)]
    write_indices(rows)
    result = write_result(in_folder / "made", "caan")
    assert leaks.section(inputs_of(result, videos=rows)) is None


def test_what_the_leaks_are_worth_is_counted(in_folder: Path) -> None:
    result = write_result(in_folder / "made", "caan", videos=6, runs=2)
    tested = [row for row in result.predictions if row["run"] == "split_00"]
    first, second = (str(row["video_id"]) for row in tested[:2])
    rows = [row_of(f"{row['label']}/{row['video_id'].split('/')[1]}", split_00="test",
                   sha256=str(row["video_id"])) for row in tested]  # fmt: skip
    rows += [
        row_of("joy/copy", split_00="train", sha256=first),
        row_of("joy/other", split_00="train", sha256=second),
    ]
    write_indices(rows)
    section = leaks.section(inputs_of(result, videos=rows))
    assert section and section.content["tests"] == 2 and section.content["of_tests"] == 6
    ((name, answers, about, on_copies, on_others),) = section.tables["leaks-experiments"].rows
    right = {str(row["video_id"]): row["label"] == row["predicted"] for row in tested}
    assert (name, answers, about) == ("caan", 12, 2)
    assert on_copies == (right[first] + right[second]) / 2
    others = [row["label"] == row["predicted"] for row in result.predictions
              if (row["run"], row["video_id"]) not in
              {("split_00", first), ("split_00", second)}]  # fmt: skip
    assert on_others == sum(others) / len(others)
    assert sorted(row[:3] for row in section.tables["leaks"].rows) == sorted(
        (*sorted(pair), "the same file") for pair in ((first, "joy/copy"), (second, "joy/other"))
    )


def test_data_without_leaks_says_how_they_were_looked_for(in_folder: Path) -> None:
    rows = [row_of(f"joy/{n}", split_00="train" if n % 2 else "test") for n in range(4)]
    write_indices(rows)
    result = write_result(in_folder / "made", "caan")
    text = Text(page_of(inputs_of(result, videos=rows), leaks))
    assert "No run was found to test on a copy of a video that it trains on." in text
    assert "Looked for by content alone: no features of frames are here" in text


def test_the_page_names_both_and_the_run(in_folder: Path, tmp_path: Path) -> None:
    videos = {}
    for number in range(12):
        video = f"joy/<b>{number}" if number == 0 else f"joy/{number}"
        path = tmp_path / f"clip{number}.mp4"
        encode(draw_clip(0, number, 12), path)
        videos[video] = Made(path, {"split_00": "train" if number < 6 else "test"})
    copy = tmp_path / "copy.mp4"
    encode(*copies_of(draw_clip(0, 0, 12))["mirrored"][:1], copy)
    videos["joy/copy"] = Made(copy, {"split_00": "test"})
    rows = write_data(videos, rows=8)
    result = write_result(in_folder / "made", "caan")
    inputs = replace(inputs_of(result, videos=rows), backbones={"network": NETWORK})
    page = page_of(inputs, leaks)
    text = Text(page)
    assert "joy/<b>0 and joy/copy : frames alike to 0.9" in text and text.open == []
    assert ", one mirrored. On both sides of split_00." in text
    assert page.count('<img src="data:image/webp;base64,') == 2
    assert 'alt="A frame of joy/&lt;b&gt;0"' in page
    without = inputs.settings.model_copy(update={"faces": "leave out"})
    hidden = page_of(replace(inputs, settings=without), leaks)
    assert "<img" not in hidden and "joy/copy" in Text(hidden)
    full = page_of(replace(inputs, pictures=Budget(100)), leaks)
    assert "<img" not in full and "joy/copy" in Text(full)


@pytest.mark.parametrize("count", [leaks.MOST_SHOWN + 3])
def test_many_groups_are_not_all_shown(in_folder: Path, count: int) -> None:
    rows = [
        row_of(f"joy/{n}{side}", sha256=str(n), split_00=side)
        for n in range(count)
        for side in ("train", "test")
    ]
    write_indices(rows)
    section = leaks.section(inputs_of(write_result(in_folder / "made", "caan"), videos=rows))
    assert section and len(section.content["groups"]) == leaks.MOST_SHOWN
    assert section.content["more"] == 3 and len(section.tables["leaks"].rows) == count
